/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

static const struct { const char *text; int r; uint64_t bytes; } parse[] = {
        { "0", 0, 0 },
        { "512", 0, 512 },
        { "512b", 0, 512 },
        { "4k", 0, 4096 },
        { "4K", 0, 4096 },
        { "1M", 0, 1 << 20 },
        { "10G", 0, 10ull << 30 },
        { "2T", 0, 2ull << 40 },
        { "1P", 0, 1ull << 50 },
        { "7E", 0, 7ull << 60 },
        { "1.5k", 0, 1536 },
        { "0.5T", 0, 1ull << 39 },
        { "9223372036854775807", 0, INT64_MAX },
        { "9223372036854775808", -ERANGE, 0 },
        { "8E", -ERANGE, 0 },
        { "99999999999999999999999", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "-1", -EINVAL, 0 },
        { "+1", -EINVAL, 0 },
        { " 1", -EINVAL, 0 },
        { "1 ", -EINVAL, 0 },
        { "1kb", -EINVAL, 0 },
        { "1X", -EINVAL, 0 },
        { "1.5", -EINVAL, 0 },
        { "1.k", -EINVAL, 0 },
        { ".5k", -EINVAL, 0 },
        { "1.5e3k", -EINVAL, 0 },
        { "1.0x3k", -EINVAL, 0 },
        { "0x10", -EINVAL, 0 },
        { "k", -EINVAL, 0 },
        { "nan", -EINVAL, 0 },
};

static void test_parse(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(parse); i++) {
                uint64_t got = 12345;
                int r;

                err_clear();
                r = size_parse(parse[i].text, &got);
                if (r != parse[i].r)
                        fail_msg("'%s': returned %d, not %d", parse[i].text, r, parse[i].r);
                if (r == 0 && got != parse[i].bytes)
                        fail_msg("'%s': is %llu", parse[i].text, (unsigned long long)got);
                if (r < 0 && (got != 12345 || !strstr(err_text(r), parse[i].text)))
                        fail_msg("'%s': bad error: %s", parse[i].text, err_text(r));
        }
}

/* What qemu-img 7.2 prints for these sizes. */
static const struct { uint64_t bytes; const char *text; } format[] = {
        { 0, "0 B" },
        { 512, "512 B" },
        { 1000, "0.977 KiB" },
        { 1024, "1 KiB" },
        { 1536, "1.5 KiB" },
        { 200704, "196 KiB" },
        { 1458176, "1.39 MiB" },
        { 1ull << 30, "1 GiB" },
        { 1023ull << 30, "0.999 TiB" },
        { 1ull << 60, "1 EiB" },
};

static void test_format(void **state)
{
        char buf[32];

        for (size_t i = 0; i < ARRAY_SIZE(format); i++)
                assert_string_equal(size_format(format[i].bytes, buf, sizeof(buf)), format[i].text);
}

int main(void)
{
        static const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_format) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
