/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vol.c - facts about volumes, one at a time, on one thread. Random and parallel work: test_vol_random.c. */
#include "vol_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/fault.h"

#define MIB (1u << 20)
#define CLUSTER (64u << 10)

static const struct engine_opts sync_engine = { .kind = ENGINE_SYNC, .seed = 1 };
static const struct vol_opts raw_opts = { .format = "raw" }, qcow2_opts = { .format = "qcow2" };

static char *pattern(size_t len, char c)
{
        char *buf = aligned_alloc(4096, (len + 4095) / 4096 * 4096);

        assert_non_null(buf);
        memset(buf, c, len);
        return buf;
}

static void assert_bytes(struct rig *g, uint64_t off, uint64_t len, char c)
{
        AUTO(freep) char *got = pattern(len, ~c), *want = pattern(len, c);

        assert_int_equal(vf_do(g, BLK_READ, 0, off, len, got), 0);
        assert_memory_equal(got, want, len);
}

static void test_raw(void **state)
{
        AUTO(freep) char *a = pattern(8192, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "raw", "", MIB + 100, NULL);
        vf_open(&g, "disk", &raw_opts, &sync_engine);
        assert_int_equal(vol_size(g.v), MIB + 512);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 4096, 8192, a), 0);
        assert_bytes(&g, 4096, 8192, 'a');
        assert_bytes(&g, MIB, 512, 0);
        assert_int_equal(vf_do(&g, BLK_WRITE_ZEROES, 0, 4096, 512, NULL), 0);
        assert_bytes(&g, 4096, 512, 0);
        assert_bytes(&g, 4608, 512, 'a');
        assert_int_equal(vf_do(&g, BLK_DISCARD, BLK_FUA, 4096, 8192, NULL), 0);
        assert_bytes(&g, 4096, 8192, 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_FUA, MIB, 512, a), 0);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, MIB, 1024, a), -EINVAL);
        assert_int_equal(vf_close(&g), 0);
}

static void test_unaligned_memory(void **state)
{
        AUTO(freep) char *a = pattern(3 * MIB, 0), *b = pattern(3 * MIB, 0);
        struct rig g;

        (void)state;
        vf_create("disk", "raw", "", 4 * MIB, NULL);
        vf_open(&g, "disk", &raw_opts, &sync_engine);
        for (unsigned i = 0; i < 2 * MIB; i++)
                a[i + 3] = (char)(i * 7 + i / 4096);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 512, 2 * MIB, a + 3), 0);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 512, 2 * MIB, b + 5), 0);
        assert_memory_equal(a + 3, b + 5, 2 * MIB);
        assert_int_equal(vf_close(&g), 0);
}

static void test_null(void **state)
{
        struct vol_opts vo = { .format = "null", .null_size = MIB };
        AUTO(freep) char *a = pattern(4096, 'a');
        struct rig g;

        (void)state;
        vf_open(&g, "nothing", &vo, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, a), 0);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, 4096, a), 0);
        assert_int_equal(a[0], 'a');
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        assert_int_equal(vf_do(&g, BLK_DISCARD, 0, 0, 4096, NULL), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_FUA, 0, 4096, a), 0);
        assert_int_equal(vf_close(&g), 0);
}

static void test_read_only(void **state)
{
        struct vol_opts vo = { .format = "qcow2", .read_only = true };
        AUTO(freep) char *a = pattern(4096, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &vo, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, a), -EROFS);
        assert_int_equal(vf_do(&g, BLK_DISCARD, 0, 0, 4096, NULL), -EROFS);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        assert_bytes(&g, 0, 4096, 0);
        assert_int_equal(vf_close(&g), 0);
}

