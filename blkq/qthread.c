/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qthread.c - the loop of a queue thread.
 *
 * Inbox: a stack that posters push with one compare-and-swap; the owner takes all of it with one exchange and turns it
 * round, so each poster's tasks keep their order. Nobody can lose or delay anybody else's task.
 *
 * Sleep: who pushes and who goes to sleep agree through @asleep. The owner says "asleep", then looks at the inbox; a
 * poster pushes, then looks at @asleep. With a full barrier between on both sides ([A] and [B]) one of them sees the
 * other, so a task never waits in front of a sleeping thread. Only the poster that turns @asleep off writes the
 * eventfd. The eventfd is never read: its watch is edge-like.
 *
 * Kicks: @quiet is true from a poll that found work to the next sleep. Before sleeping the pollers are told to want
 * kicks again and are asked once more; whoever finds something then keeps the thread awake.
 */
#include "qthread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <urcu.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"
#include "common/thread.h"

#define SLEEPING (1ull << 63)
#define SPIN_START_NS (4 * NS_PER_US) /* the first window when spinning seems to pay */

struct qthread {
        struct engine *engine;
        struct list pollers, hooks, late_hooks, timers;
        bool quiet, stop, waker_gone;
        unsigned round;
        const bool *until;             /* inline: qthread_run() ends when this is true */
        bool once;                     /* inline: qthread_run_once() does not sleep on what it found */
        uint64_t spin_max_ns, spin_ns; /* bounds of the spin after the last work: given, and as adapted */
        uint64_t last_work_ns;         /* only kept when spin_max_ns is not 0 */

        /* Touched by posters. */
        _Alignas(64) _Atomic(struct qtask *) inbox;
        atomic_bool asleep;
        int wake_fd;

        _Alignas(64) struct engine_watch waker;
        struct qtask stop_task;
        pthread_t self;
        uint64_t born_ns;
        struct qthread_times last_times; /* who asks for them */
        _Atomic uint64_t idle;         /* the owner's, read by others: ns asleep; with SLEEPING: when it would have fallen
                                          asleep if it had slept without a break. One word, so that it never goes back */
        bool inlined;
        char name[16];
        struct engine_opts engine_opts;

        /* Start: the new thread tells qthread_new() how it went. */
        pthread_mutex_t lock;
        pthread_cond_t told;
        bool ready;
        int result;
        char why[256];
};

/* Several inline loops may live on one thread; RCU wants to know the thread once. */
static _Thread_local unsigned rcu_users;

static void rcu_join(void)
{
        if (rcu_users++ == 0)
                rcu_register_thread();
}

static void rcu_leave(void)
{
        if (--rcu_users == 0)
                rcu_unregister_thread();
}

/* --- inbox -------------------------------------------------------------------------------------------------------- */

void qthread_post(struct qthread *t, struct qtask *task)
{
        static const uint64_t one = 1;
        struct qtask *top = atomic_load_explicit(&t->inbox, memory_order_relaxed);

        do
                task->node[0] = top;
        while (!atomic_compare_exchange_weak_explicit(&t->inbox, &top, task, memory_order_seq_cst,
                                                      memory_order_relaxed));
        /* [A] the seq_cst exchange above, before this load; pairs with [B] in may_sleep() */
        if (atomic_load_explicit(&t->asleep, memory_order_seq_cst) &&
            atomic_exchange_explicit(&t->asleep, false, memory_order_seq_cst)) {
                ssize_t n = write(t->wake_fd, &one, sizeof(one));

                (void)n; /* EAGAIN would need 2^64 wakes */
        }
}

static bool run_inbox(struct qthread *t)
{
        struct qtask *got, *next, *first = NULL;

        if (!atomic_load_explicit(&t->inbox, memory_order_relaxed))
                return false;
        got = atomic_exchange_explicit(&t->inbox, NULL, memory_order_acquire);
        for (; got; got = next) {
                next = got->node[0];
                got->node[0] = first;
                first = got;
        }
        for (; first; first = next) {
                next = first->node[0]; /* the task is its poster's again once it runs */
                first->run(first);
        }
        return true;
}

