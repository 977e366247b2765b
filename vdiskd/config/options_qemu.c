/* SPDX-License-Identifier: BSD-3-Clause */
#include "options_qemu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/keyval.h"
#include "vdiskd/config/option_values.h"
#include "vdiskd/json_member.h"

static void unref(json_t **o)
{
        json_decref(*o);
}

/* --- commands at the start ---------------------------------------------------------------------------------------- */

/* @args: taken. */
static int add_startup(struct options *o, const char *option, const char *command, json_t *args)
{
        struct startup *more = reallocarray(o->startup, o->nstartup + 1, sizeof(*more));

        if (!more) {
                json_decref(args);
                return -ENOMEM;
        }
        o->startup = more;
        o->startup[o->nstartup++] = (struct startup){ .option = option, .command = command, .args = args };
        return 0;
}

int qemu_blockdev(struct options *o, const char *v)
{
        json_t *args = keyval_parse(v, "driver");

        return args ? add_startup(o, "--blockdev", "blockdev-add", args) : err_prefix(-EINVAL, "--blockdev %s: ", v);
}

int qemu_export(struct options *o, const char *v)
{
        static const char *const others[] = { "nbd", "fuse", "vduse-blk" };
        json_t *args = keyval_parse(v, "type");
        const char *type = text_of(args, "type");

        if (!args)
                return err_prefix(-EINVAL, "--export %s: ", v);
        for (size_t i = 0; type && i < ARRAY_SIZE(others); i++)
                if (!strcmp(type, others[i])) {
                        json_decref(args);
                        return err_note(-EINVAL, "--export %s: vdiskd serves vhost-user-blk and vhost-user-scsi; expected one of the two "
                                        "(qemu-storage-daemon serves %s)", v, others[i]);
                }
        return add_startup(o, "--export", "block-export-add", args);
}

/* JSON has numbers and truths of its own, so it goes the way of the control socket. */
int qemu_json_object(struct options *o, const char *v)
{
        json_t *args = keyval_parse(v, NULL);

        return args ? add_startup(o, "--object", "object-add", args) : err_prefix(-EINVAL, "--object %s: ", v);
}

int qemu_nbd_server(struct options *o, const char *v)
{
        (void)o;
        return err_note(-EINVAL, "--nbd-server %s: vdiskd serves vhost-user-blk only, no NBD; qemu-storage-daemon and qemu-nbd do", v);
}

int qemu_trace(struct options *o, const char *v)
{
        (void)o;
        return err_note(-EINVAL, "--trace %s: vdiskd has no trace events of QEMU's; --log-level=debug says more", v);
}

int qemu_object(struct options *o, const char *v)
{
        (void)o;
        if (!strncmp(v, "iothread", 8) && (!v[8] || v[8] == ','))
                return err_note(-EINVAL, "--object %s: vdiskd has threads of its own that all disks share: expected --iothreads=N "
                                "in its place", v);
        return 0;
}

/* --- where commands come from ------------------------------------------------------------------------------------- */

static const struct chardev *find_chardev(const struct options *o, const char *id)
{
        for (size_t i = 0; i < o->nchardevs; i++)
                if (!strcmp(o->chardevs[i].id, id))
                        return &o->chardevs[i];
        return NULL;
}

/* Only these keys, each a string. @keys ends with NULL. */
static int check_keys(const json_t *args, const char *const *keys)
{
        const char *key;
        json_t *value;

        json_object_foreach ((json_t *)args, key, value) {
                bool known = false;

                for (const char *const *k = keys; *k; k++)
                        known |= !strcmp(key, *k);
                if (!known)
                        return err_note(-EINVAL, "Parameter '%s' is unexpected", key);
                if (!json_is_string(value) && !json_is_boolean(value))
                        return err_note(-EINVAL, "Invalid parameter type for '%s', expected: string", key);
        }
        return 0;
}

static int get_bool(const json_t *args, const char *key, bool otherwise, bool *ret)
{
        const json_t *v = json_object_get(args, key);

        *ret = v && json_is_boolean(v) ? json_is_true(v) : otherwise;
        return v && json_is_string(v) ? set_bool(key, json_string_value(v), ret) : 0;
}

