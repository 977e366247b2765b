/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue thread that is no thread: everything it does happens in turns of the control loop, so that tests of sessions
 * and rings have one order of events. Pollers run when the test says so (fake_poll) and after every task and kick.
 */
#include "fake_qthread.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/cleanup.h"

struct fake_task {
        struct loop_task lt;
        struct qtask *task;
        struct io *io;
        struct engine_watch *gone;
        struct qthread *t;
};
struct qthread {
        struct loop *loop;
        struct list pollers, hooks, timers;
        unsigned round; /* of polls */
        unsigned notifies;
};

struct qthread *fake_qthread_new(struct loop *l)
{
        struct qthread *t = calloc(1, sizeof(*t));

        t->loop = l;
        list_init(&t->pollers);
        list_init(&t->hooks);
        list_init(&t->timers);
        return t;
}

void fake_qthread_free(struct qthread *t)
{
        free(t);
}

unsigned qthread_round(const struct qthread *t)
{
        return t->round;
}

void fake_poll(struct qthread *t)
{
        struct list now; /* a hook that asks for the next round again gets the next round, as in the real one */
        struct list *h;

        t->round++;
        list_init(&now);
        list_for_each_safe(n, &t->pollers) {
                struct qpoller *p = list_entry(n, struct qpoller, link);

                p->poll(p);
        }
        list_splice_tail(&now, &t->hooks);
        while ((h = list_pop(&now)))
                list_entry(h, struct qhook, link)->run(list_entry(h, struct qhook, link));
}

static void run_task(struct loop_task *lt)
{
        struct fake_task *f = container_of(lt, struct fake_task, lt);
        uint64_t one = 1;

        if (f->task)
                f->task->run(f->task);
        if (f->gone)
                f->gone->gone(f->gone);
        if (f->io) {
                ssize_t ignored = write(f->io->fd, &one, sizeof(one));

                (void)ignored;
                f->t->notifies++;
                f->io->done(f->io, 0);
        }
        fake_poll(f->t);
        free(f);
}

static void later(struct qthread *t, struct fake_task task)
{
        struct fake_task *f = malloc(sizeof(*f));

        *f = task;
        f->t = t;
        f->lt.run = run_task;
        loop_post(t->loop, &f->lt);
}

unsigned fake_notifies(const struct qthread *t)
{
        return t->notifies;
}

struct engine *qthread_engine(struct qthread *t)
{
        return (struct engine *)t;
}

void qthread_post(struct qthread *t, struct qtask *task)
{
        later(t, (struct fake_task){ .task = task });
}

void qthread_add_poller(struct qthread *t, struct qpoller *p)
{
        list_add_tail(&t->pollers, &p->link);
}

void qthread_del_poller(struct qthread *t, struct qpoller *p)
{
        list_del(&p->link);
}

void qthread_at_round_end(struct qthread *t, struct qhook *h)
{
        list_add_tail(&t->hooks, &h->link);
}

void qthread_timer_set(struct qthread *t, struct qtimer *tm, uint64_t in_ns)
{
        list_del(&tm->link);
        list_add_tail(&t->timers, &tm->link);
}

void qthread_timer_cancel(struct qthread *t, struct qtimer *tm)
{
        list_del(&tm->link);
}

unsigned fake_expire(struct qthread *t)
{
        struct list now, *n;
        unsigned fired = 0;

        list_init(&now);
        list_splice_tail(&now, &t->timers);
        for (; (n = list_pop(&now)); fired++)
                list_entry(n, struct qtimer, link)->fire(list_entry(n, struct qtimer, link));
        fake_poll(t);
        return fired;
}

void engine_submit(struct engine *e, struct io *io)
{
        later((struct qthread *)e, (struct fake_task){ .io = io });
}

struct kick_slot {
        struct loop_watch w;
        struct qthread *t;
};

static void kicked(struct loop_watch *w, uint32_t events)
{
        fake_poll(container_of(w, struct kick_slot, w)->t);
}

void engine_watch(struct engine *e, struct engine_watch *w)
{
        struct qthread *t = (struct qthread *)e;
        struct kick_slot *s = calloc(1, sizeof(*s));

        s->t = t;
        s->w = (struct loop_watch){ .fd = w->fd, .ready = kicked, .events = EPOLLIN | EPOLLET };
        loop_watch(t->loop, &s->w);
        w->priv = s;
}

void engine_unwatch(struct engine *e, struct engine_watch *w)
{
        struct qthread *t = (struct qthread *)e;

        loop_unwatch(t->loop, &((struct kick_slot *)w->priv)->w);
        free(w->priv);
        later(t, (struct fake_task){ .gone = w });
}