/* The guest's 4 KiB and the 60 KiB around them go to the new cluster in one write. */
static void test_copy_up_is_one_write(void **state)
{
        AUTO(freep) char *a = pattern(CLUSTER, 'a'), *got = pattern(CLUSTER, 0), *base = pattern(CLUSTER, 0);
        struct rig g;
        FILE *f;

        (void)state;
        vf_create_random("base", MIB, 7);
        vf_create("disk", "qcow2", "", MIB, "base");
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        vf_tap(&g);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, CLUSTER + 8192, 4096, a), 0);
        assert_int_equal(g.writes, 1);
        assert_int_equal(g.longest_write, CLUSTER);
        assert_int_equal(vf_do(&g, BLK_READ, 0, CLUSTER, CLUSTER, got), 0);
        f = fopen("base", "r");
        assert_non_null(f);
        assert_int_equal(fseek(f, CLUSTER, SEEK_SET), 0);
        assert_int_equal(fread(base, 1, CLUSTER, f), CLUSTER);
        fclose(f);
        memcpy(base + 8192, a, 4096);
        assert_memory_equal(got, base, CLUSTER);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
}

static void test_full_cluster_reads_nothing(void **state)
{
        AUTO(freep) char *a = pattern(2 * CLUSTER, 'a');
        struct rig g;

        (void)state;
        vf_create_random("base", MIB, 7);
        vf_create("disk", "qcow2", "", MIB, "base");
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, CLUSTER, a), 0); /* loads what tables there are */
        vf_tap(&g);
        assert_int_equal(fault_arm("engine.read=0:EIO"), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 2 * CLUSTER, 2 * CLUSTER, a), 0);
        assert_int_equal(fault_count("engine.read"), 0);
        assert_int_equal(g.writes, 1); /* two clusters, side by side */
        assert_bytes(&g, 2 * CLUSTER, 2 * CLUSTER, 'a');
        assert_true(fault_count("engine.read") > 0);
        fault_arm(NULL);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
}

/* In a fresh cluster without anything behind it 4 KiB cost 4 KiB. */
static void test_thin_write(void **state)
{
        AUTO(freep) char *a = pattern(4096, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        vf_tap(&g);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 8192, 4096, a), 0);
        assert_int_equal(g.bytes_written, 4096);
        assert_bytes(&g, 0, 8192, 0);
        assert_bytes(&g, 8192, 4096, 'a');
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
}

#define FLUSHES 10
struct many {
        struct blk_req req[FLUSHES];
        unsigned left;
        bool done;
};
static struct many many;

static void on_many(struct blk_req *req, int res)
{
        (void)req;
        assert_int_equal(res, 0);
        many.done = --many.left == 0;
}

static void test_flushes_are_shared(void **state)
{
        struct rig g;

        (void)state;
        vf_create("disk", "raw", "", MIB, NULL);
        vf_open(&g, "disk", &raw_opts, &sync_engine);
        vf_tap(&g);
        many = (struct many){ .left = FLUSHES };
        for (unsigned i = 0; i < FLUSHES; i++) {
                many.req[i] = (struct blk_req){ .op = BLK_FLUSH, .done = on_many };
                port_submit(g.port, &many.req[i]);
        }
        qthread_run(g.home, &many.done);
        assert_int_equal(g.syncs, 2); /* the first, and one for all that came while it ran */
        assert_int_equal(port_stats(g.port)->flushes_joined, FLUSHES - 2);
        assert_int_equal(port_stats(g.port)->op[STATS_FLUSH].count, FLUSHES);
        assert_int_equal(vf_close(&g), 0);
}

static void test_failed_flush_is_for_good(void **state)
{
        AUTO(freep) char *a = pattern(4096, 'a');
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, a), 0);
        assert_int_equal(fault_arm("engine.sync=1:EIO"), 0);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), -EIO);
        fault_arm(NULL);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), -EIO);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_FUA, 0, 4096, a), -EIO);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, a), -EIO);
        assert_bytes(&g, 0, 4096, 'a');
        assert_int_equal(vf_close(&g), -EIO);
        vf_check("disk");
        vf_open(&g, "disk", &qcow2_opts, &sync_engine); /* opened again: a new start */
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_FUA, 0, 4096, a), 0);
        assert_int_equal(vf_close(&g), 0);
}

/* What is in tables only is on disk after close, also without a flush. */
static void test_close_settles(void **state)
{
        AUTO(freep) char *a = pattern(CLUSTER, 'a'), *model = calloc(1, MIB);
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, CLUSTER, a), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 2 * CLUSTER, CLUSTER, a), 0);
        assert_int_equal(vf_do(&g, BLK_DISCARD, 0, 0, CLUSTER, NULL), 0);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
        memset(model + 2 * CLUSTER, 'a', CLUSTER);
        vf_compare("disk", "qcow2", model, MIB);
}

