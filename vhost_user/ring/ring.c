/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - Control and the queue thread meet in order_task, done_task, trouble_task and held_task only. One order is out at a time, so
 *     its answer needs no queue.
 *   - Every request holds its view; a view goes home to control when it is not the ring's any more and has no users.
 *     The views of a ring are home before the answer to its STOP, since the loop keeps order.
 *   - What is pushed is published, and the guest notified, once a round of the thread (round_end).
 */
#include "vhost_user/ring/ring_impl.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/probes.h"
#include "common/range.h"
#include "vhost_user/memory/mem_guard.h"
#include "vhost_user/ring/ring_share.h"

#define POLL_PERIOD_NS NS_PER_MS /* a ring without a kick fd is looked at so often while the thread has nothing else */

/* --- views ------------------------------------------------------------------------------------------------------- */

void mem_view_free(struct mem_view *v)
{
        if (!v)
                return;
        mem_table_put(v->mt);
        free(v);
}

static void view_is_home(struct loop_task *t)
{
        mem_view_free(container_of(t, struct mem_view, home));
}

struct mem_view *mem_view_new(struct loop *l, struct mem_table *mt)
{
        struct mem_view *v = calloc(1, sizeof(*v));

        if (!v)
                return NULL;
        v->mt = mem_table_get(mt);
        v->loop = l;
        v->home.run = view_is_home;
        return v;
}

static void view_send_home(struct mem_view *v)
{
        loop_post(v->loop, &v->home);
}

/* --- trouble ----------------------------------------------------------------------------------------------------- */

static void trouble_arrived(struct loop_task *t)
{
        struct ring *r = container_of(t, struct ring, trouble_task);

        r->trouble(r, r->trouble_why, r->trouble_memory);
}

static void held_arrived(struct loop_task *t)
{
        struct ring *r = container_of(t, struct ring, held_task);

        r->held(r);
}

/* One ring of the device tells, and its session outlives that: a STOP is answered behind it. */
void ring_held_us(struct ring *r)
{
        r->popping = false;
        if (!atomic_exchange(&r->dev->held_us, true))
                loop_post(r->loop, &r->held_task);
}

static bool memory_gone(const struct ring *r)
{
        return mem_broken(r->view->mt) || inflight_broken(r->inflight) || dirty_log_broken(r->log.to);
}

static void tell(struct ring *r, const char *why, bool fatal)
{
        r->popping = false;
        if (r->told)
                return;
        r->told = true;
        r->trouble_memory = fatal;
        r->trouble_why = why;
        ring_bell_ring(r, &r->err);
        loop_post(r->loop, &r->trouble_task);
}

/* Bytes that make no sense may be the zeros that stand where memory was pulled away: then that is the news. */
void ring_report(struct ring *r, const char *why)
{
        bool gone = memory_gone(r);

        tell(r, gone ? "the front end truncated its guest's memory" : why, gone);
}

/* One load while nothing is wrong. */
static void check_memory(struct ring *r)
{
        unsigned hits = atomic_load_explicit(&guard_hits, memory_order_relaxed);

        if (hits == r->guard_seen)
                return;
        r->guard_seen = hits;
        if (memory_gone(r))
                ring_report(r, NULL);
}

/* --- the dirty log ----------------------------------------------------------------------------------------------- */

static void mark(struct ring *r, const struct mem_view *v, const void *host, size_t len)
{
        dirty_log_mark_host(r->log.to, v->mt, host, len);
        r->has_marked = true;
}

void ring_wrote(struct ring_req *q, const void *host, size_t len)
{
        if (q->ring->log.to)
                mark(q->ring, q->view, host, len);
}

static void mark_data(struct ring *r, const struct ring_req *q)
{
        const struct chain *c = &q->chain;

        for (unsigned i = c->nread; i < c->nread + c->nwrite; i++)
                mark(r, q->view, c->iov[i].iov_base, c->iov[i].iov_len);
}

/* All of what we write of the ring: two or three pages. */
static void mark_ring(struct ring *r)
{
        struct iovec part[VQ_WRITTEN_MAX];
        unsigned n = r->log.own ? vq_written(&r->vq, part) : 0;

        for (unsigned i = 0; i < n; i++)
                mark(r, r->view, part[i].iov_base, part[i].iov_len);
        if (n == 1 && !r->has_iommu) /* a used ring, where the front end says that it is */
                dirty_log_mark(r->log.to, r->log.at, part[0].iov_len);
}

/* Pages that the front end believes clean and are not would be lost on the way: better no guest than a wrong one. */
static void end_marking(struct ring *r)
{
        if (dirty_log_missed(r->log.to))
                tell(r, "the dirty log has no place for a page that was written", true);
        if (TAKE(r->has_marked, false))
                ring_bell_ring(r, &r->marked);
}

