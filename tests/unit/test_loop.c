/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"

static char seen[64]; /* what happened, one letter each */
static struct loop *loop;

static void saw(char c)
{
        size_t n = strlen(seen);

        if (n + 1 < sizeof(seen))
                seen[n] = c;
}

static int setup(void **state)
{
        memset(seen, 0, sizeof(seen));
        return loop_new(&loop);
}

static int teardown(void **state)
{
        loop_free(loop);
        return 0;
}

struct letter_timer {
        struct loop_timer t;
        char letter;
};

static void on_timer(struct loop_timer *t)
{
        char c = container_of(t, struct letter_timer, t)->letter;

        saw(c);
        if (c == 'Z')
                loop_stop(loop);
}

static void start_timer(struct letter_timer *t, char c, uint64_t ns)
{
        *t = (struct letter_timer){ .t.fire = on_timer, .letter = c };
        list_init(&t->t.link);
        loop_timer_set(loop, &t->t, ns);
}

static void test_timers_in_order(void **state)
{
        struct letter_timer a, b, z, off;

        start_timer(&z, 'Z', 12 * NS_PER_MS);
        start_timer(&b, 'b', 6 * NS_PER_MS);
        start_timer(&a, 'a', 0);
        start_timer(&off, 'x', 1 * NS_PER_MS);
        loop_timer_cancel(loop, &off.t);
        assert_int_equal(loop_run(loop), 0);
        assert_string_equal(seen, "abZ");
        assert_true(list_empty(&a.t.link));
}

static void test_timer_set_again_moves(void **state)
{
        struct letter_timer a, z;

        start_timer(&a, 'a', 0);
        start_timer(&z, 'Z', 4 * NS_PER_MS);
        loop_timer_set(loop, &a.t, 3600 * NS_PER_SEC);
        assert_int_equal(loop_run(loop), 0);
        assert_string_equal(seen, "Z");
        loop_timer_cancel(loop, &a.t);
}

struct letter_task {
        struct loop_task task;
        char letter;
};

static void on_task(struct loop_task *task)
{
        char c = container_of(task, struct letter_task, task)->letter;

        saw(c);
        if (c == 'Z')
                loop_stop(loop);
}

static struct letter_task tasks[3] = {
        { { .run = on_task }, 'a' }, { { .run = on_task }, 'b' }, { { .run = on_task }, 'Z' },
};

static void *poster(void *arg)
{
        for (size_t i = 0; i < 3; i++)
                loop_post(loop, &tasks[i].task);
        return NULL;
}

static void test_posts_from_another_thread(void **state)
{
        pthread_t t;

        assert_int_equal(pthread_create(&t, NULL, poster, NULL), 0);
        assert_int_equal(loop_run(loop), 0);
        pthread_join(t, NULL);
        assert_string_equal(seen, "abZ");
}

struct pipe_watch {
        struct loop_watch w;
        struct pipe_watch *other; /* taken off by whoever comes first */
        int in;
};

static void on_pipe(struct loop_watch *w, uint32_t events)
{
        struct pipe_watch *p = container_of(w, struct pipe_watch, w);

        saw(events & EPOLLIN ? 'r' : '?');
        loop_unwatch(loop, &p->other->w);
        loop_unwatch(loop, w);
        loop_unwatch(loop, w); /* a watch that is off is fine */
        loop_stop(loop);
}

static void pipe_watch_on(struct pipe_watch *p, struct pipe_watch *other)
{
        int fd[2];

        assert_int_equal(pipe(fd), 0);
        *p = (struct pipe_watch){ .w = { .fd = fd[0], .ready = on_pipe, .events = EPOLLIN }, .other = other, .in = fd[1] };
        assert_int_equal(loop_watch(loop, &p->w), 0);
        assert_int_equal(write(p->in, "x", 1), 1);
}

static void pipe_watch_off(struct pipe_watch *p)
{
        close(p->w.fd);
        close(p->in);
}

/* Both are ready in the same round; the one that comes first takes the other off, which then must not be called. */
static void test_unwatch_inside_a_round(void **state)
{
        struct pipe_watch a, b;

        pipe_watch_on(&a, &b);
        pipe_watch_on(&b, &a);
        assert_int_equal(loop_run(loop), 0);
        assert_string_equal(seen, "r");
        assert_false(a.w.on || b.w.on);
        pipe_watch_off(&a);
        pipe_watch_off(&b);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_timers_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_timer_set_again_moves, setup, teardown),
                cmocka_unit_test_setup_teardown(test_posts_from_another_thread, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unwatch_inside_a_round, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