/* Packed clusters are unpacked by workers; written ones are unpacked for the copy-up. */
static void test_compressed(void **state)
{
        AUTO(freep) unsigned char *model = malloc(MIB), *got = malloc(MIB);
        AUTO(freep) char *a = pattern(4096, 'a');
        struct rig g;
        FILE *f;

        (void)state;
        for (unsigned i = 0; i < MIB; i++)
                model[i] = (unsigned char)(i / 512 + 1);
        f = fopen("plain", "w");
        assert_non_null(f);
        assert_int_equal(fwrite(model, 1, MIB, f), MIB);
        fclose(f);
        assert_int_equal(system("qemu-img convert -c -O qcow2 plain disk"), 0);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, MIB, got), 0);
        assert_memory_equal(got, model, MIB);
        assert_int_equal(vf_do(&g, BLK_READ, 0, CLUSTER - 512, 1024, got), 0);
        assert_memory_equal(got, model + CLUSTER - 512, 1024);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 3 * CLUSTER + 512, 4096, a), 0);
        memcpy(model + 3 * CLUSTER + 512, a, 4096);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, MIB, got), 0);
        assert_memory_equal(got, model, MIB);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
        vf_compare("disk", "qcow2", model, MIB);
}

/* A mapped request on its own thread meets nobody; the counters tell which road was taken. */
/* Clusters that shrink and one that does not; what is no cluster, or in no image that can, is refused. */
static void test_packed_writes(void **state)
{
        AUTO(freep) unsigned char *model = calloc(1, MIB), *got = malloc(MIB);
        const struct vol_opts cached = { .format = "qcow2", .writeback = true };
        uint64_t size = MIB - 4096, rnd = 7; /* the last cluster is cut */
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", size, NULL);
        vf_open(&g, "disk", &cached, &sync_engine);
        for (uint64_t off = 0; off < size; off += CLUSTER) {
                uint64_t len = off + CLUSTER > size ? size - off : CLUSTER;

                for (uint64_t i = 0; i < len; i++)
                        model[off + i] = off == 5 * CLUSTER ? (unsigned char)vf_rnd(&rnd) : (unsigned char)(i / 512 + off / CLUSTER + 1);
                assert_int_equal(vf_do(&g, BLK_WRITE, BLK_PACK, off, len, model + off), 0);
        }
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, size, got), 0);
        assert_memory_equal(got, model, size);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_PACK, 512, CLUSTER, got), -EINVAL);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_PACK, 0, CLUSTER - 512, got), -EINVAL);
        assert_int_equal(vf_do(&g, BLK_WRITE, BLK_PACK, 0, 2 * CLUSTER, got), -EINVAL);
        assert_int_equal(vf_close(&g), 0);
        assert_int_equal(vf_check("disk"), 0);
        vf_compare("disk", "qcow2", model, size);
        assert_true(system("[ $(stat -c %s disk) -le $((8 * 65536)) ]") == 0); /* five tables, 64 KiB plain, the rest in one */
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        if (vol_image(g.v)->file->direct)
                assert_int_equal(vf_do(&g, BLK_WRITE, BLK_PACK, 0, CLUSTER, model), -EINVAL);
        assert_int_equal(vf_close(&g), 0);
}

static void test_common_road(void **state)
{
        AUTO(freep) char *a = pattern(4096, 'a'), *two = pattern(8192, 0);
        struct rig g;

        (void)state;
        vf_create("disk", "qcow2", "", MIB, NULL);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, a), 0);
        assert_int_equal(port_stats(g.port)->fast, 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 4096, 4096, a), 0);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, 8192, two), 0);
        assert_int_equal(port_stats(g.port)->fast, 2);
        assert_int_equal(port_stats(g.port)->op[STATS_WRITE].bytes, 8192);
        assert_int_equal(port_stats(g.port)->op[STATS_READ].count, 1);
        assert_int_equal(port_in_flight(g.port), 0);
        assert_int_equal(vf_close(&g), 0);
}

