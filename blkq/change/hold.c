/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hold.c - a volume's image for one alone: to close it, to change its size, to hand it to another process.
 *
 *   asked -> ports: new requests wait there, those in flight end -> settle: flush and housekeep till all is tidy -> held
 *         -> release: the next holder in line, or the ports go on with what waited
 *
 * Settling is a loop at home, taken up whenever nothing is under way any more (busy is 0): wind down once, then flush
 * (housekeeping and grace follow each flush) until the driver has nothing dirty and nothing dying. It stops early when
 * something failed for good; the image is then as a crash would leave it.
 *
 * A light holder is called as soon as guests have nothing under way that reads or writes the image: no flush is waited for, and
 * nothing is settled. Flushes that guests asked for earlier may still run, and so may housekeeping.
 *
 * A volume that is asleep (reopen.c) stays held after the release: its requests wait until somebody wakes it.
 */
#include <assert.h>
#include <errno.h>

#include "blkq/home/work.h"
#include "blkq/port_impl.h"
#include "blkq/throttle/port_throttle.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"

#define SETTLE_ROUNDS 1000u /* far more than any image needs */

static void hold_next(struct vol *v);

/* --- ports: on their threads -------------------------------------------------------------------------------------- */

static void port_is_held(struct vol_port *p)
{
        p->hold_owed = false;
        if (p->has_files && p->hold_forget)
                port_files(p, false);
        qthread_post(p->v->home, &p->hold_answer);
}

static void port_hold(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, hold_ask);

        p->held = p->hold_owed = true;
        port_throttle_hold(p);
        hold_port_idle(p);
}

/* What the port sent home arrives there before its answer, so a light holder asks home about that. */
void hold_port_idle(struct vol_port *p)
{
        if (p->hold_owed && (p->hold_light ? mover_is_idle(&p->mover) : !p->in_flight))
                port_is_held(p);
}

void hold_park(struct vol_port *p, struct blk_req *req)
{
        req->p.parked = NULL;
        *p->parked_end = req;
        p->parked_end = &req->p.parked;
}

void hold_port_go(struct vol_port *p)
{
        struct blk_req *req, *next;

        if (p->held)
                return;
        req = TAKE(p->parked, NULL);
        p->parked_end = &p->parked;
        if (!p->gone)
                port_files(p, true);
        port_throttle_go(p); /* they came before */
        for (; req; req = next) {
                next = req->p.parked;
                port_enter(p, req);
        }
}

static void port_go(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, hold_go);

        p->held = false;
        hold_port_go(p);
        port_unref(p);
}

/* --- home: all ports, then the image ------------------------------------------------------------------------------ */

static void settle_end(struct vol *v)
{
        struct vol_hold *h = v->hold.now;

        v->settle.on = false;
        list_for_each(n, &v->writers)
                writer_stop_timer(list_entry(n, struct img_writer, link));
        if (v->uses_files)
                chain_files(v, v->mover.engine, engine_del_file);
        v->uses_files = false;
        h->held(h, v->settle.err);
}

static void on_settle_flushed(struct waiter *w, int err)
{
        struct vol *v = container_of(w, struct vol, settle.flushed);

        if (err < 0 && !v->settle.err)
                v->settle.err = err;
}

/* Its files stay open, and without tables there is nothing to give back or to write. */
static bool goes_as_it_is(const struct vol *v)
{
        const struct fmt_driver *drv = v->top->drv;

        return v->hold.now == &v->closing && v->shelf && !drv->wind_down && !drv->flush;
}

static bool all_clean(const struct vol *v)
{
        list_for_each(n, &v->writers)
                if (!writer_is_clean(list_entry(n, struct img_writer, link)))
                        return false;
        return true;
}

static void wind_all_down(struct vol *v)
{
        list_for_each(n, &v->writers)
                fmt_wind_down(list_entry(n, struct img_writer, link)->img);
}

static void settle_step(struct qtask *task)
{
        struct vol *v = container_of(task, struct vol, settle.task);
        struct settle_state *s = &v->settle;

        s->posted = false;
        if (v->busy)
                return; /* vol_unbusy() comes back */
        if (list_empty(&v->writers) || v->asleep || !v->top || s->err || goes_as_it_is(v)) {
                settle_end(v);
                return;
        }
        if (s->rounds == 0)
                wind_all_down(v);
        if (s->rounds == SETTLE_ROUNDS) {
                log_warn("%s: still not settled after %u flushes; leaving it as it is", v->path, SETTLE_ROUNDS);
                s->err = -EIO;
        }
        if (s->rounds && (s->err || all_clean(v))) {
                settle_end(v);
                return;
        }
        s->rounds++;
        vol_busy(v); /* the flush may be over at once */
        s->flushed.wake = on_settle_flushed;
        flush_all(v, &s->flushed);
        vol_unbusy(v);
}

