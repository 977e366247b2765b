/* SPDX-License-Identifier: BSD-3-Clause */
/* Extended L2 entries: what a sub-cluster is good for, and what of it must not go wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/qcow2/l2e.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define SIZE (8u << 20)
#define CLUSTER (128u << 10)
#define SUB 4096u

static struct disk {
        char path[TMP_PATH_MAX], base[TMP_PATH_MAX];
        struct fmt_image *img;
        struct img_io io;
        struct file_tap tap;
        uint64_t written; /* bytes */
        unsigned char buf[SIZE];
} d;

static void must(int r)
{
        if (r < 0)
                fail_msg("%d %s", r, err_text(r));
}

static void on_event(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        (void)tap;
        (void)f;
        if (ev->kind == FILE_EV_WRITE && ev->phase == FILE_EV_DONE)
                d.written += ev->len;
}

static void open_disk(void)
{
        struct fmt_open_opts opts = { .format = "qcow2" };

        must(chain_open(d.path, &opts, &d.img));
        d.io = (struct img_io){ .img = d.img };
        d.tap.event = on_event;
        d.img->file->tap = &d.tap;
}

static void close_disk(void)
{
        must(img_settle(&d.io));
        chain_close(TAKE(d.img, NULL));
        assert_int_equal(run_cmd("qemu-img check '%s'", d.path), 0);
}

/* 128 KiB clusters with sub-clusters of 4 KiB; @base: on a raw file of 0x11. */
static void make_disk(bool base)
{
        char backing[TMP_PATH_MAX + 32] = "";

        tmp_path("sub.qcow2", d.path);
        tmp_path("sub.raw", d.base);
        memset(d.buf, 0x11, SIZE);
        assert_int_equal(save_file(d.base, d.buf, SIZE), 0);
        if (base)
                snprintf(backing, sizeof(backing), "-b '%s' -F raw", d.base);
        assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o cluster_size=128k,extended_l2=on %s '%s' %u", backing, d.path,
                                 SIZE), 0);
}

static void put(int byte, uint64_t off, size_t len)
{
        memset(d.buf, byte, len);
        must(img_write(&d.io, d.buf, len, off));
}

static void expect(int byte, uint64_t off, size_t len)
{
        must(img_read(&d.io, d.buf, len, off));
        for (size_t i = 0; i < len; i++)
                if (d.buf[i] != byte)
                        fail_msg("byte %llu is 0x%02x, should be 0x%02x", (unsigned long long)(off + i), d.buf[i], byte);
}

static struct extent map_at(uint64_t off)
{
        struct extent e;

        assert_int_equal(fmt_map(d.img, off, 1, &e, 1), 1);
        return e;
}

/* The first cluster, its table, and what housekeeping does after that. */
static void first_write(void)
{
        put(0x22, 0, SUB);
        do
                must(img_flush(&d.io));
        while (fmt_is_dirty(d.img));
}

static int drop_disk(void **state)
{
        chain_close(TAKE(d.img, NULL)); /* of a test that failed */
        return 0;
}

/* Bytes that a write and its flush put into the file. */
static uint64_t cost_of(uint64_t off, size_t len)
{
        uint64_t before = d.written;

        put(0x22, off, len);
        must(img_flush(&d.io));
        return d.written - before;
}

static void test_a_write_copies_nothing(void **state)
{
        make_disk(true);
        open_disk();
        first_write();
        assert_int_equal(cost_of(CLUSTER + 5 * SUB, SUB), SUB + 512);             /* a new cluster: the data, a sector of L2 */
        assert_int_equal(cost_of(CLUSTER + 9 * SUB, SUB), SUB + 512);             /* more of it */
        assert_int_equal(cost_of(CLUSTER + 5 * SUB, SUB), SUB);                   /* again */
        assert_int_equal(cost_of(2 * CLUSTER + 512, 512), SUB + 512);             /* the rest of one sub-cluster */
        assert_int_equal(cost_of(3 * CLUSTER + 512, 2 * SUB), 3 * SUB + 512);     /* of two */
        expect(0x11, CLUSTER, 5 * SUB);
        expect(0x22, CLUSTER + 5 * SUB, SUB);
        expect(0x11, CLUSTER + 6 * SUB, 3 * SUB);
        expect(0x11, 2 * CLUSTER, 512);
        expect(0x22, 2 * CLUSTER + 512, 512);
        expect(0x11, 2 * CLUSTER + 1024, SUB);
        close_disk();
}

