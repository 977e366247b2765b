/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_exports.c - block-export-add and -del. An export of a file's node opens the file first, which a worker does;
 * a deleted one ends when its guests' requests have, which an event tells.
 */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/config/option_values.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/id.h"
#include "vdiskd/json_member.h"

#define MAX_QUEUES 256 /* what export.h serves */
#define LAST_LUN 255

static const char *const export_types[] = { "vhost-user-blk", "vhost-user-scsi", NULL };
static const struct qmp_arg scsi_args[] = { { "lun", QMP_INT, .optional = true, .min = 0, .max = LAST_LUN }, { NULL } };
static const struct qmp_variant export_variants[] = { { "vhost-user-scsi", scsi_args }, { NULL } };
static const char *const addr_types[] = { "unix", "fd", NULL };
static const struct qmp_arg unix_args[] = { { "path", QMP_STR }, { NULL } };
static const struct qmp_arg fd_args[] = { { "str", QMP_STR }, { NULL } }; /* on the command line only */
static const struct qmp_variant addr_variants[] = { { "unix", unix_args }, { "fd", fd_args }, { NULL } };
static const struct qmp_arg addr_args[] = {
        { "type", QMP_STR, .values = addr_types, .variants = addr_variants },
        { NULL },
};
static const struct qmp_arg block_export_add_args[] = {
        { "type", QMP_STR, .values = export_types, .variants = export_variants },
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

/* The socket is open already. */
static int read_fd(const char *text, bool local, struct block_export_opts *o)
{
        if (!local)
                return err_note(-EINVAL, "Parameter 'addr.type' does not accept value 'fd': descriptors are named on the command line "
                                "only");
        if (o->connect || o->at.mode >= 0 || o->at.owner || o->at.group)
                return err_note(-EINVAL, "connect, socket-mode, socket-owner and socket-group do not go with a descriptor");
        o->at.path = NULL;
        return set_fd("addr.str", text, &o->at.fd);
}

/* Listen there, or connect to who does. */
static int read_socket(json_t *args, bool local, struct block_export_opts *o)
{
        const char *path = text_of(json_object_get(args, "addr"), "path"), *mode = text_of(args, "socket-mode");
        bool connect = flag_of(args, "connect", false);

        o->at = (struct listen_at){
                .path = path, .fd = -1, .mode = -1, .owner = text_of(args, "socket-owner"),
                .group = text_of(args, "socket-group"),
        };
        if (!path && connect)
                return err_note(-EINVAL, "connect does not go with a descriptor");
        o->connect = connect ? path : NULL;
        if (connect && (mode || o->at.owner || o->at.group))
                return err_note(-EINVAL, "socket-mode, socket-owner and socket-group do not go with connect: the socket is the "
                                "front end's");
        if (connect && strlen(path) > SOCKET_PATH_BYTES)
                return err_note(-EINVAL, "UNIX socket path '%s' is too long", path);
        if (mode && set_mode("socket-mode", mode, &o->at.mode) < 0)
                return -EINVAL;
        return path ? 0 : read_fd(text_of(json_object_get(args, "addr"), "str"), local, o);
}

static int add_export(struct disks *d, json_t *args, bool local)
{
        bool writable = flag_of(args, "writable", false);
        bool scsi = !strcmp(text_of(args, "type"), "vhost-user-scsi");
        const char *name = text_of(args, "node-name");
        struct block_export_opts o = {
                .id = text_of(args, "id"),
                .read_only = !writable,
                .serial = text_of(args, "serial"),
                .num_queues = (unsigned)number_of(args, "num-queues", scsi ? 0 : 1),
                .block_size = (uint32_t)number_of(args, "logical-block-size", 512),
                .scsi = scsi,
                .lun = (int)number_of(args, "lun", SCSI_ANY_LUN),
        };
        struct node *n = disks_find_node(d, name);
        struct block_export *x;
        int r = read_socket(args, local, &o);

        if (r < 0)
                return r;
        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (!id_is_valid(o.id) || strlen(o.id) > ID_BYTES)
                return err_note(-EINVAL, "Invalid block export id");
        if (disks_find_export(d, o.id))
                return err_note(-EEXIST, "Block export id '%s' is already in use", o.id);
        if (!n && disks_find_inner(d, name))
                return err_note(-EBUSY, "Node '%s' is busy: node is used as backing hd of '%s', and cannot be exported by itself",
                                name, inner_node_over(disks_find_inner(d, name)));
        if (!n)
                return err_note(-ENOENT, "Cannot find device='' nor node-name='%s'", name);
        if (n->written)
                return node_is_free(n);
        if (writable && vol_read_only(n->vol))
                return err_note(-EROFS, "Cannot export read-only node as writable");
        return block_export_add(n, &o, &x);
}

/* A file node that is exported by itself becomes a raw image of its name. */
struct opening {
        struct disks *disks;
        struct qmp_call *call;
        json_t *args;
};

static void on_file_opened(void *opaque, int res, const char *why)
{
        struct opening *p = opaque;
        struct file_node *f = file_node_find(p->disks, text_of(p->args, "node-name"));

        if (res == 0 && f)
                file_node_free(f);
        if (res < 0) {
                qmp_fail(p->call, NULL, "%s", why);
        } else {
                err_clear();
                qmp_answer(p->call, add_export(p->disks, p->args, qmp_is_local(p->call)));
        }
        json_decref(p->args);
        free(p);
}

static int open_file_node(struct disks *d, struct file_node *f, json_t *args, struct qmp_call *call)
{
        struct node_opts o = {
                .name = f->name,
                .path = text_of(f->file, "filename"),
                .format = "raw",
                .read_only = f->read_only,
                .writeback = !flag_of(json_object_get(f->file, "cache"), "direct", false),
                .max_in_flight = MAX_IN_FLIGHT,
        };
        struct opening *p;
        int r;

        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (file_node_used(d, f) || disks_name_taken(d, f->name))
                return err_note(-EBUSY, "Node '%s' is in use", f->name);
        p = malloc(sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (struct opening){ .disks = d, .call = call, .args = json_incref(args) };
        r = node_open_start(d, &o, on_file_opened, p);
        if (r < 0) {
                json_decref(p->args);
                free(p);
        }
        return r;
}

static void cmd_block_export_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct file_node *f = file_node_find(c->disks, text_of(args, "node-name"));
        int r = f ? open_file_node(c->disks, f, args, call) : add_export(c->disks, args, qmp_is_local(call));

        if (r < 0 || !f) /* else on_file_opened() */
                qmp_answer(call, r);
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
        if (x->stopping)
                return qmp_fail(call, NULL, "Export '%s' is already shutting down", id);
        if ((!mode || strcmp(mode, "hard")) && block_export_in_use(x))
                return qmp_fail(call, NULL, "export '%s' still in use; mode 'hard' %s", id,
                                x->host ? "takes the disk from its guest" : "disconnects its front end");
        block_export_stop(x);
        qmp_return(call, NULL);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command export_commands[] = {
        { "block-export-add", block_export_add_args, cmd_block_export_add },
        { "block-export-del", block_export_del_args, cmd_block_export_del },
        { NULL },
};
