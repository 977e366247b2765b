/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vol_corners.c - requests that wait for something that then comes differently, and disks of odd sizes.
 * Whoever waits is woken: a test that fails here often does not end.
 */
#include "vol_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/fault.h"

#define KIB 1024u
#define MIB (1u << 20)
#define MANY 100u

static const struct engine_opts sync_engine = { .kind = ENGINE_SYNC, .seed = 1 };
static const struct vol_opts qcow2_opts = { .format = "qcow2" };

static void *memory(size_t len, int c)
{
        void *buf = aligned_alloc(4096, (len + 4095) / 4096 * 4096);

        assert_non_null(buf);
        return memset(buf, c, len);
}

/* --- several requests at once ------------------------------------------------------------------------------------- */

static struct {
        struct blk_req req[MANY];
        struct iovec iov[MANY];
        unsigned n, left, failed;
        bool done;
} many;

static void on_many(struct blk_req *req, int res)
{
        (void)req;
        many.failed += res < 0;
        many.done = --many.left == 0;
}

static void add(enum blk_op op, uint64_t off, uint64_t len, void *buf)
{
        unsigned i = many.n++;

        assert_true(i < MANY);
        many.iov[i] = (struct iovec){ buf, len };
        many.req[i] = (struct blk_req){ .op = op, .off = off, .len = len, .iov = &many.iov[i], .niov = 1, .done = on_many };
}

/* All of them, in order of add(). */
static void submit_many(struct rig *g)
{
        many.left = many.n;
        many.failed = 0;
        many.done = false;
        for (unsigned i = 0; i < many.n; i++)
                port_submit(g->port, &many.req[i]);
        many.n = 0;
}

/* Returns how many failed. */
static unsigned finish_many(struct rig *g)
{
        qthread_run(g->home, &many.done);
        return many.failed;
}

static unsigned run_many(struct rig *g)
{
        submit_many(g);
        return finish_many(g);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

/* Reads that stand in line to unpack a cluster find it overwritten when it is their turn: they need none any more. */
static void test_line_for_unpacking(void **state)
{
        AUTO(freep) char *data = memory(2 * MIB, 'a'), *bufs = memory(20 * 4096, 0);
        struct rig g;
        FILE *f;

        (void)state;
        f = fopen("plain", "w");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, 2 * MIB, f), 2 * MIB);
        fclose(f);
        memset(data, 'b', 2 * MIB);
        for (unsigned round = 0; round < 5; round++) {
                assert_int_equal(system("qemu-img convert -c -O qcow2 -o cluster_size=2M plain disk"), 0);
                vf_open(&g, "disk", &qcow2_opts, &sync_engine);
                for (unsigned i = 0; i < 20; i++)
                        add(BLK_READ, i * 4096, 4096, bufs + i * 4096);
                add(BLK_WRITE, 0, 2 * MIB, data);
                assert_int_equal(run_many(&g), 0);
                for (unsigned i = 0; i < 20 * 4096; i++)
                        if (bufs[i] != 'a' && bufs[i] != 'b')
                                fail_msg("byte %u is 0x%02x", i, (unsigned char)bufs[i]);
                assert_int_equal(vf_close(&g), 0);
        }
}

/* A refcount page that cannot be read: its clusters are leaked. The disk goes on, rests when idle, and closes. */
static void test_refcounts_unreadable(void **state)
{
        AUTO(freep) char *a = memory(64 * KIB, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 64 * KIB, a), 0);
        assert_int_equal(vf_close(&g), 0);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, 4096, a), 0); /* the L2 page is here, the refcounts are not */
        assert_int_equal(fault_arm("engine.read=1:EIO:forever"), 0);
        assert_int_equal(vf_do(&g, BLK_DISCARD, BLK_FUA, 0, 64 * KIB, NULL), 0);
        assert_int_equal(vf_close(&g), 0);
        assert_in_range(fault_count("engine.read"), 1, 20);
        fault_arm(NULL);
        assert_int_equal(vf_check("disk"), 1);
}

/* More pages on their way than the cache has room for: who finds no room waits. */
static void test_cache_full_of_loads(void **state)
{
        struct vol_opts small = { .format = "qcow2", .read_only = true, .cache_bytes = 1 };
        AUTO(freep) char *a = memory(4096, 'a'), *got = memory(MANY * 4096, 0);
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "cluster_size=4k", MANY * 2ull * MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        for (unsigned i = 0; i < MANY; i++)
                assert_int_equal(vf_do(&g, BLK_WRITE, 0, i * 2ull * MIB, 4096, a), 0);
        assert_int_equal(vf_close(&g), 0);
        vf_open(&g, "disk", &small, &sync_engine);
        for (unsigned i = 0; i < MANY; i++)
                add(BLK_READ, i * 2ull * MIB, 4096, got + i * 4096);
        assert_int_equal(run_many(&g), 0);
        for (unsigned i = 0; i < MANY; i++)
                assert_memory_equal(got + i * 4096, a, 4096);
        assert_int_equal(vf_close(&g), 0);
}

