/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_cut.c - the beginning and the end of jobs on a chain. Workers do it, while the volume is held and settled: nothing is in
 * flight, the engines have forgotten all files, and images are treated as ones at rest.
 *
 * The order in which things become durable: the data that was copied (settling flushes all that is written to), then the header
 * that leaves images out. Whatever happens in between, the chain that headers tell shows the same disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/jobs/chain_job_impl.h"
#include "blkq/exchange.h"
#include "blkq/rework.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/image_lock.h"
#include "common/range.h"

static struct chain_job *of_change(struct vol_change *c)
{
        return container_of(c, struct chain_job, change);
}

static const struct fmt_layer *layer_at(const struct vol *v, unsigned depth)
{
        const struct fmt_layer *l = v->layer;

        while (l && depth--)
                l = l->backing;
        return l;
}

/* How the image at @depth is opened for writing, without what is behind it. */
static struct fmt_open_opts how_at(const struct vol *v, unsigned depth, const struct fmt_image *img)
{
        struct fmt_open_opts how = vol_how(v);

        how.format = img->drv->name;
        how.flags = (how.flags & ~(unsigned)FMT_RDONLY) | FMT_NO_BACKING;
        how.layer = layer_at(v, depth);
        return how;
}

/* Our own lock for reading is in the way of a lock for writing. */
static void unlock_files(const struct fmt_image *img)
{
        image_unlock(img->file->fd);
        if (img->data_file)
                image_unlock(img->data_file->fd);
}

static void lock_files(const struct fmt_image *img)
{
        int r = image_lock(img->file->fd, img->file->path, false);

        if (r == 0 && img->data_file)
                r = image_lock(img->data_file->fd, img->data_file->path, false);
        if (r < 0)
                log_err("%s", err_text(r));
}

static void set_backing(struct vol *v, struct fmt_image *over, struct fmt_image *below)
{
        pthread_mutex_lock(&v->lock);
        over->backing = below;
        pthread_mutex_unlock(&v->lock);
}

/* --- the beginning of a commit --------------------------------------------------------------------------------------- */

static int make_fit(struct chain_job *j, struct fmt_image **img, const struct fmt_open_opts *how)
{
        uint64_t size = chain_at(j->job.v->top, j->top)->size;
        int r;

        if ((*img)->size > size && j->active)
                return err_note(-EINVAL, "'%s' has a disk of %" PRIu64 " bytes, more than the one of %" PRIu64 " that would go on "
                                "with it", (*img)->file->path, (*img)->size, size);
        if ((*img)->size >= size)
                return 0;
        if (!(*img)->drv->resize)
                return err_note(-ENOTSUP, "%s images cannot be resized", (*img)->drv->name);
        r = (*img)->drv->resize(*img, size, false);
        return r < 0 ? r : chain_reload(img, how);
}

static int open_base(struct chain_job *j, struct fmt_image *old, struct fmt_image **ret)
{
        struct vol *v = j->job.v;
        struct fmt_open_opts how = how_at(v, j->base, old);
        struct fmt_image *img = NULL;
        int r;

        if (!old->file || !(old->drv->caps & FMT_CAN_WRITE))
                return err_note(-ENOTSUP, "%s images cannot be written to", old->drv->name);
        unlock_files(old);
        r = vol_open_image(old->file->path, &how, v->block_size, &img);
        if (r == 0) {
                if (img->drv->bitmaps_take) /* nobody records what is written to it now: its own bitmaps mean nothing from here on */
                        r = img->drv->bitmaps_take(img);
                if (r == 0)
                        r = make_fit(j, &img, &how);
                if (r < 0)
                        chain_close(img);
        }
        if (r < 0)
                lock_files(old);
        else
                *ret = img;
        return r;
}