void vol_unbusy(struct vol *v)
{
        assert(v->busy);
        if (--v->busy == 0 && v->settle.on && !v->settle.posted) {
                v->settle.posted = true;
                qthread_post(v->home, &v->settle.task); /* not now: our callers still use @v */
        }
}

static void settle(struct vol *v)
{
        v->settle.on = true;
        v->settle.rounds = 0;
        v->settle.err = 0;
        settle_step(&v->settle.task);
}

void hold_home_idle(struct vol *v)
{
        if (!v->hold.home_owed || v->changing)
                return;
        v->hold.home_owed = false;
        v->hold.now->held(v->hold.now, 0);
}

static void ports_are_held(struct vol *v)
{
        if (v->hold.now->light) {
                v->hold.home_owed = true;
                hold_home_idle(v);
        } else {
                settle(v);
        }
}

static void on_port_held(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, hold_answer);
        struct vol *v = p->v;

        port_unref(p);
        if (--v->hold.left == 0)
                ports_are_held(v);
}

static void hold_ports(struct vol *v)
{
        v->hold.left = 1;
        v->hold.light = v->hold.now->light;
        v->hold.forgot = !v->hold.light || v->hold.now->forget;
        pthread_mutex_lock(&v->lock);
        v->hold.ports_held = true; /* who attaches from now on is born held */
        list_for_each(n, &v->ports) {
                struct vol_port *p = list_entry(n, struct vol_port, link);

                v->hold.left++;
                p->refs++;
                p->hold_light = v->hold.light;
                p->hold_forget = v->hold.forgot;
                qthread_post(p->thread, &p->hold_ask);
        }
        pthread_mutex_unlock(&v->lock);
        if (!v->hold.light)
                full_yield(v); /* behind what the ports were asked */
        if (--v->hold.left == 0)
                ports_are_held(v);
}

static void release_ports(struct vol *v)
{
        pthread_mutex_lock(&v->lock);
        v->hold.ports_held = false;
        list_for_each(n, &v->ports) {
                struct vol_port *p = list_entry(n, struct vol_port, link);

                p->refs++;
                qthread_post(p->thread, &p->hold_go);
        }
        pthread_mutex_unlock(&v->lock);
}

static void hold_next(struct vol *v)
{
        struct list *n = v->hold.now ? NULL : list_pop(&v->hold.queue);

        if (!n)
                return;
        v->hold.now = list_entry(n, struct vol_hold, link);
        if (v->hold.now->turn)
                v->hold.now->turn(v->hold.now);
        else
                vol_hold_go(v->hold.now);
}

void vol_hold_go(struct vol_hold *h)
{
        struct vol *v = h->v;

        if (v->hold.ports_held && (h->light ? v->hold.forgot || !h->forget : !v->hold.light))
                ports_are_held(v);
        else
                hold_ports(v);
}

static void hold_arrived(struct qtask *task)
{
        struct vol_hold *h = container_of(task, struct vol_hold, task);

        list_add_tail(&h->v->hold.queue, &h->link);
        hold_next(h->v);
}

void vol_hold(struct vol *v, struct vol_hold *h)
{
        h->v = v;
        h->task.run = hold_arrived;
        qthread_post(v->home, &h->task);
}

void vol_release(struct vol *v)
{
        v->hold.now = NULL;
        if (!list_empty(&v->hold.queue))
                hold_next(v);
        else if (!v->asleep)
                release_ports(v);
}

/* --- beginnings --------------------------------------------------------------------------------------------------- */

void hold_init(struct vol *v)
{
        list_init(&v->hold.queue);
        list_init(&v->settle.flushed.link);
        v->settle.task.run = settle_step;
        v->hold.ports_held = v->asleep;
}

void hold_port_init(struct vol_port *p)
{
        p->parked_end = &p->parked;
        p->hold_ask.run = port_hold;
        p->hold_answer.run = on_port_held;
        p->hold_go.run = port_go;
}
