/* SPDX-License-Identifier: BSD-3-Clause */
/*   serving -> stopping (the rings drain) -> gone */
#include "block_export.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/size.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/disks/node.h"
#include "vhost_user_blk/export.h"

static void block_export_free(struct block_export *x)
{
        listener_close(&x->listener);
        free(x->id);
        free(x->connect);
        free(x->serial);
        free(x->named);
        free(x->told);
        free(x);
}

/* Sectors that the host can only write by reading their neighbours are a slow and untold trap: the operator decides. */
static int check_block_size(const struct node *n, uint32_t size)
{
        uint32_t min = vol_block_size_min(n->vol);

        if (size >= min)
                return 0;
        return err_note(-EINVAL, "%s: direct I/O on this file needs blocks of %u bytes, not %u: use block-size=%u, or "
                        "cache=writeback", node_label(n), min, size, min);
}

static void say_serving(const struct block_export *x, int fd, const char *connect, bool read_only)
{
        struct vol *v = x->node->vol;
        char size[32], where[160];

        if (x->listener.path)
                snprintf(where, sizeof(where), "on %s", x->listener.path);
        else if (connect)
                snprintf(where, sizeof(where), "to %s", connect);
        else
                snprintf(where, sizeof(where), "on descriptor %d", fd);
        log_info("%s: serving %s, %s, %s, %s", node_label(x->node), vol_format(v),
                 size_format(vol_size(v), size, sizeof(size)), read_only ? "read-only" : "read-write", where);
        if (!vol_size(v))
                log_warn("%s: it is empty: the guest gets a disk without a single sector. \"truncate -s\" or \"vdisk-img "
                         "resize\" give the file a size", node_label(x->node));
}

/* Named after the image and the export: daemons share the directory. NULL: there is none, or no memory. */
static char *wce_mark_path(const struct block_export *x)
{
        struct fmt_image *img = vol_image_get(x->node->vol);
        const struct file *f = img ? img->file : NULL;
        char *path = NULL;

        if (x->disks->state_dir && f &&
            asprintf(&path, "%s/%x-%x-%" PRIx64 "-%s.writethrough", x->disks->state_dir, major(f->dev), minor(f->dev),
                     (uint64_t)f->ino, x->id) < 0)
                path = NULL;
        vol_image_put(x->node->vol);
        return path;
}

/* On @fd, which is taken; -1 with x->connect. */
static int start(struct block_export *x, int fd, bool parked)
{
        AUTO(freep) char *wce_mark = wce_mark_path(x);
        struct node *n = x->node;
        struct disks *d = x->disks;
        struct export_opts eo = {
                .name = node_label(n),
                .connect = x->connect,
                .serial = x->serial,
                .num_queues = x->num_queues,
                .block_size = x->block_size,
                .read_only = x->read_only,
                .wce_mark = wce_mark,
                .takes_turns = n->migratable,
                .parked = parked,
                .threads = d->threads,
                .nthreads = d->nthreads,
                .start_thread = n->home,
        };

        return export_new(d->loop, n->vol, fd, &eo, &x->export);
}

/* NULL: no memory. */
static struct block_export *block_export_new(struct node *n, const struct block_export_opts *o)
{
        struct block_export *x = calloc(1, sizeof(*x));

        if (!x)
                return NULL;
        x->disks = n->disks;
        x->node = n;
        x->listener.fd = -1;
        x->id = strdup(o->id);
        x->connect = o->connect ? strdup(o->connect) : NULL;
        x->serial = o->serial ? strdup(o->serial) : NULL;
        x->named = n->path ? strdup(n->path) : NULL;
        x->num_queues = o->num_queues;
        x->block_size = o->block_size;
        /* and stays so when the node becomes writable */
        x->read_only = o->read_only || (n->vol && vol_read_only(n->vol));
        if (x->id && (x->connect || !o->connect) && (x->serial || !o->serial) && (x->named || !n->path))
                return x;
        block_export_free(x);
        return NULL;
}

static void enter(struct block_export *x)
{
        x->node->nexports++;
        list_add_tail(&x->disks->exports, &x->link);
}

int block_export_add(struct node *n, const struct block_export_opts *o, struct block_export **ret)
{
        struct block_export *x = block_export_new(n, o);
        int fd = -1, r = x ? check_block_size(n, o->block_size ?: 512) : -ENOMEM;

        if (r == 0 && !o->connect)
                r = listener_open(&x->listener, &o->at, n->disks->passed);
        if (r == 0) {
                fd = TAKE(x->listener.fd, -1);
                r = start(x, fd, false);
        }
        if (r < 0) {
                if (x)
                        block_export_free(x);
                return r;
        }
        say_serving(x, fd, o->connect, o->read_only || vol_read_only(n->vol));
        enter(x);
        *ret = x;
        return 0;
}

