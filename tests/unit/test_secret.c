/* SPDX-License-Identifier: BSD-3-Clause */
/* test_secret.c - passwords get their names from files and descriptors, and from nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"

/* The reading end of a pipe that holds @text. */
static int pipe_with(const void *text, size_t len)
{
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], text, len), len);
        close(fds[1]);
        return fds[0];
}

static void expect(const char *id, const void *bytes, size_t len)
{
        AUTO(secret_free) struct secret s = { 0 };

        assert_int_equal(secret_get(id, &s), 0);
        assert_int_equal(s.len, len);
        assert_memory_equal(s.bytes, bytes, len);
        assert_int_equal(secret_remove(id), 0);
        assert_int_equal(secret_get(id, &s), -ENOENT);
        err_clear();
}

static void test_fd(void **state)
{
        struct secret_source s = { .id = "a", .fd = pipe_with("pass\0word\n", 10) };

        assert_int_equal(secret_add(&s), 0);
        assert_int_equal(close(s.fd), -1); /* it was closed */
        expect("a", "pass\0word\n", 10);
}

static void test_file(void **state)
{
        char path[] = "/tmp/test_secret.XXXXXX";
        struct secret_source s = { .id = "a", .fd = -1, .file = path };
        int fd = mkstemp(path);

        assert_int_equal(write(fd, "x", 1), 1);
        assert_int_equal(secret_add(&s), 0);
        assert_int_equal(secret_add(&s), -EEXIST);
        err_clear();
        expect("a", "x", 1);
        assert_int_equal(ftruncate(fd, SECRET_MAX + 1), 0);
        assert_int_equal(secret_add(&s), -EFBIG);
        assert_non_null(strstr(err_text(-EFBIG), path));
        err_clear();
        unlink(path);
        close(fd);
        assert_int_equal(secret_add(&s), -ENOENT);
        assert_non_null(strstr(err_text(-ENOENT), path));
        err_clear();
}

static void test_base64(void **state)
{
        static const struct { const char *text, *plain; int r; } cases[] = {
                { "", "", 0 },            { "Zg==", "f", 0 },         { "Zm8=", "fo", 0 },      { "Zm9v", "foo", 0 },
                { "Zm9v\nYmFy\n", "foobar", 0 },                      { "Zm9vYg==", "foob", 0 }, { "+/+/", "\xfb\xff\xbf", 0 },
                { "Zg=", NULL, -EINVAL }, { "Z", NULL, -EINVAL },     { "Zg==Zg==", NULL, -EINVAL },
                { "Z===", NULL, -EINVAL }, { "Zm9%", NULL, -EINVAL }, { "====", NULL, -EINVAL },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct secret_source s = { .id = "b", .format = "base64",
                                           .fd = pipe_with(cases[i].text, strlen(cases[i].text)) };

                if (secret_add(&s) != cases[i].r)
                        fail_msg("'%s'", cases[i].text);
                err_clear();
                if (cases[i].plain)
                        expect("b", cases[i].plain, strlen(cases[i].plain));
        }
}

static void test_refused(void **state)
{
        static const struct secret_source bad[] = {
                { .id = NULL, .fd = -1, .file = "/dev/null" }, { .id = "", .fd = -1, .file = "/dev/null" },
                { .id = "a", .fd = -1 }, { .id = "a", .fd = 9, .file = "/dev/null" },
                { .id = "a", .fd = -1, .file = "/dev/null", .format = "hex" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(secret_add(&bad[i]), -EINVAL);
                err_clear();
        }
        assert_int_equal(secret_remove("a"), -ENOENT);
        err_clear();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fd),
                cmocka_unit_test(test_file),
                cmocka_unit_test(test_base64),
                cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