/* --- the common road --------------------------------------------------------------------------------------------- */

/* Only to look again, with ring_settle(). */
static void await_round_end(struct ring *r)
{
        if (TAKE(r->hook_set, true))
                return;
        qthread_at_round_end(r->thread, &r->round_end);
}

void ring_at_round_end(struct ring *r)
{
        r->wrote = true;
        await_round_end(r);
}

static void on_round_end(struct qhook *h)
{
        struct ring *r = container_of(h, struct ring, round_end);
        bool wrote = TAKE(r->wrote, false);

        r->hook_set = false;
        if (r->started) { /* not so when it is only a bell that somebody waits for */
                if (!r->unmapped && vq_publish(&r->vq)) {
                        PROBE2(notify, r->dev->name, r->index);
                        ring_bell_ring(r, &r->call);
                }
                if (r->log.to && wrote) { /* marking rings a bell: one that is waited for would never be still */
                        if (!r->unmapped)
                                mark_ring(r);
                        end_marking(r);
                }
                check_memory(r);
        }
        ring_settle(r);
}

static void view_unuse(struct ring *r, struct mem_view *v)
{
        if (!--v->users && v != r->view)
                view_send_home(v);
}

void ring_complete(struct ring_req *q, uint32_t written)
{
        struct ring *r = q->ring;

        if (r->log.to)
                mark_data(r, q);
        if (r->has_iommu)
                ring_idle(r, q);
        if (r->unmapped)
                ring_late(r, &q->chain, written);
        else
                vq_push(&r->vq, &q->chain, written);
        view_unuse(r, q->view);
        ring_at_round_end(r);
}

void ring_break(struct ring_req *q, const char *why)
{
        struct ring *r = q->ring;

        if (r->has_iommu)
                ring_idle(r, q);
        vq_drop(&r->vq, &q->chain);
        view_unuse(r, q->view);
        r->vq.broken = why;
        r->dev->ops->put(r, q);
        ring_report(r, why);
        ring_at_round_end(r);
}

/* No memory for a request. A completion looks again; when none is to come, time does. */
static void look_again(struct ring *r)
{
        if (!r->vq.in_flight)
                qthread_timer_set(r->thread, &r->poll_timer, POLL_PERIOD_NS);
}

/* The share ended with this ring: the next round begins with another. */
static void go_behind(struct ring *r)
{
        qthread_del_poller(r->thread, &r->poller);
        qthread_add_poller(r->thread, &r->poller);
}

/* Up to @n requests go to the device. Returns how many did. */
static unsigned take_batch(struct ring *r, unsigned n)
{
        const struct vu_device_ops *ops = r->dev->ops;
        unsigned taken = 0;
        int got;

        while (taken < n && !r->told) {
                struct ring_req *q;

                if (taken && !share_left(r)) {
                        go_behind(r);
                        break;
                }
                q = ops->get(r);

                if (!q) {
                        look_again(r);
                        break;
                }
                got = vq_pop(&r->vq, r->view->mt, &q->chain);
                if (got <= 0) {
                        ops->put(r, q);
                        if (got == -EAGAIN)
                                ring_starve(r);
                        else if (got < 0)
                                ring_report(r, r->vq.broken);
                        break;
                }
                q->ring = r;
                q->view = r->view;
                q->view->users++;
                if (r->has_iommu)
                        ring_busy(r, q);
                taken++;
                share_pay(r, &q->chain);
                ops->take(r, q);
        }
        return taken;
}

/*
 * What was in flight when the process before us died is done before a stop is answered: whoever goes on with the ring may
 * not have the record.
 */
static bool must_redo(const struct ring *r)
{
        return r->started && !r->told && !r->unmapped && !r->starved && vq_again(&r->vq);
}

static bool redo(struct ring *r)
{
        unsigned n = take_batch(r, vq_again(&r->vq));

        check_memory(r);
        ring_at_round_end(r); /* ring_settle() */
        return n;
}

static bool ring_poll(struct qpoller *p)
{
        struct ring *r = container_of(p, struct ring, poller);
        unsigned want = r->dev->ops->wants ? r->dev->ops->wants(r) : UINT_MAX;
        int n;

        if (r->starved || (r->unmapped && !ring_map(r)))
                return false;
        if (r->stopping && must_redo(r))
                return redo(r);
        if (!r->popping || !want)
                return false;
        n = vq_waiting(&r->vq);
        check_memory(r);
        if (n < 0)
                ring_report(r, r->vq.broken);
        if (n <= 0)
                return false;
        return !share_left(r) || take_batch(r, (unsigned)min_u64((unsigned)n, want));
}