void block_exports_follow(struct node *n)
{
        list_for_each(pos, &n->disks->exports) {
                struct block_export *x = list_entry(pos, struct block_export, link);
                AUTO(freep) char *mark = x->node == n && x->export ? wce_mark_path(x) : NULL;

                if (!mark || export_move_mark(x->export, mark) == 0)
                        continue;
                log_warn("%s: a restart of the daemon will forget the write cache mode: %s", node_label(n), err_text(-EIO));
                err_clear();
        }
        reload_follow(n->disks->configuration);
}

bool block_export_in_use(const struct block_export *x)
{
        return x->export && export_in_use(x->export);
}

static void on_stopped(void *opaque)
{
        struct block_export *x = opaque;
        struct disks *d = x->disks;
        struct node *n = x->node;

        list_del(&x->link);
        n->nexports--;
        if (d->export_gone)
                d->export_gone(d->opaque, x->id);
        block_export_free(x);
        disks_export_gone(d, n);
}

void block_export_stop(struct block_export *x)
{
        listener_close(&x->listener); /* its file: nobody new comes */
        export_stop(TAKE(x->export, NULL), on_stopped, x);
}

/* --- for another process ------------------------------------------------------------------------------------------- */

/* Not packed, since it is made anew: disks link told. */
json_t *block_export_pack(const struct block_export *x, struct parcel *p)
{
        return json_pack("{s:s,s:s,s:o,s:s?,s:s?,s:o,s:o,s:b,s:o?,s:o}", "id", x->id, "node", x->node->name, "listener",
                         listener_pack(&x->listener), "connect", x->connect, "serial", x->serial, "num-queues",
                         parcel_u64(export_num_queues(x->export)), "block-size", parcel_u64(x->block_size), "read-only",
                         x->read_only, "named", x->named ? parcel_bytes(x->named, strlen(x->named)) : NULL,
                         "export", export_pack(x->export, p));
}

static int unpack_opts(const json_t *o, struct block_export_opts *bo)
{
        int r = parcel_get_text(o, "id", false, &bo->id);

        if (r == 0)
                r = parcel_get_text(o, "connect", true, &bo->connect);
        if (r == 0)
                r = parcel_get_text(o, "serial", true, &bo->serial);
        if (r == 0)
                r = parcel_get_unsigned(o, "num-queues", 256, &bo->num_queues);
        if (r == 0)
                r = parcel_get_unsigned(o, "block-size", 4096, &bo->block_size);
        return r < 0 ? r : parcel_get_bool(o, "read-only", &bo->read_only);
}

static int unpack_named(struct block_export *x, const json_t *o)
{
        char path[PATH_MAX];
        size_t len = 0;
        int r = json_is_null(json_object_get(o, "named")) ? 0 : parcel_get_bytes(o, "named", path, sizeof(path), &len);

        if (r < 0)
                return r;
        free(x->named);
        x->named = len ? strndup(path, len) : NULL;
        return len && !x->named ? -ENOMEM : 0;
}

static int unpack_export(struct block_export *x, struct parcel *p, const json_t *o)
{
        const json_t *listener, *export;
        int fd = -1, r = unpack_named(x, o);

        if (r == 0)
                r = parcel_get_object(o, "listener", false, &listener);
        if (r == 0)
                r = listener_unpack(&x->listener, listener);
        if (r == 0)
                r = parcel_get_object(o, "export", false, &export);
        if (r == 0)
                r = export_unpack_socket(p, export, &fd);
        if (r == 0 && (fd < 0) != !!x->connect)
                r = err_note(-EBADMSG, "an export without its socket");
        if (r == 0)
                r = start(x, fd, true);
        return r < 0 ? r : export_unpack(x->export, p, export);
}

int block_export_unpack(struct disks *d, struct parcel *p, const json_t *o)
{
        struct block_export_opts bo = { 0 };
        struct block_export *x;
        const char *node;
        struct node *n;
        int r = unpack_opts(o, &bo);

        if (r == 0)
                r = parcel_get_text(o, "node", false, &node);
        if (r < 0)
                return r;
        n = disks_find_node(d, node);
        if (!n)
                return err_note(-EBADMSG, "an export of node '%s', which is not there", node);
        x = block_export_new(n, &bo);
        if (!x)
                return -ENOMEM;
        enter(x);
        return err_prefix(unpack_export(x, p, o), "export '%s': ", bo.id);
}
