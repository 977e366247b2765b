/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariant: t->left counts what a step waits for, and one more while the step is being handed out. A transaction that fails goes
 * from where it is to undo(), and from there to abort(); nothing of a later step is called then.
 */
#include "transaction.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/change/exchange.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/disks/node.h"

/* What of a transaction happens to one volume. */
struct node_change {
        struct vol_change change;
        struct transaction *t;
        struct node *node;
};

/* --- turns ---------------------------------------------------------------------------------------------------------- */

void graph_turn_take(struct disks *d, struct graph_turn *turn)
{
        bool free = list_empty(&d->turns);

        list_add_tail(&d->turns, &turn->link);
        if (free)
                turn->go(turn);
}

void graph_turn_end(struct disks *d)
{
        list_pop(&d->turns);
        if (!list_empty(&d->turns)) {
                struct graph_turn *next = list_entry(d->turns.next, struct graph_turn, link);

                next->go(next);
        }
}

/* --- nodes ---------------------------------------------------------------------------------------------------------- */

void action_use_node(struct action *a, struct node *n)
{
        a->node = n;
        node_pin(n);
}

int action_take_node(struct action *a, struct node *n)
{
        int r = node_is_free(n);

        if (r < 0)
                return r;
        n->busy = "a change of the block graph is under way";
        a->took_node = true;
        action_use_node(a, n);
        return 0;
}

