/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include <urcu.h>

#include "blkq/qthread.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/fault.h"

#define POSTERS 4
#define TASKS 5000

static const enum engine_kind kinds[] = { ENGINE_AUTO, ENGINE_THREADS };

static struct qthread *start(enum engine_kind kind, unsigned poll_us, bool inlined)
{
        struct qthread_opts o = { .name = "test", .engine = { .kind = kind }, .poll_us = poll_us,
                                  .inline_loop = inlined };
        struct qthread *t;

        assert_int_equal(qthread_new(&o, &t), 0);
        return t;
}

static void wait_until(atomic_uint *n, unsigned want)
{
        uint64_t give_up = clock_ns() + 60 * NS_PER_SEC;

        while (atomic_load(n) < want) {
                assert_true(clock_ns() < give_up);
                usleep(200);
        }
}

/* Posts @task and waits until it ran: how a test gets onto the thread. */
struct call {
        struct qtask task;
        void (*fn)(void *arg);
        void *arg;
        atomic_uint ran;
};

static void run_call(struct qtask *task)
{
        struct call *c = container_of(task, struct call, task);

        c->fn(c->arg);
        atomic_store(&c->ran, 1);
}

static void on_thread(struct qthread *t, void (*fn)(void *arg), void *arg)
{
        struct call c = { .task = { .run = run_call }, .fn = fn, .arg = arg };

        qthread_post(t, &c.task);
        wait_until(&c.ran, 1);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

struct letter {
        struct qtask task;
        unsigned from, nr;
};
static unsigned next_nr[POSTERS]; /* queue thread's */
static atomic_uint arrived, out_of_order;
static struct qthread *to;

static void open_letter(struct qtask *task)
{
        struct letter *l = container_of(task, struct letter, task);

        if (l->nr != next_nr[l->from]++ || !qthread_is_current(to))
                atomic_fetch_add(&out_of_order, 1);
        atomic_fetch_add(&arrived, 1);
}

static void *poster(void *arg)
{
        struct letter *l = arg;

        for (unsigned i = 0; i < TASKS; i++) {
                qthread_post(to, &l[i].task);
                if (i % 500 == 0)
                        usleep(300); /* let it fall asleep now and then */
        }
        return NULL;
}

static void post_from_many(struct qthread *t)
{
        struct letter *l = calloc(POSTERS * TASKS, sizeof(*l));
        pthread_t id[POSTERS];

        memset(next_nr, 0, sizeof(next_nr));
        atomic_store(&arrived, 0);
        to = t;
        for (unsigned i = 0; i < POSTERS * TASKS; i++)
                l[i] = (struct letter){ .task = { .run = open_letter }, .from = i / TASKS, .nr = i % TASKS };
        for (unsigned p = 0; p < POSTERS; p++)
                assert_int_equal(pthread_create(&id[p], NULL, poster, &l[p * TASKS]), 0);
        for (unsigned p = 0; p < POSTERS; p++)
                pthread_join(id[p], NULL);
        wait_until(&arrived, POSTERS * TASKS);
        assert_int_equal(atomic_load(&out_of_order), 0);
        free(l);
}

static void test_messages_in_order(void **state)
{
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                for (unsigned poll_us = 0; poll_us <= 50; poll_us += 50) {
                        struct qthread *t = start(kinds[k], poll_us, false);

                        post_from_many(t);
                        qthread_free(t);
                }
}

/* Two threads throw one task to and fro: no wake-up may be lost. */
static struct qthread *side[2];
static atomic_uint bounces;

static void throw_back(struct qtask *task)
{
        unsigned n = atomic_fetch_add(&bounces, 1) + 1;

        if (n < 2000)
                qthread_post(side[n & 1], task);
}

static void test_ping_pong(void **state)
{
        struct qtask ball = { .run = throw_back };

        side[0] = start(ENGINE_AUTO, 0, false);
        side[1] = start(ENGINE_AUTO, 20, false);
        atomic_store(&bounces, 0);
        qthread_post(side[0], &ball);
        wait_until(&bounces, 2000);
        qthread_free(side[0]);
        qthread_free(side[1]);
}

/* --- timers ------------------------------------------------------------------------------------------------------- */

struct alarm {
        struct qtimer tm;
        struct qthread *t;
        unsigned *seq, at;
        uint64_t set_ns, fired_ns;
        unsigned again;
};

static void on_alarm(struct qtimer *tm)
{
        struct alarm *a = container_of(tm, struct alarm, tm);

        a->at = ++*a->seq;
        a->fired_ns = clock_ns();
        if (a->again) {
                a->again--;
                qthread_timer_set(a->t, tm, NS_PER_MS);
        }
}

static void test_timers(void **state)
{
        static const unsigned ms[] = { 12, 4, 8 }, want[] = { 3, 1, 2 };
        struct qthread *t = start(ENGINE_AUTO, 0, true);
        struct alarm a[3], never = { .tm = { .fire = on_alarm } };
        unsigned seq = 0;

        for (unsigned i = 0; i < 3; i++) {
                a[i] = (struct alarm){ .tm = { .fire = on_alarm }, .t = t, .seq = &seq, .set_ns = clock_ns() };
                list_init(&a[i].tm.link);
                qthread_timer_set(t, &a[i].tm, ms[i] * NS_PER_MS);
        }
        list_init(&never.tm.link);
        never.seq = &seq;
        qthread_timer_set(t, &never.tm, 2 * NS_PER_MS);
        qthread_timer_cancel(t, &never.tm);
        qthread_timer_cancel(t, &never.tm); /* twice is fine */
        while (seq < 3)
                qthread_run_once(t, UINT64_MAX);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(a[i].at, want[i]);
                assert_true(a[i].fired_ns - a[i].set_ns >= ms[i] * NS_PER_MS);
        }
        assert_int_equal(never.at, 0);
        a[0].again = 3; /* set anew from its own callback */
        qthread_timer_set(t, &a[0].tm, 0);
        while (seq < 7)
                qthread_run_once(t, UINT64_MAX);
        assert_int_equal(a[0].again, 0);
        qthread_free(t);
}

