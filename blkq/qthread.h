/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qthread.h - a queue thread: one engine, an inbox, and whatever rings and disks are given to it.
 *
 * One round of the loop:  inbox -> pollers (virtqueues) -> round-end hooks (notify once a batch) -> engine_wait
 * While pollers find work, or for poll_us after the last work, the thread spins; then it sleeps in the kernel.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/engine/engine.h"
#include "common/list.h"

struct qthread;

struct qthread_opts {
        const char *name;          /* thread name, at most 15 bytes */
        struct engine_opts engine;
        unsigned poll_us;          /* the longest spin after the last work; adaptive below it; 0: never */
        bool inline_loop;          /* start no thread: the caller turns the loop with qthread_run() (tools, tests) */
};

/* The thread (inline: the caller's) is registered with RCU while the qthread lives: rcu_read_lock() may be used. */
int qthread_new(const struct qthread_opts *opts, struct qthread **ret);
/* Stops and joins; its disks and rings must be gone, nobody may still be inside qthread_post(). NULL is fine. */
void qthread_free(struct qthread *t);
/* Of threads that post to each other: none is freed before all have ended, so who is still inside qthread_post() is waited for. */
void qthread_free_all(struct qthread *const *t, unsigned n);

struct engine *qthread_engine(struct qthread *t);
bool qthread_is_current(const struct qthread *t);
uint64_t qthread_now(struct qthread *t); /* engine_now() of its engine; on-thread */
unsigned qthread_round(const struct qthread *t); /* counts; on-thread */
const char *qthread_name(const struct qthread *t);

/*
 * What it did with its time since it started. One other thread may ask, always the same. Idle: asleep, as far as we and
 * the kernel's count of its CPU time know; while it hands requests over it may be both to us, but not to the kernel.
 * Busy: the rest, work or looking for some (poll_us). All three only grow.
 */
struct qthread_times {
        uint64_t idle_ns, busy_ns;
        uint64_t cpu_ns;
};
void qthread_times(struct qthread *t, struct qthread_times *ret);

/* Messages. The task is the poster's memory until run() starts. Any thread may post; never blocks, never fails; tasks
 * from one poster run in order. A wake-up costs a system call only when the thread sleeps. */
struct qtask {
        void (*run)(struct qtask *task);
        void *node[2]; /* the inbox's link */
};
void qthread_post(struct qthread *t, struct qtask *task);

/* Work that can be found by looking (avail rings). poll() returns whether it found any. On-thread calls only. */
struct qpoller {
        bool (*poll)(struct qpoller *p);
        void (*quiet)(struct qpoller *p, bool quiet); /* true: we are awake, kicks are not needed; false: about to
                                                         sleep. After false poll() is asked once more, so nothing is
                                                         lost. May be NULL */
        struct list link;
};
void qthread_add_poller(struct qthread *t, struct qpoller *p);
void qthread_del_poller(struct qthread *t, struct qpoller *p);

/* Call @h once at the end of this round (then it is off the list again). On-thread. For notify and other batching. */
struct qhook {
        void (*run)(struct qhook *h);
        struct list link; /* list_init() it */
};
void qthread_at_round_end(struct qthread *t, struct qhook *h);
/* The same, but after those: for who measures what they do. */
void qthread_after_round_end(struct qthread *t, struct qhook *h);

/* One-shot timers, on-thread, millisecond grain. */
struct qtimer {
        void (*fire)(struct qtimer *t);
        uint64_t at_ns;
        struct list link; /* list_init() it */
};
void qthread_timer_set(struct qthread *t, struct qtimer *tm, uint64_t in_ns);
void qthread_timer_cancel(struct qthread *t, struct qtimer *tm);

/* inline_loop only: turn the loop until *done is true (set by a callback). */
void qthread_run(struct qthread *t, const bool *done);
/* inline_loop only: one round; @timeout_ns as in engine_wait(). Does not wait when the round itself found work. */
void qthread_run_once(struct qthread *t, uint64_t timeout_ns);
