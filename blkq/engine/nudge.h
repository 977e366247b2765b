/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nudge.h - wakes its own thread when that sleeps in a write to a stranger's eventfd.
 *
 * Whether such a write may wait is a flag of the open file, which the stranger shares with us. The kernel looks at it twice, once for
 * RWF_NOWAIT and once in the eventfd's write, and who fills the counter and clears the flag in between makes us sleep until he likes. No
 * way to ask for a write that never waits holds against that. But the sleep ends with a signal: so while the thread writes to eventfds it
 * gets one every NUDGE_NS, by a timer that only works meanwhile: when a whole tick has seen no write, its handler stops it. So an
 * idle thread is never woken, and a busy one makes one system call more a quarter of an hour, not one a request.
 *
 * A write that slept ends with -EINTR, in no other way: a full counter is -EAGAIN, so only somebody who works against us is met.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "common/clock.h"

#define NUDGE_NS (250 * NS_PER_MS)

/* Of one thread, which alone calls these. Its signal handler is on the same thread, so nothing here is atomic. */
struct nudge {
        timer_t timer;
        bool made;
        volatile sig_atomic_t out;   /* writes that the kernel may be at */
        volatile sig_atomic_t rung;  /* one began since the last tick */
        volatile sig_atomic_t armed; /* ticks will come; or there is no timer */
};

/* @on: with a timer; then for one struct a thread at a time, until nudge_finish(). Fault point engine.timer. 0 or -errno, a
 * sentence noted. */
int nudge_init(struct nudge *n, bool on);
void nudge_finish(struct nudge *n);
void nudge_arm(struct nudge *n); /* nudge_begin() only */

/* Before the kernel may begin the write, and when it is over. */
static inline void nudge_begin(struct nudge *n)
{
        n->out++;
        n->rung = 1; /* before the look: a tick in between leaves the timer alone then */
        if (__builtin_expect(!n->armed, 0))
                nudge_arm(n);
}

static inline void nudge_end(struct nudge *n)
{
        n->out--;
}
