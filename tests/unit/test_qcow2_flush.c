/* SPDX-License-Identifier: BSD-3-Clause */
/* The order of a flush's steps where chance seldom leads: behind a flush that failed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "formats/qcow2/on_disk.h"
#include "tests/lib/img_io.h"

#define CLUSTER 65536u
#define CLUSTERS 64u

static struct fmt_image *img;
static struct img_io io;

static void put(unsigned cluster)
{
        unsigned char buf[512];

        memset(buf, (int)cluster + 1, sizeof(buf));
        assert_int_equal(img_write(&io, buf, sizeof(buf), (uint64_t)cluster * CLUSTER), 0);
}

static uint64_t l1_offset(void)
{
        uint8_t b[8];

        assert_int_equal(file_pread(img->file, b, sizeof(b), QH_L1_OFFSET), 0);
        return be64_get(b);
}

/* Of the file: where the first L1 entry leads. */
static uint64_t table_of_disk(void)
{
        uint8_t entry[8];

        assert_int_equal(file_pread(img->file, entry, sizeof(entry), l1_offset()), 0);
        return l1e_offset(be64_get(entry));
}

static void make_with_snapshot(void)
{
        struct fmt_create req = { .size = (uint64_t)CLUSTERS * CLUSTER };
        struct fmt_open_opts how = { .format = "qcow2" };
        struct file *f;

        assert_int_equal(file_open_mem(NULL, 0, &f), 0);
        assert_int_equal(fmt_driver_find("qcow2")->create(f, &req), 0);
        assert_int_equal(fmt_open_file(f, &how, &img), 0);
        io = (struct img_io){ .img = img };
        put(0);
        assert_int_equal(img_settle(&io), 0);
        assert_int_equal(img->drv->snapshot_create(img, "s"), 0);
        assert_int_equal(chain_reload(&img, &how), 0);
        io.img = img;
}

/* Syncs before the first write into the cluster at @cluster; there is one. */
static unsigned syncs_before(const struct fmt_step *step, unsigned n, uint64_t cluster)
{
        unsigned syncs = 0;

        for (unsigned i = 0; i < n; i++) {
                if (step[i].op == FMT_WRITE && step[i].off / CLUSTER == cluster / CLUSTER)
                        return syncs;
                syncs += step[i].op == FMT_SYNC;
        }
        fail_msg("the table at %llu is not written", (unsigned long long)cluster);
        return 0;
}

/* A copied table to which an L1 entry leads already: the power may go after any write into it, so what its new
 * entries rely on must be durable before. */
static void test_a_linked_copy_waits(void **state)
{
        struct fmt_batch *b;
        uint64_t shared, copy;

        (void)state;
        make_with_snapshot();
        shared = table_of_disk();
        put(1);
        assert_int_equal(fmt_flush(img, &b), 0);
        io.fail_at = io.steps + b->nsteps; /* the last sync: the L1 entry may be in the file */
        assert_int_equal(img_run(&io, b), -EIO);
        copy = table_of_disk();
        assert_true(copy && copy != shared);

        put(2);
        assert_int_equal(fmt_flush(img, &b), 0);
        assert_true(syncs_before(b->step, b->nsteps, copy) >= 1);
        io.fail_at = io.steps + b->nsteps; /* once more: nothing of this is forgotten */
        assert_int_equal(img_run(&io, b), -EIO);

        assert_int_equal(fmt_flush(img, &b), 0);
        assert_true(syncs_before(b->step, b->nsteps, copy) >= 1);
        assert_int_equal(img_run(&io, b), 0);
        assert_int_equal(img_settle(&io), 0);
        chain_close(img);
}

/* While no L1 entry leads to it, it is whole before one does. */
static void test_a_copy_goes_before_its_entry(void **state)
{
        struct fmt_step step[16];
        struct fmt_batch *b;
        unsigned n;

        (void)state;
        make_with_snapshot();
        put(1);
        assert_int_equal(fmt_flush(img, &b), 0);
        n = b->nsteps;
        assert_true(n <= ARRAY_SIZE(step));
        memcpy(step, b->step, n * sizeof(*step));
        assert_int_equal(img_run(&io, b), 0);
        assert_true(syncs_before(step, n, table_of_disk()) < syncs_before(step, n, l1_offset()));
        assert_int_equal(img_settle(&io), 0);
        chain_close(img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_linked_copy_waits),
                cmocka_unit_test(test_a_copy_goes_before_its_entry),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
