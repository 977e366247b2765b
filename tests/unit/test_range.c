/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/range.h"

static const struct { const char *what; uint64_t off, len, size; bool fits; } fits[] = {
        { "all of it",            0,          4096, 4096, true },
        { "last byte",            4095,       1,    4096, true },
        { "one too long",         4095,       2,    4096, false },
        { "empty at the end",     4096,       0,    4096, true },
        { "empty past the end",   4097,       0,    4096, false },
        { "longer than the disk", 0,          4097, 4096, false },
        { "end wraps 2^64",       UINT64_MAX, 2,    4096, false },
        { "length wraps 2^64",    2,          UINT64_MAX, 4096, false },
        { "whole 64 bits",        0,          UINT64_MAX, UINT64_MAX, true },
        { "nothing in nothing",   0,          0,    0,    true },
};

static void test_fits(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(fits); i++)
                if (range_fits(fits[i].off, fits[i].len, fits[i].size) != fits[i].fits)
                        fail_msg("%s", fits[i].what);
}

static const struct { const char *what; uint64_t a, alen, b, blen; bool overlaps; } overlaps[] = {
        { "same",            10, 10, 10, 10, true },
        { "touching",        10, 10, 20, 10, false },
        { "last byte",       10, 10, 19, 1,  true },
        { "inside",          10, 10, 12, 2,  true },
        { "around",          12, 2,  10, 10, true },
        { "apart",           0,  1,  5,  1,  false },
        { "empty inside",    10, 10, 15, 0,  false },
        { "inside an empty", 15, 0,  10, 10, false },
};

static void test_overlaps(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(overlaps); i++) {
                if (range_overlaps(overlaps[i].a, overlaps[i].alen, overlaps[i].b, overlaps[i].blen) != overlaps[i].overlaps)
                        fail_msg("%s", overlaps[i].what);
                if (range_overlaps(overlaps[i].b, overlaps[i].blen, overlaps[i].a, overlaps[i].alen) != overlaps[i].overlaps)
                        fail_msg("%s, the other way round", overlaps[i].what);
        }
}

static void test_rounding(void **state)
{
        assert_int_equal(round_down(4097, 4096), 4096);
        assert_int_equal(round_down(4095, 4096), 0);
        assert_int_equal(round_up(4097, 4096), 8192);
        assert_int_equal(round_up(4096, 4096), 4096);
        assert_int_equal(round_up(0, 4096), 0);
        assert_int_equal(round_up(7, 1), 7);
        assert_true(is_aligned(8192, 4096) && !is_aligned(8193, 4096) && is_aligned(5, 1));
        assert_int_equal(div_round_up(0, 3), 0);
        assert_int_equal(div_round_up(7, 3), 3);
        assert_true(div_round_up(UINT64_MAX, 2) == UINT64_MAX / 2 + 1);
        assert_true(is_pow2(1) && is_pow2(1ull << 63) && !is_pow2(0) && !is_pow2(6));
        assert_int_equal(min_u64(2, 3), 2);
        assert_int_equal(max_u64(2, 3), 3);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fits), cmocka_unit_test(test_overlaps), cmocka_unit_test(test_rounding),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
