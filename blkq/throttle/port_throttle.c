/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port_throttle.c - requests that wait for their turn under a disk's limits. All on the port's thread, but for the
 * group's buckets, which other ports use too.
 *
 * Reads wait in one line, what changes the disk in another: first come, first served, and neither holds up the other.
 * Only the first of a line has taken from the buckets and knows when it is due. A timer of a millisecond's grain lets
 * go all that are due by then; that it comes late costs nothing, since the buckets leak meanwhile. A timer never sleeps
 * long, so other limits are noticed.
 *
 * What waits here is not in flight: a hold of the volume does not wait for it, and it does not move until the release.
 * Who wants the port empty for good (a ring that stops) hurries it: all go at once, and those who come later pay.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/port_impl.h"
#include "blkq/throttle/port_throttle.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

#define GRAIN_NS NS_PER_MS
#define LOOK_NS (100 * NS_PER_MS) /* so long may limits be others before those who wait notice */

struct line {
        struct throttle_flow flow;
        struct blk_req *head, **end;
        uint64_t due_ns; /* of the head, */
        unsigned epoch;  /* under these limits */
};
struct port_throttle {
        struct vol_port *p;
        struct throttle_group *group;
        struct qtimer timer;
        struct line line[2]; /* reading, writing */
        struct qtask join;   /* on the way to its port */
};

static void line_add(struct line *q, struct blk_req *req)
{
        req->p.parked = NULL;
        *q->end = req;
        q->end = &req->p.parked;
}

static struct blk_req *line_pop(struct line *q)
{
        struct blk_req *req = q->head;

        q->head = req->p.parked;
        if (!q->head)
                q->end = &q->head;
        return req;
}

static void take_head(struct throttle *t, struct line *q, bool write, uint64_t now)
{
        q->due_ns = throttle_take(t, &q->flow, write, q->head->len, now);
        q->epoch = t->epoch;
}

/* Moves all that are due to @to. The group is locked. */
static void let_go(struct throttle *t, struct line *q, bool write, uint64_t now, bool all, struct line *to)
{
        while (q->head) {
                if (q->epoch != t->epoch)
                        take_head(t, q, write, now);
                if (q->due_ns > now && !all)
                        break;
                line_add(to, line_pop(q));
                if (q->head)
                        take_head(t, q, write, now);
        }
        throttle_wait(t, &q->flow, write, q->head != NULL);
}

static void set_timer(struct port_throttle *pt, uint64_t now)
{
        uint64_t due = UINT64_MAX;

        for (unsigned i = 0; i < 2; i++)
                if (pt->line[i].head)
                        due = min_u64(due, pt->line[i].due_ns);
        if (due != UINT64_MAX)
                qthread_timer_set(pt->p->thread, &pt->timer, min_u64(max_u64(due - min_u64(due, now), GRAIN_NS), LOOK_NS));
}

/* What is let go may come back with more, or end the port's use of limits: @pt is not used any more then. */
static void look(struct port_throttle *pt, bool all)
{
        struct line go = { .end = &go.head };
        uint64_t now = clock_ns();
        struct vol_port *p = pt->p;
        struct throttle *t;

        if (p->held)
                return;
        t = throttle_group_lock(pt->group);
        for (unsigned i = 0; i < 2; i++)
                let_go(t, &pt->line[i], i, now, all, &go);
        throttle_group_unlock(pt->group);
        set_timer(pt, now);
        while (go.head)
                request_start(p, line_pop(&go));
}

static void on_timer(struct qtimer *timer)
{
        look(container_of(timer, struct port_throttle, timer), false);
}

/* --- the port's door ---------------------------------------------------------------------------------------------- */

bool port_throttle_waits(struct vol_port *p, struct blk_req *req)
{
        struct port_throttle *pt = p->throttle;
        bool write = req->op != BLK_READ;
        struct line *q = &pt->line[write];
        struct throttle *t;
        uint64_t now;

        if (req->op == BLK_FLUSH)
                return false;
        if (q->head) {
                line_add(q, req);
                return true;
        }
        now = clock_ns();
        t = throttle_group_lock(pt->group);
        line_add(q, req);
        take_head(t, q, write, now);
        if (q->due_ns <= now || atomic_load_explicit(&p->hurry, memory_order_relaxed))
                line_pop(q);
        else
                throttle_wait(t, &q->flow, write, true);
        throttle_group_unlock(pt->group);
        if (q->head)
                set_timer(pt, now);
        return q->head != NULL;
}

bool port_throttle_has_waiters(const struct vol_port *p)
{
        return p->throttle && (p->throttle->line[0].head || p->throttle->line[1].head);
}