/* --- hooks -------------------------------------------------------------------------------------------------------- */

struct hook {
        struct qhook h;
        struct qthread *t;
        unsigned ran, again;
};

static void on_hook(struct qhook *h)
{
        struct hook *k = container_of(h, struct hook, h);

        k->ran++;
        if (k->again) {
                k->again--;
                qthread_at_round_end(k->t, h);
        }
}

static void test_hooks(void **state)
{
        struct qthread *t = start(ENGINE_SYNC, 0, true);
        struct hook k = { .h = { .run = on_hook }, .t = t, .again = 2 };

        list_init(&k.h.link);
        qthread_at_round_end(t, &k.h);
        qthread_at_round_end(t, &k.h); /* once a round, however often asked for */
        qthread_run_once(t, 0);
        assert_int_equal(k.ran, 1);
        qthread_run_once(t, UINT64_MAX); /* a hook that waits is no reason to sleep */
        qthread_run_once(t, UINT64_MAX);
        assert_int_equal(k.ran, 3);
        qthread_run_once(t, 0);
        assert_int_equal(k.ran, 3);
        qthread_free(t);
}

/* --- pollers and the quiet protocol ------------------------------------------------------------------------------- */

/* A little "guest": a counter of work to do and an eventfd it kicks only if it was asked to, like a virtqueue. */
struct shop {
        struct qpoller p;
        struct engine_watch kick;
        struct qthread *t;
        atomic_uint offered, taken, kicks;
        atomic_bool want_kick;
        atomic_uint gone;
        unsigned quiets, loud;
};

static bool shop_poll(struct qpoller *p)
{
        struct shop *s = container_of(p, struct shop, p);
        unsigned offered = atomic_load(&s->offered);

        if (offered == atomic_load(&s->taken))
                return false;
        atomic_store(&s->taken, offered);
        return true;
}

static void shop_quiet(struct qpoller *p, bool quiet)
{
        struct shop *s = container_of(p, struct shop, p);

        quiet ? s->quiets++ : s->loud++;
        atomic_store(&s->want_kick, !quiet);
}

static void shop_kicked(struct engine_watch *w)
{
        (void)w;
}

static void shop_gone(struct engine_watch *w)
{
        atomic_store(&container_of(w, struct shop, kick)->gone, 1);
}

static void shop_open(void *arg)
{
        struct shop *s = arg;

        qthread_add_poller(s->t, &s->p);
        engine_watch(qthread_engine(s->t), &s->kick);
}

static void shop_close(void *arg)
{
        struct shop *s = arg;

        qthread_del_poller(s->t, &s->p);
        engine_unwatch(qthread_engine(s->t), &s->kick);
}

