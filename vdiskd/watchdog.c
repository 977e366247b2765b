/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rounds: each queue thread gets a task and posts it back. A round ends when all are back; the next tick pings and
 * begins another one. A tick that finds a round unfinished pings nobody.
 */
#include "watchdog.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "vdiskd/manager.h"

#define TICKS 4 /* in the time that the manager gives: a late one is no alarm */

struct probe {
        struct watchdog *w;
        struct qthread *thread;
        struct qtask there;
        struct loop_task back;
        bool out;
};

struct watchdog {
        struct loop *loop;
        struct loop_timer timer;
        uint64_t period_ns, begun_ns;
        unsigned nprobes, waiting;
        bool told; /* in the log, that one hangs */
        void (*tick)(void *opaque);
        void *opaque;
        struct probe probes[];
};

static void on_back(struct loop_task *task)
{
        struct probe *p = container_of(task, struct probe, back);
        struct watchdog *w = p->w;

        p->out = false;
        if (--w->waiting == 0 && w->told) {
                w->told = false;
                log_warn("all queue threads answer again, after %u s", (unsigned)((clock_ns() - w->begun_ns) / NS_PER_SEC));
        }
}

/* Queue thread. */
static void run_there(struct qtask *task)
{
        struct probe *p = container_of(task, struct probe, there);

        loop_post(p->w->loop, &p->back);
}

static void begin_round(struct watchdog *w)
{
        w->begun_ns = clock_ns();
        w->waiting = w->nprobes;
        for (unsigned i = 0; i < w->nprobes; i++) {
                w->probes[i].out = true;
                qthread_post(w->probes[i].thread, &w->probes[i].there);
        }
}

static void tell_who_hangs(struct watchdog *w)
{
        for (unsigned i = 0; i < w->nprobes && !w->told; i++)
                if (w->probes[i].out)
                        log_err("queue thread %s does not answer: no more pings for the service manager's watchdog",
                                qthread_name(w->probes[i].thread));
        w->told = true;
}

static void on_tick(struct loop_timer *t)
{
        struct watchdog *w = container_of(t, struct watchdog, timer);

        loop_timer_set(w->loop, &w->timer, w->period_ns);
        if (w->waiting) {
                if (clock_ns() - w->begun_ns > w->period_ns)
                        tell_who_hangs(w);
                return;
        }
        w->tick(w->opaque);
        manager_tell("WATCHDOG=1");
        begin_round(w);
}

/* sd_watchdog_enabled(3), but that who took over pings, too: the manager knows by then that it is the main process. */
static uint64_t wanted_ns(void)
{
        const char *text = getenv("WATCHDOG_USEC");
        unsigned long long usec = text ? strtoull(text, NULL, 10) : 0;

        return usec < UINT64_MAX / NS_PER_US ? usec * NS_PER_US : 0;
}

int watchdog_new(struct loop *l, struct qthread **threads, unsigned nthreads, void (*tick)(void *opaque), void *opaque,
                 struct watchdog **ret)
{
        uint64_t ns = wanted_ns();
        struct watchdog *w;

        *ret = NULL;
        if (ns < TICKS * NS_PER_MS)
                return 0;
        w = calloc(1, sizeof(*w) + nthreads * sizeof(w->probes[0]));
        if (!w)
                return -ENOMEM;
        w->loop = l;
        w->period_ns = ns / TICKS;
        w->nprobes = nthreads;
        w->tick = tick;
        w->opaque = opaque;
        for (unsigned i = 0; i < nthreads; i++)
                w->probes[i] = (struct probe){ .w = w, .thread = threads[i], .there.run = run_there, .back.run = on_back };
        w->timer.fire = on_tick;
        list_init(&w->timer.link);
        loop_timer_set(l, &w->timer, 0);
        *ret = w;
        return 0;
}

void watchdog_free(struct watchdog *w)
{
        if (!w)
                return;
        loop_timer_cancel(w->loop, &w->timer);
        free(w);
}