/* Nothing was there and nothing is in the place: one sync does, as long as that is known. */
static void test_one_sync_where_zeros_were(void **state)
{
        unsigned long before;

        make_disk(false);
        open_disk();
        first_write();
        before = d.io.syncs;
        put(0x22, 5 * SUB, SUB); /* the same cluster */
        must(img_flush(&d.io));
        put(0x22, CLUSTER, SUB);
        must(img_flush(&d.io));
        assert_int_equal(d.io.syncs - before, 2);
        must(img_zero(&d.io, 5 * SUB, SUB, 0)); /* now there are old bytes */
        must(img_flush(&d.io));
        before = d.io.syncs;
        put(0x33, 5 * SUB + 512, 512);
        must(img_flush(&d.io));
        assert_int_equal(d.io.syncs - before, 2);
        expect(0, 5 * SUB, 512);
        expect(0x33, 5 * SUB + 512, 512);
        expect(0, 5 * SUB + 1024, 6 * SUB);
        close_disk();
}

/* A write that failed half way leaves bytes in a sub-cluster that nobody sees; nor later, when it comes into use. */
static void test_what_a_failed_write_left_is_not_seen(void **state)
{
        struct fmt_plan plan;

        make_disk(false);
        open_disk();
        put(0x22, 0, SUB);
        must(img_flush(&d.io));
        must(img_plan_write(&d.io, 3 * SUB, SUB, &plan));
        assert_int_equal(plan.kind, PLAN_ALLOCATE);
        memset(d.buf, 0x66, SUB);
        must(img_put(&d.io, &plan, d.buf));
        fmt_abort(d.img, &plan);
        expect(0, 3 * SUB, SUB);
        put(0x33, 3 * SUB + 1024, 512);
        expect(0, 3 * SUB, 1024);
        expect(0x33, 3 * SUB + 1024, 512);
        expect(0, 3 * SUB + 1536, SUB - 1536);
        close_disk();
}

static void test_parts_go_and_the_last_takes_the_cluster(void **state)
{
        make_disk(true);
        open_disk();
        put(0x22, CLUSTER, CLUSTER);
        must(img_zero(&d.io, CLUSTER, CLUSTER / 2, ZERO_DISCARD));
        assert_int_equal(map_at(CLUSTER).kind, EXT_ZERO); /* not what is in the base */
        assert_true(map_at(CLUSTER).allocated);
        assert_int_equal(map_at(CLUSTER).len, 1);
        assert_int_equal(map_at(CLUSTER + CLUSTER / 2).kind, EXT_DATA);
        expect(0, CLUSTER, CLUSTER / 2);
        must(img_zero(&d.io, CLUSTER + CLUSTER / 2, CLUSTER / 2, ZERO_MAY_UNMAP));
        assert_int_equal(map_at(CLUSTER).kind, EXT_ZERO);
        assert_false(map_at(CLUSTER).allocated);
        expect(0x11, 2 * CLUSTER, SUB);
        put(0x22, 3 * CLUSTER, CLUSTER);
        must(img_zero(&d.io, 3 * CLUSTER + SUB, SUB, 0)); /* keeps the space */
        must(img_zero(&d.io, 3 * CLUSTER + 5 * SUB, CLUSTER - 5 * SUB, 0));
        assert_true(map_at(3 * CLUSTER + SUB).allocated);
        expect(0x22, 3 * CLUSTER, SUB);
        expect(0, 3 * CLUSTER + SUB, SUB);
        expect(0x22, 3 * CLUSTER + 2 * SUB, 3 * SUB);
        expect(0, 3 * CLUSTER + 5 * SUB, CLUSTER - 5 * SUB);
        close_disk();
        assert_int_equal(run_cmd("qemu-io -r -f qcow2 -c 'read -P 0 128k 128k' -c 'read -P 0x11 256k 128k' "
                                 "-c 'read -P 0 388k 4k' -c 'read -P 0x22 392k 12k' '%s' | { ! grep -i -e fail -e error; }",
                                 d.path), 0);
}

