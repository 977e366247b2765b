/* SPDX-License-Identifier: BSD-3-Clause */
/* Drivers found and probed, the natural answers for what a driver leaves out, batches, the null format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "formats/format.h"

static int cleanup(void **state)
{
        err_clear();
        return fault_arm(NULL);
}

static void test_registry(void **state)
{
        assert_string_equal(fmt_driver_find("raw")->name, "raw");
        assert_string_equal(fmt_driver_find("qcow2")->name, "qcow2");
        assert_true(fmt_driver_find("null")->caps & FMT_NO_FILE);
        assert_null(fmt_driver_find("RAW"));
        assert_null(fmt_driver_find(""));
        for (const struct fmt_driver *const *d = fmt_drivers(); *d; d++)
                assert_ptr_equal(fmt_driver_find((*d)->name), *d);
}

static void test_probe(void **state)
{
        static const char qcow2[8] = { 'Q', 'F', 'I', '\xfb', 0, 0, 0, 3 };

        assert_string_equal(fmt_probe(qcow2, sizeof(qcow2)), "qcow2");
        assert_null(fmt_probe(qcow2, 3));
        assert_null(fmt_probe("", 0));
        assert_null(fmt_probe("MBR boot code", 13)); /* never "raw" */
}

static int open_bytes(const void *bytes, size_t len, const char *format, unsigned flags, struct fmt_image **ret)
{
        struct file *f;

        err_clear();
        assert_int_equal(file_open_mem(bytes, len, &f), 0);
        return fmt_open_file(f, &(struct fmt_open_opts){ .format = format, .flags = flags }, ret);
}

static void test_open_needs_a_word_for_raw(void **state)
{
        struct fmt_image *img;

        assert_int_equal(open_bytes("plain", 5, NULL, 0, &img), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), "raw"));
        assert_int_equal(open_bytes("plain", 5, NULL, FMT_RDONLY, &img), -EINVAL);
        assert_int_equal(open_bytes("plain", 5, NULL, FMT_RDONLY | FMT_GUESS, &img), 0);
        assert_string_equal(img->drv->name, "raw");
        chain_close(img);
        assert_int_equal(open_bytes("plain", 5, "qed", 0, &img), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), "'qed'"));
        assert_int_equal(open_bytes("plain", 5, "null", 0, &img), -EINVAL);
        assert_int_equal(open_bytes("plain", 5, "qcow2", 0, &img), -EINVAL);
}

/* --- batches --------------------------------------------------------------------------------------------------- */

struct my_batch {
        struct fmt_batch b;
        int *result;
};

static void my_done(struct fmt_batch *b, int err)
{
        *container_of(b, struct my_batch, b)->result = err;
        fmt_batch_free(b);
}

static struct fmt_batch *make_batch(struct fmt_image *img, char *page, int *result)
{
        static const struct fmt_step steps[] = {
                { .op = FMT_WRITE, .off = 0, .len = 4 }, { .op = FMT_SYNC },
                { .op = FMT_TRUNCATE, .off = 8 },        { .op = FMT_ZERO, .off = 1, .len = 2 },
                { .op = FMT_READ, .off = 0, .len = 4 },  { .op = FMT_SYNC },
        };
        struct fmt_batch *b = fmt_batch_new(img, ARRAY_SIZE(steps), sizeof(struct my_batch));

        assert_non_null(b);
        memcpy(b->step, steps, sizeof(steps));
        b->step[0].buf = b->step[4].buf = page;
        b->nsteps = ARRAY_SIZE(steps);
        b->done = my_done;
        container_of(b, struct my_batch, b)->result = result;
        *result = 1;
        return b;
}

static void test_batch_runs_in_order(void **state)
{
        struct fmt_image *img;
        char page[4] = "abcd";
        int result;

        assert_int_equal(open_bytes(NULL, 4, "raw", 0, &img), 0);
        assert_int_equal(fmt_batch_run_sync(make_batch(img, page, &result)), 0);
        assert_int_equal(result, 0);
        assert_int_equal(img->file->size, 8);
        assert_memory_equal(page, "a\0\0d", 4);
        chain_close(img);
}

