/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/pace.h"

/* How many of @n that come at @now may. */
static unsigned taken(struct pace *p, uint64_t now, unsigned n)
{
        unsigned got = 0;

        while (n--)
                got += pace_take(p, now);
        return got;
}

static void test_at_once_and_then_by_and_by(void **state)
{
        struct pace p = { .at_once = 100, .every_ns = 10 };
        uint64_t now = 123456780;

        assert_int_equal(taken(&p, now, 1000), 100);
        assert_int_equal(taken(&p, now + 9, 1000), 0);
        assert_int_equal(taken(&p, now + 10, 1000), 1);
        assert_int_equal(taken(&p, now + 10 + 70, 1000), 7);
        assert_int_equal(taken(&p, now + 10 + 70 + 100000, 1000), 100); /* a rest saves up no more than that */
}

/* However often one asks: who asks each nanosecond gets no more, and no less, than who asks when it is time. */
static void test_asking_often(void **state)
{
        struct pace p = { .at_once = 1, .every_ns = 10 };
        unsigned got = 0;

        for (uint64_t now = 1000; now < 2000; now++)
                got += pace_take(&p, now);
        assert_int_equal(got, 100);
}

static void test_far_times(void **state)
{
        struct pace p = { .at_once = 3, .every_ns = 1 };

        assert_int_equal(taken(&p, UINT64_MAX - 5, 10), 3);
        assert_int_equal(taken(&p, UINT64_MAX, 10), 3);
        assert_int_equal(taken(&p, UINT64_MAX, 10), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_at_once_and_then_by_and_by),
                cmocka_unit_test(test_asking_often),
                cmocka_unit_test(test_far_times),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
