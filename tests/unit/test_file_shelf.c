/* SPDX-License-Identifier: BSD-3-Clause */
/* Files between two owners: the lock is held all the time, and the path does not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/file.h"
#include "common/file_shelf.h"

static char path[] = "/tmp/test-shelf-XXXXXX";

static int setup(void **state)
{
        int fd = mkstemp(strcpy(path, "/tmp/test-shelf-XXXXXX"));

        (void)state;
        if (fd < 0 || ftruncate(fd, 65536) < 0)
                return -1;
        return close(fd);
}

static int teardown(void **state)
{
        (void)state;
        unlink(path);
        return 0;
}

/* Would somebody else be let in? */
static int another(void)
{
        struct file *f;
        int r = file_open(path, 0, &f);

        if (r == 0)
                file_close(f);
        err_clear();
        return r;
}

static void test_the_lock_stays(void **state)
{
        struct file_shelf s = { 0 };
        struct file *f;

        (void)state;
        assert_int_equal(file_open(path, 0, &f), 0);
        assert_int_equal(another(), -EBUSY);
        assert_null(file_shelf_use(&s));
        file_close(f);
        assert_ptr_equal(file_shelf_use(NULL), &s);
        assert_int_equal(s.n, 1);
        assert_int_equal(s.err, 0);
        assert_int_equal(another(), -EBUSY); /* nobody has it open, but it lies on the shelf */
        file_shelf_use(&s);
        assert_int_equal(file_open(path, 0, &f), 0);
        file_shelf_use(NULL);
        assert_int_equal(file_pwrite(f, "x", 1, 5), 0);
        assert_int_equal(another(), -EBUSY);
        file_close(f);
        assert_int_equal(another(), 0);
        file_shelf_finish(&s);
}

static void test_the_file_and_not_its_name(void **state)
{
        struct file_shelf s = { 0 };
        char aside[64];
        struct file *f;
        dev_t dev;
        ino_t ino, ino2;

        (void)state;
        snprintf(aside, sizeof(aside), "%s.aside", path);
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        ino = f->ino;
        file_shelf_use(&s);
        file_close(f);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(file_identify(path, &dev, &ino2), 0);
        assert_int_equal(ino2, ino);
        assert_int_equal(file_open(path, 0, &f), -ENOENT); /* for writing it was never open */
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        assert_int_equal(f->ino, ino);
        file_shelf_use(NULL);
        file_close(f);
        file_shelf_finish(&s);
        unlink(aside);
}

/* Another process has the same open file: the lock is both's, and one of them forgets. */
static void test_forgetting(void **state)
{
        struct file_shelf s = { 0 };
        struct file *f;
        int twin;

        (void)state;
        assert_int_equal(file_open(path, 0, &f), 0);
        twin = dup(f->fd);
        file_shelf_use(&s);
        file_close(f);
        file_shelf_use(NULL);
        file_shelf_forget(&s);
        assert_int_equal(another(), -EBUSY);
        close(twin);
        assert_int_equal(another(), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_the_lock_stays, setup, teardown),
                cmocka_unit_test_setup_teardown(test_the_file_and_not_its_name, setup, teardown),
                cmocka_unit_test_setup_teardown(test_forgetting, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
