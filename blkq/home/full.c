/* SPDX-License-Identifier: BSD-3-Clause */
#include "full.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "blkq/port_impl.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"

#define RETRY_NS NS_PER_SEC

static struct vol *vol_of(struct full_state *f)
{
        return container_of(f, struct vol, full);
}

static void set_timer(struct full_state *f, uint64_t in_ns)
{
        f->timer_set = true;
        qthread_timer_set(vol_of(f)->home, &f->timer, in_ns);
}

static void count(struct full_state *f, int n)
{
        atomic_store_explicit(&f->count, atomic_load_explicit(&f->count, memory_order_relaxed) + (unsigned)n,
                              memory_order_relaxed);
}

/* --- from the first that waits to the last ------------------------------------------------------------------------- */

static void episode_begins(struct full_state *f, const struct full_wait *w)
{
        struct vol *v = vol_of(f);

        f->since_ns = clock_ns();
        log_warn("%s: no space left on the host's disk: requests that need some wait%s", v->path,
                 f->timeout_ns ? "" : ", however long it takes");
        vol_tell(v, &(struct vol_event){ .kind = VOL_EV_FULL, .err = w->err });
}

static void episode_ends(struct full_state *f, bool space)
{
        struct vol *v = vol_of(f);
        uint64_t seconds = (clock_ns() - f->since_ns) / NS_PER_SEC;

        f->since_ns = 0;
        if (f->timer_set)
                qthread_timer_cancel(v->home, &f->timer);
        f->timer_set = false;
        if (!space)
                return;
        log_info("%s: there is space again, after %" PRIu64 " seconds", v->path, seconds);
        vol_tell(v, &(struct vol_event){ .kind = VOL_EV_SPACE, .seconds = seconds });
}

static void look_for_end(struct full_state *f, bool space)
{
        if (f->since_ns && !f->trying && list_empty(&f->waiting))
                episode_ends(f, space);
}

/* --- those that wait ------------------------------------------------------------------------------------------------ */

static void take_off(struct full_state *f, struct full_wait *w)
{
        list_del(&w->link);
        count(f, -1);
}

static void try_again(struct full_state *f, struct full_wait *w)
{
        list_del(&w->link);
        w->again = true;
        f->trying++;
        w->retry(w);
}

/* For all: what it finds, they would. It stands at the end if it finds nothing, so each has its turn. */
static void try_first(struct full_state *f)
{
        f->first = list_entry(f->waiting.next, struct full_wait, link);
        try_again(f, f->first);
}

static void try_all(struct full_state *f)
{
        struct list all, *n;

        list_init(&all);
        list_splice_tail(&all, &f->waiting);
        while ((n = list_pop(&all)) != NULL)
                try_again(f, list_entry(n, struct full_wait, link));
}

static bool is_too_old(const struct full_state *f, const struct full_wait *w, uint64_t now)
{
        return f->timeout_ns && now - w->since_ns >= f->timeout_ns;
}

static void give_up_old(struct full_state *f)
{
        uint64_t now = clock_ns();
        unsigned n = 0;
        int err = 0;

        list_for_each_safe(l, &f->waiting) {
                struct full_wait *w = list_entry(l, struct full_wait, link);

                if (!is_too_old(f, w, now))
                        continue;
                take_off(f, w);
                err = w->err;
                n++;
                w->give_up(w, err);
        }
        if (!n)
                return;
        log_err("%s: still no space on the host's disk: %u request%s failed", vol_of(f)->path, n, n > 1 ? "s" : "");
        vol_tell(vol_of(f), &(struct vol_event){ .kind = VOL_EV_GAVE_UP, .err = err });
}

static void on_timer(struct qtimer *t)
{
        struct full_state *f = container_of(t, struct full_state, timer);
        struct vol *v = vol_of(f);

        f->timer_set = false;
        vol_busy(v); /* the last one may be the last of all */
        give_up_old(f);
        look_for_end(f, false);
        if (!list_empty(&f->waiting))
                set_timer(f, RETRY_NS);
        if (!list_empty(&f->waiting) && !f->trying && !v->hold.ports_held)
                try_first(f);
        vol_unbusy(v);
}