bool ring_take_all(struct ring *r)
{
        struct vu_share *share;
        unsigned left = r->layout.num;
        int n = 0;

        if (!r->popping)
                return true;
        if (r->starved || (r->unmapped && !ring_map(r)))
                return false;
        share = TAKE(r->share, NULL);
        while (left && r->popping && (n = vq_waiting(&r->vq)) > 0) {
                unsigned taken = take_batch(r, (unsigned)min_u64((unsigned)n, left));

                if (!taken)
                        break;
                left -= taken;
        }
        r->share = share;
        if (n < 0)
                ring_report(r, r->vq.broken);
        return !r->popping || n <= 0 || !left;
}

static void ring_quiet(struct qpoller *p, bool quiet)
{
        struct ring *r = container_of(p, struct ring, poller);

        if (r->unmapped)
                return;
        vq_want_kicks(&r->vq, !quiet);
        if (r->log.to)
                mark_ring(r);
}

/* The thread is awake, so it polls this round: there is nothing else to do. The eventfd is never read, its counter does
 * not matter (every write wakes the watch), and so a kick costs us no system call. */
static void on_kick(struct engine_watch *w)
{
        (void)w;
}

static void on_poll_timer(struct qtimer *t)
{
        struct ring *r = container_of(t, struct ring, poll_timer);

        if (r->polled)
                qthread_timer_set(r->thread, t, POLL_PERIOD_NS);
}

/* --- orders ------------------------------------------------------------------------------------------------------ */

static void answer_arrived(struct loop_task *t)
{
        struct ring *r = container_of(t, struct ring, done_task);

        r->ordered = false;
        ring_bells_gone(r);
        if (r->order.kind == RING_START)
                r->running = r->order.result == 0;
        if (r->order.kind == RING_PARK) {
                r->parked = r->running;
                r->broken = r->parked && r->told;
                r->running = false;
        }
        if (r->order.kind == RING_STOP) {
                r->running = r->parked = r->has_kick = r->polled = r->has_bell = false;
                closep(&r->kick_fd);
                r->kick_fd = -1;
        }
        r->done(r, &r->order);
}

void ring_answer(struct ring *r, int result)
{
        r->order.result = result;
        if (result < 0)
                snprintf(r->order.why, sizeof(r->order.why), "%s", err_text(result));
        err_clear();
        loop_post(r->loop, &r->done_task);
}

static void on_kick_gone(struct engine_watch *w)
{
        struct ring *r = container_of(w, struct ring, kick);

        r->watching = false;
        ring_settle(r);
}

static void stop_now(struct ring *r)
{
        r->stopping = false;
        if (r->started) {
                r->started = false;
                r->dev->ops->ring_stop(r->dev, r);
                qthread_del_poller(r->thread, &r->poller);
                qthread_timer_cancel(r->thread, &r->poll_timer);
                r->base = r->stopped_at = r->virgin ? r->base : vq_base(&r->vq);
                ring_iommu_finish(r);
                r->has_stopped = true;
                r->log = (struct ring_log){ 0 };
                vq_finish(&r->vq);
                view_send_home(TAKE(r->view, NULL));
        }
        if (r->order.kind == RING_STOP) {
                ring_bell_close(&r->call);
                ring_bell_close(&r->err);
        }
        ring_bell_close(&r->marked);
        ring_answer(r, 0);
}

/* The write of the old eventfd is over, so its number may be given back. */
static void change_bell_now(struct ring *r, struct ring_bell *b)
{
        ring_bell_close(b);
        b->fd = r->order.fd;
        b->said = true;
        if (b == &r->call)
                ring_bell_ring(r, b);
        ring_answer(r, 0);
}

static bool drained(const struct ring *r)
{
        return !r->started || (!r->vq.in_flight && !must_redo(r));
}

/* Something ended: is it what an order waits for? */
void ring_settle(struct ring *r)
{
        /* The end of a notification wakes nobody (engine.h), so nobody may sleep while an order waits for it. */
        if ((r->stopping || r->bell_waits) && ring_bells_busy(r))
                await_round_end(r);
        if (r->bell_waits && !r->bell_waits->busy)
                change_bell_now(r, TAKE(r->bell_waits, NULL));
        if (r->stopping && drained(r) && !r->watching && !r->hook_set && !ring_bells_busy(r))
                stop_now(r);
}

