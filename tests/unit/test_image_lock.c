/* SPDX-License-Identifier: BSD-3-Clause */
/* Two descriptors of one process lock each other out as two processes do; qemu-io plays the other program where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/file.h"
#include "common/image_lock.h"

static char path[] = "/tmp/test_image_lock.XXXXXX";

static int make_file(void **state)
{
        int fd = mkstemp(path);

        if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
                return -1;
        return close(fd);
}

static int remove_file(void **state)
{
        return unlink(path);
}

static const struct { const char *what; bool first_writes, second_writes, refused; } pairs[] = {
        { "two readers",         false, false, false },
        { "writer after reader", false, true,  true },
        { "reader after writer", true,  false, true },
        { "two writers",         true,  true,  true },
};

static void test_pairs(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
                AUTO(closep) int a = open(path, O_RDWR), b = open(path, O_RDWR);
                int r;

                err_clear();
                assert_int_equal(image_lock(a, path, pairs[i].first_writes), 0);
                r = image_lock(b, path, pairs[i].second_writes);
                if (r != (pairs[i].refused ? -EBUSY : 0))
                        fail_msg("%s: %d", pairs[i].what, r);
                if (r < 0)
                        assert_non_null(strstr(err_text(r), "in use by another program"));
        }
}

static void test_close_gives_back(void **state)
{
        int a = open(path, O_RDWR);
        AUTO(closep) int b = open(path, O_RDWR);

        assert_int_equal(image_lock(a, path, true), 0);
        close(a);
        err_clear();
        assert_int_equal(image_lock(b, path, true), 0);
}

/* qemu-io that has the file open and says so; writing to *in ends it. */
static pid_t start_qemu_io(bool read_only, int *in)
{
        int to[2], from[2];
        bool there;
        char c;
        pid_t pid;

        assert_int_equal(pipe(to) | pipe(from), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(to[0], STDIN_FILENO);
                dup2(from[1], STDOUT_FILENO);
                close(to[1]); /* so that our end is the last one */
                execlp("qemu-io", "qemu-io", "-f", "raw", read_only ? "-r" : path, read_only ? path : NULL, NULL);
                _exit(127);
        }
        close(to[0]);
        close(from[1]);
        assert_int_equal(write(to[1], "length\n", 7), 7);
        *in = to[1];
        there = read(from[0], &c, 1) == 1; /* its first output: the file is open now. Nothing: no qemu-io */
        close(from[0]);
        if (there)
                return pid;
        waitpid(pid, NULL, 0);
        close(to[1]);
        return 0;
}

static void against_qemu(bool qemu_reads, bool we_write, int expect)
{
        int in, r, fd = open(path, O_RDWR);
        pid_t pid = start_qemu_io(qemu_reads, &in);

        err_clear();
        r = pid ? image_lock(fd, path, we_write) : 0;
        close(fd);
        if (pid == 0)
                skip();
        close(in);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        assert_int_equal(r, expect);
}

/* As a kernel worker does that has just finished our last write. */
static void test_somebody_still_holds_the_open_file(void **state)
{
        AUTO(closep) int other = open(path, O_RDWR), held = -1;
        struct file *f;

        err_clear();
        assert_int_equal(file_open(path, 0, &f), 0);
        held = dup(f->fd);
        assert_int_equal(image_lock(other, path, true), -EBUSY);
        file_close(f);
        err_clear();
        assert_int_equal(image_lock(other, path, true), 0);
}

/* A reader becomes a writer on another descriptor; when somebody is in the way it stays the reader that it was. */
static void test_pass(void **state)
{
        AUTO(closep) int a = open(path, O_RDONLY), b = open(path, O_RDWR), other = open(path, O_RDWR);

        assert_int_equal(image_lock(a, path, false), 0);
        assert_int_equal(image_lock(other, path, false), 0);
        for (int i = 0; i < 3; i++) {
                err_clear();
                assert_int_equal(image_lock_pass(a, b, path), -EBUSY);
                assert_non_null(strstr(err_text(-EBUSY), "in use by another program"));
        }
        image_unlock(other);
        assert_int_equal(image_lock(other, path, true), -EBUSY); /* for us as a reader */
        image_unlock(other);
        assert_int_equal(image_lock(other, path, false), 0);
        image_unlock(other);
        err_clear();
        assert_int_equal(image_lock_pass(a, b, path), 0);
        assert_int_equal(image_lock(other, path, false), -EBUSY);
        image_unlock(other);
        image_unlock(b);
        assert_int_equal(image_lock(other, path, true), 0); /* nothing of @a's is left */
        err_clear();
}

static void test_qemu_writes_we_read(void **state)
{
        against_qemu(false, false, -EBUSY);
}

static void test_qemu_writes_we_write(void **state)
{
        against_qemu(false, true, -EBUSY);
}

static void test_qemu_reads_we_write(void **state)
{
        against_qemu(true, true, 0); /* qemu-io -r lets others write */
}

static void test_qemu_reads_we_read(void **state)
{
        against_qemu(true, false, 0);
}

static int qemu_io_opens(const char *options)
{
        char cmd[200];
        int status;

        snprintf(cmd, sizeof(cmd), "qemu-io -f raw %s -c length %s >/dev/null 2>&1", options, path);
        status = system(cmd);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_qemu_respects_us(void **state)
{
        int fd = open(path, O_RDWR);

        if (qemu_io_opens("") != 0) { /* without us it can; else it is not there */
                close(fd);
                skip();
        }
        assert_int_equal(image_lock(fd, path, true), 0);
        assert_int_not_equal(qemu_io_opens(""), 0);
        assert_int_equal(qemu_io_opens("-r -U"), 0);
        close(fd);
        fd = open(path, O_RDWR);
        assert_int_equal(image_lock(fd, path, false), 0);
        assert_int_not_equal(qemu_io_opens(""), 0);
        assert_int_equal(qemu_io_opens("-r"), 0);
        close(fd);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pairs), cmocka_unit_test(test_close_gives_back), cmocka_unit_test(test_pass),
                cmocka_unit_test(test_somebody_still_holds_the_open_file),
                cmocka_unit_test(test_qemu_writes_we_read), cmocka_unit_test(test_qemu_writes_we_write),
                cmocka_unit_test(test_qemu_reads_we_write), cmocka_unit_test(test_qemu_reads_we_read),
                cmocka_unit_test(test_qemu_respects_us),
        };

        return cmocka_run_group_tests(tests, make_file, remove_file);
}
