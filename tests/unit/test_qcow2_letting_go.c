/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When may a cluster that was let go have a new owner? Not before those who looked it up have finished (grace period), not
 * before the unlink is durable, and not with its old bytes in it. And what is cut off a disk does not come back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "formats/format.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define CLUSTER 65536u
#define CLUSTERS 64u

static struct fmt_image *img;
static struct img_io io;
static unsigned char buf[CLUSTER];

static void make(void)
{
        struct fmt_create req = { .size = (uint64_t)CLUSTERS * CLUSTER };
        struct fmt_open_opts how = { .format = "qcow2" };
        struct file *f;

        assert_int_equal(file_open_mem(NULL, 0, &f), 0);
        assert_int_equal(fmt_driver_find("qcow2")->create(f, &req), 0);
        assert_int_equal(fmt_open_file(f, &how, &img), 0);
        io = (struct img_io){ .img = img, .hold_dying = true };
}

static void put(unsigned cluster, int value, size_t len)
{
        memset(buf, value, len);
        assert_int_equal(img_write(&io, buf, len, (uint64_t)cluster * CLUSTER), 0);
}

static void drop(unsigned cluster)
{
        assert_int_equal(img_zero(&io, (uint64_t)cluster * CLUSTER, CLUSTER, ZERO_DISCARD), 0);
}

static uint64_t host_of(unsigned cluster)
{
        struct extent e;

        assert_int_equal(chain_map_sync(img, (uint64_t)cluster * CLUSTER, 1, &e), 0);
        return e.kind == EXT_DATA ? e.host : 0;
}

/* Writes to new clusters until one of them has the place @host, or the disk is full. */
static bool comes_back(uint64_t host, unsigned from)
{
        for (unsigned c = from; c < CLUSTERS; c++) {
                put(c, 9, 512);
                if (host_of(c) == host)
                        return true;
                if (c % 4 == 0)
                        assert_int_equal(img_flush(&io), 0);
        }
        return false;
}

static void settle(void)
{
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(img_flush(&io), 0);
}

/* The second one is let go after the question was asked: the answer is not about it. */
static void test_a_grace_period_is_for_those_before_it(void **state)
{
        uint64_t first, second, ticket;

        (void)state;
        make();
        put(0, 1, CLUSTER);
        put(2, 2, CLUSTER); /* they are no neighbours in the file */
        put(1, 3, CLUSTER);
        first = host_of(0);
        second = host_of(1);
        settle();
        drop(0);
        ticket = fmt_dying(img);
        assert_true(ticket);
        drop(1);
        fmt_dying_release(img, ticket);
        settle();
        assert_false(comes_back(second, 3));
        (void)first;
        chain_close(img);
}

static void test_a_cluster_comes_back_as_zeros(void **state)
{
        uint64_t host;

        (void)state;
        make();
        put(0, 1, CLUSTER);
        settle();
        host = host_of(0);
        drop(0);
        fmt_dying_release(img, fmt_dying(img));
        settle();
        assert_true(comes_back(host, 3));
        chain_close(img);
}

/* Old bytes are there: then it does not come back at all. */
static void test_a_punch_that_fails(void **state)
{
        uint64_t host;

        (void)state;
        make();
        put(0, 1, CLUSTER);
        settle();
        host = host_of(0);
        drop(0);
        fmt_dying_release(img, fmt_dying(img));
        assert_int_equal(fault_arm("file.punch=1:EIO"), 0);
        (void)img_flush(&io);
        (void)img_flush(&io);
        fault_arm(NULL);
        err_clear();
        settle();
        assert_false(comes_back(host, 3));
        chain_close(img);
}

/* Smaller, to the middle of a compressed cluster, and larger again: there are zeros. */
static void test_what_is_cut_off_a_compressed_cluster(void **state)
{
        struct fmt_open_opts how = { .format = "qcow2" };
        static unsigned char got[CLUSTER];

        (void)state;
        make();
        memset(buf, 7, CLUSTER);
        assert_int_equal(img_write_packed(&io, buf, CLUSTER), 0);
        io.hold_dying = false;
        assert_int_equal(img_settle(&io), 0);
        assert_int_equal(img->drv->resize(img, CLUSTER + 512, true), 0);
        assert_int_equal(chain_reload(&img, &how), 0);
        assert_int_equal(img->drv->resize(img, 2 * CLUSTER, false), 0);
        assert_int_equal(chain_reload(&img, &how), 0);
        assert_int_equal(chain_read_sync(img, got, CLUSTER, CLUSTER), 0);
        memset(buf + 512, 0, CLUSTER - 512);
        assert_memory_equal(got, buf, CLUSTER);
        chain_close(img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_grace_period_is_for_those_before_it),
                cmocka_unit_test(test_a_cluster_comes_back_as_zeros),
                cmocka_unit_test(test_a_punch_that_fails),
                cmocka_unit_test(test_what_is_cut_off_a_compressed_cluster),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
