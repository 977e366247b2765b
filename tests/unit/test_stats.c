/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blkq/stats.h"
#include "common/cleanup.h"

static void test_buckets(void **state)
{
        static const struct { uint64_t ns; unsigned bucket; } cases[] = {
                { 0, 0 },          { 999, 0 },      { 1999, 0 },         { 2000, 1 },
                { 3999, 1 },       { 4000, 2 },     { 1000000, 9 },      { 8388608000ull, 23 },
                { UINT64_MAX, STATS_BUCKETS - 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct op_stats s = { 0 };

                stats_account(&s, 512, cases[i].ns, 0);
                assert_int_equal(s.bucket[cases[i].bucket], 1);
        }
}

static void test_sums(void **state)
{
        struct op_stats s = { 0 };

        stats_account(&s, 4096, 1000, 0);
        stats_account(&s, 4096, 2000, -EIO); /* its bytes did not arrive */
        assert_int_equal(s.count, 2);
        assert_int_equal(s.errors, 1);
        assert_int_equal(s.bytes, 4096);
        assert_int_equal(s.total_ns, 3000);
}

static void test_quantiles(void **state)
{
        struct op_stats s = { 0 };

        assert_int_equal(stats_quantile(&s, 0.5), 0);
        for (int i = 0; i < 90; i++)
                stats_account(&s, 0, 10000, 0); /* 10 us: [8, 16) */
        for (int i = 0; i < 10; i++)
                stats_account(&s, 0, 1000000, 0); /* 1 ms: [512, 1024) us */
        assert_int_equal(stats_quantile(&s, 0), 16000);
        assert_int_equal(stats_quantile(&s, 0.5), 16000);
        assert_int_equal(stats_quantile(&s, 0.9), 16000);
        assert_int_equal(stats_quantile(&s, 0.91), 1024000);
        assert_int_equal(stats_quantile(&s, 1), 1024000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_buckets),
                cmocka_unit_test(test_sums),
                cmocka_unit_test(test_quantiles),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