/*
 * One discard of more separate clusters than may be on their way out at once: it waits for flushes, as often as need be; also
 * when flushes are fast beside what really makes room: punches, and the end of reads in the old clusters.
 */
static void long_discard(unsigned slow_ops)
{
        const struct engine_opts engine = { .kind = ENGINE_SYNC, .slow_ops = slow_ops };
        const uint64_t n = 26000;
        AUTO(freep) char *a = memory(4096, 'a'), *model = calloc(n, 512);
        struct vol_opts vo = { .format = "qcow2", .writeback = true };
        struct rig g;

        vf_create("disk", "qcow2", "cluster_size=512", n * 512, NULL);
        vf_open(&g, "disk", &vo, &engine);
        for (unsigned odd = 0; odd < 2; odd++) /* neighbours on the disk are none in the file */
                for (uint64_t c = odd; c < n; c += 2)
                        assert_int_equal(vf_do(&g, BLK_WRITE, 0, c * 512, 512, a), 0);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        add(BLK_READ, 0, 512, a);
        add(BLK_DISCARD, 0, n * 512, NULL);
        assert_int_equal(run_many(&g), 0);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
        vf_compare("disk", "qcow2", model, n * 512);
}

static void test_long_discard(void **state)
{
        (void)state;
        long_discard(0);
        long_discard(1u << IO_ZERO);
        long_discard(1u << IO_READ);
}

/*
 * What was looked up before a discard may be under way in the old clusters, for as long as the disk likes: the discard is not answered,
 * and the clusters are nobody's, until that is over. In one piece it is the port's; in many home does it.
 */
static void discard_waits(enum blk_op op, unsigned clusters)
{
        static bool held;
        const struct engine_opts engine = { .kind = ENGINE_SYNC, .slow_ops = 1u << (op == BLK_READ ? IO_READ : IO_WRITE), .hold = &held };
        AUTO(freep) char *a = memory(clusters * 4096, 'a'), *buf = memory(clusters * 4096, 'b');
        struct rig g;

        vf_create("disk", "qcow2", "cluster_size=4k", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &engine);
        for (unsigned odd = 0; odd < 2; odd++)
                for (unsigned c = odd; c < clusters; c += 2)
                        assert_int_equal(vf_do(&g, BLK_WRITE, 0, c * 4096, 4096, a), 0);
        held = true;
        add(op, 0, clusters * 4096, buf);
        add(BLK_DISCARD, 0, clusters * 4096, NULL);
        submit_many(&g);
        for (unsigned i = 0; i < 200; i++)
                qthread_run_once(g.home, 0);
        assert_int_equal(many.left, 2);
        held = false;
        assert_int_equal(finish_many(&g), 0);
        for (unsigned i = 0; op == BLK_READ && i < clusters * 4096; i++)
                if (buf[i] != 'a' && (buf[i] || clusters == 1)) /* home looks up piece by piece */
                        fail_msg("byte %u read is 0x%02x", i, (unsigned char)buf[i]);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, clusters * 4096, buf), 0);
        memset(a, 0, clusters * 4096);
        assert_memory_equal(buf, a, clusters * 4096);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
}

static void test_discard_waits_for_what_is_under_way(void **state)
{
        (void)state;
        discard_waits(BLK_READ, 1);
        discard_waits(BLK_WRITE, 1);
        discard_waits(BLK_READ, 40);
}

/* A discard with many thousand plans takes many rounds of the thread, in which others have their turn. */
static void test_discard_of_nothing(void **state)
{
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "cluster_size=512", 1024 * (uint64_t)MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        add(BLK_DISCARD, 0, 1024 * (uint64_t)MIB, NULL);
        submit_many(&g);
        for (unsigned i = 0; i < 50; i++)
                qthread_run_once(g.home, 0);
        assert_int_equal(many.left, 1);
        assert_int_equal(finish_many(&g), 0);
        assert_int_equal(vf_close(&g), 0);
}

/* Few zeros are there at once; many are a worker's, and the thread goes on meanwhile. */
static void test_reading_nothing(void **state)
{
        AUTO(freep) char *buf = memory(4 * MIB, 'x'), *zeros = memory(4 * MIB, 0);
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", 8 * MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, 4096, buf), 0); /* the table is here now */
        for (unsigned few = 0; few < 2; few++) {
                memset(buf, 'x', 4 * MIB);
                add(BLK_READ, few ? 512 : MIB + 512, few ? MIB : 3 * MIB, buf + 512);
                submit_many(&g);
                assert_int_equal(many.left, !few);
                assert_int_equal(few ? many.failed : finish_many(&g), 0);
                assert_memory_equal(buf + 512, zeros, few ? MIB : 3 * MIB);
                assert_int_equal(buf[511], 'x');
                assert_int_equal(buf[512 + (few ? MIB : 3 * MIB)], 'x');
        }
        assert_int_equal(vf_close(&g), 0);
}