static int read_socket(struct chardev *c, const json_t *args)
{
        static const char *const keys[] = { "backend", "id", "path", "fd", "server", "wait", NULL };
        const char *path = text_of(args, "path"), *fd = text_of(args, "fd");
        bool server, wait;
        int r = check_keys(args, keys);

        if (r == 0)
                r = get_bool(args, "server", false, &server);
        if (r == 0)
                r = get_bool(args, "wait", true, &wait); /* the same to us: clients come when they come */
        if (r < 0)
                return r;
        if (!path == !fd)
                return err_note(-EINVAL, "expected path=PATH or fd=N: commands come over a Unix socket only");
        if (!server)
                return err_note(-EINVAL, "expected server=on: vdiskd listens for clients, it does not connect to one");
        return path ? set_socket("path", path, &c->path) : set_fd("fd", fd, &c->fd);
}

static int read_chardev(struct options *o, struct chardev *c, const json_t *args)
{
        static const char *const stdio_keys[] = { "backend", "id", NULL };
        const char *backend = text_of(args, "backend"), *id = text_of(args, "id");

        if (!backend || !id)
                return err_note(-EINVAL, "Parameter '%s' is missing", backend ? "id" : "backend");
        if (find_chardev(o, id))
                return err_note(-EINVAL, "id=%s is the name of two character devices; each needs its own", id);
        c->id = strdup(id);
        if (!c->id)
                return -ENOMEM;
        if (!strcmp(backend, "socket"))
                return read_socket(c, args);
        c->is_stdio = !strcmp(backend, "stdio");
        return c->is_stdio ? check_keys(args, stdio_keys) :
                             err_note(-EINVAL, "'%s' is no backend for commands; expected socket or stdio", backend);
}

static void chardev_finish(struct chardev *c)
{
        free(c->id);
        free(c->path);
}

int qemu_chardev(struct options *o, const char *v)
{
        AUTO(unref) json_t *args = keyval_parse(v, "backend");
        struct chardev *more = reallocarray(o->chardevs, o->nchardevs + 1, sizeof(*more)), c = { .fd = -1 };
        int r;

        if (!more)
                return -ENOMEM;
        o->chardevs = more;
        r = args ? read_chardev(o, &c, args) : -EINVAL;
        if (r == 0)
                o->chardevs[o->nchardevs++] = c;
        else
                chardev_finish(&c);
        return err_prefix(r, "--chardev %s: ", v);
}

static int read_monitor(struct options *o, const json_t *args)
{
        static const char *const keys[] = { "chardev", "id", "mode", "pretty", NULL };
        const char *chardev = text_of(args, "chardev"), *mode = text_of(args, "mode");
        int r = check_keys(args, keys);

        if (r < 0)
                return r;
        if (!chardev)
                return err_note(-EINVAL, "Parameter 'chardev' is missing");
        if (mode && strcmp(mode, "control"))
                return err_note(-EINVAL, "mode=%s: expected control: commands are QMP", mode);
        if (o->monitor)
                return err_note(-EINVAL, "there is a monitor already, on '%s'; it takes up to 64 clients", o->monitor);
        r = get_bool(args, "pretty", false, &o->control_pretty);
        return r < 0 ? r : set_text("chardev", chardev, &o->monitor);
}

int qemu_monitor(struct options *o, const char *v)
{
        AUTO(unref) json_t *args = keyval_parse(v, "chardev");

        return err_prefix(args ? read_monitor(o, args) : -EINVAL, "--monitor %s: ", v);
}

int qemu_check(struct options *o)
{
        const struct chardev *c = o->monitor ? find_chardev(o, o->monitor) : NULL;

        if (!o->monitor)
                return 0;
        if (!c)
                return err_note(-EINVAL, "--monitor %s: there is no --chardev with id=%s", o->monitor, o->monitor);
        if (o->control || o->control_fdname)
                return err_note(-EINVAL, "--monitor and --control: expected one of them");
        o->control_fd = c->fd;
        o->control_stdio = c->is_stdio;
        return c->path ? set_text("path", c->path, &o->control) : 0;
}

void qemu_finish(struct options *o)
{
        for (size_t i = 0; i < o->nstartup; i++)
                json_decref(o->startup[i].args);
        free(TAKE(o->startup, NULL));
        for (size_t i = 0; i < o->nchardevs; i++)
                chardev_finish(&o->chardevs[i]);
        free(TAKE(o->chardevs, NULL));
        free(TAKE(o->monitor, NULL));
        o->nstartup = o->nchardevs = 0;
}