void port_throttle_hold(struct vol_port *p)
{
        struct port_throttle *pt = p->throttle;
        struct throttle *t;

        if (!pt)
                return;
        t = throttle_group_lock(pt->group); /* others need not leave room for us */
        for (unsigned i = 0; i < 2; i++)
                throttle_wait(t, &pt->line[i].flow, i, false);
        throttle_group_unlock(pt->group);
}

void port_throttle_go(struct vol_port *p)
{
        if (p->throttle)
                look(p->throttle, atomic_load_explicit(&p->hurry, memory_order_relaxed));
}

void port_hurry(struct vol_port *p, bool hurry)
{
        if (!hurry) {
                atomic_fetch_sub_explicit(&p->hurry, 1, memory_order_relaxed);
                return;
        }
        /* Home looks at it whenever it lets a request wait, and before that when this message arrives. */
        atomic_fetch_add_explicit(&p->hurry, 1, memory_order_seq_cst);
        port_throttle_go(p);
        full_port_hurries(p);
}

/* --- groups come and go ------------------------------------------------------------------------------------------- */

static void throttle_free(struct port_throttle *pt)
{
        throttle_group_unref(pt->group);
        free(pt);
}

/* All that wait, in order; its flows are no longer the group's. */
static void throttle_end(struct port_throttle *pt, struct line *all)
{
        struct throttle *t = throttle_group_lock(pt->group);

        for (unsigned i = 0; i < 2; i++) {
                throttle_wait(t, &pt->line[i].flow, i, false);
                while (pt->line[i].head)
                        line_add(all, line_pop(&pt->line[i]));
        }
        throttle_group_unlock(pt->group);
        qthread_timer_cancel(pt->p->thread, &pt->timer);
        throttle_free(pt);
}

static void on_join(struct qtask *task)
{
        struct port_throttle *pt = container_of(task, struct port_throttle, join);
        struct line all = { .end = &all.head };
        struct vol_port *p = pt->p;

        if (p->throttle)
                throttle_end(TAKE(p->throttle, NULL), &all);
        if (pt->group && !p->gone)
                p->throttle = pt;
        else
                throttle_free(pt);
        while (all.head)
                port_enter(p, line_pop(&all));
        port_unref(p);
}

static struct port_throttle *throttle_new(struct vol_port *p, struct throttle_group *g)
{
        struct port_throttle *pt = calloc(1, sizeof(*pt));

        if (!pt)
                return NULL;
        pt->p = p;
        pt->group = throttle_group_ref(g);
        pt->timer.fire = on_timer;
        list_init(&pt->timer.link);
        pt->join.run = on_join;
        for (unsigned i = 0; i < 2; i++)
                pt->line[i].end = &pt->line[i].head;
        return pt;
}

int port_throttle_init(struct vol_port *p)
{
        if (p->v->throttle)
                p->throttle = throttle_new(p, p->v->throttle);
        return p->v->throttle && !p->throttle ? -ENOMEM : 0;
}

void port_throttle_finish(struct vol_port *p)
{
        struct line none = { .end = &none.head };

        if (p->throttle)
                throttle_end(TAKE(p->throttle, NULL), &none);
        assert(!none.head);
}

/* One for each port, before anything changes. The volume is locked. */
static int make_all(struct vol *v, struct throttle_group *g, struct port_throttle **made, unsigned n)
{
        unsigned i = 0;

        list_for_each(l, &v->ports) {
                assert(i < n);
                made[i] = throttle_new(list_entry(l, struct vol_port, link), g);
                if (!made[i++])
                        break;
        }
        if (i == n && (!n || made[n - 1]))
                return 0;
        while (i--)
                if (made[i])
                        throttle_free(made[i]);
        return -ENOMEM;
}

static unsigned count_ports(const struct vol *v)
{
        unsigned n = 0;

        list_for_each(l, &v->ports)
                n++;
        return n;
}

int vol_set_throttle(struct vol *v, struct throttle_group *g)
{
        AUTO(freep) struct port_throttle **made = NULL;
        struct throttle_group *old = NULL;
        unsigned n;
        int r;

        pthread_mutex_lock(&v->lock);
        n = count_ports(v);
        made = calloc(n + 1, sizeof(struct port_throttle *));
        r = made ? make_all(v, g, made, n) : -ENOMEM;
        for (unsigned i = 0; r == 0 && i < n; i++) {
                made[i]->p->refs++;
                qthread_post(made[i]->p->thread, &made[i]->join);
        }
        if (r == 0) {
                old = v->throttle;
                v->throttle = throttle_group_ref(g);
        }
        pthread_mutex_unlock(&v->lock);
        throttle_group_unref(old);
        return r;
}

struct throttle_group *vol_throttle(struct vol *v)
{
        struct throttle_group *g;

        pthread_mutex_lock(&v->lock);
        g = throttle_group_ref(v->throttle);
        pthread_mutex_unlock(&v->lock);
        return g;
}
