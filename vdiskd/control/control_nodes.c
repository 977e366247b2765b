/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_nodes.c - blockdev-add and -del. Opening an image waits for the host's disk, and for the key of an encrypted
 * one takes seconds, so a worker does it; closing waits for the guests' data. Either is answered when it is done.
 */
#include "vdiskd/control/control_blockdev.h"
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/id.h"
#include "vdiskd/json_member.h"

/* --- blockdev-add ------------------------------------------------------------------------------------------------ */

static const char *const image_drivers[] = { "raw", "qcow2", NULL };
static const char *const file_drivers[] = { "file", "host_device", NULL }; /* what is at the path decides */
static const char *const discards[] = { "unmap", NULL };                   /* discards always give space back */

static const struct qmp_arg cache_args[] = {
        { "direct", QMP_BOOL, .optional = true },
        { "no-flush", QMP_BOOL, .optional = true }, /* false: the error has its own words */
        { NULL },
};
/* What QEMU's clients say of a file and is so in any case: --engine chooses how I/O is done, images are always
 * locked. */
static const char *const aios[] = { "threads", "native", "io_uring", NULL };
static const char *const lockings[] = { "auto", "on", NULL };
#define FILE_ARGS                                                      \
        { "filename", QMP_STR },                                       \
        { "auto-read-only", QMP_BOOL, .optional = true },              \
        { "aio", QMP_STR, .optional = true, .values = aios },          \
        { "locking", QMP_STR, .optional = true, .values = lockings }
static const struct qmp_arg file_args[] = {
        { "driver", QMP_STR, .values = file_drivers },
        FILE_ARGS,
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
        { "file", QMP_REF, .optional = true, .members = file_args },
        { "data-file", QMP_REF, .optional = true, .members = file_args },
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args },
        { "backing", QMP_REF, .optional = true, .nullable = true, .members = backing_args },
        { "node-name", QMP_STR, .optional = true },
        { "read-only", QMP_BOOL, .optional = true }, /* they are, whatever is said */
        { NULL },
};
static const struct qmp_arg raw_args[] = {
        { "file", QMP_REF, .members = file_args },
        { "data-first", QMP_BOOL, .optional = true }, /* not in QEMU */
        { "migratable", QMP_BOOL, .optional = true }, /* neither */
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args }, /* the errors have their own words */
        { "backing", QMP_REF, .optional = true, .nullable = true, .members = backing_args },
        { "data-file", QMP_REF, .optional = true, .members = file_args },
        { NULL },
};
static const struct qmp_arg qcow2_args[] = {
        { "file", QMP_REF, .members = file_args },
        { "encrypt", QMP_OBJECT, .optional = true, .members = encrypt_args },
        { "backing", QMP_REF, .optional = true, .nullable = true, .members = backing_args },
        { "data-file", QMP_REF, .optional = true, .members = file_args },
        { "data-first", QMP_BOOL, .optional = true },
        { "migratable", QMP_BOOL, .optional = true },
        { NULL },
};
static const struct qmp_arg null_args[] = {
        { "size", QMP_INT, .optional = true, .min = 512, .max = INT64_MAX },
        { NULL },
};
static const struct qmp_arg bare_file_args[] = { FILE_ARGS, { NULL } };
static const char *const inline_drivers[] = { "raw", "qcow2", "null-co", "file", "host_device", NULL };
static const struct qmp_variant inline_variants[] = {
        { "raw", raw_args }, { "qcow2", qcow2_args }, { "null-co", null_args }, { "file", bare_file_args },
        { "host_device", bare_file_args }, { NULL },
};
static const struct qmp_arg inline_args[] = {
        { "driver", QMP_STR, .values = inline_drivers, .variants = inline_variants },
        { "node-name", QMP_STR, .optional = true },
        { "read-only", QMP_BOOL, .optional = true },
        { "cache", QMP_OBJECT, .optional = true, .members = cache_args },
        { "discard", QMP_STR, .optional = true, .values = discards },
        { NULL },
};
static const struct qmp_arg throttle_args[] = { { "file", QMP_REF, .members = inline_args }, { NULL } };
static const char *const drivers[] = { "raw", "qcow2", "null-co", "file", "host_device", "throttle", NULL };
static const struct qmp_variant driver_args[] = {
        { "raw", raw_args }, { "qcow2", qcow2_args }, { "null-co", null_args }, { "file", bare_file_args },
        { "host_device", bare_file_args }, { "throttle", throttle_args }, { NULL },
};
static const char *const on_fulls[] = { "hold", "report", NULL };
const struct qmp_arg blockdev_add_args[] = {
        { "driver", QMP_STR, .values = drivers, .variants = driver_args },
        { "node-name", QMP_STR, .optional = true }, /* the error has its own words */
        { "read-only", QMP_BOOL, .optional = true },
        { "cache", QMP_OBJECT, .optional = true, .members = cache_args },
        { "discard", QMP_STR, .optional = true, .values = discards },
        { "throttle-group", QMP_STR, .optional = true }, /* not in QEMU: there it takes a node of driver throttle */
        { "on-full", QMP_STR, .optional = true, .values = on_fulls }, /* neither: there it is the device's werror */
        { "full-timeout", QMP_INT, .optional = true, .max = UINT_MAX },
        { "max-in-flight", QMP_INT, .optional = true, .max = INT64_MAX },
        { NULL },
};