static int begin_work(struct vol_change *c)
{
        struct chain_job *j = of_change(c);
        struct vol *v = j->job.v;
        struct fmt_image *old = chain_at(v->top, j->base), *img = NULL;
        int r = old ? open_base(j, old, &img) : err_note(-ENOENT, "there is no such base"), again;

        if (r == 0) {
                j->to = writer_new(v, img, false);
                img->backing = old->backing;
                old->backing = NULL;
                set_backing(v, chain_at(v->top, j->base - 1), img);
                chain_close(old);
                if (!j->to) {
                        fmt_demote(img);
                        r = -ENOMEM;
                }
        }
        again = vol_reload(v);
        return r < 0 ? r : again;
}

static void begin_apply(struct vol_change *c)
{
        struct chain_job *j = of_change(c);

        j->begun = true;
        writer_join(j->to);
}

static void begin_undo(struct vol_change *c, bool worked)
{
        if (!worked && c->v->top)
                vol_reload(c->v);
}

struct vol_change *chain_job_begin(struct copy_job *c)
{
        struct chain_job *j = chain_job_of(c);

        j->change = (struct vol_change){
                .v = c->v, .settled = true, .work = begin_work, .apply = begin_apply, .undo = begin_undo,
        };
        return &j->change;
}

/* --- headers --------------------------------------------------------------------------------------------------------- */

static int write_backing(struct fmt_image *img, void *opaque)
{
        const struct chain_job *j = opaque;
        const struct fmt_option opts[] = {
                { "backing_file", j->end.backing_name }, { "backing_fmt", j->end.backing_format },
        };

        if (!img->drv->amend)
                return err_note(-ENOTSUP, "%s images cannot have another backing file", img->drv->name);
        return img->drv->amend(img, opts, *j->end.backing_name ? 2 : 1, false);
}

static int replace_text(char **text, const char *with)
{
        char *copy = *with ? strdup(with) : NULL;

        if (*with && !copy)
                return -ENOMEM;
        free(*text);
        *text = copy;
        return 0;
}

/* An image that is open for reading only. */
static int write_backing_below(struct chain_job *j, unsigned depth, struct fmt_image *img)
{
        struct fmt_open_opts how = how_at(j->job.v, depth, img);
        struct fmt_image *again;
        int r;

        how.state_dir = NULL;
        unlock_files(img);
        r = chain_open(img->file->path, &how, &again);
        if (r == 0) {
                r = write_backing(again, j);
                chain_close(again);
        }
        lock_files(img);
        if (r == 0)
                r = replace_text(&img->backing_name, j->end.backing_name);
        return r < 0 ? r : replace_text(&img->backing_format, j->end.backing_format ? j->end.backing_format : "");
}

/* --- the end --------------------------------------------------------------------------------------------------------- */

/* What lies between the image at depth @over and the one at depth @base is closed. */
static void cut(struct vol *v, unsigned over, unsigned base)
{
        struct fmt_image *above = chain_at(v->top, over), *out = above->backing, *below = chain_at(v->top, base);

        if (out == below)
                return;
        set_backing(v, above, below);
        for (struct fmt_image *last = out; last; last = last->backing)
                if (last->backing == below) {
                        last->backing = NULL;
                        break;
                }
        chain_close(out);
}

static int stream_work(struct vol_change *c)
{
        struct chain_job *j = of_change(c);
        int r = vol_rework(c->v, false, write_backing, j);

        if (r == 0)
                cut(c->v, 0, j->base);
        return r;
}

static int middle_work(struct vol_change *c)
{
        struct chain_job *j = of_change(c);
        struct vol *v = c->v;
        unsigned over = j->top - 1;
        int r = over ? write_backing_below(j, over, chain_at(v->top, over)) : vol_rework(v, false, write_backing, j);

        if (r < 0)
                return r;
        fmt_demote(j->to->img);
        cut(v, over, j->base);
        return over ? vol_reload(v) : 0;
}

/* --- the end of an active commit ------------------------------------------------------------------------------------- */

/* The base's tables are read again, and it stays in its place. When that fails it is lost, and the disk with it. */
static int base_again(struct chain_job *j)
{
        struct vol *v = j->job.v;
        struct fmt_image *over = chain_at(v->top, j->base - 1), *img = over->backing;
        struct fmt_open_opts how = how_at(v, j->base, img);
        int r = chain_reload(&img, &how);

        set_backing(v, over, img);
        j->to->img = img;
        if (r < 0)
                vol_fail(v, r, "the base image could not be opened again");
        return r;
}

