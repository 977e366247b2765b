/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mark.h"
#include "vhost_user_blk/blk_device.h"

static struct blk_device *device(void)
{
        static struct blk_device d;

        memset(&d, 0, sizeof(d));
        d.capacity = 0x123456789aull;
        d.block_size = 512;
        d.cluster_size = 65536;
        d.vu.num_queues = 64;
        atomic_init(&d.wce, true);
        return &d;
}

/* Every (offset, size) that fits a message and some that do not: the same bytes as from one big read, zeros behind. */
static void test_every_window(void **state)
{
        struct blk_device *d = device();
        uint8_t all[600] = { 0 }, got[310];

        assert_int_equal(blk_get_config(&d->vu, 0, all, 256), 0);
        for (uint32_t off = 0; off <= 300; off++)
                for (uint32_t len = 0; len <= 300; len++) {
                        /* 0x100 and above is what some front ends call 0 */
                        const uint8_t *want = all + (off >= 256 ? off - 256 : off);

                        memset(got, 0xee, sizeof(got));
                        assert_int_equal(blk_get_config(&d->vu, off, got, len), 0);
                        if (memcmp(got, want, len))
                                fail_msg("[%u, +%u) differs", off, len);
                        assert_int_equal(got[len], 0xee);
                }
        assert_int_equal(blk_get_config(&d->vu, UINT32_MAX, got, 300), 0);
        for (int i = 0; i < 300; i++)
                assert_int_equal(got[i], 0);
}

static void test_fields(void **state)
{
        struct blk_device *d = device();
        struct virtio_blk_config c;

        assert_int_equal(blk_get_config(&d->vu, 0, &c, sizeof(c)), 0);
        assert_int_equal(c.capacity, 0x123456789aull);
        assert_int_equal(c.seg_max, 126);
        assert_int_equal(c.blk_size, 512);
        assert_int_equal(c.physical_block_exp, 3);
        assert_int_equal(c.min_io_size, 8);
        assert_int_equal(c.opt_io_size, 128);
        assert_int_equal(c.wce, 1);
        assert_int_equal(c.num_queues, 64);
        assert_int_equal(c.discard_sector_alignment, 128);
        assert_int_equal(c.max_discard_seg, BLK_MAX_RANGES);
        assert_int_equal(c.write_zeroes_may_unmap, 1);
        d->block_size = 4096;
        d->cluster_size = 1;
        assert_int_equal(blk_get_config(&d->vu, 0, &c, sizeof(c)), 0);
        assert_int_equal(c.blk_size, 4096);
        assert_int_equal(c.physical_block_exp, 0);
        assert_int_equal(c.min_io_size, 1);
        assert_int_equal(c.opt_io_size, 0);
        assert_int_equal(c.discard_sector_alignment, 8);
        d->read_only = true;
        assert_int_equal(blk_get_config(&d->vu, 0, &c, sizeof(c)), 0);
        assert_int_equal(c.max_discard_sectors, 0);
        assert_int_equal(c.max_write_zeroes_sectors, 0);
}

/* The mode is found again by the next daemon, as long as nobody has switched the cache on. */
static void test_mark(void **state)
{
        struct blk_device *d = device();
        char path[] = "/tmp/test-wce-XXXXXX";

        close(mkstemp(path));
        assert_int_equal(mark_set(path, false), 0);
        assert_int_equal(mark_set(path, false), 0);
        d->wce_mark = path;
        assert_int_equal(blk_set_config(&d->vu, 32, &(uint8_t){ 0 }, 1), 1);
        assert_true(mark_is_set(path));
        assert_int_equal(blk_set_config(&d->vu, 32, &(uint8_t){ 0 }, 1), 0);
        assert_true(mark_is_set(path));
        assert_int_equal(blk_set_config(&d->vu, 32, &(uint8_t){ 1 }, 1), 1);
        assert_false(mark_is_set(path));
        d->wce_mark = "/nowhere/at/all";
        assert_int_equal(blk_set_config(&d->vu, 32, &(uint8_t){ 0 }, 1), 1); /* obeyed all the same */
        assert_false(d->wce);
}

static void test_features(void **state)
{
        struct blk_device *d = device();
        uint64_t rw = blk_features(d), ro;

        d->read_only = true;
        ro = blk_features(d);
        assert_int_equal(rw, 0x530007e46ull); /* bits 1 2 6 9-14 28 29 32 */
        assert_int_equal(rw & ~ro, 1u << 13 | 1u << 14);
        assert_int_equal(ro & ~rw, 1u << 5);
}

/* The guest may write the cache mode, and nothing else. */
static void test_set_config(void **state)
{
        struct blk_device *d = device();

        for (uint32_t off = 0; off < 600; off++)
                for (uint32_t len = 0; len < 4; len++) {
                        bool wce = (off == 32 || off == 0x100 + 32) && len == 1;

                        assert_int_equal(blk_set_config(&d->vu, off, "\0\0\0\0", len), wce ? 1 : -EINVAL);
                        assert_int_equal(atomic_load(&d->wce), !wce);
                        atomic_store(&d->wce, true);
                        err_clear();
                }
        atomic_store(&d->wce, false);
        assert_int_equal(blk_set_config(&d->vu, 32, "\xff", 1), 1);
        assert_true(atomic_load(&d->wce));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_window),
                cmocka_unit_test(test_fields),
                cmocka_unit_test(test_features),
                cmocka_unit_test(test_mark),
                cmocka_unit_test(test_set_config),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