/* A snapshot shares the cluster: what it has moves along, what it has not stays in the base. */
static void test_shared_cluster_is_copied(void **state)
{
        make_disk(true);
        open_disk();
        put(0x22, 2 * SUB, SUB);
        put(0x33, 6 * SUB, SUB);
        close_disk();
        assert_int_equal(run_cmd("qemu-img snapshot -c one '%s'", d.path), 0);
        open_disk();
        must(img_flush(&d.io));
        put(0x44, 4 * SUB, SUB);
        assert_int_equal(map_at(0).kind, EXT_ABSENT);
        assert_int_equal(map_at(7 * SUB).kind, EXT_ABSENT);
        expect(0x11, 0, 2 * SUB);
        expect(0x22, 2 * SUB, SUB);
        expect(0x11, 3 * SUB, SUB);
        expect(0x44, 4 * SUB, SUB);
        expect(0x33, 6 * SUB, SUB);
        expect(0x11, 7 * SUB, CLUSTER - 7 * SUB);
        close_disk();
        assert_int_equal(run_cmd("qemu-img snapshot -a one '%s' && qemu-io -r -f qcow2 -c 'read -P 0x22 8k 4k' -c "
                                 "'read -P 0x11 16k 4k' '%s' | { ! grep -i -e fail -e error; }", d.path, d.path), 0);
}

/* Entries that contradict themselves: an error for whoever looks, and no more writes. */
static void test_nonsense_is_an_error(void **state)
{
        static const struct {
                const char *what;
                uint64_t set, clear, subs;
        } cases[] = {
                { "data and zeros at once", 0, 0, 0x100000001 },
                { "data in no cluster", 0, UINT64_MAX, 1 },
                { "sub-clusters of a compressed cluster", QCOW2_L2_COMPRESSED, QCOW2_COPIED, 1 },
                { "the zero bit of entries without sub-clusters", QCOW2_L2_ZERO, 0, 1 },
        };

        log_init("test_qcow2_subclusters", 0); /* each contradiction is a line otherwise */
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                AUTO(freep) unsigned char *bytes = NULL;
                unsigned char *entry;
                uint64_t l1;
                size_t len;

                make_disk(false);
                open_disk();
                put(0x22, 0, CLUSTER);
                close_disk();
                bytes = load_file(d.path, &len);
                l1 = be64_get(bytes + QH_L1_OFFSET);
                entry = bytes + l1e_offset(be64_get(bytes + l1));
                be64_put(entry, (be64_get(entry) & ~cases[i].clear) | cases[i].set);
                be64_put(entry + 8, cases[i].subs);
                assert_int_equal(save_file(d.path, bytes, len), 0);
                open_disk();
                assert_int_equal(img_read(&d.io, d.buf, SUB, 0), -EIO);
                assert_true(d.img->corrupt);
                assert_int_equal(img_write(&d.io, d.buf, SUB, CLUSTER), -EIO);
                chain_close(TAKE(d.img, NULL));
                err_clear();
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_a_write_copies_nothing, drop_disk),
                cmocka_unit_test_teardown(test_one_sync_where_zeros_were, drop_disk),
                cmocka_unit_test_teardown(test_what_a_failed_write_left_is_not_seen, drop_disk),
                cmocka_unit_test_teardown(test_parts_go_and_the_last_takes_the_cluster, drop_disk),
                cmocka_unit_test_teardown(test_shared_cluster_is_copied, drop_disk),
                cmocka_unit_test_teardown(test_nonsense_is_an_error, drop_disk),
        };

        rcu_register_thread();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
