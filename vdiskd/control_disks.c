/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockdev-add and -del, block-export-add and -del. Opening an image waits for the host's disk, and for the key of an
 * encrypted one takes seconds, so a worker does it; closing waits for the guests' data. Either is answered when it is done.
 */
#include "vdiskd/control_commands.h"

#include <errno.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/block_export.h"
#include "vdiskd/id.h"
#include "vdiskd/limits.h"
#include "vdiskd/node.h"
#include "vdiskd/option_values.h"

#define MAX_QUEUES 256 /* what export.h serves */

static const char *text_of(json_t *args, const char *name)
{
        return json_string_value(json_object_get(args, name));
}

static bool flag_of(json_t *args, const char *name, bool otherwise)
{
        json_t *v = json_object_get(args, name);

        return v ? json_is_true(v) : otherwise;
}

static json_int_t number_of(json_t *args, const char *name, json_int_t otherwise)
{
        json_t *v = json_object_get(args, name);

        return v ? json_integer_value(v) : otherwise;
}

static void fail(struct qmp_call *call, int r)
{
        qmp_fail(call, NULL, "%s", err_text(r));
}

/* --- blockdev-add ------------------------------------------------------------------------------------------------ */

static const char *const image_drivers[] = { "raw", "qcow2", NULL };
static const char *const file_drivers[] = { "file", "host_device", NULL }; /* what is at the path decides */
static const char *const discards[] = { "unmap", NULL };                   /* discards always give space back */

static const struct qmp_arg cache_args[] = { { "direct", QMP_BOOL, .optional = true }, { NULL } };
static const struct qmp_arg file_args[] = {
        { "driver", QMP_STR, .values = file_drivers },
        { "filename", QMP_STR },
        { "cache", QMP_OBJECT, .optional = true, .members = cache_args },
        { "discard", QMP_STR, .optional = true, .values = discards },
        { NULL },
};
static const char *const encrypt_formats[] = { "luks", NULL };
static const struct qmp_arg encrypt_args[] = {
        { "format", QMP_STR, .values = encrypt_formats },
        { "key-secret", QMP_STR },
        { NULL },
};
static const struct qmp_arg backing_args[] = { /* what is not said here, the image above says */
        { "driver", QMP_STR, .optional = true, .values = image_drivers },
        { "file", QMP_OBJECT, .optional = true, .members = file_args },
        { "data-file", QMP_OBJECT, .optional = true, .members = file_args },
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args },
        { "backing", QMP_OBJECT, .optional = true, .members = backing_args },
        { NULL },
};
static const struct qmp_arg raw_args[] = {
        { "file", QMP_OBJECT, .members = file_args },
        { "data-first", QMP_BOOL, .optional = true }, /* not in QEMU */
        { "migratable", QMP_BOOL, .optional = true }, /* neither */
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args }, /* the errors have their own words */
        { "backing", QMP_OBJECT, .optional = true, .members = backing_args },
        { "data-file", QMP_OBJECT, .optional = true, .members = file_args },
        { NULL },
};
static const struct qmp_arg qcow2_args[] = {
        { "file", QMP_OBJECT, .members = file_args },
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args },
        { "backing", QMP_OBJECT, .optional = true, .members = backing_args },
        { "data-file", QMP_OBJECT, .optional = true, .members = file_args },
        { "data-first", QMP_BOOL, .optional = true },
        { "migratable", QMP_BOOL, .optional = true },
        { NULL },
};
static const struct qmp_arg null_args[] = {
        { "size", QMP_INT, .optional = true, .min = 512, .max = INT64_MAX },
        { NULL },
};
static const char *const drivers[] = { "raw", "qcow2", "null-co", NULL };
static const struct qmp_variant driver_args[] = {
        { "raw", raw_args }, { "qcow2", qcow2_args }, { "null-co", null_args }, { NULL },
};
static const struct qmp_arg blockdev_add_args[] = {
        { "driver", QMP_STR, .values = drivers, .variants = driver_args },
        { "node-name", QMP_STR, .optional = true }, /* the error has its own words */
        { "read-only", QMP_BOOL, .optional = true },
        { "cache", QMP_OBJECT, .optional = true, .members = cache_args },
        { "discard", QMP_STR, .optional = true, .values = discards },
        { "throttle-group", QMP_STR, .optional = true }, /* not in QEMU: there it takes a node of driver throttle */
        { NULL },
};

