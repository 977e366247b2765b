/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/format.h"

static char dir[] = "/var/tmp/test_raw.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
        if (!mkdtemp(dir))
                return -1;
        snprintf(path, sizeof(path), "%s/disk", dir);
        return 0;
}

static int remove_dir(void **state)
{
        return rmdir(dir);
}

static int cleanup(void **state)
{
        err_clear();
        unlink(path);
        return 0;
}

static struct fmt_image *open_mem(const void *bytes, size_t len, unsigned flags)
{
        struct fmt_image *img;
        struct file *f;

        assert_int_equal(file_open_mem(bytes, len, &f), 0);
        assert_int_equal(fmt_open_file(f, &(struct fmt_open_opts){ .format = "raw", .flags = flags }, &img), 0);
        return img;
}

static void test_odd_size(void **state)
{
        struct fmt_image *img = open_mem("abc", 3, 0);
        char buf[512];

        assert_int_equal(img->size, 512);
        assert_int_equal(img->cluster_size, 1);
        memset(buf, 0xee, sizeof(buf));
        assert_int_equal(chain_read_sync(img, buf, 512, 0), 0);
        assert_memory_equal(buf, "abc\0\0\0", 6);
        assert_int_equal(buf[511], 0);
        chain_close(img);
}

static void test_map_and_plans(void **state)
{
        struct fmt_image *img = open_mem(NULL, 1 << 20, 0);
        struct fmt_plan plan = { 0 };
        struct extent ext[4];

        assert_int_equal(fmt_map(img, 4096, 8192, ext, 4), 1);
        assert_true(ext[0].kind == EXT_DATA && ext[0].writable && ext[0].host == 4096 && ext[0].len == 8192);
        assert_int_equal(fmt_plan_write(img, 512, 1024, &plan), 0);
        assert_true(plan.kind == PLAN_IN_PLACE && plan.off == 512 && plan.len == 1024 && plan.host == 512);
        assert_int_equal(fmt_plan_zero(img, 512, 1024, 0, &plan), 0);
        assert_true(plan.kind == PLAN_PUNCH && plan.keep && plan.host == 512 && plan.len == 1024);
        assert_int_equal(fmt_plan_zero(img, 512, 1024, ZERO_MAY_UNMAP, &plan), 0);
        assert_true(plan.kind == PLAN_PUNCH && !plan.keep);
        assert_int_equal(fmt_plan_zero(img, 512, 1024, ZERO_DISCARD, &plan), 0);
        assert_true(plan.kind == PLAN_PUNCH && !plan.keep);
        chain_close(img);
}

static void test_read_only(void **state)
{
        struct fmt_image *img = open_mem(NULL, 4096, FMT_RDONLY);
        struct fmt_plan plan = { 0 };
        struct extent ext;

        assert_int_equal(fmt_map(img, 0, 512, &ext, 1), 1);
        assert_false(ext.writable);
        assert_int_equal(fmt_plan_write(img, 0, 512, &plan), -EROFS);
        assert_int_equal(fmt_plan_zero(img, 0, 512, ZERO_DISCARD, &plan), -EROFS);
        chain_close(img);
}

static uint64_t create_and_measure(const char *prealloc, uint64_t size)
{
        struct fmt_option opt = { "preallocation", prealloc };
        struct fmt_create req = { .size = size, .opts = &opt, .nopts = prealloc != NULL };
        struct file *f;
        uint64_t bytes;

        assert_int_equal(fmt_create_path(path, fmt_driver_find("raw"), &req), 0);
        assert_int_equal(file_open(path, FILE_RDONLY, &f), 0);
        assert_int_equal(f->size, size);
        assert_int_equal(file_allocated(f, &bytes), 0);
        file_close(f);
        return bytes;
}

static void test_create(void **state)
{
        assert_true(create_and_measure(NULL, 8 << 20) < 1 << 20);
        assert_true(create_and_measure("falloc", 3 << 20) >= 3 << 20);
        assert_true(create_and_measure("full", 3 << 20) >= 3 << 20);
        assert_true(create_and_measure("off", 8 << 20) < 1 << 20); /* what was there is gone */
}

static void test_create_errors(void **state)
{
        struct fmt_option bad_value = { "preallocation", "some" }, bad_name = { "cluster_size", "64k" };
        struct { struct fmt_create req; const char *says; } cases[] = {
                { { .size = 512, .opts = &bad_value, .nopts = 1 }, "'some'" },
                { { .size = 512, .opts = &bad_name, .nopts = 1 }, "'cluster_size'" },
                { { .size = 512, .backing_name = "x" }, "backing" },
                { { .size = UINT64_MAX / 2 }, "set the size" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int r;

                err_clear();
                r = fmt_create_path(path, fmt_driver_find("raw"), &cases[i].req);
                if (r >= 0 || !strstr(err_text(r), cases[i].says))
                        fail_msg("case %zu: %d %s", i, r, err_text(r));
                assert_int_equal(access(path, F_OK), -1); /* nothing half-made stays */
        }
}

static void test_resize(void **state)
{
        struct fmt_image *img = open_mem("abcd", 4, 0);

        assert_int_equal(img->drv->resize(img, 8192, false), 0);
        assert_true(img->size == 8192 && img->file->size == 8192);
        assert_int_equal(img->drv->resize(img, 512, false), -EINVAL);
        assert_int_equal(img->size, 8192);
        assert_int_equal(img->drv->resize(img, 512, true), 0);
        assert_true(img->size == 512 && img->file->size == 512);
        chain_close(img);
}

static void test_holes_are_seen(void **state)
{
        struct fmt_create req = { .size = 1 << 20 };
        struct fmt_image *img;
        struct extent ext;
        char block[65536];

        memset(block, 7, sizeof(block));
        assert_int_equal(fmt_create_path(path, fmt_driver_find("raw"), &req), 0);
        assert_int_equal(chain_open(path, &(struct fmt_open_opts){ .format = "raw" }, &img), 0);
        assert_int_equal(file_pwrite(img->file, block, sizeof(block), 256 << 10), 0);
        assert_int_equal(chain_map_sync(img, 0, 1 << 20, &ext), 0);
        if (!ext.hole) /* a file system without holes */
                skip();
        assert_true(ext.kind == EXT_DATA && ext.len == 256 << 10);
        assert_int_equal(chain_map_sync(img, 256 << 10, 512 << 10, &ext), 0);
        assert_true(!ext.hole && ext.len == 65536);
        assert_int_equal(chain_map_sync(img, 320 << 10, 1 << 10, &ext), 0);
        assert_true(ext.hole && ext.len == 1 << 10);
        chain_close(img);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_odd_size, cleanup), cmocka_unit_test_teardown(test_map_and_plans, cleanup),
                cmocka_unit_test_teardown(test_read_only, cleanup), cmocka_unit_test_teardown(test_create, cleanup),
                cmocka_unit_test_teardown(test_create_errors, cleanup), cmocka_unit_test_teardown(test_resize, cleanup),
                cmocka_unit_test_teardown(test_holes_are_seen, cleanup),
        };

        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
