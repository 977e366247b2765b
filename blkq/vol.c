/* SPDX-License-Identifier: BSD-3-Clause */
/* vol.c - a volume opens and closes, and what it is. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/bitmaps/vol_bitmaps.h"
#include "blkq/change/retire.h"
#include "blkq/home/work.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define WRITEBACK_MS 5000u

/* --- open --------------------------------------------------------------------------------------------------------- */

static void vol_free(struct vol *v)
{
        if (!v)
                return;
        while (v->old_paths) {
                struct old_path *o = v->old_paths;

                v->old_paths = o->next;
                free(o->text);
                free(o);
        }
        dirty_finish(v);
        bitmap_set_finish(&v->bitmaps);
        work_owner_free(v->owner);
        pthread_mutex_destroy(&v->lock);
        free(v->path);
        free(v->format);
        free(v->state_dir);
        throttle_group_unref(v->throttle);
        writer_free(v->writer);
        free(v);
}

static int open_chain(struct fmt_image *top, const struct vol_opts *opts, struct qthread *home, struct vol **ret)
{
        struct vol *v;

        for (const struct fmt_image *img = top; img; img = img->backing)
                if (img->locked) {
                        chain_close(top);
                        return err_note(-EACCES, "the image is encrypted and was opened without its key");
                }
        v = calloc(1, sizeof(*v));
        if (v) {
                v->path = strdup(top->file && top->file->path ? top->file->path : top->drv->name);
                v->format = strdup(top->drv->name);
        }
        if (v) {
                list_init(&v->writers);
                v->read_only = opts->read_only || (top->read_only && !opts->asleep);
                v->writer = v->read_only ? NULL : writer_new(v, top, true);
        }
        if (!v || !v->path || !v->format || (!v->read_only && !v->writer)) {
                if (v) {
                        free(v->path);
                        free(v->format);
                        writer_free(v->writer);
                }
                free(v);
                chain_close(top);
                return -ENOMEM;
        }
        v->top = top;
        v->home = home;
        v->size = round_up(top->size, VOL_SECTOR);
        v->cluster_size = top->cluster_size;
        v->asleep = opts->asleep;
        v->awake = opts->awake;
        v->open_flags = opts->read_only ? FMT_RDONLY : 0;
        v->no_sync = opts->no_sync;
        v->slow_ns = opts->slow_ms * NS_PER_MS;
        v->max_in_flight = opts->max_in_flight;
        v->writeback_ns = (opts->writeback_ms ? opts->writeback_ms : WRITEBACK_MS) * NS_PER_MS;
        pthread_mutex_init(&v->lock, NULL);
        bitmap_set_init(&v->bitmaps);
        list_init(&v->ports);
        list_init(&v->ranges);
        list_init(&v->unpack_waiters);
        list_init(&v->retire_waiters);
        list_init(&v->grace.now);
        list_init(&v->grace.next);
        if (v->writer)
                writer_join(v->writer);
        hold_init(v);
        full_init(v, opts->wait_for_space && !v->read_only, opts->space_timeout_s);
        v->owner = work_owner_new();
        mover_init(&v->mover, home, v->owner, &v->max_in_flight);
        workers_hold();
        *ret = v;
        return 0;
}

/* Direct I/O in blocks that some request, cluster or end of image would not be a multiple of. */
static bool is_too_coarse(const struct fmt_image *img, uint32_t block_size)
{
        uint32_t align = fmt_off_align(img);
        uint32_t unit = img->host_align ? img->host_align : img->subcluster_size;

        return align > block_size || (unit > 1 && unit < align) || (align > VOL_SECTOR && !is_aligned(img->size, align));
}

static const struct fmt_image *too_coarse(const struct fmt_image *top, uint32_t block_size)
{
        for (const struct fmt_image *img = top; img; img = img->backing) {
                if (is_too_coarse(img, block_size))
                        return img;
                for (unsigned i = 0; i < img->nparts; i++)
                        if (is_too_coarse(img->parts[i], block_size))
                                return img->parts[i];
        }
        return NULL;
}