/* --- the doors ------------------------------------------------------------------------------------------------------ */

static void tried(struct full_state *f, struct full_wait *w, int res)
{
        bool first = w == f->first;

        w->again = false;
        f->trying--;
        if (first)
                f->first = NULL;
        if (!full_is(res))
                count(f, -1);
        if (first && res == 0)
                try_all(f);
}

bool full_waits(struct vol *v, struct full_wait *w, int res)
{
        struct full_state *f = &v->full;
        bool waited = w->again;

        if (waited)
                tried(f, w, res);
        if (!full_is(res) || !f->hold || vol_failed(v) || w->port->impatient || atomic_load_explicit(&w->port->hurry, memory_order_relaxed)) {
                if (waited && full_is(res))
                        count(f, -1);
                look_for_end(f, res == 0);
                return false;
        }
        if (!waited)
                count(f, 1);
        w->err = res;
        if (!w->since_ns)
                w->since_ns = clock_ns();
        list_add_tail(&f->waiting, &w->link);
        if (!f->since_ns)
                episode_begins(f, w);
        if (!f->timer_set)
                set_timer(f, RETRY_NS);
        if (v->hold.ports_held && !v->hold.light) /* who holds the volume waits for nobody's space */
                full_yield(v);
        return true;
}

void full_freed(struct vol *v)
{
        if (!list_empty(&v->full.waiting))
                set_timer(&v->full, 0);
}

void full_yield(struct vol *v)
{
        struct list *n;

        while ((n = list_pop(&v->full.waiting)) != NULL) {
                struct full_wait *w = list_entry(n, struct full_wait, link);

                count(&v->full, -1);
                w->give_up(w, -EAGAIN);
        }
        look_for_end(&v->full, false);
}

static void on_hurry(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, full_ask);
        struct vol *v = p->full_of; /* the port may be another one's by now */
        struct full_state *f = &v->full;

        atomic_store(&p->full_asked, false);
        vol_busy(v);
        list_for_each_safe(l, &f->waiting) {
                struct full_wait *w = list_entry(l, struct full_wait, link);

                if (!atomic_load_explicit(&w->port->hurry, memory_order_relaxed))
                        continue;
                take_off(f, w);
                w->give_up(w, w->err);
        }
        look_for_end(f, false);
        vol_unbusy(v);
        port_unref(p);
}

void full_port_hurries(struct vol_port *p)
{
        if (!p->v->full.hold || atomic_exchange(&p->full_asked, true))
                return;
        p->refs++;
        p->full_of = p->v;
        qthread_post(p->v->home, &p->full_ask);
}

void full_port_init(struct vol_port *p)
{
        p->full_ask.run = on_hurry;
}

struct try_now {
        struct qtask task;
        struct vol *v;
};

static void on_try_now(struct qtask *task)
{
        struct try_now *t = container_of(task, struct try_now, task);

        full_freed(t->v);
        free(t);
}

/* Closing the volume takes a message from the same thread, or a later one. */
int vol_try_space(struct vol *v)
{
        struct try_now *t = malloc(sizeof(*t));

        if (!t)
                return -ENOMEM;
        *t = (struct try_now){ .task.run = on_try_now, .v = v };
        qthread_post(v->home, &t->task);
        return 0;
}

unsigned vol_waiting_for_space(const struct vol *v)
{
        return atomic_load_explicit(&v->full.count, memory_order_relaxed);
}

void full_init(struct vol *v, bool hold, unsigned timeout_s)
{
        v->full.hold = hold;
        v->full.timeout_ns = timeout_s * NS_PER_SEC;
        v->full.timer.fire = on_timer;
        list_init(&v->full.timer.link);
        list_init(&v->full.waiting);
}

void full_finish(struct vol *v)
{
        assert(list_empty(&v->full.waiting) && !v->full.trying);
        if (v->full.timer_set)
                qthread_timer_cancel(v->home, &v->full.timer);
}
