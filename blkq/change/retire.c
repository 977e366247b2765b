/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   wound down -> flushed -> all threads have let go of what was replaced -> tidied -+-> clean: given back by a worker
 *                   ^                                                                |
 *                   +----------------------------------------------------------------+
 *
 * Until then its writer is one of those that guests' flushes wait for. When it cannot be flushed for want of space it
 * is tried again later; when it fails for good it stays as a crash would leave it, log and all, and guests' flushes
 * fail.
 */
#include "blkq/change/retire.h"
#include "blkq/home/work.h"
#include "blkq/port_impl.h"

#include <stdlib.h>
#include <urcu.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

#define AGAIN_NS NS_PER_SEC /* after an error that may pass, such as no space */

struct retire {
        struct vol *v;
        struct img_writer *w;
        struct fmt_image *img;
        struct waiter wait;
        struct qtask idle;
        struct qtimer again;
        struct work work;
        struct qtask back;
        struct bitmap_set bitmaps;
        bool closes;
};

static void round_start(struct retire *t);

/* --- who waits for them all --------------------------------------------------------------------------------------- */

/* 1: all are clean, 0: some are on the way, -EBUSY: one of them is not. */
static int how_far(const struct vol *v)
{
        list_for_each(n, &v->writers)
                if (list_entry(n, struct img_writer, link)->paused)
                        return -EBUSY;
        return !v->retiring;
}

static void tell_waiters(struct vol *v)
{
        int r = how_far(v);
        struct list woken, *n;

        if (r == 0)
                return;
        list_init(&woken);
        list_splice_tail(&woken, &v->retire_waiters);
        while ((n = list_pop(&woken)) != NULL) {
                struct waiter *w = list_entry(n, struct waiter, link);

                w->wake(w, r < 0 ? r : 0);
        }
}

void retire_wait(struct vol *v, struct waiter *w)
{
        list_add_tail(&v->retire_waiters, &w->link);
        tell_waiters(v);
}

/* --- clean -------------------------------------------------------------------------------------------------------- */

static void end(struct retire *t)
{
        struct vol *v = t->v;

        bitmap_set_finish(&t->bitmaps);
        free(t);
        v->retiring--;
        tell_waiters(v);
        vol_unbusy(v);
}

static void forget_files(struct retire *t)
{
        for (struct fmt_image *img = t->closes ? t->img : NULL; img; img = img->backing)
                image_files(img, t->v->mover.engine, engine_del_file);
}

static void on_back(struct qtask *task)
{
        struct retire *t = container_of(task, struct retire, back);

        if (!t->closes)
                log_info("%s: whole on its disk, and only read from now on", t->img->file->path);
        end(t);
}

static void on_worker(struct work *work)
{
        struct retire *t = container_of(work, struct retire, work);

        rcu_register_thread();
        if (bitmap_set_store(&t->bitmaps, t->img) < 0)
                log_err("%s: its bitmaps could not be stored and are inconsistent from now on: %s", t->img->file->path,
                        err_text(-EIO));
        if (t->closes)
                chain_close(t->img);
        else
                fmt_demote(t->img);
        rcu_unregister_thread();
        err_clear();
        qthread_post(t->v->home, &t->back);
}

/* The writer goes first: nobody flushes the image any more while its log is closed. */
static void settled(struct retire *t)
{
        writer_free(TAKE(t->w, NULL));
        forget_files(t);
        if (workers_run(&t->work) == 0)
                return;
        if (t->closes)
                chain_close(t->img); /* it waits for the disk, but it must be done */
        end(t); /* else it keeps its lock until it is closed, that is all */
}

/* --- rounds ------------------------------------------------------------------------------------------------------- */

static void on_idle(struct qtask *task)
{
        struct retire *t = container_of(task, struct retire, idle);

        if (t->w->batches || t->w->flush.running) {
                t->w->retire = t; /* something began meanwhile */
                return;
        }
        if (writer_is_clean(t->w))
                settled(t);
        else
                round_start(t);
}

void retire_writer_idle(struct retire *t)
{
        t->w->retire = NULL;
        qthread_post(t->v->home, &t->idle);
}

/* Its housekeeping may be at work, and goes on until there is nothing to do. */
static void on_grace(struct waiter *waiter, int err)
{
        struct retire *t = container_of(waiter, struct retire, wait);

        (void)err;
        t->w->retire = t;
        if (!t->w->batches)
                retire_writer_idle(t);
}

static void on_again(struct qtimer *timer)
{
        struct retire *t = container_of(timer, struct retire, again);

        t->w->paused = NULL;
        vol_busy(t->v);
        round_start(t);
}

/* The volume may be closed meanwhile, which calls retire_cancel(). */
static void later(struct retire *t)
{
        t->w->paused = t;
        if (!t->w->failed)
                qthread_timer_set(t->v->home, &t->again, AGAIN_NS);
        tell_waiters(t->v);
        vol_unbusy(t->v);
}

void retire_cancel(struct retire *t)
{
        if (!t->w->failed)
                qthread_timer_cancel(t->v->home, &t->again);
        bitmap_set_finish(&t->bitmaps);
        forget_files(t);
        if (t->closes)
                chain_close(t->img);
        t->v->retiring--;
        free(t);
}

static void on_flushed(struct waiter *waiter, int err)
{
        struct retire *t = container_of(waiter, struct retire, wait);

        if (err < 0) {
                later(t);
                return;
        }
        t->wait.wake = on_grace;
        grace_wait(t->v, &t->wait);
}

static void round_start(struct retire *t)
{
        t->wait.wake = on_flushed;
        list_init(&t->wait.link);
        writer_flush(t->w, &t->wait);
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

struct retire *retire_new(void)
{
        struct retire *t = calloc(1, sizeof(*t));

        if (t)
                bitmap_set_init(&t->bitmaps);
        return t;
}

void retire_free(struct retire *t)
{
        if (t)
                bitmap_set_finish(&t->bitmaps);
        free(t);
}

void retire_bitmaps(struct retire *t, struct bitmap_set *s)
{
        bitmap_set_move(&t->bitmaps, s);
}

void retire_then_close(struct retire *t)
{
        t->closes = true;
}

void retire_start(struct retire *t, struct img_writer *w)
{
        t->v = w->v;
        t->w = w;
        t->img = w->img;
        t->idle.run = on_idle;
        t->again.fire = on_again;
        list_init(&t->again.link);
        t->work.run = on_worker;
        t->back.run = on_back;
        t->v->retiring++;
        vol_busy(t->v);
        fmt_wind_down(w->img);
        round_start(t);
}
