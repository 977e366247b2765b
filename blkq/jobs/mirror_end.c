/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror_end.c - the end of a mirror. All at the source's home but for what says otherwise:
 *
 *   rounds over what is dirty, until little is -> both flushed, so that what follows is short -> the source is held
 *   -> the rest is copied -> the target is flushed -> the port goes -+-> (SAME) the source goes on
 *                                                                    +-> the target is held -> worker: exchange -> both go on
 *
 * To exchange images both must be settled (exchange.h), and so read again, also when it came to nothing after the hold.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <urcu.h>

#include "blkq/exchange.h"
#include "blkq/jobs/mirror_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define ROUNDS_MAX 4u

static void copy_on(struct mirror *m);
static void let_go(struct mirror *m);

static void fail(struct mirror *m, int res, const char *why)
{
        if (m->res == 0) {
                m->res = res;
                snprintf(m->why, sizeof(m->why), "%s: %s", why, strerror(-res));
        }
        let_go(m);
}

/* --- the last steps --------------------------------------------------------------------------------------------------- */

static void all_released(struct mirror *m)
{
        if (atomic_fetch_sub(&m->left, 1) == 1)
                m->done(m->opaque, m->res, m->why);
}

static void release_source(struct qtask *task)
{
        struct mirror *m = container_of(task, struct mirror, step);

        vol_release(m->job.v);
        all_released(m);
}

static void release_target(struct qtask *task)
{
        struct mirror *m = container_of(task, struct mirror, released);

        vol_release(m->target);
        all_released(m);
}

/* On a worker, or nobody: then at the target's home. */
static void exchange(struct mirror *m)
{
        int r = m->res;

        if (r == 0)
                r = vol_exchange(m->job.v, m->target);
        if (r < 0 && m->res == 0) {
                m->res = r;
                snprintf(m->why, sizeof(m->why), "%s", err_text(r));
        }
        if (r < 0) {
                vol_reload(m->job.v);
                if (m->target->top)
                        vol_reload(m->target);
        }
        err_clear();
        atomic_store(&m->left, 2);
        m->step.run = release_source;
        m->released.run = release_target;
        qthread_post(m->target->home, &m->released);
        qthread_post(m->job.v->home, &m->step);
}

static void on_worker(struct work *w)
{
        struct mirror *m = container_of(w, struct mirror, work);

        rcu_register_thread();
        exchange(m);
        rcu_unregister_thread();
}

/* The target's home. */
static void on_target_held(struct vol_hold *h, int res)
{
        struct mirror *m = container_of(h, struct mirror, target_hold);

        if (res < 0 && m->res == 0) {
                m->res = res;
                snprintf(m->why, sizeof(m->why), "not all of the target could be made durable: %s", strerror(-res));
        }
        m->work.run = on_worker;
        if (workers_run(&m->work) < 0)
                exchange(m); /* it waits for the disk, but it must be done */
}

/* Nothing of the copying is under way any more. */
static void let_go(struct mirror *m)
{
        vol_detach_bitmap(m->job.v, m->dirty);
        if (m->to)
                port_detach(TAKE(m->to, NULL));
        if (m->held && m->how == MIRROR_EXCHANGE) {
                m->target_hold.held = on_target_held;
                vol_hold(m->target, &m->target_hold);
                return;
        }
        if (m->held)
                vol_release(m->job.v);
        m->done(m->opaque, m->res, m->why);
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

static void on_rest_flushed(struct blk_req *req, int res)
{
        struct mirror *m = container_of(req, struct mirror, flush);

        if (res < 0)
                fail(m, res, "the target cannot be flushed");
        else
                let_go(m);
}

static void flush_target(struct mirror *m, void (*done)(struct blk_req *req, int res))
{
        m->flush = (struct blk_req){ .op = BLK_FLUSH, .done = done };
        port_submit(m->to, &m->flush);
}

static void on_held(struct vol_hold *h, int res)
{
        struct mirror *m = container_of(h, struct mirror, hold);

        m->held = true;
        if (res < 0)
                fail(m, res, "not all of the source could be made durable");
        else
                copy_on(m);
}

/* Home of the source. Whether that went well the settling tells. */
static void on_source_flushed(void *opaque, int res)
{
        struct mirror *m = opaque;

        (void)res;
        m->hold.held = on_held;
        m->hold.light = m->how != MIRROR_EXCHANGE;
        vol_hold(m->job.v, &m->hold);
}

static void on_target_flushed(struct blk_req *req, int res)
{
        struct mirror *m = container_of(req, struct mirror, flush);

        if (res < 0)
                fail(m, res, "the target cannot be flushed");
        else
                vol_flush(m->job.v, on_source_flushed, m);
}

static void on_copied(struct copy_range *r, int res, bool read)
{
        struct mirror *m = container_of(r, struct mirror, range);

        if (res < 0)
                fail(m, res, read ? "reading the source" : "writing to the target");
        else
                copy_on(m);
}

static void copy_piece(struct mirror *m, uint64_t off, uint64_t len)
{
        dirty_bitmap_clear(m->dirty, off, len);
        m->range = (struct copy_range){
                .v = m->job.v, .to = m->to, .buf = m->job.chunks[0]->buf, .off = off, .end = off + len,
                .flags = mirror_flags(m, off, len), .done = on_copied,
        };
        atomic_fetch_add_explicit(&m->job.done, len, memory_order_relaxed);
        m->at = off + len;
        copy_range_start(&m->range);
}

static void copy_on(struct mirror *m)
{
        uint64_t off, len;

        if (!m->held && m->at == 0 && (mirror_left(m) <= MIRROR_REST || m->rounds++ == ROUNDS_MAX)) {
                flush_target(m, on_target_flushed);
                return;
        }
        if (mirror_take(m, m->at, m->job.chunk, &off, &len) || (m->held && mirror_take(m, 0, m->job.chunk, &off, &len)))
                copy_piece(m, off, len);
        else if (m->held)
                flush_target(m, on_rest_flushed);
        else {
                m->at = 0;
                copy_on(m);
        }
}

static void begin(struct qtask *task)
{
        struct mirror *m = container_of(task, struct mirror, step);
        int r = 0;

        m->at = 0;
        m->rounds = 0;
        if (m->how == MIRROR_DROP) {
                let_go(m);
                return;
        }
        if (!m->to)
                r = mirror_attach(m);
        if (r < 0)
                fail(m, r, "the target");
        else
                copy_on(m);
}

void mirror_end(struct copy_job *c, enum mirror_how how, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct mirror *m = mirror_of(c);

        m->how = how;
        m->done = done;
        m->opaque = opaque;
        m->step.run = begin;
        qthread_post(m->job.v->home, &m->step);
}