static int check_new_name(struct disks *d, const char *name)
{
        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (!name)
                return err_note(-EINVAL, "'node-name' must be specified for the root node");
        if (!id_is_valid(name))
                return err_note(-EINVAL, "Invalid node-name: '%s'", name);
        if (strlen(name) > ID_BYTES)
                return err_note(-EINVAL, "Node name too long");
        if (disks_name_taken(d, name))
                return err_note(-EEXIST, "Duplicate nodes with node-name='%s'", name);
        return 0;
}

/* The file's word wins, as in QEMU, where it takes over what it does not say. */
static bool wants_direct(json_t *args)
{
        json_t *file = json_object_get(args, "file");

        return flag_of(json_object_get(file, "cache"), "direct", flag_of(json_object_get(args, "cache"), "direct", false));
}

/* What the objects say about the images of the chain, into @l[FMT_MAX_CHAIN]. Text is the objects'. NULL: nothing. */
static const struct fmt_layer *read_layers(json_t *args, struct fmt_layer *l)
{
        unsigned n = 0;

        for (json_t *o = args; o && n < FMT_MAX_CHAIN; o = json_object_get(o, "backing"), n++) {
                l[n].key_secret = text_of(json_object_get(o, "encrypt"), "key-secret");
                l[n].data_path = text_of(json_object_get(o, "data-file"), "filename");
                if (n == 0)
                        continue;
                l[n].path = text_of(json_object_get(o, "file"), "filename");
                l[n].format = text_of(o, "driver");
                l[n - 1].backing = &l[n];
        }
        return l[0].key_secret || l[0].data_path || l[0].backing ? l : NULL;
}

static void on_added(void *opaque, int res, const char *why)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, NULL);
}

static int add_node(struct disks *d, json_t *args, struct qmp_call *call)
{
        bool null = !strcmp(text_of(args, "driver"), "null-co");
        struct fmt_layer layers[FMT_MAX_CHAIN] = { 0 };
        struct node_opts o = {
                .name = text_of(args, "node-name"),
                .path = text_of(json_object_get(args, "file"), "filename"),
                .format = null ? "null" : text_of(args, "driver"),
                .read_only = flag_of(args, "read-only", false),
                .writeback = !wants_direct(args),
                .migratable = flag_of(args, "migratable", false),
                .entry_with_data = !flag_of(args, "data-first", true),
                .null_size = null ? (uint64_t)number_of(args, "size", 1 << 30) : 0, /* QEMU's default */
                .layer = read_layers(args, layers),
        };
        int r = check_new_name(d, o.name);

        if (r < 0)
                return r;
        if (json_object_get(args, "data-file") && strcmp(o.format, "qcow2"))
                return err_note(-EINVAL, "Parameter 'data-file' is unexpected");
        if (o.null_size % 512)
                return err_note(-EINVAL, "Parameter 'size' expects a multiple of 512");
        r = limits_choose(d, o.name, text_of(args, "throttle-group"), NULL, &o.throttle);
        if (r == 0)
                r = node_open_start(d, &o, on_added, call);
        throttle_group_unref(o.throttle);
        return r;
}

static void cmd_blockdev_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        int r = add_node(c->disks, args, call);

        if (r < 0)
                fail(call, r);
}

/* --- blockdev-del ------------------------------------------------------------------------------------------------ */

static const struct qmp_arg blockdev_del_args[] = { { "node-name", QMP_STR }, { NULL } };

static void on_deleted(void *opaque, int res)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "The node is gone, but not all of its data could be made durable: %s", strerror(-res));
        else
                qmp_return(call, NULL);
}

static void cmd_blockdev_del(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *name = text_of(args, "node-name");
        struct node *n = disks_find_node(c->disks, name);

        if (!n)
                qmp_fail(call, NULL, "Failed to find node with node-name='%s'", name);
        else if (n->nexports)
                qmp_fail(call, NULL, "Node %s is in use", name);
        else if (node_is_free(n) < 0)
                fail(call, -EBUSY);
        else
                node_close(n, on_deleted, call);
}

/* --- exports ----------------------------------------------------------------------------------------------------- */

