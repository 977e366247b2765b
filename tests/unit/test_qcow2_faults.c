/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every single step of I/O fails once. What the caller was told must be true: an operation that failed has left old or
 * new bytes, all others count; afterwards the disk works on, and the image is clean.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define SIZE (1u << 20)
#define OPS 40

static uint64_t seed;

struct world {
        unsigned char model[SIZE], buf[SIZE];
        bool loose[SIZE]; /* a failed operation touched it: old or new */
        struct fmt_image *img;
        struct img_io io;
        uint64_t rnd;
        unsigned failures;
};

static int change(struct world *w, uint64_t off, uint64_t len, unsigned kind)
{
        if (kind == 0)
                return img_zero(&w->io, off, len, ZERO_MAY_UNMAP);
        if (kind == 1)
                return img_zero(&w->io, off, len, 0);
        return img_write(&w->io, w->buf, len, off);
}

/* A flush that fails is tried again, here as by the daemon's writeback timer; the second one must do it. */
static int flush(struct world *w)
{
        int r = img_flush(&w->io);

        if (r < 0)
                w->failures++;
        return r < 0 ? img_flush(&w->io) : 0;
}

static void one_op(struct world *w)
{
        uint64_t off = rnd_below(&w->rnd, SIZE / 512) * 512, len = (1 + rnd_below(&w->rnd, 100)) * 512;
        unsigned kind = (unsigned)rnd_below(&w->rnd, 8);
        int r;

        len = min_u64(len, SIZE - off);
        if (kind == 7) {
                assert_int_equal(flush(w), 0);
                return;
        }
        memset(w->buf, kind < 2 ? 0 : (int)(1 + rnd_below(&w->rnd, 255)), len);
        r = change(w, off, len, kind);
        if (r == 0) {
                memcpy(w->model + off, w->buf, len);
                memset(w->loose + off, false, len);
                return;
        }
        assert_int_equal(r, -EIO);
        w->failures++;
        assert_false(w->img->corrupt);
        memset(w->loose + off, true, len);
}

static void compare(struct world *w)
{
        assert_int_equal(img_read(&w->io, w->buf, SIZE, 0), 0);
        for (size_t i = 0; i < SIZE; i++)
                if (!w->loose[i] && w->buf[i] != w->model[i])
                        fail_msg("byte %zu is 0x%02x, should be 0x%02x", i, w->buf[i], w->model[i]);
}

/* @data: the data file's bytes; NULL: there is none. */
static bool run_with_failure(const void *bytes, size_t len, const void *data, unsigned long fail_at)
{
        struct fmt_open_opts opts = { .format = "qcow2", .cache_bytes = 1 };
        struct world *w = calloc(1, sizeof(*w));
        char path[TMP_PATH_MAX], data_path[TMP_PATH_MAX];
        bool failed;

        tmp_path("faults.qcow2", path);
        tmp_path("faults.data", data_path);
        assert_int_equal(save_file(path, bytes, len), 0);
        if (data)
                assert_int_equal(save_file(data_path, data, SIZE), 0);
        w->rnd = seed;
        assert_int_equal(chain_open(path, &opts, &w->img), 0);
        w->io = (struct img_io){ .img = w->img };
        assert_int_equal(img_read(&w->io, w->model, SIZE, 0), 0);
        w->io.steps = 0;
        w->io.fail_at = fail_at;
        for (unsigned i = 0; i < OPS; i++)
                one_op(w);
        w->io.fail_at = 0;
        compare(w);
        failed = w->failures > 0;
        assert_int_equal(img_settle(&w->io), 0);
        chain_close(w->img);
        if (fail_at % 5 == 0) /* 3: leaks; a failed punch or housekeeping may leave some */
                assert_int_equal(run_cmd("qemu-img check '%s' || [ $? = 3 ]", path), 0);
        free(w);
        return failed;
}

static void every_step(const char *geometry, bool snapshot, bool data_file)
{
        char path[TMP_PATH_MAX], raw[TMP_PATH_MAX], data_path[TMP_PATH_MAX], options[2 * TMP_PATH_MAX];
        unsigned char *content = malloc(SIZE);
        unsigned failures = 0;
        size_t len, data_len;
        void *bytes, *data;

        tmp_path("faults-start.qcow2", path);
        tmp_path("faults.raw", raw);
        tmp_path("faults.data", data_path);
        snprintf(options, sizeof(options), "%s%s%s", geometry, data_file ? ",data_file=" : "", data_file ? data_path : "");
        for (size_t i = 0; i < SIZE; i++)
                content[i] = (unsigned char)(i / 40960 % 2 ? i / 512 : 0);
        assert_int_equal(save_file(raw, content, SIZE), 0);
        assert_int_equal(run_cmd("qemu-img convert -O qcow2 -f raw -o %s '%s' '%s'", options, raw, path), 0);
        if (snapshot)
                assert_int_equal(run_cmd("qemu-img snapshot -c first '%s'", path), 0);
        bytes = load_file(path, &len);
        assert_non_null(bytes);
        data = data_file ? load_file(data_path, &data_len) : NULL;
        for (unsigned long at = 1; at < 400; at += 1 + at / 20)
                failures += run_with_failure(bytes, len, data, at);
        assert_true(failures > 10); /* else the steps were not hit */
        free(bytes);
        free(data);
        free(content);
}

static void test_small_clusters(void **state)
{
        (void)state;
        every_step("cluster_size=512,refcount_bits=64", false, false);
}

static void test_snapshot(void **state)
{
        (void)state;
        every_step("cluster_size=8k", true, false);
}

static void test_usual(void **state)
{
        (void)state;
        every_step("cluster_size=64k", false, false);
}

static void test_data_file(void **state)
{
        (void)state;
        every_step("cluster_size=4k", false, true);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small_clusters),
                cmocka_unit_test(test_snapshot),
                cmocka_unit_test(test_usual),
                cmocka_unit_test(test_data_file),
        };

        rcu_register_thread();
        seed = test_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