static int start(struct ring *r)
{
        struct engine *e = qthread_engine(r->thread);
        int res;

        r->view = r->order.view;
        r->vq.event_idx = r->features >> VIRTIO_RING_F_EVENT_IDX & 1;
        r->vq.indirect = r->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
        res = r->view->mt->iotlb ? ring_iommu_start(r) : vq_start(&r->vq, r->view->mt, &r->layout, r->base);
        if (res == 0)
                res = r->dev->ops->ring_start(r->dev, r);
        if (res < 0) {
                ring_iommu_finish(r);
                vq_finish(&r->vq);
                view_send_home(TAKE(r->view, NULL));
                closep(&r->order.fd);
                return res;
        }
        r->started = true;
        r->popping = r->order.enable && !r->order.broken;
        r->told = r->order.broken;
        r->log = r->order.log;
        r->marked.fd = r->order.fd;
        if (!r->unmapped)
                vq_want_kicks(&r->vq, true);
        if (!r->unmapped && r->log.to)
                mark_ring(r);
        qthread_add_poller(r->thread, &r->poller);
        if (r->kick_fd >= 0) {
                r->kick.fd = r->kick_fd;
                r->watching = true;
                engine_watch(e, &r->kick);
        } else if (r->polled) {
                qthread_timer_set(r->thread, &r->poll_timer, POLL_PERIOD_NS);
        }
        return 0;
}

static void stop(struct ring *r)
{
        r->popping = false;
        r->stopping = true;
        if (r->unmapped)
                ring_drop_late(r);
        qthread_timer_cancel(r->thread, &r->poll_timer);
        if (r->watching)
                engine_unwatch(qthread_engine(r->thread), &r->kick);
        if (r->started && r->dev->ops->ring_hurry)
                r->dev->ops->ring_hurry(r->dev, r);
        ring_settle(r);
}

static int change_memory(struct ring *r)
{
        struct mem_view *old = r->view;
        int res = r->has_iommu ? 0 : vq_remap(&r->vq, r->order.view->mt, &r->layout);

        if (res < 0) { /* go on seeing the old memory, it is still there; but take nothing more */
                view_send_home(r->order.view);
                ring_report(r, r->vq.broken);
                return res;
        }
        r->view = r->order.view;
        if (r->has_iommu)
                ring_unmap(r);
        if (!old->users)
                view_send_home(old);
        return 0;
}

static void carry_out(struct qtask *t)
{
        struct ring *r = container_of(t, struct ring, order_task);

        switch (r->order.kind) {
        case RING_START:
                ring_answer(r, start(r));
                break;
        case RING_STOP:
        case RING_PARK:
                stop(r);
                break;
        case RING_ENABLE:
                r->popping = r->order.enable && !r->vq.broken && !r->told;
                ring_answer(r, 0);
                break;
        case RING_MEMORY:
                ring_answer(r, change_memory(r));
                break;
        case RING_INVALIDATE:
                ring_invalidate(r);
                break;
        case RING_LOG:
                r->log = r->order.log;
                r->bell_waits = &r->marked;
                ring_settle(r);
                break;
        case RING_KICK:
                ring_poll(&r->poller);
                ring_answer(r, 0);
                break;
        case RING_CALL:
        case RING_ERR:
                r->bell_waits = r->order.kind == RING_CALL ? &r->call : &r->err;
                r->bell_waits->again = false;
                ring_settle(r);
                break;
        }
}

void ring_order(struct ring *r, const struct ring_order *o)
{
        assert(!r->ordered);
        r->ordered = true;
        r->order = *o;
        if (o->kind == RING_CALL || o->kind == RING_ERR)
                r->has_bell = true;
        qthread_post(r->thread, &r->order_task);
}

bool ring_ready(const struct ring *r)
{
        return r->layout.num && r->has_addr && r->has_kick && r->enabled && !r->running;
}

void ring_init(struct ring *r, struct vu_device *dev, struct loop *l, unsigned index)
{
        memset(r, 0, sizeof(*r));
        r->dev = dev;
        r->loop = l;
        r->index = index;
        r->thread = dev->threads[(dev->first_thread + index) % dev->nthreads];
        r->share = dev->shares ? &dev->shares[(dev->first_thread + index) % dev->nthreads] : NULL;
        r->kick_fd = -1;
        r->done_with[0] = r->done_with[1] = r->done_with[2] = -1;
        ring_bell_init(r, &r->call);
        ring_bell_init(r, &r->err);
        ring_bell_init(r, &r->marked);
        r->call.inband = r->err.inband = true;
        r->kick.ready = on_kick;
        r->kick.gone = on_kick_gone;
        list_init(&r->kick.link);
        r->poller = (struct qpoller){ .poll = ring_poll, .quiet = ring_quiet };
        list_init(&r->poller.link);
        r->round_end.run = on_round_end;
        list_init(&r->round_end.link);
        r->poll_timer.fire = on_poll_timer;
        list_init(&r->poll_timer.link);
        ring_iommu_init(r);
        r->order_task.run = carry_out;
        r->done_task.run = answer_arrived;
        r->trouble_task.run = trouble_arrived;
        r->held_task.run = held_arrived;
}

void ring_finish(struct ring *r)
{
        assert(!r->running && !r->has_bell && !r->ordered);
        closep(&r->kick_fd);
        r->kick_fd = -1;
}