/* Says that we sleep; true if nothing came meanwhile. After waking, asleep is set back by whoever comes first. */
static bool may_sleep(struct qthread *t)
{
        atomic_store_explicit(&t->asleep, true, memory_order_seq_cst);
        /* [B] the seq_cst store above, before this load; pairs with [A] in qthread_post() */
        if (!atomic_load_explicit(&t->inbox, memory_order_seq_cst))
                return true;
        atomic_store_explicit(&t->asleep, false, memory_order_relaxed);
        return false;
}

static void on_wake(struct engine_watch *w)
{
        (void)w; /* awake is all it takes: each round looks into the inbox */
}

static void on_waker_gone(struct engine_watch *w)
{
        container_of(w, struct qthread, waker)->waker_gone = true;
}

/* --- pollers, hooks, timers --------------------------------------------------------------------------------------- */

void qthread_add_poller(struct qthread *t, struct qpoller *p)
{
        assert(qthread_is_current(t));
        list_add_tail(&t->pollers, &p->link);
        if (t->quiet && p->quiet)
                p->quiet(p, true);
}

void qthread_del_poller(struct qthread *t, struct qpoller *p)
{
        assert(qthread_is_current(t));
        list_del(&p->link);
}

static bool poll_all(struct qthread *t)
{
        bool found = false;

        list_for_each_safe(i, &t->pollers) {
                struct qpoller *p = list_entry(i, struct qpoller, link);

                found |= p->poll(p);
        }
        return found;
}

static void be_quiet(struct qthread *t, bool quiet)
{
        t->quiet = quiet;
        list_for_each_safe(i, &t->pollers) {
                struct qpoller *p = list_entry(i, struct qpoller, link);

                if (p->quiet)
                        p->quiet(p, quiet);
        }
}

void qthread_at_round_end(struct qthread *t, struct qhook *h)
{
        if (list_empty(&h->link))
                list_add_tail(&t->hooks, &h->link);
}

void qthread_after_round_end(struct qthread *t, struct qhook *h)
{
        if (list_empty(&h->link))
                list_add_tail(&t->late_hooks, &h->link);
}

/* Those that are here now: one that asks for the next round again gets the next round. */
static bool run_hooks(struct list *hooks)
{
        bool ran = false;
        struct list now;
        struct list *n;

        list_init(&now);
        list_splice_tail(&now, hooks);
        while ((n = list_pop(&now))) {
                struct qhook *h = list_entry(n, struct qhook, link);

                h->run(h);
                ran = true;
        }
        return ran;
}

void qthread_timer_set(struct qthread *t, struct qtimer *tm, uint64_t in_ns)
{
        uint64_t now = clock_ns();
        struct list *before;

        list_del(&tm->link);
        before = t->timers.prev;
        tm->at_ns = in_ns > UINT64_MAX - now ? UINT64_MAX : now + in_ns;
        while (before != &t->timers && list_entry(before, struct qtimer, link)->at_ns > tm->at_ns)
                before = before->prev;
        list_insert_between(&tm->link, before, before->next);
}

void qthread_timer_cancel(struct qthread *t, struct qtimer *tm)
{
        (void)t;
        list_del(&tm->link);
}

/* Fires what is due at @now; a timer set anew by its own callback waits for its new time. */
static bool run_timers(struct qthread *t, uint64_t now)
{
        bool fired = false;

        while (!list_empty(&t->timers)) {
                struct qtimer *tm = list_entry(t->timers.next, struct qtimer, link);

                if (tm->at_ns > now)
                        break;
                list_del(&tm->link);
                tm->fire(tm);
                fired = true;
        }
        return fired;
}