static const char *const export_types[] = { "vhost-user-blk", NULL };
static const char *const addr_types[] = { "unix", NULL };
static const struct qmp_arg addr_args[] = {
        { "type", QMP_STR, .values = addr_types },
        { "path", QMP_STR },
        { NULL },
};
static const struct qmp_arg block_export_add_args[] = {
        { "type", QMP_STR, .values = export_types },
        { "id", QMP_STR },
        { "node-name", QMP_STR },
        { "addr", QMP_OBJECT, .members = addr_args },
        { "writable", QMP_BOOL, .optional = true },
        { "num-queues", QMP_INT, .optional = true, .min = 1, .max = MAX_QUEUES },
        { "logical-block-size", QMP_INT, .optional = true, .min = 512, .max = 4096 },
        /* Not in QEMU: */
        { "serial", QMP_STR, .optional = true },
        { "connect", QMP_BOOL, .optional = true }, /* a front end listens at the path */
        { "socket-mode", QMP_STR, .optional = true },
        { "socket-owner", QMP_STR, .optional = true },
        { "socket-group", QMP_STR, .optional = true },
        { NULL },
};

/* Listen there, or connect to who does. */
static int read_socket(json_t *args, struct block_export_opts *o)
{
        const char *path = text_of(json_object_get(args, "addr"), "path"), *mode = text_of(args, "socket-mode");
        bool connect = flag_of(args, "connect", false);

        o->at = (struct listen_at){
                .path = path, .fd = -1, .mode = -1, .owner = text_of(args, "socket-owner"),
                .group = text_of(args, "socket-group"),
        };
        o->connect = connect ? path : NULL;
        if (connect && (mode || o->at.owner || o->at.group))
                return err_note(-EINVAL, "socket-mode, socket-owner and socket-group do not go with connect: the socket is the "
                                "front end's");
        if (connect && strlen(path) > SOCKET_PATH_BYTES)
                return err_note(-EINVAL, "UNIX socket path '%s' is too long", path);
        return mode ? set_mode("socket-mode", mode, &o->at.mode) : 0;
}

static int add_export(struct disks *d, json_t *args)
{
        bool writable = flag_of(args, "writable", false);
        const char *name = text_of(args, "node-name");
        struct block_export_opts o = {
                .id = text_of(args, "id"),
                .read_only = !writable,
                .serial = text_of(args, "serial"),
                .num_queues = (unsigned)number_of(args, "num-queues", 1),
                .block_size = (uint32_t)number_of(args, "logical-block-size", 512),
        };
        struct node *n = disks_find_node(d, name);
        struct block_export *x;
        int r = read_socket(args, &o);

        if (r < 0)
                return r;
        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (!id_is_valid(o.id) || strlen(o.id) > ID_BYTES)
                return err_note(-EINVAL, "Invalid block export id");
        if (disks_find_export(d, o.id))
                return err_note(-EEXIST, "Block export id '%s' is already in use", o.id);
        if (!n)
                return err_note(-ENOENT, "Cannot find device='' nor node-name='%s'", name);
        if (n->written)
                return node_is_free(n);
        if (writable && vol_read_only(n->vol))
                return err_note(-EROFS, "Cannot export read-only node as writable");
        return block_export_add(n, &o, &x);
}

static void cmd_block_export_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        int r = add_export(c->disks, args);

        if (r < 0)
                fail(call, r);
        else
                qmp_return(call, NULL);
}

static const char *const del_modes[] = { "safe", "hard", NULL };
static const struct qmp_arg block_export_del_args[] = {
        { "id", QMP_STR },
        { "mode", QMP_STR, .optional = true, .values = del_modes },
        { NULL },
};

/* Answers at once; the event BLOCK_EXPORT_DELETED says when it is done. */
static void cmd_block_export_del(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *id = text_of(args, "id"), *mode = text_of(args, "mode");
        struct block_export *x = disks_find_export(c->disks, id);

        if (!x)
                return qmp_fail(call, NULL, "Export '%s' is not found", id);
        if (!x->export)
                return qmp_fail(call, NULL, "Export '%s' is already shutting down", id);
        if ((!mode || strcmp(mode, "hard")) && block_export_in_use(x))
                return qmp_fail(call, NULL, "export '%s' still in use; mode 'hard' disconnects its front end", id);
        block_export_stop(x);
        qmp_return(call, NULL);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command disk_commands[] = {
        { "blockdev-add", blockdev_add_args, cmd_blockdev_add },
        { "blockdev-del", blockdev_del_args, cmd_blockdev_del },
        { "block-export-add", block_export_add_args, cmd_block_export_add },
        { "block-export-del", block_export_del_args, cmd_block_export_del },
        { NULL },
};
