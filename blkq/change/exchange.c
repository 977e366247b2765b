/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   held -> no round of grace under way -> each port, on its thread: off the one volume, onto the other, its requests go on
 *        -> all have said so -> done
 *
 * A port that is held has nothing under way that reads or writes. A guest's flush may be: it ends where it began, and what it promised
 * is true of the image that guests have left; the other one is flushed before anybody is told that it is the disk now.
 */
#include "blkq/change/exchange.h"
#include "blkq/home/work.h"
#include "blkq/port_impl.h"

#include <errno.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

#define SWAP(a, b)                      \
        do {                            \
                typeof(a) was_ = a;     \
                a = b;                  \
                b = was_;               \
        } while (0)

/* Both locks, in an order that is always the same. */
static void lock_both(struct vol *a, struct vol *b)
{
        pthread_mutex_lock(a < b ? &a->lock : &b->lock);
        pthread_mutex_lock(a < b ? &b->lock : &a->lock);
}

static void unlock_both(struct vol *a, struct vol *b)
{
        pthread_mutex_unlock(&a->lock);
        pthread_mutex_unlock(&b->lock);
}

/* --- a port: its thread ------------------------------------------------------------------------------------------- */

static void change_volume(struct vol_port *p, struct vol *to)
{
        struct vol *from = p->v;

        if (p->has_files)
                port_files(p, false);
        lock_both(from, to);
        list_del(&p->link);
        list_add_tail(&to->ports, &p->link);
        p->v = to;
        p->held = to->hold.ports_held;
        p->mover.flight.most = &to->max_in_flight;
        unlock_both(from, to);
}

static void port_moves(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, move_ask);
        struct ports_move *m = p->move;

        if (!p->gone)
                change_volume(p, m->to);
        hold_port_go(p);
        qthread_post(m->from->home, &p->move_answer);
}

/* --- home --------------------------------------------------------------------------------------------------------- */

static void drop(struct ports_move *m)
{
        if (--m->left)
                return;
        m->from->ports_move = false;
        grace_kick(m->from);
        m->done(m);
}

static void on_port_moved(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, move_answer);
        struct ports_move *m = p->move;

        port_unref(p);
        drop(m);
}

void exchange_port_init(struct vol_port *p)
{
        p->move_ask.run = port_moves;
        p->move_answer.run = on_port_moved;
}

static void take_along(struct vol *a, struct vol *b)
{
        SWAP(a->past, b->past);
        SWAP(a->past_last_ns, b->past_last_ns);
        SWAP(a->throttle, b->throttle);
        SWAP(a->max_in_flight, b->max_in_flight);
        SWAP(a->full.hold, b->full.hold);
        SWAP(a->full.timeout_ns, b->full.timeout_ns);
}

/* A port owes no answer now, and will be asked nothing in the name of this volume any more. */
static void on_grace(struct waiter *w, int err)
{
        struct ports_move *m = container_of(w, struct ports_move, wait);
        struct vol *a = m->from;

        (void)err;
        log_info("%s: its guests go on with %s", a->path, m->to->path); /* before the first of them is answered */
        a->ports_move = true;
        m->left = 1;
        lock_both(a, m->to);
        a->successor = m->to;
        take_along(a, m->to);
        list_for_each(n, &a->ports) {
                struct vol_port *p = list_entry(n, struct vol_port, link);

                p->refs++;
                p->move = m;
                m->left++;
                qthread_post(p->thread, &p->move_ask);
        }
        unlock_both(a, m->to);
        drop(m);
}

void vol_move_ports(struct ports_move *m)
{
        full_yield(m->from); /* what waits for space goes back to its port, and along */
        m->wait = (struct waiter){ .wake = on_grace };
        list_init(&m->wait.link);
        grace_wait(m->from, &m->wait);
}

void vol_ports_moved(struct vol *from)
{
        pthread_mutex_lock(&from->lock);
        from->successor = NULL;
        pthread_mutex_unlock(&from->lock);
}

int vol_exchange_check(struct vol *a, struct vol *b)
{
        if (vol_size(a) != vol_size(b))
                return err_note(-EINVAL, "Source and target image have different sizes");
        if (!vol_is_awake(a) || !vol_is_awake(b))
                return err_note(-EBUSY, "the image is not in use here");
        return 0;
}

/* --- tables ------------------------------------------------------------------------------------------------------- */

int vol_reload(struct vol *v)
{
        struct fmt_open_opts opts = vol_how(v);
        struct fmt_image *top = v->top;
        int r;

        if (v->asleep || !v->writer || !top->drv->wind_down) /* nothing was wound down */
                return 0;
        pthread_mutex_lock(&v->lock);
        v->top = NULL;
        pthread_mutex_unlock(&v->lock);
        r = chain_reload(&top, &opts);
        pthread_mutex_lock(&v->lock);
        v->top = v->writer->img = top;
        pthread_mutex_unlock(&v->lock);
        if (r < 0)
                vol_fail(v, r, "the image could not be opened again");
        return r;
}