static uint64_t until_timer(const struct qthread *t, uint64_t now)
{
        uint64_t at;

        if (list_empty(&t->timers))
                return UINT64_MAX;
        at = list_entry(t->timers.next, struct qtimer, link)->at_ns;
        return at > now ? at - now : 0;
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void cpu_relax(void)
{
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
}

/* After a sleep: had a longer spin caught what woke us? Then spin longer the next time; if sleep was long, shorter. */
static void adapt_spin(struct qthread *t, uint64_t slept_ns)
{
        if (slept_ns > t->spin_max_ns)
                t->spin_ns /= 2;
        else
                t->spin_ns = min_u64(max_u64(2 * t->spin_ns, SPIN_START_NS), t->spin_max_ns);
        if (t->spin_ns < SPIN_START_NS / 2)
                t->spin_ns = 0;
}

/* Kicks on again, then look once more. Returns whether it is all right to sleep. */
static bool settle_down(struct qthread *t)
{
        if (t->quiet) {
                be_quiet(t, false);
                if (poll_all(t)) {
                        be_quiet(t, true);
                        return false;
                }
        }
        return list_empty(&t->hooks) && list_empty(&t->late_hooks) && may_sleep(t);
}

static bool still_spinning(struct qthread *t, bool worked, uint64_t now)
{
        if (t->spin_max_ns == 0)
                return false;
        if (worked)
                t->last_work_ns = now;
        return now - t->last_work_ns < t->spin_ns;
}

static unsigned sleep_in_kernel(struct qthread *t, uint64_t timeout_ns)
{
        uint64_t now = engine_now(t->engine), woke, idle = atomic_load_explicit(&t->idle, memory_order_relaxed);
        unsigned n;

        atomic_store_explicit(&t->idle, SLEEPING | (now - idle), memory_order_relaxed);
        n = engine_wait(t->engine, min_u64(timeout_ns, until_timer(t, now)));
        atomic_store_explicit(&t->asleep, false, memory_order_relaxed);
        woke = engine_now(t->engine); /* when the callbacks began, if they asked for the time */
        atomic_store_explicit(&t->idle, idle + woke - now, memory_order_relaxed);
        if (t->spin_max_ns) {
                adapt_spin(t, woke - now);
                t->last_work_ns = woke;
        }
        return n;
}

/* What a task, a poller or a hook of this round may have decided: then there may be nothing left that would wake us. */
static bool must_return(const struct qthread *t)
{
        return t->stop || (t->until && *(const volatile bool *)t->until);
}

/* One round. @worked: the last one ended with callbacks. Returns whether this one did. */
static bool turn(struct qthread *t, bool worked, uint64_t timeout_ns)
{
        uint64_t now = 0;
        bool polled;

        t->round++;
        engine_stale(t->engine);
        worked |= run_inbox(t);
        engine_stale(t->engine);
        polled = poll_all(t);
        if (polled && !t->quiet)
                be_quiet(t, true);
        worked |= polled;
        engine_stale(t->engine);
        if (t->spin_max_ns || !list_empty(&t->timers)) {
                now = engine_now(t->engine);
                worked |= run_timers(t, now);
        }
        worked |= run_hooks(&t->hooks);
        worked |= run_hooks(&t->late_hooks);
        if (timeout_ns == 0 || must_return(t) || (t->once && worked))
                return engine_wait(t->engine, 0);
        if (still_spinning(t, worked, now)) {
                unsigned n = engine_wait(t->engine, 0);

                if (n == 0 && !polled)
                        cpu_relax();
                return n;
        }
        if (!settle_down(t))
                return engine_wait(t->engine, 0);
        return sleep_in_kernel(t, timeout_ns);
}

void qthread_run_once(struct qthread *t, uint64_t timeout_ns)
{
        assert(t->inlined && qthread_is_current(t));
        t->once = true;
        turn(t, false, timeout_ns);
        t->once = false;
}

void qthread_run(struct qthread *t, const bool *done)
{
        const bool *outer = t->until;
        bool worked = false;

        assert(t->inlined && qthread_is_current(t));
        t->until = done;
        while (!must_return(t))
                worked = turn(t, worked, UINT64_MAX);
        t->until = outer;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int open_up(struct qthread *t)
{
        int r = engine_new(&t->engine_opts, &t->engine);

        if (r < 0)
                return r;
        rcu_join();
        t->self = pthread_self();
        t->waker = (struct engine_watch){ .fd = t->wake_fd, .ready = on_wake, .gone = on_waker_gone };
        engine_watch(t->engine, &t->waker);
        return 0;
}

static void close_down(struct qthread *t)
{
        if (!t->engine)
                return;
        engine_unwatch(t->engine, &t->waker);
        while (!t->waker_gone)
                engine_wait(t->engine, UINT64_MAX);
        engine_free(TAKE(t->engine, NULL));
        rcu_leave();
}

static void tell_start(struct qthread *t, int result)
{
        pthread_mutex_lock(&t->lock);
        t->result = result;
        if (result < 0)
                snprintf(t->why, sizeof(t->why), "%s", err_text(result));
        t->ready = true;
        pthread_cond_signal(&t->told);
        pthread_mutex_unlock(&t->lock);
}

static void *thread_main(void *arg)
{
        struct qthread *t = arg;
        bool worked = false;
        int r;

        pthread_setname_np(pthread_self(), t->name);
        r = open_up(t);
        thread_begins(THREAD_QUEUE);
        tell_start(t, r);
        while (r == 0 && !t->stop)
                worked = turn(t, worked, UINT64_MAX);
        close_down(t);
        return NULL;
}

static void on_stop(struct qtask *task)
{
        container_of(task, struct qthread, stop_task)->stop = true;
}

static int start_thread(struct qthread *t)
{
        pthread_t id;
        int r = pthread_create(&id, NULL, thread_main, t);

        if (r != 0)
                return err_note(-r, "cannot start the thread '%s': %s", t->name, strerror(r));
        pthread_mutex_lock(&t->lock);
        while (!t->ready)
                pthread_cond_wait(&t->told, &t->lock);
        pthread_mutex_unlock(&t->lock);
        if (t->result < 0) {
                pthread_join(id, NULL);
                return err_note(t->result, "%s", t->why);
        }
        return 0;
}

static void destroy(struct qthread *t)
{
        closep(&t->wake_fd);
        pthread_cond_destroy(&t->told);
        pthread_mutex_destroy(&t->lock);
        free(t);
}

int qthread_new(const struct qthread_opts *opts, struct qthread **ret)
{
        struct qthread *t = aligned_alloc(64, round_up(sizeof(*t), 64));
        int r;

        if (!t)
                return -ENOMEM;
        memset(t, 0, sizeof(*t));
        list_init(&t->pollers);
        list_init(&t->hooks);
        list_init(&t->late_hooks);
        t->born_ns = clock_ns();
        list_init(&t->timers);
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->told, NULL);
        snprintf(t->name, sizeof(t->name), "%s", opts->name ? opts->name : "queue");
        t->engine_opts = opts->engine;
        t->spin_max_ns = opts->poll_us * NS_PER_US;
        t->inlined = opts->inline_loop;
        t->engine_opts.nudge = !t->inlined;
        t->stop_task.run = on_stop;
        t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (t->wake_fd < 0)
                r = err_note(-errno, "cannot make an eventfd: %s", strerror(errno));
        else
                r = t->inlined ? open_up(t) : start_thread(t);
        if (r < 0) {
                destroy(t);
                return r;
        }
        *ret = t;
        return 0;
}

static void end(struct qthread *t)
{
        if (t->inlined) {
                run_inbox(t);
                close_down(t);
        } else {
                pthread_t id = t->self; /* the thread may write no more of *t after the stop, but read it before */

                qthread_post(t, &t->stop_task);
                pthread_join(id, NULL);
        }
}

void qthread_free(struct qthread *t)
{
        if (!t)
                return;
        end(t);
        destroy(t);
}

void qthread_free_all(struct qthread *const *t, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                end(t[i]);
        for (unsigned i = 0; i < n; i++)
                destroy(t[i]);
}

struct engine *qthread_engine(struct qthread *t)
{
        return t->engine;
}

bool qthread_is_current(const struct qthread *t)
{
        return pthread_equal(t->self, pthread_self());
}

const char *qthread_name(const struct qthread *t)
{
        return t->name;
}

uint64_t qthread_now(struct qthread *t)
{
        return engine_now(t->engine);
}

unsigned qthread_round(const struct qthread *t)
{
        return t->round;
}

void qthread_times(struct qthread *t, struct qthread_times *ret)
{
        uint64_t idle = atomic_load_explicit(&t->idle, memory_order_relaxed), now = clock_ns(), up;
        struct timespec cpu;
        clockid_t id;

        idle = idle & SLEEPING ? now - min_u64(now, idle & ~SLEEPING) : idle;
        ret->cpu_ns = 0;
        if (pthread_getcpuclockid(t->self, &id) == 0 && clock_gettime(id, &cpu) == 0)
                ret->cpu_ns = (uint64_t)cpu.tv_sec * NS_PER_SEC + (uint64_t)cpu.tv_nsec;
        up = now - t->born_ns;
        idle = min_u64(idle, up - min_u64(up, ret->cpu_ns));
        /* The clocks were not read at the same moment: what was said before stands. */
        t->last_times.idle_ns = ret->idle_ns = max_u64(t->last_times.idle_ns, idle);
        t->last_times.busy_ns = ret->busy_ns = max_u64(t->last_times.busy_ns, up - min_u64(up, idle));
}
