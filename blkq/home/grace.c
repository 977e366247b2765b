/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grace.c - waiting until nobody uses an old mapping any more, at no cost to those who use the new one.
 *
 * A round: home asks every port by message; the port's mover counts new moves in the other generation and answers when
 * the old one has none left (a port with nothing under way: at once). Home's own mover takes part. One round at a time;
 * who comes meanwhile waits for the next, because the moves that he must wait for may have begun after this one asked.
 *
 * Why that is enough: a lookup and the start of its move happen in one go on the port's thread, so for a commit made
 * before the question was posted, each move either began before the port read the question (it is counted in the old
 * generation) or looks the new mapping up. A port that is not on the list yet takes the lock to get there after home
 * has left it, so its lookups see the commit.
 *
 * A port that detaches while it owes an answer stays in memory until the answer has come.
 */
#include <stdlib.h>

#include "blkq/home/work.h"
#include "blkq/port_impl.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"

static void round_answered(struct vol *v);

static void on_answer(struct qtask *task)
{
        struct vol_port *p = container_of(task, struct vol_port, answer);
        struct vol *v = p->v;

        port_unref(p);
        round_answered(v);
}

static void on_port_drained(struct mover *m)
{
        struct vol_port *p = container_of(m, struct vol_port, mover);

        qthread_post(p->v->home, &p->answer);
}

/* Port's thread. */
void grace_port_ask(struct qtask *task)
{
        mover_drain(&container_of(task, struct vol_port, ask)->mover, on_port_drained);
}

void grace_port_init(struct vol_port *p)
{
        p->ask.run = grace_port_ask;
        p->answer.run = on_answer;
}

/* --- the round, at home ------------------------------------------------------------------------------------------- */

static void on_home_drained(struct mover *m)
{
        round_answered(container_of(m, struct vol, mover));
}

static void round_start(struct vol *v)
{
        struct grace_state *g = &v->grace;

        g->running = true;
        vol_busy(v);
        list_splice_tail(&g->now, &g->next);
        list_for_each(pos, &v->writers) {
                struct img_writer *w = list_entry(pos, struct img_writer, link);

                w->ticket = fmt_dying(w->img);
        }
        g->left = 1;
        pthread_mutex_lock(&v->lock);
        list_for_each(pos, &v->ports) {
                struct vol_port *p = list_entry(pos, struct vol_port, link);

                p->refs++;
                g->left++;
                qthread_post(p->thread, &p->ask);
        }
        pthread_mutex_unlock(&v->lock);
        mover_drain(&v->mover, on_home_drained);
}

static void round_answered(struct vol *v)
{
        struct grace_state *g = &v->grace;
        struct list woken, *n;

        if (--g->left)
                return;
        list_init(&woken);
        list_splice_tail(&woken, &g->now);
        list_for_each(pos, &v->writers) {
                struct img_writer *w = list_entry(pos, struct img_writer, link);

                if (w->ticket)
                        fmt_dying_release(w->img, w->ticket);
                w->ticket = 0;
        }
        g->running = false;
        housekeep_kick(v);
        while ((n = list_pop(&woken)) != NULL) {
                struct waiter *w = list_entry(n, struct waiter, link);

                w->wake(w, 0);
        }
        grace_kick(v);
        vol_unbusy(v);
}

static bool is_something_dying(const struct vol *v)
{
        list_for_each(pos, &v->writers)
                if (fmt_dying(list_entry(pos, struct img_writer, link)->img))
                        return true;
        return false;
}

void grace_kick(struct vol *v)
{
        if (!v->grace.running && !v->ports_move && (!list_empty(&v->grace.next) || is_something_dying(v)))
                round_start(v);
}

void grace_wait(struct vol *v, struct waiter *w)
{
        list_add_tail(&v->grace.next, &w->link);
        grace_kick(v);
}