static void test_batch_stops_at_the_first_error(void **state)
{
        struct fmt_image *img;
        char page[4] = "abcd";
        int result;

        assert_int_equal(open_bytes(NULL, 4, "raw", 0, &img), 0);
        fault_arm("file.sync=1:ENOSPC,file.truncate=0");
        assert_int_equal(fmt_batch_run_sync(make_batch(img, page, &result)), -ENOSPC);
        assert_int_equal(result, -ENOSPC);
        assert_int_equal(fault_count("file.truncate"), 0);
        assert_int_equal(img->file->size, 4);
        chain_close(img);
}

/* --- what a driver leaves out ---------------------------------------------------------------------------------- */

static void test_flush_of_raw_is_a_sync(void **state)
{
        struct fmt_image *img;
        struct fmt_batch *b;

        assert_int_equal(open_bytes("x", 1, "raw", 0, &img), 0);
        assert_int_equal(fmt_flush(img, &b), 0);
        assert_true(b->nsteps == 1 && b->step[0].op == FMT_SYNC);
        fault_arm("file.sync=1");
        assert_int_equal(fmt_batch_run_sync(b), -EIO);
        assert_int_equal(fmt_housekeep(img, &b), 0);
        assert_null(b);
        assert_null(fmt_want(img));
        assert_false(fmt_is_dirty(img));
        assert_int_equal(fmt_dying(img), 0);
        assert_int_equal(fmt_unpack(img, "x", 1, NULL), -EIO);
        fmt_commit(img, &(struct fmt_plan){ 0 });
        fmt_abort(img, &(struct fmt_plan){ 0 });
        assert_int_equal(fmt_settle_sync(img), 0);
        chain_close(img);
}

static void test_corrupt_refuses_writes(void **state)
{
        struct fmt_plan plan = { 0 };
        struct fmt_image *img;

        assert_int_equal(open_bytes("x", 1, "raw", 0, &img), 0);
        img->corrupt = true;
        assert_int_equal(fmt_plan_write(img, 0, 1, &plan), -EIO);
        assert_int_equal(fmt_plan_zero(img, 0, 1, 0, &plan), -EIO);
        chain_close(img);
}

static void test_null(void **state)
{
        struct fmt_open_opts opts = { .format = "null", .null_size = 1000 };
        struct fmt_plan plan = { 0 };
        struct fmt_image *img, *missing;
        struct fmt_batch *b;
        struct extent ext;

        assert_int_equal(chain_open("anything", &opts, &img), 0);
        assert_int_equal(img->size, 1024);
        assert_int_equal(chain_map(img, 512, 512, &ext, 1, &missing), 1);
        assert_true(ext.kind == EXT_NOWHERE && ext.len == 512);
        assert_int_equal(fmt_plan_write(img, 0, 512, &plan), 0);
        assert_int_equal(plan.kind, PLAN_NOTHING);
        assert_int_equal(fmt_flush(img, &b), 0);
        assert_int_equal(b->nsteps, 0);
        assert_int_equal(fmt_batch_run_sync(b), 0);
        chain_close(img);
        opts.null_size = 0;
        assert_int_equal(chain_open("anything", &opts, &img), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), "size"));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_registry, cleanup), cmocka_unit_test_teardown(test_probe, cleanup),
                cmocka_unit_test_teardown(test_open_needs_a_word_for_raw, cleanup),
                cmocka_unit_test_teardown(test_batch_runs_in_order, cleanup),
                cmocka_unit_test_teardown(test_batch_stops_at_the_first_error, cleanup),
                cmocka_unit_test_teardown(test_flush_of_raw_is_a_sync, cleanup),
                cmocka_unit_test_teardown(test_corrupt_refuses_writes, cleanup),
                cmocka_unit_test_teardown(test_null, cleanup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
