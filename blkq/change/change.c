/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each step is taken by all volumes at once, each on its own thread; who is the last begins the next step. A step is
 * begun with the count at one, for the beginner himself, so that it cannot end while it is still being handed out.
 */
#include "blkq/change/change.h"

#include <stdio.h>
#include <urcu.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

static void fail(struct vol_changes *g, int err, const char *why)
{
        int none = 0;

        if (atomic_compare_exchange_strong(&g->res, &none, err))
                snprintf(g->why, sizeof(g->why), "%s", why);
}

static bool is_last(struct vol_changes *g)
{
        return atomic_fetch_sub(&g->left, 1) == 1;
}

static void post(struct vol_change *c, void (*run)(struct qtask *task))
{
        c->task.run = run;
        qthread_post(c->v->home, &c->task);
}

/* Nothing of @g is touched after the last one was posted. */
static void to_all(struct vol_changes *g, void (*run)(struct qtask *task))
{
        struct vol_change **c = g->change;
        unsigned n = g->n;

        atomic_store(&g->left, n);
        for (unsigned i = 0; i < n; i++)
                post(c[i], run);
}

/* --- steps of their own ------------------------------------------------------------------------------------------- */

void vol_change_go(struct vol_change *c, int res)
{
        struct vol_changes *g = c->all;

        if (res < 0)
                fail(g, res, err_text(res));
        err_clear();
        if (is_last(g))
                g->next(g);
}

static void take_steps(struct vol_changes *g, void (*run)(struct qtask *task), bool (*wanted)(const struct vol_change *c),
                       void (*next)(struct vol_changes *g))
{
        g->next = next;
        atomic_store(&g->left, 1);
        for (unsigned i = 0; i < g->n; i++) {
                struct vol_change *c = g->change[i];

                if (!wanted(c))
                        continue;
                atomic_fetch_add(&g->left, 1);
                post(c, run);
        }
        if (is_last(g))
                next(g);
}

static bool has_before(const struct vol_change *c)
{
        return c->before;
}

static void before(struct qtask *task)
{
        struct vol_change *c = container_of(task, struct vol_change, task);

        c->before(c);
}

static bool has_quiet(const struct vol_change *c)
{
        return c->quiet;
}

static void quiet(struct qtask *task)
{
        struct vol_change *c = container_of(task, struct vol_change, task);

        c->quiet(c);
}

static bool has_after(const struct vol_change *c)
{
        return c->after;
}

static void after(struct qtask *task)
{
        struct vol_change *c = container_of(task, struct vol_change, task);

        c->after(c);
}

/* --- the last step ------------------------------------------------------------------------------------------------ */

static void over(struct vol_changes *g)
{
        g->done(g->opaque, atomic_load(&g->res), g->why, atomic_load(&g->pause_ns));
}

static void over_after(struct vol_changes *g)
{
        atomic_store(&g->res, 0);
        over(g);
}

static void released(struct vol_changes *g)
{
        if (atomic_load(&g->res) < 0)
                over(g);
        else
                take_steps(g, after, has_after, over_after);
}

/* Who comes last here had the longest pause. */
static void release(struct qtask *task)
{
        struct vol_change *c = container_of(task, struct vol_change, task);
        struct vol_changes *g = c->all;

        if (atomic_load(&g->res) == 0 && c->apply)
                c->apply(c);
        else if (atomic_load(&g->res) < 0 && c->failed)
                c->failed(c);
        if (g->held) {
                vol_release(c->v);
                atomic_store(&g->pause_ns, clock_ns() - g->begin_ns);
        }
        if (is_last(g))
                released(g);
}

/* --- works -------------------------------------------------------------------------------------------------------- */

static void without_worker(struct qtask *task)
{
        struct vol_change *c = container_of(task, struct vol_change, task);

        c->job.run(&c->job);
}

