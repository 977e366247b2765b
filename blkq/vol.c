/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vol.c - a volume opens, settles and closes.
 *
 * Settling is a loop at home, taken up whenever nothing is under way any more (busy is 0): wind down once, then flush
 * (housekeeping and grace follow each flush) until the driver has nothing dirty and nothing dying. It stops early when
 * something failed for good; the image is then as a crash would leave it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define SECTOR 512u
#define WRITEBACK_MS 5000u
#define SETTLE_ROUNDS 1000u /* far more than any image needs */

/* --- open --------------------------------------------------------------------------------------------------------- */

static void vol_free(struct vol *v)
{
        if (!v)
                return;
        pthread_mutex_destroy(&v->lock);
        free(v->path);
        free(v);
}

int vol_open_chain(struct fmt_image *top, const struct vol_opts *opts, struct qthread *home, struct vol **ret)
{
        struct vol *v = calloc(1, sizeof(*v));

        if (v)
                v->path = strdup(top->file && top->file->path ? top->file->path : top->drv->name);
        if (!v || !v->path) {
                free(v);
                chain_close(top);
                return -ENOMEM;
        }
        v->top = top;
        v->home = home;
        v->size = round_up(top->size, SECTOR);
        v->read_only = opts->read_only || top->read_only;
        v->no_sync = opts->no_sync;
        v->writeback_ns = (opts->writeback_ms ? opts->writeback_ms : WRITEBACK_MS) * NS_PER_MS;
        pthread_mutex_init(&v->lock, NULL);
        list_init(&v->ports);
        list_init(&v->ranges);
        list_init(&v->unpack_waiters);
        list_init(&v->grace.now);
        list_init(&v->grace.next);
        list_init(&v->settle.flushed.link);
        flush_init(v);
        mover_init(&v->mover, qthread_engine(home));
        workers_hold();
        *ret = v;
        return 0;
}

/* Direct I/O in blocks that some request, cluster or end of image would not be a multiple of. */
static const struct file *too_coarse(const struct fmt_image *top, uint32_t block_size)
{
        for (const struct fmt_image *img = top; img; img = img->backing) {
                uint32_t align = img->file ? img->file->off_align : 1;

                if (align > block_size || (img->cluster_size > 1 && img->cluster_size < align) ||
                    (align > SECTOR && !is_aligned(img->size, align)))
                        return img->file;
        }
        return NULL;
}

int vol_open(const char *path, const struct vol_opts *opts, struct qthread *home, struct vol **ret)
{
        struct fmt_open_opts how = {
                .format = opts->format,
                .flags = (opts->read_only ? FMT_RDONLY : 0) | (opts->writeback ? 0 : FMT_DIRECT) |
                         (opts->no_lock ? FMT_NO_LOCK : 0),
                .cache_bytes = opts->cache_bytes,
                .null_size = opts->null_size,
                .state_dir = opts->state_dir,
        };
        const struct file *coarse;
        struct fmt_image *top;
        int r = chain_open(path, &how, &top);

        if (r < 0)
                return r;
        coarse = opts->writeback ? NULL : too_coarse(top, opts->block_size ? opts->block_size : SECTOR);
        if (coarse) {
                log_info("%s: direct I/O needs blocks of %u bytes; using the page cache", coarse->path,
                         coarse->off_align);
                chain_close(top);
                how.flags &= ~(unsigned)FMT_DIRECT;
                r = chain_open(path, &how, &top);
                if (r < 0)
                        return r;
        }
        r = vol_open_chain(top, opts, home, ret);
        if (r < 0)
                return r;
        free((*ret)->path);
        (*ret)->path = strdup(path);
        if (!(*ret)->path) {
                workers_release();
                chain_close(top);
                vol_free(*ret);
                return -ENOMEM;
        }
        return 0;
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

void vol_unbusy(struct vol *v)
{
        assert(v->busy);
        if (--v->busy == 0 && v->settle.on && !v->settle.posted) {
                v->settle.posted = true;
                qthread_post(v->home, &v->settle.task); /* not now: our callers still use @v */
        }
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
        return v->top->cluster_size;
}

uint32_t vol_block_size_min(const struct vol *v)
{
        uint32_t min = SECTOR;

        for (const struct fmt_image *img = v->top; img; img = img->backing)
                if (img->file && img->file->off_align > min)
                        min = img->file->off_align;
        return min;
}

struct fmt_image *vol_image(struct vol *v)
{
        return v->top;
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
}

void vol_on_fail(struct vol *v, void (*failed)(void *opaque, int err, const char *what), void *opaque)
{
        v->on_fail = failed;
        v->on_fail_opaque = opaque;
}

/* --- close -------------------------------------------------------------------------------------------------------- */

static void settle_end(struct vol *v)
{
        struct settle_state s = v->settle;

        assert(list_empty(&v->ports) && list_empty(&v->ranges) && !v->busy);
        flush_finish(v);
        mover_finish(&v->mover);
        bounce_free(v->copy_up);
        if (v->uses_files)
                chain_files(v, v->mover.engine, engine_del_file);
        workers_release();
        chain_close(v->top);
        vol_free(v);
        s.closed(s.opaque, s.err);
}

static void on_settle_flushed(struct waiter *w, int err)
{
        struct vol *v = container_of(w, struct vol, settle.flushed);

        if (err < 0 && !v->settle.err)
                v->settle.err = err;
}

static void settle_step(struct qtask *task)
{
        struct vol *v = container_of(task, struct vol, settle.task);
        struct settle_state *s = &v->settle;

        s->posted = false;
        if (v->busy)
                return; /* vol_unbusy() comes back */
        if (v->read_only || s->err) {
                settle_end(v);
                return;
        }
        if (s->rounds == 0)
                fmt_wind_down(v->top);
        if (s->rounds == SETTLE_ROUNDS) {
                log_warn("%s: still not settled after %u flushes; closing it as it is", v->path, SETTLE_ROUNDS);
                s->err = -EIO;
        }
        if (s->rounds && (s->err || (!fmt_is_dirty(v->top) && !fmt_dying(v->top)))) {
                settle_end(v);
                return;
        }
        s->rounds++;
        vol_busy(v); /* the flush may be over at once */
        s->flushed.wake = on_settle_flushed;
        flush_wait(v, &s->flushed);
        vol_unbusy(v);
}

static void settle_start(struct qtask *task)
{
        struct vol *v = container_of(task, struct vol, settle.start);

        v->settle.on = true;
        v->settle.task.run = settle_step;
        settle_step(&v->settle.task);
}

void vol_close(struct vol *v, void (*closed)(void *opaque, int res), void *opaque)
{
        v->settle.closed = closed;
        v->settle.opaque = opaque;
        v->settle.start.run = settle_start;
        qthread_post(v->home, &v->settle.start);
}
