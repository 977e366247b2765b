/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariant: while out is not 0 ticks come, without end. A write that begins is counted before the look at the timer, so
 * whatever the handler does in between, one of them sees the other.
 */
#include "nudge.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"

#ifndef sigev_notify_thread_id /* C libraries before 2.38 have only the place */
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Not what comes with the signal: other processes can send that. */
static _Thread_local struct nudge *of_this_thread;

static int signal_number(void)
{
        return SIGRTMIN;
}

static int set(struct nudge *n, uint64_t period_ns)
{
        const struct timespec t = { .tv_sec = (time_t)(period_ns / NS_PER_SEC), .tv_nsec = (long)(period_ns % NS_PER_SEC) };

        return timer_settime(n->timer, 0, &(struct itimerspec){ .it_value = t, .it_interval = t }, NULL) < 0 ? -errno : 0;
}

static void on_tick(int sig)
{
        struct nudge *n = of_this_thread;
        int saved = errno;

        if (n && n->made) {
                if (!n->out && !n->rung && n->armed) {
                        n->armed = 0;
                        set(n, 0);
                }
                n->rung = 0;
        }
        errno = saved;
        (void)sig;
}

void nudge_arm(struct nudge *n)
{
        int r;

        n->armed = 1;
        r = set(n, NUDGE_NS);
        if (r < 0) /* said once: it stays "armed" */
                log_err("cannot start the timer that ends writes to full eventfds: %s", strerror(-r));
}

/* No SA_RESTART: that is what it is for. */
static int listen_for_ticks(void)
{
        struct sigaction sa = { .sa_handler = on_tick };
        sigset_t mine;

        sigemptyset(&sa.sa_mask);
        if (sigaction(signal_number(), &sa, NULL) < 0)
                return -errno;
        sigemptyset(&mine);
        sigaddset(&mine, signal_number());
        return -pthread_sigmask(SIG_UNBLOCK, &mine, NULL); /* whatever mask who started us had */
}

int nudge_init(struct nudge *n, bool on)
{
        struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal_number() };
        int r = 0;

        *n = (struct nudge){ .armed = !on };
        if (!on)
                return 0;
        ev.sigev_notify_thread_id = gettid();
        r = FAULT("engine.timer");
        if (r == 0)
                r = listen_for_ticks();
        if (r == 0 && timer_create(CLOCK_MONOTONIC, &ev, &n->timer) < 0)
                r = -errno;
        if (r < 0)
                return err_note(r, "cannot make the timer that ends writes to full eventfds: %s", strerror(-r));
        n->made = true;
        of_this_thread = n;
        return 0;
}

void nudge_finish(struct nudge *n)
{
        if (!n->made)
                return;
        of_this_thread = NULL; /* a tick may still be on its way */
        timer_delete(n->timer);
        n->made = false;
}
