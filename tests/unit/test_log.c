/* SPDX-License-Identifier: BSD-3-Clause */
/* What reaches stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

static int ends[2], old_stderr;
static char said[4096];

static int catch_stderr(void **state)
{
        (void)state;
        unsetenv("JOURNAL_STREAM");
        old_stderr = dup(STDERR_FILENO);
        log_init("test", LOG_LVL_INFO);
        return pipe(ends) < 0 || dup2(ends[1], STDERR_FILENO) < 0;
}

static int let_go(void **state)
{
        (void)state;
        return dup2(old_stderr, STDERR_FILENO) < 0;
}

static const char *heard(void)
{
        ssize_t n = read(ends[0], said, sizeof(said) - 1);

        said[n > 0 ? n : 0] = '\0';
        return said;
}

static void test_strangers_words_are_tamed(void **state)
{
        (void)state;
        log_info("%s: gone", "a\033[2J\nvdiskd: all is well\r\t\177");
        assert_string_equal(heard(), "test: a?[2J?vdiskd: all is well???: gone\n");
        log_info("%s", "\xc2\x9b" "31mred, but \xc2\xa7 and \xc3\xbc stay");
        assert_string_equal(heard(), "test: ??31mred, but \xc2\xa7 and \xc3\xbc stay\n");
}

static void test_one_line_however_long(void **state)
{
        char *text = calloc(1, 3000);

        (void)state;
        memset(text, 'x', 2999);
        log_info("%s", text);
        assert_int_equal(strlen(heard()), 1023);
        assert_int_equal(said[1022], '\n');
        free(text);
}

static void test_levels(void **state)
{
        (void)state;
        log_debug("no");
        log_warn("yes");
        assert_string_equal(heard(), "test: yes\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_strangers_words_are_tamed, catch_stderr, let_go),
                cmocka_unit_test_setup_teardown(test_one_line_however_long, catch_stderr, let_go),
                cmocka_unit_test_setup_teardown(test_levels, catch_stderr, let_go),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