/* A disk whose flushes do nothing is none that we would serve. */
int blockdev_check_cache(json_t *args)
{
        json_t *file = json_object_get(args, "file");

        if (flag_of(json_object_get(args, "cache"), "no-flush", false) ||
            flag_of(json_object_get(file, "cache"), "no-flush", false))
                return err_note(-EINVAL, "Parameter 'cache.no-flush' does not accept true: a guest's flush makes its data durable");
        return 0;
}

int blockdev_check_name(struct disks *d, const char *name)
{
        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (!name)
                return err_note(-EINVAL, "'node-name' must be specified for the root node");
        if (!id_is_valid(name))
                return err_note(-EINVAL, "Invalid node-name: '%s'", name);
        if (strlen(name) > ID_BYTES)
                return err_note(-EINVAL, "Node name too long");
        if (disks_name_taken(d, name) || file_node_find(d, name) || filter_node_find(d, name))
                return err_note(-EEXIST, "Duplicate nodes with node-name='%s'", name);
        return 0;
}

/* The file's word wins, as in QEMU, where it takes over what it does not say. */
static bool wants_direct(json_t *args)
{
        json_t *file = json_object_get(args, "file");

        return flag_of(json_object_get(file, "cache"), "direct", flag_of(json_object_get(args, "cache"), "direct", false));
}

/* What a command says about the images of a chain. Text is the command's, or a node's. */
struct said {
        struct fmt_layer layer[FMT_MAX_CHAIN];
        const char *below[FMT_MAX_CHAIN]; /* names */
        unsigned nbelow;
        struct node *base;                /* a node that becomes the end of it */
};

static int check_backing_name(struct disks *d, const struct said *s, const char *top, const char *name)
{
        if (!id_is_valid(name))
                return err_note(-EINVAL, "Invalid node-name: '%s'", name);
        if (strlen(name) > ID_BYTES)
                return err_note(-EINVAL, "Node name too long");
        for (unsigned i = 0; i < s->nbelow; i++)
                if (s->below[i] && !strcmp(s->below[i], name))
                        top = name;
        if (!strcmp(top, name) || disks_name_taken(d, name) || filter_node_find(d, name))
                return err_note(-EEXIST, "Duplicate nodes with node-name='%s'", name);
        return 0;
}

/* @name, a node that nobody uses, is what is behind layer[at - 1]; with what is behind it. */
static int read_base(struct disks *d, struct said *s, unsigned at, const char *name)
{
        struct node *n = disks_find_node(d, name);

        if (!n && disks_find_inner(d, name))
                return err_note(-EBUSY, "Node '%s' is busy: node is used as backing hd of '%s'", name,
                                inner_node_over(disks_find_inner(d, name)));
        if (!n)
                return err_note(-ENOENT, "Cannot find device='' nor node-name='%s'", name);
        if (filter_node_of(d, n))
                return err_note(-EBUSY, "Node '%s' is busy: node is used as file of '%s'", name, filter_node_of(d, n)->name);
        if (n->nexports || n->pins)
                return err_note(-EBUSY, "Node '%s' is busy: it is exported, and a backing image is only read", name);
        if (node_is_free(n) < 0)
                return -EBUSY;
        if (!n->path || n->migratable)
                return err_note(-ENOTSUP, "Node '%s' cannot be a backing image: it has no file, or is migratable", name);
        s->base = n;
        s->layer[at] = n->layer ? *n->layer : (struct fmt_layer){ 0 };
        s->layer[at].path = n->path;
        s->layer[at].format = n->format;
        s->layer[at - 1].backing = &s->layer[at];
        s->below[at - 1] = n->name;
        s->nbelow = at;
        list_for_each(l, &n->below)
                if (s->nbelow < FMT_MAX_CHAIN)
                        s->below[s->nbelow++] = list_entry(l, struct inner_node, link)->name;
        return 0;
}

/* Layer @at as @o says, and all behind it. */
static int read_said(struct disks *d, json_t *o, struct said *s)
{
        const char *top = text_of(o, "node-name");
        unsigned at = 0;

        for (;; at++) {
                struct fmt_layer *l = &s->layer[at];
                json_t *next = json_object_get(o, "backing");

                l->key_secret = text_of(json_object_get(o, "encrypt"), "key-secret");
                l->data_path = text_of(json_object_get(o, "data-file"), "filename");
                if (at) {
                        l->path = text_of(json_object_get(o, "file"), "filename");
                        l->format = text_of(o, "driver");
                        s->below[at - 1] = text_of(o, "node-name");
                        s->layer[at - 1].backing = l;
                        s->nbelow = at;
                }
                if (at && s->below[at - 1]) {
                        const char *name = s->below[at - 1];
                        int r;

                        s->below[at - 1] = NULL; /* not compared with itself */
                        r = check_backing_name(d, s, top, name);
                        s->below[at - 1] = name;
                        if (r < 0)
                                return r;
                }
                l->no_backing = json_is_null(next);
                if (!next || json_is_null(next))
                        return 0;
                if (at + 1 == FMT_MAX_CHAIN)
                        return err_note(-ELOOP, "the backing chain has more than %u images", FMT_MAX_CHAIN);
                if (json_is_string(next))
                        return read_base(d, s, at + 1, json_string_value(next));
                o = next;
        }
}