static int copy_run(struct chain_job *j, struct fmt_image *top, void *buf, uint64_t from, uint64_t end)
{
        int r = 0;

        for (struct extent e; r == 0 && from < end; from += e.len) {
                r = chain_map_sync(top, from, min_u64(end - from, COPY_CHUNK), &e);
                if (r < 0 || e.depth >= j->base)
                        continue;
                r = chain_read_sync(top, buf, e.len, from);
                if (r == 0)
                        r = fmt_write_sync(j->to->img, buf, e.len, from);
        }
        return r;
}

static int copy_rest(struct chain_job *j)
{
        AUTO(freep) void *buf = aligned_alloc(4096, COPY_CHUNK);
        struct fmt_image *top = j->job.v->top;
        uint64_t off, len;
        int r = buf ? 0 : -ENOMEM;

        for (uint64_t at = 0; r == 0 && dirty_bitmap_next(j->todo, at, UINT64_MAX, &off, &len); at = off + len)
                r = copy_run(j, top, buf, off, min_u64(off + len, top->size));
        if (r == 0)
                r = fmt_settle_sync(j->to->img);
        return r;
}

static int active_work(struct vol_change *c)
{
        struct chain_job *j = of_change(c);
        struct vol *v = c->v;
        struct fmt_image *out = v->top, *over;
        int r = base_again(j);

        if (r == 0)
                r = copy_rest(j);
        if (r == 0)
                r = base_again(j);
        if (r < 0)
                return r;
        over = chain_at(out, j->base - 1);
        vol_put_image(v, TAKE(over->backing, NULL), false);
        chain_close(out);
        return 0;
}

static void swap_text(char **a, char **b)
{
        char *was = *a;

        *a = *b;
        *b = was;
}

/* Home. */
static void end_apply(struct vol_change *c)
{
        struct chain_job *j = of_change(c);
        struct vol *v = c->v;

        pthread_mutex_lock(&v->lock);
        if (j->end.cut)
                v->layer = j->end.layer;
        if (j->end.cut && j->active) {
                vol_rename(v, &j->path, TAKE(j->keep, NULL));
                swap_text(&v->format, &j->format);
        }
        pthread_mutex_unlock(&v->lock);
        if (j->end.cut && j->active) {
                writer_free(v->writer);
                v->writer = TAKE(j->to, NULL);
                v->writer->guests = true;
        }
        writer_free(TAKE(j->to, NULL));
        vol_detach_bitmap(v, j->todo);
}

static int leave_work(struct vol_change *c)
{
        struct chain_job *j = of_change(c);

        if (j->to)
                fmt_demote(j->to->img);
        return vol_reload(c->v);
}

/* The volume is held, and nothing is under way: its writers may be touched here. */
static void end_undo(struct vol_change *c, bool worked)
{
        struct chain_job *j = of_change(c);

        if (j->to && j->to->img && !worked)
                fmt_demote(j->to->img);
        writer_free(TAKE(j->to, NULL));
        vol_detach_bitmap(c->v, j->todo);
        if (!worked && c->v->top)
                vol_reload(c->v);
}

struct vol_change *chain_job_end(struct copy_job *c, const struct chain_end *end)
{
        struct chain_job *j = chain_job_of(c);

        j->end = *end;
        j->change = (struct vol_change){ .v = c->v, .settled = true, .apply = end_apply, .undo = end_undo };
        if (end->cut && j->active) {
                j->path = strdup(end->path);
                j->format = strdup(end->format);
                j->keep = calloc(1, sizeof(*j->keep));
                if (!j->path || !j->format || !j->keep)
                        j->end.cut = false;
        }
        if (!j->end.cut && !j->begun)
                j->change.settled = false; /* nothing was done that had to be taken back */
        else if (!j->end.cut)
                j->change.work = leave_work;
        else
                j->change.work = j->stream ? stream_work : j->active ? active_work : middle_work;
        return &j->change;
}
