/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "blkq/stats.h"
#include "common/cleanup.h"

static void test_buckets(void **state)
{
        static const struct { uint64_t ns; unsigned bucket; uint64_t end; } cases[] = {
                { 0, 0, 256 },         { 255, 0, 256 },         { 256, 1, 512 },          { 1023, 3, 1024 },
                { 1024, 4, 1280 },     { 1279, 4, 1280 },       { 1280, 5, 1536 },        { 2047, 7, 2048 },
                { 2048, 8, 2560 },     { 1000000, 43, 1048576 }, { 137438953471ull, STATS_BUCKETS - 1, 137438953472ull },
                { UINT64_MAX, STATS_BUCKETS - 1, 137438953472ull },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(stats_bucket(cases[i].ns), cases[i].bucket);
                assert_int_equal(stats_bucket_end(cases[i].bucket), cases[i].end);
        }
}

/* Each bucket ends where the next one begins, and is at most a quarter of its beginning wide. */
static void test_buckets_meet(void **state)
{
        for (unsigned b = 0; b + 1 < STATS_BUCKETS; b++) {
                uint64_t end = stats_bucket_end(b);

                assert_int_equal(stats_bucket(end - 1), b);
                assert_int_equal(stats_bucket(end), b + 1);
                if (b >= 4)
                        assert_true(stats_bucket_end(b + 1) - end <= end / 4);
        }
}

static void test_stages(void **state)
{
        struct stage_clock c;

        stage_begin(&c, 1000);
        assert_int_equal(stage_now(&c), STAGE_QUEUE);
        stage_to(&c, STAGE_MAP, 1500);
        stage_to(&c, STAGE_DISK, 1600);
        stage_to(&c, STAGE_MAP, 2600); /* and back, for the next piece */
        stage_to(&c, STAGE_DISK, 2700);
        stage_to(&c, STAGE_NOTIFY, 2650); /* another thread's time may be a little older: nothing goes back */
        assert_int_equal(c.arrived, 1000);
        assert_int_equal(c.spent[STAGE_QUEUE], 500);
        assert_int_equal(c.spent[STAGE_MAP], 200);
        assert_int_equal(c.spent[STAGE_DISK], 1000);
}

static void account(struct op_stats *s, uint64_t bytes, uint64_t ns, int res)
{
        struct stage_clock c;

        stage_begin(&c, 1);
        stage_to(&c, STAGE_DISK, 1);
        stage_to(&c, STAGE_NOTIFY, 1 + ns);
        stats_account(s, bytes, &c, res);
        stats_time(s, STAGE_TOTAL, ns);
}

static void test_sums(void **state)
{
        struct blk_stats *s = calloc(1, sizeof(*s));
        struct blk_totals *t = calloc(1, sizeof(*t));
        const struct op_totals *op = &t->op[STATS_WRITE];

        account(&s->op[STATS_WRITE], 4096, 1000, 0);
        account(&s->op[STATS_WRITE], 4096, 2000, -EIO); /* its bytes did not arrive */
        s->fast = 7;
        s->highest_write = 4096;
        t->highest_write = 100;
        stats_add(t, s);
        stats_add(t, s); /* as if another port had done the same */
        assert_int_equal(op->count, 4);
        assert_int_equal(op->errors, 2);
        assert_int_equal(op->bytes, 8192);
        assert_int_equal(op->stage[STAGE_TOTAL].total_ns, 6000);
        assert_int_equal(op->stage[STAGE_DISK].total_ns, 6000);
        assert_int_equal(op->stage[STAGE_QUEUE].total_ns, 0);
        assert_int_equal(stats_samples(&op->stage[STAGE_QUEUE]), 4);
        assert_int_equal(t->fast, 14);
        assert_int_equal(t->highest_write, 4096);
        assert_int_equal(t->op[STATS_READ].count, 0);
        free(s);
        free(t);
}

static void test_gauges(void **state)
{
        struct blk_stats *s = calloc(2, sizeof(*s));
        struct blk_gauges g = { 0 };

        s[0].in_flight = 2;
        s[0].oldest_ns = 500;
        s[0].last_ns = 600;
        s[1].last_ns = 550; /* has nothing in flight */
        stats_gauge(&g, &s[0]);
        stats_gauge(&g, &s[1]);
        assert_int_equal(g.in_flight, 2);
        assert_int_equal(g.oldest_ns, 500);
        assert_int_equal(g.last_ns, 600);
        free(s);
}

static void test_quantiles(void **state)
{
        struct blk_stats *s = calloc(1, sizeof(*s));
        struct blk_totals *t = calloc(1, sizeof(*t));
        const struct stage_totals *total = &t->op[STATS_READ].stage[STAGE_TOTAL];

        assert_int_equal(stats_quantile(total, 0.5), 0);
        for (int i = 0; i < 90; i++)
                account(&s->op[STATS_READ], 0, 9000, 0); /* [8192, 10240) */
        for (int i = 0; i < 10; i++)
                account(&s->op[STATS_READ], 0, 1000000, 0); /* [917504, 1048576) */
        stats_add(t, s);
        assert_int_equal(stats_quantile(total, 0), 10240);
        assert_int_equal(stats_quantile(total, 0.5), 10240);
        assert_int_equal(stats_quantile(total, 0.9), 10240);
        assert_int_equal(stats_quantile(total, 0.91), 1048576);
        assert_int_equal(stats_quantile(total, 1), 1048576);
        free(s);
        free(t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_buckets),
                cmocka_unit_test(test_buckets_meet),
                cmocka_unit_test(test_stages),
                cmocka_unit_test(test_sums),
                cmocka_unit_test(test_gauges),
                cmocka_unit_test(test_quantiles),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