bool vol_direct_fits(const struct fmt_image *top, uint32_t block_size)
{
        const struct fmt_image *coarse = too_coarse(top, block_size);

        if (coarse)
                log_info("%s: direct I/O needs blocks of %u bytes; using the page cache", coarse->file->path,
                         fmt_off_align(coarse));
        return !coarse;
}

int vol_open_image(const char *path, struct fmt_open_opts *opts, uint32_t block_size, struct fmt_image **ret)
{
        int r = chain_open(path, opts, ret);

        if (r < 0 || !(opts->flags & FMT_DIRECT) || vol_direct_fits(*ret, block_size))
                return r;
        chain_close(*ret);
        opts->flags &= ~(unsigned)FMT_DIRECT;
        return chain_open(path, opts, ret);
}

/* What it takes to open the image again. */
static int remember(struct vol *v, const char *path, const struct fmt_open_opts *how, const struct vol_opts *opts)
{
        free(v->path);
        v->path = strdup(path);
        v->state_dir = how->state_dir ? strdup(how->state_dir) : NULL;
        v->cache_bytes = how->cache_bytes;
        v->layer = how->layer;
        v->open_flags = how->flags;
        v->block_size = opts->block_size ? opts->block_size : VOL_SECTOR;
        return !v->path || (how->state_dir && !v->state_dir) ? -ENOMEM : 0;
}

int vol_load(const char *path, const struct vol_opts *opts, struct vol_image *ret)
{
        struct fmt_open_opts look;
        int r;

        ret->how = (struct fmt_open_opts){
                .format = opts->format,
                .flags = (opts->read_only ? FMT_RDONLY : 0) | (opts->writeback ? 0 : FMT_DIRECT) |
                         (opts->no_lock ? FMT_NO_LOCK : 0) | (opts->entry_with_data ? FMT_ENTRY_WITH_DATA : 0) |
                         FMT_KEEP_BITMAPS | FMT_TELL,
                .cache_bytes = opts->cache_bytes,
                .null_size = opts->null_size,
                .layer = opts->layer,
                .state_dir = opts->state_dir,
        };
        bitmap_set_init(&ret->bitmaps);
        look = ret->how;
        look.flags |= VOL_ASLEEP_FLAGS;
        if (opts->asleep)
                return chain_open(path, &look, &ret->top);
        r = vol_open_image(path, &ret->how, opts->block_size ? opts->block_size : VOL_SECTOR, &ret->top);
        if (r < 0)
                return r;
        r = bitmaps_load(ret->top, &ret->bitmaps);
        if (r < 0)
                chain_close(ret->top);
        return r;
}

/* Nobody knows it yet, and nobody shall. Its image goes with it. */
static void undo_open(struct vol **opened)
{
        struct vol *v = TAKE(*opened, NULL);

        workers_release();
        chain_close(v->top);
        vol_free(v);
}

int vol_open_loaded(const char *path, const struct vol_opts *opts, struct vol_image *img, struct qthread *home,
                    struct vol **ret)
{
        int r = open_chain(img->top, opts, home, ret);

        if (r == 0) {
                r = remember(*ret, path, &img->how, opts);
                if (r == 0)
                        r = bitmaps_join(*ret, &img->bitmaps);
                if (r < 0)
                        undo_open(ret);
        }
        bitmap_set_finish(&img->bitmaps);
        return r;
}

int vol_open_chain(struct fmt_image *top, const struct vol_opts *opts, struct qthread *home, struct vol **ret)
{
        struct bitmap_set bitmaps;
        int r = open_chain(top, opts, home, ret);

        if (r < 0 || (*ret)->read_only)
                return r;
        r = bitmaps_load(top, &bitmaps);
        if (r == 0)
                r = bitmaps_join(*ret, &bitmaps);
        if (r < 0)
                undo_open(ret);
        bitmap_set_finish(&bitmaps);
        return r;
}