static void hand_out(struct vol_changes *g, void (*run)(struct work *w), bool (*wanted)(const struct vol_change *c),
                     void (*next)(struct vol_changes *g))
{
        atomic_store(&g->left, 1);
        for (unsigned i = 0; i < g->n; i++) {
                struct vol_change *c = g->change[i];

                if (!wanted(c))
                        continue;
                atomic_fetch_add(&g->left, 1);
                c->job.run = run;
                if (workers_run(&c->job) < 0)
                        post(c, without_worker); /* it waits for the disk, but it must be done */
        }
        if (is_last(g))
                next(g);
}

/* Closing an image frees what others may be looking at. A home thread is registered already. */
static void register_here(struct vol_change *c, bool on)
{
        if (qthread_is_current(c->v->home))
                return;
        if (on)
                rcu_register_thread();
        else
                rcu_unregister_thread();
}

static void all_undone(struct vol_changes *g)
{
        to_all(g, release);
}

static void undo_one(struct work *w)
{
        struct vol_change *c = container_of(w, struct vol_change, job);
        struct vol_changes *g = c->all;

        register_here(c, true);
        c->undo(c, c->worked);
        register_here(c, false);
        err_clear();
        if (is_last(g))
                all_undone(g);
}

static bool has_undo(const struct vol_change *c)
{
        return c->undo;
}

static void all_worked(struct vol_changes *g)
{
        if (atomic_load(&g->res) < 0)
                hand_out(g, undo_one, has_undo, all_undone);
        else
                to_all(g, release);
}

static void work_one(struct work *w)
{
        struct vol_change *c = container_of(w, struct vol_change, job);
        struct vol_changes *g = c->all;
        int r;

        register_here(c, true);
        r = c->work(c);
        register_here(c, false);
        if (r < 0)
                fail(g, r, err_text(r));
        err_clear();
        c->worked = r == 0;
        if (is_last(g))
                all_worked(g);
}

static bool has_work(const struct vol_change *c)
{
        return c->work;
}

static void all_quiet(struct vol_changes *g)
{
        if (atomic_load(&g->res) < 0)
                all_worked(g);
        else
                hand_out(g, work_one, has_work, all_worked);
}

/* --- all together ------------------------------------------------------------------------------------------------- */

static void on_held(struct vol_hold *h, int res)
{
        struct vol_change *c = container_of(h, struct vol_change, hold);
        struct vol_changes *g = c->all;

        if (res < 0)
                fail(g, res, "not all of an image could be made durable");
        if (!is_last(g))
                return;
        g->held = true;
        if (atomic_load(&g->res) < 0)
                all_worked(g);
        else
                take_steps(g, quiet, has_quiet, all_quiet);
}

static void go(struct qtask *task)
{
        vol_hold_go(&container_of(task, struct vol_change, task)->hold);
}

static void on_turn(struct vol_hold *h)
{
        struct vol_changes *g = container_of(h, struct vol_change, hold)->all;

        if (!is_last(g))
                return;
        g->begin_ns = clock_ns();
        to_all(g, go);
}

static void stand_in_line(struct vol_changes *g)
{
        if (atomic_load(&g->res) < 0) {
                to_all(g, release);
                return;
        }
        atomic_store(&g->left, g->n);
        for (unsigned i = 0, n = g->n; i < n; i++) { /* it may all be over when the last one is in line */
                struct vol_change *c = g->change[i];

                c->hold.held = on_held;
                c->hold.turn = on_turn;
                c->hold.light = !c->settled;
                c->hold.forget = c->forget;
                vol_hold(c->v, &c->hold);
        }
}

void vol_change_all(struct vol_changes *g)
{
        atomic_store(&g->res, 0);
        atomic_store(&g->pause_ns, 0);
        g->why[0] = 0;
        g->held = false;
        for (unsigned i = 0; i < g->n; i++) {
                g->change[i]->all = g;
                g->change[i]->worked = false;
        }
        take_steps(g, before, has_before, stand_in_line);
}