static void give_node_back(struct action *a)
{
        struct node *n = TAKE(a->node, NULL);

        if (!n)
                return;
        if (a->took_node)
                n->busy = NULL;
        node_unpin(n);
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

static struct action *action_of(struct list *l)
{
        return list_entry(l, struct action, link);
}

static void drop_actions(struct transaction *t)
{
        struct list *l;

        while ((l = list_pop(&t->actions)) != NULL) {
                struct action *a = action_of(l);

                give_node_back(a);
                if (a->type->free)
                        a->type->free(a);
                json_decref(a->data);
                free(a);
        }
}

void transaction_drop(struct transaction *t)
{
        if (!t)
                return;
        drop_actions(t);
        free(t->changes);
        free(t->change);
        free(t);
}

static void over(struct transaction *t)
{
        drop_actions(t);
        t->done(t->opaque, t->res, t->why, t->result);
        json_decref(t->result);
        workers_release();
        graph_turn_end(t->disks);
        transaction_drop(t);
}

/* From now on the jobs own it. */
static void let_group_go(struct transaction *t)
{
        job_group_let_go(TAKE(t->group, NULL));
}

static void fail(struct transaction *t, int res, const char *why)
{
        if (t->res < 0)
                return;
        t->res = res;
        snprintf(t->why, sizeof(t->why), "%s", why && *why ? why : strerror(-res));
}

/* --- steps that workers take ---------------------------------------------------------------------------------------- */

/* Results come back to the loop one by one. */
struct worker_step {
        struct work work;
        struct loop_task back;
        struct action *a;
        int (*run)(struct action *a); /* NULL: undo() */
        void (*next)(struct transaction *t);
        int res;
        char why[256];
};

static void step_drop(struct transaction *t, void (*next)(struct transaction *t))
{
        if (--t->left == 0)
                next(t);
}

static void on_step_back(struct loop_task *task)
{
        struct worker_step *s = container_of(task, struct worker_step, back);
        struct transaction *t = s->a->t;
        void (*next)(struct transaction *t) = s->next;

        if (s->run)
                s->a->prepared = s->res == 0;
        if (s->res < 0)
                fail(t, s->res, s->why);
        free(s);
        step_drop(t, next);
}

static void run_step(struct worker_step *s)
{
        if (s->run)
                s->res = s->run(s->a);
        else
                s->a->type->undo(s->a);
        if (s->res < 0)
                snprintf(s->why, sizeof(s->why), "%s", err_text(s->res));
        err_clear();
}

static void on_worker(struct work *w)
{
        struct worker_step *s = container_of(w, struct worker_step, work);

        rcu_register_thread(); /* images are opened and closed */
        run_step(s);
        rcu_unregister_thread();
        loop_post(s->a->d->loop, &s->back);
}

/* Without memory or a worker it takes this thread's time: what was done must be taken back. */
static void hand_out(struct action *a, int (*run)(struct action *a), void (*next)(struct transaction *t))
{
        struct worker_step here = { .a = a, .run = run }, *s = calloc(1, sizeof(*s));

        if (s) {
                *s = (struct worker_step){ .a = a, .run = run, .next = next, .work.run = on_worker, .back.run = on_step_back };
                a->t->left++;
                if (workers_run(&s->work) == 0)
                        return;
                a->t->left--;
                free(s);
        }
        if (run) {
                fail(a->t, -ENOMEM, NULL);
                return;
        }
        rcu_register_thread();
        run_step(&here);
        rcu_unregister_thread();
}

/* --- it came to nothing --------------------------------------------------------------------------------------------- */

static void all_undone(struct transaction *t)
{
        let_group_go(t);
        for (struct list *l = t->actions.prev; l != &t->actions; l = l->prev) /* the last one first */
                if (action_of(l)->checked && action_of(l)->type->abort)
                        action_of(l)->type->abort(action_of(l));
        over(t);
}

static void take_back(struct transaction *t)
{
        t->left = 1;
        list_for_each_safe(l, &t->actions) {
                struct action *a = action_of(l);

                if (a->checked && a->type->undo)
                        hand_out(a, NULL, all_undone);
        }
        step_drop(t, all_undone);
}

/* --- all disks quiet ------------------------------------------------------------------------------------------------ */

static void commit_all(struct transaction *t)
{
        let_group_go(t);
        list_for_each_safe(l, &t->actions)
                if (action_of(l)->type->commit)
                        action_of(l)->type->commit(action_of(l), t->pause_ns);
        over(t);
}

static void on_changed(struct loop_task *task)
{
        struct transaction *t = container_of(task, struct transaction, task);

        if (t->res < 0)
                take_back(t);
        else
                commit_all(t);
}

/* Some home thread, or a worker. */
static void on_all_changed(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        struct transaction *t = opaque;

        if (res < 0)
                fail(t, res, why);
        t->pause_ns = pause_ns;
        t->task.run = on_changed;
        loop_post(t->disks->loop, &t->task);
}

/* Home. */
static void apply(struct vol_change *c)
{
        struct node_change *nc = container_of(c, struct node_change, change);

        list_for_each(l, &nc->t->actions)
                if (action_of(l)->node == nc->node && action_of(l)->type->apply)
                        action_of(l)->type->apply(action_of(l));
}

/* A worker. One action at most of each node has a work(), since it has taken the node. */
static int work(struct vol_change *c)
{
        struct node_change *nc = container_of(c, struct node_change, change);
        int r = 0;

        list_for_each(l, &nc->t->actions) {
                struct action *a = action_of(l);

                if (r == 0 && a->node == nc->node && a->type->work) {
                        r = a->type->work(a);
                        a->worked = r == 0;
                }
        }
        return r;
}

static void unwork(struct vol_change *c, bool worked)
{
        struct node_change *nc = container_of(c, struct node_change, change);

        if (!worked) { /* it was settled for that, and goes on */
                if (vol_image(c->v))
                        vol_reload(c->v);
                return;
        }
        list_for_each(l, &nc->t->actions) {
                struct action *a = action_of(l);

                if (a->node == nc->node && a->worked && a->type->unwork)
                        a->type->unwork(a);
        }
}

static struct node_change *change_of(struct transaction *t, struct node *n)
{
        struct node_change *nc = t->changes;

        while (nc < t->changes + t->all.n && nc->node != n)
                nc++;
        if (nc == t->changes + t->all.n) {
                t->change[t->all.n++] = &nc->change;
                *nc = (struct node_change){ .t = t, .node = n, .change = { .v = n->vol, .apply = apply } };
        }
        return nc;
}

static size_t count_actions(const struct transaction *t)
{
        size_t n = 0;

        list_for_each(l, &t->actions)
                n++;
        return n;
}

static void all_prepared(struct transaction *t)
{
        size_t n = count_actions(t);

        if (t->disks->stopping)
                fail(t, -EBUSY, "The daemon is stopping");
        t->changes = calloc(n, sizeof(*t->changes));
        t->change = calloc(n, sizeof(struct vol_change *));
        if (!t->changes || !t->change)
                fail(t, -ENOMEM, NULL);
        if (t->res < 0) {
                take_back(t);
                return;
        }
        list_for_each(l, &t->actions) {
                struct action *a = action_of(l);
                struct node_change *nc = a->node ? change_of(t, a->node) : NULL;

                if (nc && a->settled)
                        nc->change.settled = true;
                if (nc && a->type->work) {
                        nc->change.work = work;
                        nc->change.undo = unwork;
                }
        }
        if (!t->all.n) {
                commit_all(t);
                return;
        }
        t->all.change = t->change;
        t->all.done = on_all_changed;
        t->all.opaque = t;
        vol_change_all(&t->all);
}

/* --- before --------------------------------------------------------------------------------------------------------- */

static void all_begun(struct transaction *t)
{
        if (t->res < 0) {
                take_back(t);
                return;
        }
        t->left = 1;
        list_for_each_safe(l, &t->actions)
                if (action_of(l)->type->prepare)
                        hand_out(action_of(l), action_of(l)->type->prepare, all_prepared);
        step_drop(t, all_prepared);
}

void action_begun(struct action *a, int res, const char *why)
{
        if (res < 0)
                fail(a->t, res, why);
        step_drop(a->t, all_begun);
}

static void check_all(struct transaction *t)
{
        if (t->disks->stopping)
                fail(t, -EBUSY, "The daemon is stopping");
        list_for_each(l, &t->actions) {
                struct action *a = action_of(l);
                int r = t->res;

                if (r == 0) {
                        r = a->type->check(a);
                        a->checked = r == 0;
                        if (r < 0)
                                fail(t, r, err_text(r));
                        err_clear();
                }
        }
}

static void on_turn(struct graph_turn *turn)
{
        struct transaction *t = container_of(turn, struct transaction, turn);

        workers_hold();
        check_all(t);
        t->left = 1;
        list_for_each_safe(l, &t->actions)
                if (t->res == 0 && action_of(l)->type->begin) {
                        t->left++;
                        action_of(l)->type->begin(action_of(l));
                }
        step_drop(t, all_begun);
}

/* --- making one ----------------------------------------------------------------------------------------------------- */

struct transaction *transaction_new(struct disks *d, void (*done)(void *opaque, int res, const char *why, json_t *result),
                                    void *opaque)
{
        struct transaction *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        t->disks = d;
        t->done = done;
        t->opaque = opaque;
        t->turn.go = on_turn;
        list_init(&t->actions);
        return t;
}

int transaction_add(struct transaction *t, const struct action_type *type, json_t *data, struct action **ret)
{
        struct action *a = calloc(1, type->size);

        if (!a)
                return -ENOMEM;
        a->type = type;
        a->t = t;
        a->d = t->disks;
        a->data = json_incref(data);
        list_add_tail(&t->actions, &a->link);
        if (ret)
                *ret = a;
        return 0;
}

void transaction_start(struct transaction *t)
{
        graph_turn_take(t->disks, &t->turn);
}

struct job_group *transaction_group(struct transaction *t)
{
        if (t->grouped && !t->group)
                t->group = job_group_new();
        return t->group;
}

static void on_one_done(void *opaque, int res, const char *why, json_t *result)
{
        struct qmp_call *call = opaque;

        if (res == -ENOENT && !strncmp(why, "Cannot find device", 18))
                qmp_fail(call, "DeviceNotFound", "%s", why);
        else if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, json_incref(result));
}

void transaction_run_one(struct disks *d, const struct action_type *type, json_t *data, struct qmp_call *call)
{
        struct transaction *t = transaction_new(d, on_one_done, call);

        if (!t || transaction_add(t, type, data, NULL) < 0) {
                transaction_drop(t);
                qmp_fail(call, NULL, "%s", strerror(ENOMEM));
                return;
        }
        transaction_start(t);
}