int vol_open(const char *path, const struct vol_opts *opts, struct qthread *home, struct vol **ret)
{
        struct vol_image img;
        int r = vol_load(path, opts, &img);

        return r < 0 ? r : vol_open_loaded(path, opts, &img, home, ret);
}

/* --- state -------------------------------------------------------------------------------------------------------- */

void vol_fail(struct vol *v, int err, const char *what)
{
        if (atomic_load_explicit(&v->failed, memory_order_relaxed))
                return;
        atomic_store_explicit(&v->failed, err, memory_order_relaxed); /* no order needed: it only says no */
        log_err("%s: %s (%s): no more writes until it is opened again; reads go on", v->path, what, strerror(-err));
        if (v->on_fail)
                v->on_fail(v->on_fail_opaque, err, what);
}

uint64_t vol_size(const struct vol *v)
{
        return v->size;
}

bool vol_read_only(const struct vol *v)
{
        return v->read_only;
}

uint32_t vol_cluster_size(const struct vol *v)
{
        return v->cluster_size;
}

uint32_t vol_block_size_min(struct vol *v)
{
        uint32_t min = VOL_SECTOR;

        pthread_mutex_lock(&v->lock);
        for (const struct fmt_image *img = v->top; img; img = img->backing) {
                min = (uint32_t)max_u64(min, fmt_off_align(img));
                for (unsigned i = 0; i < img->nparts; i++)
                        min = (uint32_t)max_u64(min, img->parts[i]->file->off_align);
        }
        pthread_mutex_unlock(&v->lock);
        return min;
}

struct fmt_image *vol_image(struct vol *v)
{
        return v->top;
}

struct fmt_image *vol_image_get(struct vol *v)
{
        pthread_mutex_lock(&v->lock);
        return v->top;
}

void vol_image_put(struct vol *v)
{
        pthread_mutex_unlock(&v->lock);
}

bool vol_is_awake(struct vol *v)
{
        return !v->asleep;
}

const char *vol_format(const struct vol *v)
{
        return v->format;
}

const char *vol_path(const struct vol *v)
{
        return v->path;
}

void vol_totals(struct vol *v, struct blk_totals *ret)
{
        pthread_mutex_lock(&v->lock);
        *ret = v->past;
        list_for_each(n, &v->ports)
                stats_add(ret, &list_entry(n, struct vol_port, link)->stats);
        pthread_mutex_unlock(&v->lock);
        ret->copied_up += atomic_load_explicit(&v->copied_up, memory_order_relaxed);
}

void vol_gauges(struct vol *v, struct blk_gauges *ret)
{
        pthread_mutex_lock(&v->lock);
        *ret = (struct blk_gauges){ .last_ns = v->past_last_ns, .held = v->hold.ports_held,
                                     .full = atomic_load_explicit(&v->full.count, memory_order_relaxed) };
        list_for_each(n, &v->ports)
                stats_gauge(ret, &list_entry(n, struct vol_port, link)->stats);
        pthread_mutex_unlock(&v->lock);
}

void vol_set_totals(struct vol *v, const struct blk_totals *t)
{
        pthread_mutex_lock(&v->lock);
        v->past = *t;
        pthread_mutex_unlock(&v->lock);
}

int vol_failed(const struct vol *v)
{
        return atomic_load_explicit(&v->failed, memory_order_relaxed);
}

void vol_on_fail(struct vol *v, void (*failed)(void *opaque, int err, const char *what), void *opaque)
{
        v->on_fail = failed;
        v->on_fail_opaque = opaque;
}

/* --- close -------------------------------------------------------------------------------------------------------- */

/* Files are unlinked and closed, which takes milliseconds: not the other disks of the home thread shall wait for
 * that. */
static void close_image(struct vol *v)
{
        struct file_shelf *before = file_shelf_use(v->shelf);

        chain_close(v->top);
        file_shelf_use(before);
}

