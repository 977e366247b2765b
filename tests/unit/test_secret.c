/* SPDX-License-Identifier: BSD-3-Clause */
/* test_secret.c - passwords get their names from files and descriptors, and from nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"
#include "common/secret_box.h"

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

static void note_name(void *opaque, const char *id, const struct secret *s)
{
        assert_int_equal(s->len, strlen(s->bytes)); /* pages of zeros behind it */
        strcat(strcat(strcat(opaque, id), "="), s->bytes);
}

static void test_from_another_process(void **state)
{
        struct secret a = { secret_mem_new(4), 3 }, b = { secret_mem_new(4), 3 };
        char names[64] = "";

        memcpy(a.bytes, "one", 3);
        memcpy(b.bytes, "two", 3);
        assert_int_equal(secret_add_bytes("moved", &a), 0);
        assert_int_equal(secret_add_bytes("moved", &b), -EEXIST); /* and is taken: the sanitizer would tell */
        err_clear();
        assert_null(a.bytes);
        assert_null(b.bytes);
        secret_each(note_name, names);
        assert_non_null(strstr(names, "moved=one"));
        assert_int_equal(secret_remove("moved"), 0);
}

static void test_box(void **state)
{
        struct secret_box ours, theirs;
        struct secret s;
        int fd;

        assert_int_equal(secret_box_new(&ours, 7), 0);
        secret_box_put(&ours, "abc", 3);
        secret_box_put(&ours, "defg", 4);
        fd = dup(ours.fd);
        assert_int_equal(ftruncate(fd, 1), -1); /* nobody pulls it away under a reader */
        secret_box_finish(&ours);
        assert_int_equal(secret_box_open(&theirs, dup(fd)), 0);
        assert_int_equal(secret_box_get(&theirs, 3, &s), 0);
        assert_memory_equal(s.bytes, "abc", 3);
        secret_free(&s);
        assert_int_equal(secret_box_get(&theirs, 5, &s), -EBADMSG);
        err_clear();
        assert_int_equal(secret_box_get(&theirs, 4, &s), 0);
        assert_memory_equal(s.bytes, "defg", 4);
        secret_free(&s);
        secret_box_finish(&theirs);
        assert_int_equal(secret_box_open(&theirs, fd), 0); /* who read it has wiped it */
        assert_int_equal(secret_box_get(&theirs, 7, &s), 0);
        assert_memory_equal(s.bytes, "\0\0\0\0\0\0\0", 7);
        secret_free(&s);
        secret_box_finish(&theirs);
}

static void test_not_a_box(void **state)
{
        struct secret_box b;
        int unsealed = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), pipe_end = pipe_with("x", 1);

        assert_int_equal(ftruncate(unsealed, 10), 0);
        assert_int_equal(secret_box_open(&b, dup(unsealed)), -EBADMSG);
        assert_int_equal(ftruncate(unsealed, (off_t)SECRET_BOX_MAX + 1), 0);
        assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
        assert_int_equal(secret_box_open(&b, unsealed), -EBADMSG);
        assert_int_equal(secret_box_open(&b, pipe_end), -EBADMSG);
        assert_int_equal(fcntl(pipe_end, F_GETFD), -1); /* taken */
        err_clear();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fd),
                cmocka_unit_test(test_file),
                cmocka_unit_test(test_base64),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_from_another_process),
                cmocka_unit_test(test_box),
                cmocka_unit_test(test_not_a_box),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
