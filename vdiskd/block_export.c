/* SPDX-License-Identifier: BSD-3-Clause */
/*   serving -> stopping (the rings drain) -> gone */
#include "block_export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/size.h"
#include "vdiskd/node.h"
#include "vhost_user_blk/export.h"

static void block_export_free(struct block_export *x)
{
        listener_close(&x->listener);
        free(x->id);
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

static int start(struct block_export *x, const struct block_export_opts *o)
{
        AUTO(freep) char *wce_mark = wce_mark_path(x);
        struct node *n = x->node;
        struct disks *d = x->disks;
        struct export_opts eo = {
                .name = node_label(n),
                .connect = o->connect,
                .serial = o->serial,
                .num_queues = o->num_queues,
                .block_size = o->block_size,
                .read_only = o->read_only,
                .wce_mark = wce_mark,
                .takes_turns = n->migratable,
                .threads = d->threads,
                .nthreads = d->nthreads,
                .start_thread = n->home,
        };
        int fd, r = check_block_size(n, o->block_size ?: 512);

        if (r < 0)
                return r;
        r = o->connect ? 0 : listener_open(&x->listener, &o->at, d->passed);
        if (r < 0)
                return r;
        fd = TAKE(x->listener.fd, -1);
        r = export_new(d->loop, n->vol, fd, &eo, &x->export);
        if (r == 0)
                say_serving(x, fd, o->connect, o->read_only || vol_read_only(n->vol));
        return r;
}

int block_export_add(struct node *n, const struct block_export_opts *o, struct block_export **ret)
{
        struct block_export *x = calloc(1, sizeof(*x));
        int r = -ENOMEM;

        if (!x)
                return -ENOMEM;
        x->disks = n->disks;
        x->node = n;
        x->listener.fd = -1;
        x->id = strdup(o->id);
        if (x->id)
                r = start(x, o);
        if (r < 0) {
                block_export_free(x);
                return r;
        }
        n->nexports++;
        list_add_tail(&x->disks->exports, &x->link);
        *ret = x;
        return 0;
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
