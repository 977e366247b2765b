/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "blkq/bounce.h"
#include "common/cleanup.h"

#define KIB 1024u

struct taker {
        struct bounce_wait w;
        size_t len;
        void *buf;
        unsigned turn;
        struct bounce *put_at_once;
};
static unsigned turns;

static void on_ready(struct bounce_wait *w, void *buf)
{
        struct taker *t = container_of(w, struct taker, w);

        t->buf = buf;
        t->turn = ++turns;
        if (t->put_at_once)
                bounce_put(t->put_at_once, TAKE(t->buf, NULL), t->len);
}

static int take(struct bounce *b, struct taker *t, size_t len)
{
        t->len = len;
        t->buf = NULL;
        t->turn = 0;
        return bounce_get(b, &t->w, len, on_ready, &t->buf);
}

static void test_aligned_and_bounded(void **state)
{
        struct bounce *b;
        struct taker t[5] = { 0 };

        assert_int_equal(bounce_new(64 * KIB, &b), 0);
        assert_int_equal(bounce_max(b), 64 * KIB);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(take(b, &t[i], 9000), 0); /* 16 KiB each */
                assert_int_equal((uintptr_t)t[i].buf % BOUNCE_ALIGN, 0);
                memset(t[i].buf, i, 9000);
        }
        assert_int_equal(take(b, &t[4], 1), -EAGAIN);
        bounce_put(b, t[2].buf, 9000);
        assert_non_null(t[4].buf);
        bounce_put(b, t[4].buf, 1);
        bounce_put(b, t[0].buf, 9000);
        bounce_put(b, t[1].buf, 9000);
        bounce_put(b, t[3].buf, 9000);
        bounce_free(b);
}

static void test_first_come_first_served(void **state)
{
        struct bounce *b;
        struct taker all = { 0 }, big = { 0 }, small = { 0 }, late = { 0 };

        turns = 0;
        assert_int_equal(bounce_new(64 * KIB, &b), 0);
        assert_int_equal(take(b, &all, 32 * KIB), 0);
        assert_int_equal(take(b, &big, 64 * KIB), -EAGAIN);
        assert_int_equal(take(b, &small, 4 * KIB), -EAGAIN); /* there is room, but nobody overtakes */
        assert_int_equal(take(b, &late, 4 * KIB), -EAGAIN);
        bounce_cancel(b, &late.w);
        big.put_at_once = b; /* a ready() that gives back at once serves the next */
        bounce_put(b, all.buf, 32 * KIB);
        assert_int_equal(big.turn, 1);
        assert_int_equal(small.turn, 2);
        assert_int_equal(late.turn, 0);
        bounce_put(b, small.buf, 4 * KIB);
        bounce_free(b);
}

/* Any mix of sizes: never more out than allowed, no buffer twice, nobody left waiting at the end. */
static void test_random_mix(void **state)
{
        enum { N = 40, ROUNDS = 20000, MAX = 256 * KIB };
        unsigned seed = (unsigned)time(NULL);
        struct taker t[N] = { 0 };
        bool waiting[N] = { 0 };
        struct bounce *b;

        print_message("seed %u\n", seed);
        srandom(seed);
        assert_int_equal(bounce_new(MAX, &b), 0);
        for (unsigned i = 0; i < ROUNDS; i++) {
                unsigned k = (unsigned)random() % N;
                size_t out = 0;

                if (t[k].buf) {
                        assert_int_equal(*(unsigned *)t[k].buf, k + 1);
                        bounce_put(b, TAKE(t[k].buf, NULL), t[k].len);
                } else if (!waiting[k]) {
                        waiting[k] = take(b, &t[k], 4 + (size_t)random() % (100 * KIB)) == -EAGAIN;
                }
                for (unsigned j = 0; j < N; j++)
                        if (t[j].buf) {
                                *(unsigned *)t[j].buf = j + 1;
                                waiting[j] = false;
                                out += t[j].len;
                        }
                assert_true(out <= MAX);
        }
        for (unsigned left = 1; left;) {
                left = 0;
                for (unsigned j = 0; j < N; j++) {
                        if (t[j].buf)
                                waiting[j] = false;
                        if (t[j].buf)
                                bounce_put(b, TAKE(t[j].buf, NULL), t[j].len);
                }
                for (unsigned j = 0; j < N; j++)
                        left += t[j].buf != NULL;
        }
        for (unsigned j = 0; j < N; j++)
                assert_false(waiting[j]);
        bounce_free(b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_aligned_and_bounded),
                cmocka_unit_test(test_first_come_first_served),
                cmocka_unit_test(test_random_mix),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