static bool says_something(const struct said *s)
{
        return s->layer[0].key_secret || s->layer[0].data_path || s->layer[0].backing || s->layer[0].no_backing;
}

static void on_added(void *opaque, int res, const char *why)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, NULL);
}

int blockdev_open(struct disks *d, json_t *args, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        bool null = !strcmp(text_of(args, "driver"), "null-co");
        struct said s = { 0 };
        struct node_opts o = {
                .name = text_of(args, "node-name"),
                .path = text_of(json_object_get(args, "file"), "filename"),
                .format = null ? "null" : text_of(args, "driver"),
                .read_only = flag_of(args, "read-only", false),
                .writeback = !wants_direct(args),
                .migratable = flag_of(args, "migratable", false),
                .entry_with_data = !flag_of(args, "data-first", true),
                .null_size = null ? (uint64_t)number_of(args, "size", 1 << 30) : 0, /* QEMU's default */
                .report_full = !strcmp(text_of(args, "on-full") ?: "hold", "report"),
                .full_timeout_s = (unsigned)number_of(args, "full-timeout", FULL_TIMEOUT_S),
                .max_in_flight = (uint64_t)number_of(args, "max-in-flight", MAX_IN_FLIGHT),
        };
        int r = read_said(d, args, &s);

        if (r < 0)
                return r;
        o.layer = says_something(&s) ? s.layer : NULL;
        o.below = s.below;
        o.nbelow = s.nbelow;
        o.base = s.base;
        if (json_object_get(args, "data-file") && strcmp(o.format, "qcow2"))
                return err_note(-EINVAL, "Parameter 'data-file' is unexpected");
        if (o.null_size % 512)
                return err_note(-EINVAL, "Parameter 'size' expects a multiple of 512");
        r = limits_choose(d, o.name, text_of(args, "throttle-group"), NULL, &o.throttle);
        if (r == 0)
                r = node_open_start(d, &o, done, opaque);
        throttle_group_unref(o.throttle);
        return r;
}

bool blockdev_is_file(const char *driver)
{
        return !strcmp(driver, "file") || !strcmp(driver, "host_device");
}

static void cmd_blockdev_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *driver = text_of(args, "driver");
        int r = blockdev_check_cache(args);

        if (r == 0 && blockdev_is_file(driver)) {
                r = blockdev_check_name(c->disks, text_of(args, "node-name"));
                if (r == 0)
                        r = file_node_add(c->disks, args);
                if (r == 0)
                        return qmp_return(call, NULL);
        }
        if (r == 0 && !strcmp(driver, "throttle"))
                return blockdev_add_throttle(c->disks, args, call);
        if (r == 0)
                r = blockdev_check_name(c->disks, text_of(args, "node-name"));
        if (r == 0)
                r = file_nodes_resolve(c->disks, args);
        if (r == 0)
                r = blockdev_open(c->disks, args, on_added, call);
        if (r < 0)
                qmp_answer(call, r);
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
        struct file_node *f = n ? NULL : file_node_find(c->disks, name);
        struct filter_node *filter = filter_node_find(c->disks, name);

        if (filter) {
                int r = filter_node_del(c->disks, filter, &n);

                if (r == 0 && n)
                        return node_close(n, on_deleted, call);
                return qmp_answer(call, r);
        }
        if (n)
                filter = filter_node_of(c->disks, n);
        else if (f)
                filter = filter_node_of_file(c->disks, f);
        if (filter)
                return qmp_fail(call, NULL, "Block device %s is in use", name);
        if (f && file_node_used(c->disks, f))
                return qmp_fail(call, NULL, "Node %s is in use", name);
        if (f) {
                file_node_free(f);
                return qmp_return(call, NULL);
        }
        if (!n && disks_find_inner(c->disks, name))
                qmp_fail(call, NULL, "Node '%s' is busy: node is used as backing hd of '%s'", name,
                         inner_node_over(disks_find_inner(c->disks, name)));
        else if (!n)
                qmp_fail(call, NULL, "Failed to find node with node-name='%s'", name);
        else if (n->nexports)
                qmp_fail(call, NULL, "Node %s is in use", name);
        else if (node_is_free(n) < 0)
                qmp_answer(call, -EBUSY);
        else
                node_close(n, on_deleted, call);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command node_commands[] = {
        { "blockdev-add", blockdev_add_args, cmd_blockdev_add },
        { "blockdev-del", blockdev_del_args, cmd_blockdev_del },
        { NULL },
};