/* The file cannot grow now: the request fails, the disk does not. */
static void test_growing_fails(void **state)
{
        AUTO(freep) char *a = memory(64 * KIB, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", 16 * MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(fault_arm("engine.truncate=1:EIO:forever"), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 64 * KIB, a), -EIO);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        assert_in_range(fault_count("engine.truncate"), 1, 20);
        fault_arm(NULL);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0); /* what housekeeping had begun is over */
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 64 * KIB, a), 0);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
}

/* --- odd sizes ---------------------------------------------------------------------------------------------------- */

static const struct engine_opts engines[] = { { .kind = ENGINE_SYNC }, { .kind = ENGINE_THREADS }, { .kind = ENGINE_AUTO } };
static const uint64_t sizes[] = { MIB + 1, MIB + 511, MIB + 512, MIB + 100, MIB + 4095, 3 * MIB + 3 * 512, 100, 1 };

static void make_raw(const char *name, uint64_t size)
{
        AUTO(freep) char *a = memory(size, 'r');
        FILE *f = fopen(name, "w");

        assert_non_null(f);
        assert_int_equal(fwrite(a, 1, size, f), size);
        assert_int_equal(fclose(f), 0);
}

static void assert_tail(struct rig *g, uint64_t from, uint64_t size, uint64_t end)
{
        AUTO(freep) char *got = memory(end - from, 'x');

        assert_int_equal(vf_do(g, BLK_READ, 0, from, end - from, got), 0);
        for (uint64_t i = from; i < end; i++)
                if (got[i - from] != (i < size ? 'r' : 0))
                        fail_msg("size %llu: byte %llu is 0x%02x", (unsigned long long)size, (unsigned long long)i,
                                 (unsigned char)got[i - from]);
}

/* Bytes of the file, zeros up to the sector's end, with direct I/O and without; a write there makes the file whole. */
static void odd_raw(const struct engine_opts *engine, uint64_t size, bool writeback)
{
        struct vol_opts vo = { .format = "raw", .writeback = writeback };
        uint64_t end = (size + 511) / 512 * 512, from = end > 8192 ? end - 8192 : 0;
        AUTO(freep) char *a = memory(512, 'w'), *got = memory(512, 0);
        struct rig g;

        make_raw("disk", size);
        vf_open(&g, "disk", &vo, engine);
        assert_int_equal(vol_size(g.v), end);
        assert_tail(&g, from, size, end);
        assert_tail(&g, end - 512, size, end);
        assert_int_equal(vf_do(&g, BLK_DISCARD, 0, end - 512, 512, NULL), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE_ZEROES, 0, end - 512, 512, NULL), 0);
        assert_int_equal(vf_do(&g, BLK_READ, 0, end - 512, 512, got), 0);
        assert_int_equal(got[0] | got[511], 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, end - 512, 512, a), 0);
        assert_int_equal(vf_do(&g, BLK_READ, 0, end - 512, 512, got), 0);
        assert_memory_equal(got, a, 512);
        assert_int_equal(vf_close(&g), 0);
}

/* A short, odd backing file under an odd disk: copy-up around its end, and the disk's own last cluster. */
static void odd_overlay(const struct engine_opts *engine, uint64_t size)
{
        uint64_t top = size + 3 * 64 * KIB + 512, in = size / 512 * 512, end = (top + 511) / 512 * 512;
        AUTO(freep) char *model = calloc(1, end), *a = memory(4096, 'w'), *got = memory(end, 0);
        struct rig g;

        make_raw("base", size);
        memset(model, 'r', size);
        vf_create("disk", "qcow2", "", top, "base");
        vf_open(&g, "disk", &qcow2_opts, engine);
        if (in) { /* the sector before the one in which the backing file ends: head, data, tail from three places */
                assert_int_equal(vf_do(&g, BLK_WRITE, 0, in - 512, 512, a), 0);
                memset(model + in - 512, 'w', 512);
        }
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, end - 512, 512, a), 0);
        memset(model + end - 512, 'w', 512);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, end, got), 0);
        assert_memory_equal(got, model, end);
        assert_int_equal(vf_do(&g, BLK_WRITE_ZEROES, BLK_UNMAP, in, end - in, NULL), 0);
        memset(model + in, 0, end - in);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, end, got), 0);
        assert_memory_equal(got, model, end);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
        vf_compare("disk", "qcow2", model, end);
}

static void test_odd_sizes(void **state)
{
        (void)state;
        for (unsigned e = 0; e < ARRAY_SIZE(engines); e++)
                for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
                        odd_raw(&engines[e], sizes[i], false);
                        odd_raw(&engines[e], sizes[i], true);
                        odd_overlay(&engines[e], sizes[i]);
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_line_for_unpacking),
                cmocka_unit_test(test_refcounts_unreadable),
                cmocka_unit_test(test_cache_full_of_loads),
                cmocka_unit_test(test_long_discard),
                cmocka_unit_test(test_discard_waits_for_what_is_under_way),
                cmocka_unit_test(test_discard_of_nothing),
                cmocka_unit_test(test_reading_nothing),
                cmocka_unit_test(test_growing_fails),
                cmocka_unit_test(test_odd_sizes),
        };

        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