static uint64_t total_ns(const struct op_stats *op, enum stats_stage stage)
{
        return op->stage[stage].total_ns;
}

/* The stages of a request are all of its time; one that waits outside of the disk waits in MAP, until it is handed over. */
static void test_stages(void **state)
{
        AUTO(freep) char *a = pattern(4096, 'a');
        struct iovec iov = { a, 4096 };
        const struct op_stats *read, *write;
        struct blk_gauges now;
        struct blk_totals t;
        struct rig g;

        (void)state;
        vf_create_random("base", MIB, 7);
        vf_create("disk", "qcow2", "", MIB, "base");
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        read = &port_stats(g.port)->op[STATS_READ];
        write = &port_stats(g.port)->op[STATS_WRITE];
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 4096, 4096, a), 0); /* at home: tables, a plan, a copy-up */
        many = (struct many){ .left = 1 };
        many.req[0] = (struct blk_req){ .op = BLK_READ, .off = 4096, .len = 4096, .iov = &iov, .niov = 1, .done = on_many };
        qthread_run_once(g.home, 0);
        vol_gauges(g.v, &now);
        assert_true(now.in_flight == 0 && now.oldest_ns == 0 && now.last_ns && !now.held);
        port_submit(g.port, &many.req[0]);
        usleep(3000);
        qthread_run_once(g.home, 0); /* the end of the round, then the disk */
        assert_true(many.done);
        vol_gauges(g.v, &now);
        assert_int_equal(now.in_flight, 1);
        assert_true(now.oldest_ns);
        assert_int_equal(stats_bucket(0), 0);
        assert_true(total_ns(read, STAGE_TOTAL) == 0); /* not told yet */
        usleep(2000);
        qthread_run_once(g.home, 0);
        vol_gauges(g.v, &now);
        assert_true(now.in_flight == 0 && now.oldest_ns == 0);
        assert_true(total_ns(read, STAGE_QUEUE) == 0);
        assert_true(total_ns(read, STAGE_MAP) >= 3000000);
        assert_true(total_ns(read, STAGE_DISK) > 0);
        assert_true(total_ns(read, STAGE_NOTIFY) >= 2000000);
        assert_true(total_ns(read, STAGE_MAP) + total_ns(read, STAGE_DISK) + total_ns(read, STAGE_NOTIFY) ==
                    total_ns(read, STAGE_TOTAL));
        assert_true(total_ns(write, STAGE_MAP) > 0 && total_ns(write, STAGE_DISK) > 0);
        assert_true(total_ns(write, STAGE_QUEUE) + total_ns(write, STAGE_MAP) + total_ns(write, STAGE_DISK) +
                    total_ns(write, STAGE_NOTIFY) == total_ns(write, STAGE_TOTAL));
        vol_totals(g.v, &t);
        assert_int_equal(t.copied_up, 65536 - 4096);
        assert_int_equal(t.highest_write, 8192);
        assert_int_equal(t.fast, 1);
        assert_int_equal(vf_close(&g), 0);
}

/* --- every operation fails once ----------------------------------------------------------------------------------- */

struct script_op {
        enum blk_op op;
        unsigned flags;
        uint64_t off, len;
};
static const struct script_op script[] = {
        { BLK_WRITE, 0, 0, 4096 }, { BLK_WRITE, 0, CLUSTER - 4096, 8192 }, { BLK_WRITE, BLK_FUA, 5 * CLUSTER, 2 * CLUSTER },
        { BLK_FLUSH, 0, 0, 0 }, { BLK_DISCARD, 0, 5 * CLUSTER, CLUSTER }, { BLK_WRITE, 0, 5 * CLUSTER, 512 },
        { BLK_WRITE_ZEROES, 0, 0, CLUSTER + 4096 }, { BLK_FLUSH, 0, 0, 0 }, { BLK_WRITE_ZEROES, BLK_UNMAP, 8192, 3 * CLUSTER },
        { BLK_WRITE, 0, 9 * CLUSTER, 3 * CLUSTER }, { BLK_FLUSH, 0, 0, 0 },
};