static void close_end(struct vol *v)
{
        void (*closed)(void *opaque, int res) = v->closed;
        void *opaque = v->closed_opaque;
        int res = v->close_res;

        workers_release();
        vol_free(v);
        closed(opaque, res);
}

static void on_image_closed(struct qtask *task)
{
        close_end(container_of(task, struct vol, close_back));
}

static void close_on_worker(struct work *w)
{
        struct vol *v = container_of(w, struct vol, close_work);

        rcu_register_thread(); /* closing an image frees what others may be looking at */
        close_image(v);
        rcu_unregister_thread();
        err_clear();
        qthread_post(v->home, &v->close_back);
}

static void close_now(struct vol *v, int res)
{
        full_finish(v);
        assert(list_empty(&v->ports) && list_empty(&v->ranges) && list_empty(&v->hold.queue) && !v->busy);
        mover_finish(&v->mover);
        bounce_free(v->copy_up);
        while (!list_empty(&v->writers)) {
                struct img_writer *w = list_entry(v->writers.next, struct img_writer, link);

                if (w->paused)
                        retire_cancel(w->paused);
                writer_free(w);
        }
        v->writer = NULL;
        v->close_res = res == 0 ? v->failed : res;
        if (v->taken) {
                void (*taken)(void *opaque, int res, struct fmt_image *top) = v->taken;
                struct fmt_image *top = v->top;
                void *opaque = v->closed_opaque;

                res = v->close_res;
                workers_release();
                vol_free(v);
                taken(opaque, res, top);
                return;
        }
        v->close_work.run = close_on_worker;
        v->close_back.run = on_image_closed;
        if (workers_run(&v->close_work) == 0)
                return;
        close_image(v);
        close_end(v);
}

/* An image that is not whole on its disk keeps its bitmaps marked: they may say less than what has changed. */
static void on_held_to_close(struct vol_hold *h, int res)
{
        if (res < 0 || h->v->failed)
                close_now(h->v, res);
        else
                bitmaps_store(h->v, close_now);
}

void vol_shelve(struct vol *v, struct file_shelf *shelf, void (*closed)(void *opaque, int res), void *opaque)
{
        v->shelf = shelf;
        v->closed = closed;
        v->closed_opaque = opaque;
        v->closing.held = on_held_to_close;
        vol_hold(v, &v->closing);
}

void vol_take(struct vol *v, void (*taken)(void *opaque, int res, struct fmt_image *top), void *opaque)
{
        v->taken = taken;
        vol_shelve(v, NULL, NULL, opaque);
}

void vol_close(struct vol *v, void (*closed)(void *opaque, int res), void *opaque)
{
        vol_shelve(v, NULL, closed, opaque);
}

/* --- a flush from outside ----------------------------------------------------------------------------------------- */

struct outer_flush {
        struct vol *v;
        struct qtask task;
        struct waiter wait;
        void (*done)(void *opaque, int res);
        void *opaque;
};

static void on_outer_flushed(struct waiter *w, int err)
{
        struct outer_flush *f = container_of(w, struct outer_flush, wait);

        f->done(f->opaque, err);
        free(f);
}

/* Who holds the volume settles it first, and may be changing its image just now; one that is asleep has nothing of
 * ours. */
static void outer_flush(struct qtask *task)
{
        struct outer_flush *f = container_of(task, struct outer_flush, task);

        if (f->v->hold.now || f->v->asleep || !f->v->top) {
                on_outer_flushed(&f->wait, 0);
                return;
        }
        f->wait.wake = on_outer_flushed;
        list_init(&f->wait.link);
        flush_wait(f->v, &f->wait);
}

void vol_flush(struct vol *v, void (*done)(void *opaque, int res), void *opaque)
{
        struct outer_flush *f = calloc(1, sizeof(*f));

        if (!f) {
                done(opaque, -ENOMEM);
                return;
        }
        *f = (struct outer_flush){ .v = v, .task.run = outer_flush, .done = done, .opaque = opaque };
        qthread_post(v->home, &f->task);
}