static void shop_offer(struct shop *s)
{
        uint64_t one = 1;

        atomic_fetch_add(&s->offered, 1);
        if (atomic_load(&s->want_kick)) {
                atomic_fetch_add(&s->kicks, 1);
                assert_int_equal(write(s->kick.fd, &one, sizeof(one)), sizeof(one));
        }
}

/* Offers come at all distances; each is taken although kicks are off most of the time. A lost one hangs here. */
static void test_no_work_is_lost(void **state)
{
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                for (unsigned poll_us = 0; poll_us <= 100; poll_us += 50) {
                        struct shop s = { .p = { shop_poll, shop_quiet }, .want_kick = true };

                        s.t = start(kinds[k], poll_us, false);
                        s.kick = (struct engine_watch){ .fd = eventfd(0, EFD_NONBLOCK), .ready = shop_kicked,
                                                        .gone = shop_gone };
                        on_thread(s.t, shop_open, &s);
                        for (unsigned i = 0; i < 300; i++) {
                                shop_offer(&s);
                                if (i % 3)
                                        wait_until(&s.taken, i + 1);
                                for (volatile unsigned d = 0; d < i * 50; d++)
                                        ;
                        }
                        wait_until(&s.taken, 300);
                        on_thread(s.t, shop_close, &s);
                        wait_until(&s.gone, 1);
                        qthread_free(s.t);
                        /* Every quiet ends in a sleep; the last one may be cut short by the close. */
                        assert_true(s.quiets > 0 && s.quiets - s.loud <= 1);
                        close(s.kick.fd);
                }
}

/* --- sleep -------------------------------------------------------------------------------------------------------- */

static void my_cpu(void *arg)
{
        struct rusage ru;

        getrusage(RUSAGE_THREAD, &ru);
        *(uint64_t *)arg = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NS_PER_SEC +
                           (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NS_PER_US;
}

/* After work has come and gone the thread sleeps, also one that may spin: a second of idling costs next to no CPU. */
static void test_idle_is_asleep(void **state)
{
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                struct qthread *t = start(kinds[k], 200, false);
                uint64_t before, after;

                post_from_many(t);
                on_thread(t, my_cpu, &before);
                usleep(300000);
                on_thread(t, my_cpu, &after);
                assert_true(after - before < 100 * NS_PER_MS);
                qthread_free(t);
        }
}

static void on_done(struct qtask *task)
{
        struct call *c = container_of(task, struct call, task);

        *(bool *)c->arg = true;
}

static void *post_late(void *arg)
{
        usleep(5000);
        qthread_post(to, arg);
        return NULL;
}

static void test_inline_loop(void **state)
{
        struct qthread *t = start(ENGINE_AUTO, 0, true), *other = start(ENGINE_SYNC, 0, true);
        bool done = false;
        struct call c = { .task = { .run = on_done }, .arg = &done };
        pthread_t id;

        assert_true(qthread_is_current(t) && qthread_is_current(other));
        qthread_post(t, &c.task);
        qthread_run(t, &done); /* what ends it may be there already */
        assert_true(done);
        done = false;
        to = t;
        assert_int_equal(pthread_create(&id, NULL, post_late, &c.task), 0);
        qthread_run(t, &done);
        assert_true(done);
        pthread_join(id, NULL);
        rcu_read_lock(); /* the loop's thread is known to RCU */
        rcu_read_unlock();
        qthread_free(other);
        qthread_free(t);
}

static void test_start_fails(void **state)
{
        struct qthread_opts o = { .name = "test", .engine = { .kind = ENGINE_URING } };
        struct qthread *t;

        assert_int_equal(fault_arm("engine.uring=1:ENOMEM:forever"), 0);
        err_clear();
        assert_true(qthread_new(&o, &t) < 0);
        assert_non_null(strstr(err_text(-1), "io_uring")); /* the sentence crossed the threads */
        o.inline_loop = true;
        assert_true(qthread_new(&o, &t) < 0);
        fault_arm(NULL);
        err_clear();
        qthread_free(NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_messages_in_order),
                cmocka_unit_test(test_ping_pong),
                cmocka_unit_test(test_timers),
                cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_no_work_is_lost),
                cmocka_unit_test(test_idle_is_asleep),
                cmocka_unit_test(test_inline_loop),
                cmocka_unit_test(test_start_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
