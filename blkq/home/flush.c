/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c - making things durable, one flush batch at a time for each image that is written to.
 *
 * A flush covers what was completed before it was asked for. Those who ask while one runs cannot know whether it began
 * after their writes, so they share the next one. A flush that failed for good (batch.c decides) is never retried: the
 * kernel may have dropped the pages it could not write, and a second fdatasync would say all is well.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/home/work.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/probes.h"

static void flush_start(struct img_writer *w);

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

static void flush_done(struct img_writer *w, int err)
{
        struct flush_state *f = &w->flush;
        struct vol *v = w->v;

        f->running = false;
        PROBE3(flush__done, w, v->path, err);
        wake_all(&f->now, err);
        if (!f->running && !list_empty(&f->next)) /* a waiter may have begun the next one */
                flush_start(w);
        else if (fmt_is_dirty(w->img))
                writer_dirty(w);
        writer_housekeep(w);
        grace_kick(v);
        vol_unbusy(v);
}

static void on_flushed(struct waiter *waiter, int err)
{
        flush_done(container_of(waiter, struct img_writer, flush.batch), err);
}

static void flush_start(struct img_writer *w)
{
        struct flush_state *f = &w->flush;
        struct fmt_batch *b;
        int r = writer_may_write(w);

        if (f->gated)
                return;
        f->running = true;
        PROBE2(flush__start, w, w->v->path);
        vol_busy(w->v);
        list_splice_tail(&f->now, &f->next);
        if (r == 0)
                r = fmt_flush(w->img, &b);
        if (r < 0) {
                flush_done(w, r);
                return;
        }
        list_add_tail(&b->waiters, &f->batch.link);
        batch_start(w->v, b);
}

bool writer_flush(struct img_writer *w, struct waiter *waiter)
{
        struct flush_state *f = &w->flush;
        bool shared = !list_empty(&f->next);

        list_add_tail(&f->next, &waiter->link);
        if (!f->running)
                flush_start(w);
        return shared;
}

void writer_gate(struct img_writer *w)
{
        assert(!w->flush.running && !w->flush.gated);
        w->flush.gated = true;
        vol_busy(w->v);
}

void writer_ungate(struct img_writer *w)
{
        struct vol *v = w->v;

        w->flush.gated = false;
        if (!w->flush.running && !list_empty(&w->flush.next))
                flush_start(w);
        else if (fmt_is_dirty(w->img))
                writer_dirty(w);
        vol_unbusy(v);
}

/* --- all images at once ------------------------------------------------------------------------------------------- */

struct joint_flush {
        struct waiter *who;
        unsigned left;
        int err;
        struct flush_share {
                struct waiter wait;
                struct joint_flush *all;
        } share[];
};

static void joint_drop(struct joint_flush *j, int err)
{
        struct waiter *who = j->who;

        if (err < 0 && !j->err)
                j->err = err;
        if (--j->left)
                return;
        err = j->err;
        free(j);
        who->wake(who, err);
}

static void on_share_flushed(struct waiter *w, int err)
{
        joint_drop(container_of(w, struct flush_share, wait)->all, err);
}

static bool flush_several(struct vol *v, struct waiter *waiter, unsigned n, bool all)
{
        struct joint_flush *j = calloc(1, sizeof(*j) + n * sizeof(j->share[0]));
        bool shared = false;
        unsigned i = 0;

        if (!j) {
                waiter->wake(waiter, -ENOMEM);
                return false;
        }
        j->who = waiter;
        j->left = 1;
        list_for_each_safe(pos, &v->writers) {
                struct img_writer *w = list_entry(pos, struct img_writer, link);

                if (!all && !w->guests)
                        continue;
                j->left++;
                j->share[i] = (struct flush_share){ .all = j, .wait.wake = on_share_flushed };
                list_init(&j->share[i].wait.link);
                shared |= writer_flush(w, &j->share[i++].wait);
        }
        joint_drop(j, 0);
        return shared;
}

static bool flush_these(struct vol *v, struct waiter *waiter, bool all)
{
        struct img_writer *one = NULL;
        unsigned n = 0;

        list_for_each(pos, &v->writers) {
                struct img_writer *w = list_entry(pos, struct img_writer, link);

                if (all || w->guests) {
                        one = w;
                        n++;
                }
        }
        if (n == 1)
                return writer_flush(one, waiter);
        if (n)
                return flush_several(v, waiter, n, all);
        waiter->wake(waiter, v->failed);
        return false;
}

bool flush_wait(struct vol *v, struct waiter *w)
{
        return flush_these(v, w, false);
}

void flush_all(struct vol *v, struct waiter *w)
{
        flush_these(v, w, true);
}

/* --- tables are not left dirty for ever because the guest never flushes ------------------------------------------- */

static void on_timer(struct qtimer *t)
{
        struct img_writer *w = container_of(t, struct img_writer, flush.timer);

        w->flush.timer_set = false;
        if (!w->flush.running && fmt_is_dirty(w->img))
                flush_start(w);
}

void writer_dirty(struct img_writer *w)
{
        if (w->flush.timer_set || writer_may_write(w) < 0)
                return;
        w->flush.timer_set = true;
        qthread_timer_set(w->v->home, &w->flush.timer, w->v->writeback_ns);
}

void writer_stop_timer(struct img_writer *w)
{
        if (w->flush.timer_set)
                qthread_timer_cancel(w->v->home, &w->flush.timer);
        w->flush.timer_set = false;
}

void flush_init(struct img_writer *w)
{
        list_init(&w->flush.now);
        list_init(&w->flush.next);
        list_init(&w->flush.batch.link);
        list_init(&w->flush.timer.link);
        w->flush.batch.wake = on_flushed;
        w->flush.timer.fire = on_timer;
}
