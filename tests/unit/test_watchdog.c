/* SPDX-License-Identifier: BSD-3-Clause */
/* Pings for the service manager come while all queue threads answer, and stop while one does not. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "vdiskd/manager.h"
#include "vdiskd/watchdog.h"

#define WATCHDOG_MS 40 /* pings every 10 */
#define HANG_MS 60000  /* a deadline only */
#define SILENCE_MS 200

struct service {
        struct loop *loop;
        struct qthread *threads[2];
        struct watchdog *watchdog;
        struct loop_task stop;
        pthread_t thread;
        int fd; /* of the manager */
        unsigned ticks;
};

static void on_tick(void *opaque)
{
        struct service *s = opaque;

        __atomic_add_fetch(&s->ticks, 1, __ATOMIC_RELAXED);
}

static void stop_loop(struct loop_task *task)
{
        loop_stop(container_of(task, struct service, stop)->loop);
}

static void *turn(void *arg)
{
        struct service *s = arg;

        assert_int_equal(loop_run(s->loop), 0);
        return NULL;
}

static void begin(struct service *s)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        *s = (struct service){ .stop.run = stop_loop };
        snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/vdiskd-watchdog-%d", (int)getpid());
        unlink(sa.sun_path);
        s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        setenv("NOTIFY_SOCKET", sa.sun_path, 1);
        manager_find();
        unlink(sa.sun_path);
        assert_int_equal(loop_new(&s->loop), 0);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(qthread_new(&(struct qthread_opts){ .name = "q", .engine.kind = ENGINE_THREADS }, &s->threads[i]), 0);
        assert_int_equal(watchdog_new(s->loop, s->threads, 2, on_tick, s, &s->watchdog), 0);
        assert_int_equal(pthread_create(&s->thread, NULL, turn, s), 0);
}

static void end(struct service *s)
{
        loop_post(s->loop, &s->stop);
        pthread_join(s->thread, NULL);
        qthread_free_all(s->threads, 2);
        watchdog_free(s->watchdog);
        manager_finish();
        loop_free(s->loop);
        close(s->fd);
}

static bool pinged(const struct service *s, int ms)
{
        struct pollfd p = { .fd = s->fd, .events = POLLIN };
        char text[64] = "";

        if (poll(&p, 1, ms) != 1)
                return false;
        assert_true(recv(s->fd, text, sizeof(text) - 1, 0) > 0);
        assert_string_equal(text, "WATCHDOG=1");
        return true;
}

/* A task that holds its thread. */
struct hang {
        struct qtask task;
        sem_t begun, go;
};

static void hold(struct qtask *task)
{
        struct hang *h = container_of(task, struct hang, task);

        sem_post(&h->begun);
        sem_wait(&h->go);
}

static void test_a_thread_that_hangs_stops_the_pings(void **state)
{
        struct service s;
        struct hang h = { .task.run = hold };

        (void)state;
        setenv("WATCHDOG_USEC", "40000", 1);
        begin(&s);
        for (unsigned i = 0; i < 3; i++)
                assert_true(pinged(&s, HANG_MS));
        sem_init(&h.begun, 0, 0);
        sem_init(&h.go, 0, 0);
        qthread_post(s.threads[1], &h.task);
        sem_wait(&h.begun);
        while (pinged(&s, SILENCE_MS)) /* rounds that had ended, or begun, by then */
                ;
        assert_false(pinged(&s, SILENCE_MS));
        sem_post(&h.go);
        for (unsigned i = 0; i < 3; i++)
                assert_true(pinged(&s, HANG_MS));
        assert_true(__atomic_load_n(&s.ticks, __ATOMIC_RELAXED) >= 6);
        end(&s);
        sem_destroy(&h.begun);
        sem_destroy(&h.go);
}

static void test_nobody_asked(void **state)
{
        static const char *const none[] = { NULL, "", "0", "nonsense", "99999999999999999999999" };
        struct loop *l;

        (void)state;
        assert_int_equal(loop_new(&l), 0);
        for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
                struct watchdog *w = (void *)1;

                if (none[i])
                        setenv("WATCHDOG_USEC", none[i], 1);
                else
                        unsetenv("WATCHDOG_USEC");
                assert_int_equal(watchdog_new(l, NULL, 0, on_tick, NULL, &w), 0);
                assert_null(w);
        }
        loop_free(l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_thread_that_hangs_stops_the_pings),
                cmocka_unit_test(test_nobody_asked),
        };

        log_init("test", LOG_LVL_ERR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
