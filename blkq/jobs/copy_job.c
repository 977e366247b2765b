/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - Every piece that was begun ends; the loop ends (or stands still) only when none is under way.
 *   - pump() is never inside itself: what comes back at once is noted (again) and looked at in the next round.
 *   - The volume is busy while a piece is under way, so that whoever holds it waits for that; and none is begun while
 *     it is held. Nobody tells when it is not any more: a timer looks.
 */
#include "blkq/jobs/copy_job.h"
#include "blkq/port_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/jobs/copy_rest.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

#define HELD_NS (5 * NS_PER_MS)
#define AGAIN_NS (100 * NS_PER_MS) /* after an error that is ignored */
#define SLICES 10u                 /* of a second: a slow job moves less at a time, not more seldom */

static void pump(struct copy_job *c);

/* --- time ------------------------------------------------------------------------------------------------------------ */

static void on_timer(struct qtimer *t)
{
        struct copy_job *c = container_of(t, struct copy_job, timer);

        c->timer_set = false;
        pump(c);
}

static void no_timer(struct copy_job *c)
{
        if (c->timer_set)
                qthread_timer_cancel(c->v->home, &c->timer);
        c->timer_set = false;
}

/* Or earlier. */
static void come_back(struct copy_job *c, uint64_t in_ns)
{
        if (c->timer_set && c->timer.at_ns <= clock_ns() + in_ns)
                return;
        no_timer(c);
        c->timer_set = true;
        qthread_timer_set(c->v->home, &c->timer, in_ns);
}

static uint64_t cost_ns(uint64_t bytes, uint64_t speed)
{
        return speed ? (uint64_t)((double)bytes / (double)speed * NS_PER_SEC) : 0;
}

static uint64_t speed_of(const struct copy_job *c)
{
        return atomic_load_explicit(&c->speed, memory_order_relaxed);
}

static uint64_t piece_max(const struct copy_job *c)
{
        uint64_t speed = speed_of(c);

        return speed ? max_u64(c->step, min_u64(c->chunk, round_down(speed / SLICES, c->step))) : c->chunk;
}

/* Another speed counts from now on: what was owed at the old one is forgiven. */
static void look_at_speed(struct copy_job *c)
{
        if (speed_of(c) == c->last_speed)
                return;
        c->last_speed = speed_of(c);
        c->free_at_ns = 0;
}

/* 0, or how long the next piece must wait. */
static uint64_t must_wait(const struct copy_job *c)
{
        uint64_t now = clock_ns(), at = max_u64(c->free_at_ns, c->not_before_ns);

        return at > now ? at - now : 0;
}

static void pay(struct copy_job *c, uint64_t bytes)
{
        c->free_at_ns = max_u64(c->free_at_ns, clock_ns()) + cost_ns(bytes, c->last_speed);
}

static void pay_back(struct copy_job *c, uint64_t bytes)
{
        c->free_at_ns -= min_u64(c->free_at_ns, cost_ns(bytes, c->last_speed));
}

/* --- news ------------------------------------------------------------------------------------------------------------ */

struct copy_news copy_job_news(struct copy_job *c)
{
        struct copy_news n;

        pthread_mutex_lock(&c->lock);
        n = c->news;
        c->news = (struct copy_news){ 0 };
        pthread_mutex_unlock(&c->lock);
        return n;
}

static void tell_error(struct copy_job *c, bool read, int err, enum copy_action action)
{
        pthread_mutex_lock(&c->lock);
        if (c->news.nerrors < ARRAY_SIZE(c->news.error)) {
                c->news.error[c->news.nerrors].read = read;
                c->news.error[c->news.nerrors].err = err;
                c->news.error[c->news.nerrors++].action = action;
        }
        pthread_mutex_unlock(&c->lock);
        c->owner.told(c);
}

static void tell_stands(struct copy_job *c)
{
        c->stood = true;
        pthread_mutex_lock(&c->lock);
        c->news.stands = true;
        pthread_mutex_unlock(&c->lock);
        c->owner.told(c);
}

