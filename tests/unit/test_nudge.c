/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A write to a full eventfd that was made blocking under our hands: the thread does not sleep in it for long, it hears of it, and
 * pays nothing for that while it is idle. Each would wait for ever without the nudge.
 *
 *     test_nudge race SECONDS     who fills the eventfd and changes its flag all the time, in earnest: how often is it met, and how
 *                                 long is the longest wait?
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "blkq/engine/engine.h"
#include "blkq/engine/nudge.h"
#include "blkq/qthread.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/range.h"

#define FULL (UINT64_MAX - 1)

struct bell {
        struct io io;
        unsigned calls;
        int res;
};

static void bell_done(struct io *io, int res)
{
        struct bell *b = container_of(io, struct bell, io);

        b->calls++;
        b->res = res;
}

static struct bell bell_of(int fd)
{
        return (struct bell){ .io = { .op = IO_NOTIFY, .fd = fd, .done = bell_done } };
}

static int full_eventfd(int flags)
{
        int fd = eventfd(0, EFD_CLOEXEC | flags);
        uint64_t n = FULL;

        assert_int_equal(write(fd, &n, sizeof(n)), sizeof(n));
        return fd;
}

static void run_dry(struct engine *e)
{
        while (engine_in_flight(e))
                engine_wait(e, 0);
}

static struct engine *engine_of(enum engine_kind kind)
{
        struct engine_opts o = { .kind = kind, .nudge = true };
        struct engine *e = NULL;

        if (engine_new(&o, &e) < 0) {
                assert_int_equal(kind, ENGINE_URING); /* not here, says the kernel */
                err_clear();
        }
        return e;
}

static const enum engine_kind kinds[] = { ENGINE_URING, ENGINE_THREADS };

/* --- facts of the timer ------------------------------------------------------------------------------------------- */

static bool is_ticking(const struct nudge *n)
{
        struct itimerspec left;

        assert_int_equal(timer_gettime(n->timer, &left), 0);
        return left.it_value.tv_sec || left.it_value.tv_nsec;
}

/* Sleeps until a tick. */
static void await_tick(void)
{
        while (pause() != -1 || errno != EINTR)
                ;
}

static void test_ticks_while_a_write_is_out(void **state)
{
        struct nudge n;

        assert_int_equal(nudge_init(&n, true), 0);
        assert_false(is_ticking(&n));
        nudge_begin(&n);
        for (unsigned i = 0; i < 3; i++) { /* the second one sees no write that began since the first */
                await_tick();
                assert_true(n.armed && is_ticking(&n));
        }
        nudge_end(&n);
        while (n.armed)
                usleep(1000);
        assert_false(is_ticking(&n)); /* and so nothing wakes an idle thread */
        nudge_begin(&n);
        assert_true(is_ticking(&n));
        nudge_end(&n);
        nudge_finish(&n);
}

/* Whoever started us may have had any signal blocked, and may send us any. */
static void test_mask_and_strangers(void **state)
{
        struct nudge n;
        sigset_t all, now;

        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &now);
        assert_int_equal(nudge_init(&n, true), 0);
        nudge_begin(&n);
        await_tick();
        sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_ptr = (void *)1 });
        nudge_end(&n);
        nudge_finish(&n);
        sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_ptr = (void *)1 });
        pthread_sigmask(SIG_SETMASK, &now, NULL);
}

static void test_no_timer(void **state)
{
        struct qthread_opts q = { .name = "none", .engine.kind = ENGINE_THREADS };
        struct qthread *t = NULL;
        struct nudge n;

        assert_int_equal(fault_arm("engine.timer=1:EAGAIN:forever"), 0);
        assert_int_equal(nudge_init(&n, true), -EAGAIN);
        assert_non_null(strstr(err_text(-EAGAIN), "timer"));
        err_clear();
        nudge_finish(&n);
        assert_int_equal(qthread_new(&q, &t), -EAGAIN); /* not without, and it says why */
        assert_non_null(strstr(err_text(-EAGAIN), "timer"));
        err_clear();
        fault_arm(NULL);
        assert_int_equal(nudge_init(&n, false), 0);
        nudge_begin(&n);
        nudge_end(&n);
        nudge_finish(&n);
}

/* --- facts of writes ---------------------------------------------------------------------------------------------- */

static void test_sleeping_write_ends(void **state)
{
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                struct engine *e = engine_of(kinds[k]);
                AUTO(closep) int full = full_eventfd(0), honest = eventfd(0, EFD_CLOEXEC);
                struct bell a = bell_of(full), b = bell_of(honest);
                uint64_t n = 0;

                if (!e)
                        continue;
                assert_int_equal(fault_arm("engine.notify=1:EIO:forever"), 0);
                engine_submit(e, &a.io);
                engine_submit(e, &b.io);
                run_dry(e);
                fault_arm(NULL);
                assert_true(a.calls == 1 && a.res == -EINTR);
                assert_true(b.calls == 1 && b.res == 0);
                assert_int_equal(read(honest, &n, sizeof(n)), sizeof(n));
                assert_int_equal(n, 1);
                engine_submit(e, &a.io); /* without that trick a full one is rung */
                run_dry(e);
                assert_true(a.calls == 2 && a.res == 0);
                engine_free(e);
        }
}

/* Who was caught is not written to any more, also not by what is on its way already. */
static void test_shut(void **state)
{
        static atomic_bool shut;
        struct engine *e = engine_of(ENGINE_THREADS);
        AUTO(closep) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        struct bell b = bell_of(fd);
        uint64_t n;

        b.io.shut = &shut;
        engine_submit(e, &b.io);
        shut = true;
        run_dry(e);
        assert_true(b.calls == 1 && b.res == -ECANCELED);
        assert_true(read(fd, &n, sizeof(n)) == -1 && errno == EAGAIN);
        engine_free(e);
}

/* --- in earnest --------------------------------------------------------------------------------------------------- */

static atomic_bool racing;

static void *toggle(void *arg)
{
        int fd = *(int *)arg;

        while (racing) {
                fcntl(fd, F_SETFL, 0);
                fcntl(fd, F_SETFL, O_NONBLOCK);
        }
        return NULL;
}

static void race(enum engine_kind kind, uint64_t ns)
{
        struct engine *e = engine_of(kind);
        AUTO(closep) int fd = full_eventfd(EFD_NONBLOCK);
        struct bell b = bell_of(fd);
        uint64_t began = clock_ns(), worst = 0, now = began;
        unsigned met = 0;
        pthread_t attacker;

        if (!e)
                return;
        racing = true;
        assert_int_equal(pthread_create(&attacker, NULL, toggle, &fd), 0);
        while (now - began < ns) {
                uint64_t was = now;

                engine_submit(e, &b.io);
                run_dry(e);
                met += b.res == -EINTR;
                now = clock_ns();
                worst = max_u64(worst, now - was);
        }
        racing = false;
        pthread_join(attacker, NULL);
        printf("%s: %u writes in %.0f s, %u of them slept, the longest for %.0f ms\n", engine_describe(e), b.calls, (double)ns / 1e9,
               met, (double)worst / 1e6);
        engine_free(e);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ticks_while_a_write_is_out),
                cmocka_unit_test(test_mask_and_strangers),
                cmocka_unit_test(test_no_timer),
                cmocka_unit_test(test_sleeping_write_ends),
                cmocka_unit_test(test_shut),
        };

        if (argc == 3 && !strcmp(argv[1], "race")) {
                for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                        race(kinds[k], strtoull(argv[2], NULL, 10) * NS_PER_SEC);
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
