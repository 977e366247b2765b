/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c - making things durable, one flush batch at a time.
 *
 * A flush covers what was completed before it was asked for. Those who ask while one runs cannot know whether it began
 * after their writes, so they share the next one. A flush that failed for good (batch.c decides) is never retried: the
 * kernel may have dropped the pages it could not write, and a second fdatasync would say all is well.
 */
#include <errno.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"

static void flush_start(struct vol *v);

static void wake_all(struct list *waiters, int err)
{
        struct list mine, *n;

        list_init(&mine);
        list_splice_tail(&mine, waiters);
        while ((n = list_pop(&mine)) != NULL) {
                struct waiter *w = list_entry(n, struct waiter, link);

                w->wake(w, err);
        }
}

static void flush_done(struct vol *v, int err)
{
        struct flush_state *f = &v->flush;

        f->running = false;
        wake_all(&f->now, err);
        if (!f->running && !list_empty(&f->next)) /* a waiter may have begun the next one */
                flush_start(v);
        else if (fmt_is_dirty(v->top))
                flush_soon(v);
        housekeep_kick(v);
        grace_kick(v);
        vol_unbusy(v);
}

static void on_flushed(struct waiter *w, int err)
{
        flush_done(container_of(w, struct vol, flush.batch), err);
}

static void flush_start(struct vol *v)
{
        struct flush_state *f = &v->flush;
        struct fmt_batch *b;
        int r = v->failed;

        f->running = true;
        vol_busy(v);
        list_splice_tail(&f->now, &f->next);
        if (r == 0 && !v->read_only)
                r = fmt_flush(v->top, &b);
        if (r < 0 || v->read_only) {
                flush_done(v, r);
                return;
        }
        list_add_tail(&b->waiters, &f->batch.link);
        batch_start(v, b);
}

bool flush_wait(struct vol *v, struct waiter *w)
{
        struct flush_state *f = &v->flush;
        bool shared = !list_empty(&f->next);

        list_add_tail(&f->next, &w->link);
        if (!f->running)
                flush_start(v);
        return shared;
}

/* --- tables are not left dirty for ever because the guest never flushes ------------------------------------------- */

static void on_timer(struct qtimer *t)
{
        struct vol *v = container_of(t, struct vol, flush.timer);

        v->flush.timer_set = false;
        if (!v->flush.running && fmt_is_dirty(v->top))
                flush_start(v);
}

void flush_soon(struct vol *v)
{
        if (v->flush.timer_set || v->failed || v->read_only)
                return;
        v->flush.timer_set = true;
        qthread_timer_set(v->home, &v->flush.timer, v->writeback_ns);
}

void flush_init(struct vol *v)
{
        list_init(&v->flush.now);
        list_init(&v->flush.next);
        list_init(&v->flush.batch.link);
        list_init(&v->flush.timer.link);
        v->flush.batch.wake = on_flushed;
        v->flush.timer.fire = on_timer;
}

void flush_finish(struct vol *v)
{
        if (v->flush.timer_set)
                qthread_timer_cancel(v->home, &v->flush.timer);
        v->flush.timer_set = false;
}