void copy_job_ready(struct copy_job *c)
{
        pthread_mutex_lock(&c->lock);
        c->news.ready = true;
        pthread_mutex_unlock(&c->lock);
        c->owner.told(c);
}

void copy_job_end(struct copy_job *c, int res)
{
        void (*told)(struct copy_job *c) = c->owner.told;

        assert(!c->in_flight && !c->after && !c->over);
        no_timer(c);
        c->over = true;
        pthread_mutex_lock(&c->lock);
        c->news.over = true;
        c->news.res = res;
        pthread_mutex_unlock(&c->lock);
        told(c); /* the owner may free it as soon as he knows, so told() only sends a message */
}

/* --- errors ---------------------------------------------------------------------------------------------------------- */

void copy_job_fail(struct copy_job *c, int res)
{
        if (c->res == 0)
                c->res = res;
}

void copy_job_error(struct copy_job *c, bool read, int err)
{
        enum copy_action action = c->owner.on_error(c, read, err);

        tell_error(c, read, err, action);
        if (action == COPY_FAIL)
                copy_job_fail(c, err);
        else if (action == COPY_STOP)
                c->stopped = true;
        else
                c->not_before_ns = clock_ns() + AGAIN_NS;
}

void copy_job_broken(struct copy_job *c, bool read, int err)
{
        tell_error(c, read, err, COPY_FAIL);
        copy_job_fail(c, err);
}

void copy_chunk_end(struct copy_chunk *ch, int res, bool read, uint64_t moved)
{
        struct copy_job *c = ch->c;
        struct vol *v = c->v;

        if (c->rest) {
                copy_rest_piece_end(ch, res);
                return;
        }
        pay_back(c, ch->len - min_u64(moved, ch->len));
        if (res < 0)
                c->kind->again(c, ch->off, ch->len);
        if (res < 0 && c->res == 0 && !atomic_load(&c->cancel))
                copy_job_error(c, read, res);
        ch->busy = false;
        c->in_flight--;
        pump(c);
        vol_unbusy(v);
}

/* --- the loop -------------------------------------------------------------------------------------------------------- */

static bool is_held(const struct copy_job *c)
{
        return c->v->hold.now || c->v->asleep || !c->v->top;
}

static struct copy_chunk *spare_chunk(struct copy_job *c)
{
        for (unsigned i = 0; i < c->depth; i++)
                if (!c->chunks[i]->busy)
                        return c->chunks[i];
        return NULL;
}

static bool begin_piece(struct copy_job *c)
{
        struct copy_chunk *ch = spare_chunk(c);

        if (!ch || !c->kind->next(c, piece_max(c), &ch->off, &ch->len))
                return false;
        ch->busy = true;
        c->in_flight++;
        c->started += ch->len;
        pay(c, ch->len);
        vol_busy(c->v);
        vol_use_files(c->v);
        c->kind->copy(ch);
        return true;
}

/* Ends itself, or because it is told to. True: nothing more is to be begun. */
static bool comes_to_an_end(struct copy_job *c)
{
        if (atomic_load(&c->cancel))
                copy_job_fail(c, -ECANCELED);
        if (c->res == 0)
                return false;
        if (c->in_flight || c->after || c->ending)
                return true;
        c->ending = true;
        no_timer(c);
        if (c->kind->ending)
                c->kind->ending(c, c->res);
        else
                copy_job_end(c, c->res);
        return true;
}

static bool stands_still(struct copy_job *c)
{
        if (!atomic_load(&c->pause) && !c->stopped) {
                c->stood = false;
                return false;
        }
        if (!c->in_flight && !c->after && !c->stood)
                tell_stands(c);
        return true;
}

static void pump_once(struct copy_job *c)
{
        if (comes_to_an_end(c) || stands_still(c))
                return;
        if (is_held(c)) {
                come_back(c, HELD_NS);
                return;
        }
        look_at_speed(c);
        while (!must_wait(c) && c->res == 0 && !c->stopped)
                if (!begin_piece(c)) {
                        if (!c->in_flight && !c->after && !c->again) {
                                c->kind->idle(c);
                                if (!c->over)
                                        come_back(c, COPY_IDLE_NS);
                        }
                        return;
                }
        if (c->res || c->stopped)
                c->again = true;
        else
                come_back(c, must_wait(c));
}

