/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/cleanup.h"
#include "common/similar.h"

static const struct { const char *typed, *means; } cases[] = {
        { "sockt", "socket" },
        { "sokcet", "socket" },
        { "format", "format" },
        { "formt", "format" },
        { "serail", "serial" },
        { "reed-only", "read-only" },
        { "colour", NULL },
        { "x", NULL },
        { "", NULL },
        { "a-word-that-is-longer-than-any-name-of-an-option-here", NULL },
};

static void test_the_nearest_word(void **state)
{
        static const char *const known[] = { "path", "socket", "format", "serial", "read-only", "size" };
        char text[64];

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct similar s = similar_to(cases[i].typed);

                for (size_t k = 0; k < ARRAY_SIZE(known); k++)
                        similar_look(&s, known[k]);
                if (!s.best != !cases[i].means || (s.best && strcmp(s.best, cases[i].means)))
                        fail_msg("'%s': '%s', not '%s'", cases[i].typed, s.best ?: "", cases[i].means ?: "");
                assert_int_equal(strlen(similar_hint(&s, text, sizeof(text))) > 0, s.best != NULL);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_nearest_word) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
