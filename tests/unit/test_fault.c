/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"

static int disarm(void **state)
{
        err_clear();
        return fault_arm(NULL);
}

static void test_unarmed(void **state)
{
        assert_int_equal(FAULT("a"), 0);
        assert_int_equal(fault_count("a"), 0);
}

static void test_nth_once(void **state)
{
        assert_int_equal(fault_arm("a=2:ENOSPC,b=1"), 0);
        assert_int_equal(FAULT("a"), 0);
        assert_int_equal(FAULT("a"), -ENOSPC);
        assert_int_equal(FAULT("a"), 0);
        assert_int_equal(FAULT("b"), -EIO); /* EIO unless said otherwise */
        assert_int_equal(FAULT("c"), 0);
        assert_int_equal(fault_count("a"), 3);
        assert_int_equal(fault_count("c"), 0);
}

static void test_forever_and_count_only(void **state)
{
        assert_int_equal(fault_arm("a=2:EAGAIN:forever,n=0"), 0);
        assert_int_equal(FAULT("a"), 0);
        assert_int_equal(FAULT("a"), -EAGAIN);
        assert_int_equal(FAULT("a"), -EAGAIN);
        assert_int_equal(FAULT("n"), 0);
        assert_int_equal(fault_count("n"), 1);
        assert_int_equal(fault_arm(""), 0);
        assert_int_equal(FAULT("a"), 0);
}

static void test_bad_specs(void **state)
{
        static const char *const bad[] = { "a", "a=x", "a=", "a=-1", "a=1:EWHAT", "a=1:EIO:never" };

        assert_int_equal(fault_arm("keep=1"), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                err_clear();
                if (fault_arm(bad[i]) != -EINVAL || !strstr(err_text(-EINVAL), "fault"))
                        fail_msg("'%s' was taken", bad[i]);
        }
        assert_int_equal(FAULT("keep"), -EIO); /* what was armed stays */
}

static void test_environment(void **state)
{
        setenv("VDISKD_FAULT", "env=1:ENOMEM", 1);
        assert_int_equal(fault_arm_from_env(), 0);
        assert_int_equal(FAULT("env"), -ENOMEM);
        unsetenv("VDISKD_FAULT");
        assert_int_equal(fault_arm_from_env(), 0);
        assert_int_equal(fault_count("env"), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_unarmed, disarm), cmocka_unit_test_teardown(test_nth_once, disarm),
                cmocka_unit_test_teardown(test_forever_and_count_only, disarm),
                cmocka_unit_test_teardown(test_bad_specs, disarm), cmocka_unit_test_teardown(test_environment, disarm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