static void pump(struct copy_job *c)
{
        if (c->pumping) {
                c->again = true;
                return;
        }
        if (c->over || c->ending)
                return;
        c->pumping = true;
        do {
                c->again = false;
                pump_once(c);
        } while (c->again && !c->over && !c->ending);
        c->pumping = false;
}

void copy_job_kick(struct copy_job *c)
{
        pump(c);
}

/* --- the owner ------------------------------------------------------------------------------------------------------- */

static void on_kick(struct qtask *task)
{
        struct copy_job *c = container_of(task, struct copy_job, kick);

        atomic_store(&c->kicked, false); /* before the wishes are read */
        pump(c);
}

static void wish(struct copy_job *c)
{
        if (!atomic_exchange(&c->kicked, true))
                qthread_post(c->v->home, &c->kick);
}

static void on_resume(struct qtask *task)
{
        struct copy_job *c = container_of(task, struct copy_job, resume);

        atomic_store(&c->resumed, false);
        c->stopped = false;
        c->not_before_ns = 0;
        pump(c);
}

void copy_job_start(struct copy_job *c)
{
        wish(c);
}

void copy_job_pause(struct copy_job *c)
{
        atomic_store(&c->pause, true);
        wish(c);
}

void copy_job_resume(struct copy_job *c)
{
        atomic_store(&c->pause, false);
        if (!atomic_exchange(&c->resumed, true))
                qthread_post(c->v->home, &c->resume);
}

void copy_job_cancel(struct copy_job *c)
{
        atomic_store(&c->cancel, true);
        wish(c);
}

void copy_job_complete(struct copy_job *c)
{
        atomic_store(&c->complete, true);
        wish(c);
}

void copy_job_set_speed(struct copy_job *c, uint64_t speed)
{
        atomic_store(&c->speed, speed);
        wish(c);
}

/* --- beginning and end ----------------------------------------------------------------------------------------------- */

static struct copy_chunk *chunk_new(struct copy_job *c)
{
        size_t size = max_u64(c->chunk_size, sizeof(struct copy_chunk));
        struct copy_chunk *ch = calloc(1, size);

        if (!ch)
                return NULL;
        ch->c = c;
        ch->buf = aligned_alloc(4096, round_up(c->chunk, 4096));
        if (ch->buf)
                return ch;
        free(ch);
        return NULL;
}

static void free_chunks(struct copy_job *c)
{
        for (unsigned i = 0; c->chunks && i < c->depth; i++)
                if (c->chunks[i]) {
                        free(c->chunks[i]->buf);
                        free(c->chunks[i]);
                }
        free(c->chunks);
        c->chunks = NULL;
}

int copy_job_init(struct copy_job *c)
{
        c->kick.run = on_kick;
        c->resume.run = on_resume;
        c->timer.fire = on_timer;
        list_init(&c->timer.link);
        pthread_mutex_init(&c->lock, NULL);
        c->chunks = calloc(c->depth, sizeof(*c->chunks));
        for (unsigned i = 0; c->chunks && i < c->depth; i++) {
                c->chunks[i] = chunk_new(c);
                if (!c->chunks[i])
                        break;
        }
        if (c->chunks && c->chunks[c->depth - 1])
                return 0;
        free_chunks(c);
        pthread_mutex_destroy(&c->lock);
        return -ENOMEM;
}

void copy_job_free(struct copy_job *c)
{
        free_chunks(c);
        pthread_mutex_destroy(&c->lock);
        c->kind->free(c);
}

static void on_last(struct qtask *task)
{
        struct copy_job *c = container_of(task, struct copy_job, last);

        c->finished(c);
}

/* A wish of the owner's may be on its way: behind it comes the last task. */
void copy_job_finish(struct copy_job *c, void (*finished)(struct copy_job *c))
{
        c->finished = finished;
        c->last.run = on_last;
        qthread_post(c->v->home, &c->last);
}