/* A request that failed, and a discard, leave each sector the old or the new way; what it is then stays. */
static void adopt(char *model, const char *got, const char *new, uint64_t len)
{
        for (uint64_t s = 0; s < len; s += 512) {
                if (memcmp(got + s, model + s, 512) && memcmp(got + s, new + s, 512))
                        fail_msg("sector %" PRIu64 " is neither old nor new", s / 512);
                memcpy(model + s, got + s, 512);
        }
}

/* Returns how many requests failed. */
static unsigned run_script(struct rig *g, char *model)
{
        AUTO(freep) char *buf = pattern(4 * CLUSTER, 0), *got = pattern(4 * CLUSTER, 0);
        unsigned failed = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(script); i++) {
                const struct script_op *o = &script[i];
                int r;

                memset(buf, o->op == BLK_WRITE ? 'A' + (int)i : 0, 4 * CLUSTER);
                r = vf_do(g, o->op, o->flags, o->off, o->len, buf);
                failed += r < 0;
                if (r == 0 && o->op != BLK_DISCARD)
                        memcpy(model + o->off, buf, o->len);
                if (!o->len)
                        continue;
                r = vf_do(g, BLK_READ, 0, o->off, o->len, got);
                if (r < 0) /* the fault came only now */
                        r = vf_do(g, BLK_READ, 0, o->off, o->len, got);
                assert_int_equal(r, 0);
                adopt(model + o->off, got, buf, o->len);
        }
        return failed;
}

static void fail_nth(const char *point, const char *err, unsigned n, const char *backing, bool *hit)
{
        AUTO(freep) char *model = calloc(1, MIB);
        struct rig g;
        char spec[64];
        unsigned failed;
        int r;

        vf_create("disk", "qcow2", "", MIB, backing);
        vf_compare("disk", "qcow2", model, backing ? 0 : MIB);
        vf_open(&g, "disk", &qcow2_opts, &sync_engine);
        if (backing)
                assert_int_equal(vf_do(&g, BLK_READ, 0, 0, MIB, model), 0);
        snprintf(spec, sizeof(spec), "%s=%u:%s", point, n, err);
        assert_int_equal(fault_arm(spec), 0);
        failed = run_script(&g, model);
        r = vf_close(&g);
        *hit = fault_count(point) >= n;
        fault_arm(NULL);
        if (!*hit && (failed || r < 0))
                fail_msg("%u requests failed without a fault", failed);
        if (vf_check("disk") && !*hit)
                fail_msg("leaks without a fault");
        if (r == 0)
                vf_compare("disk", "qcow2", model, MIB);
}

static void test_every_operation_fails_once(void **state)
{
        static const struct { const char *point, *err; } faults[] = {
                { "engine.write", "EIO" }, { "engine.write", "ENOSPC" }, { "engine.read", "EIO" }, { "engine.sync", "EIO" },
                { "engine.truncate", "ENOSPC" }, { "engine.zero", "EIO" },
        };

        (void)state;
        vf_create_random("base", MIB, 7);
        for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
                bool hit = true;
                unsigned n;

                for (n = 1; hit; n++) {
                        fail_nth(faults[i].point, faults[i].err, n, "base", &hit);
                        fail_nth(faults[i].point, faults[i].err, n, NULL, &hit);
                        assert_true(n < 500);
                }
                print_message("%s %s: %u places\n", faults[i].point, faults[i].err, n - 2);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_raw),
                cmocka_unit_test(test_unaligned_memory),
                cmocka_unit_test(test_null),
                cmocka_unit_test(test_read_only),
                cmocka_unit_test(test_copy_up_is_one_write),
                cmocka_unit_test(test_full_cluster_reads_nothing),
                cmocka_unit_test(test_thin_write),
                cmocka_unit_test(test_flushes_are_shared),
                cmocka_unit_test(test_failed_flush_is_for_good),
                cmocka_unit_test(test_close_settles),
                cmocka_unit_test(test_compressed),
                cmocka_unit_test(test_packed_writes),
                cmocka_unit_test(test_common_road),
                cmocka_unit_test(test_stages),
                cmocka_unit_test(test_every_operation_fails_once),
        };

        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
