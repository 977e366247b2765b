/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "common/err.h"

static void test_first_sentence_wins(void **state)
{
        err_clear();
        assert_int_equal(err_note(-EIO, "sector %d is bad", 7), -EIO);
        assert_int_equal(err_note(-EINVAL, "later"), -EINVAL);
        assert_string_equal(err_text(-EINVAL), "sector 7 is bad");
        err_clear();
        assert_string_equal(err_text(-ENOSPC), strerror(ENOSPC));
}

static void test_prefix(void **state)
{
        err_clear();
        assert_int_equal(err_prefix(-EIO, "x: "), -EIO);
        assert_string_equal(err_text(-EIO), strerror(EIO)); /* there was nothing to put it before */
        err_note(-EIO, "b");
        err_prefix(-EIO, "%s: ", "a");
        assert_string_equal(err_text(-EIO), "a: b");
}

static void test_one_line_without_control_characters(void **state)
{
        (void)state;
        err_clear();
        err_note(-EIO, "file a\nvdiskd: forged \x1b[2J\x7f \xc3\xa4");
        err_prefix(-EIO, "%s: ", "b\tc");
        assert_string_equal(err_text(-EIO), "b?c: file a?vdiskd: forged ?[2J? \xc3\xa4");
        err_clear();
}

static void test_long_text_is_cut(void **state)
{
        char lead[600];

        memset(lead, 'l', sizeof(lead));
        lead[sizeof(lead) - 1] = '\0';
        err_clear();
        err_note(-EIO, "%600d", 1);
        assert_int_equal(strlen(err_text(-EIO)), 511);
        err_prefix(-EIO, "%s", lead);
        assert_int_equal(strlen(err_text(-EIO)), 511);
        assert_int_equal(err_text(-EIO)[0], 'l');
        err_clear();
}

static void *other_thread(void *arg)
{
        *(int *)arg = strcmp(err_text(-ENOENT), strerror(ENOENT)) == 0;
        err_note(-ENOENT, "mine");
        return NULL;
}

static void test_threads_have_their_own(void **state)
{
        pthread_t t;
        int clean = 0;

        err_clear();
        err_note(-EIO, "ours");
        assert_int_equal(pthread_create(&t, NULL, other_thread, &clean), 0);
        pthread_join(t, NULL);
        assert_true(clean);
        assert_string_equal(err_text(-EIO), "ours");
        err_clear();
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_sentence_wins), cmocka_unit_test(test_prefix), cmocka_unit_test(test_one_line_without_control_characters),
                cmocka_unit_test(test_long_text_is_cut), cmocka_unit_test(test_threads_have_their_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
