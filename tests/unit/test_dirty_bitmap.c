/* SPDX-License-Identifier: BSD-3-Clause */
/* Bitmaps of what changed: by themselves against a plain array, with several threads, and on volumes. */
#include "vol_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/bitmaps/dirty_bitmap.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/range.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define G 4096u /* granularity */

static struct dirty_bitmap *new(uint64_t size, uint32_t granularity)
{
        struct dirty_bitmap *b = NULL;

        assert_int_equal(dirty_bitmap_new(size, granularity, &b), 0);
        return b;
}

/* Dirty parts as "off+len off+len", in granules of @g. */
static const char *parts(struct dirty_bitmap *b, uint64_t from, uint64_t end, uint32_t g)
{
        static char text[512];
        uint64_t off, len;
        size_t n = 0;

        text[0] = 0;
        for (; n < 400 && dirty_bitmap_next(b, from, end, &off, &len); from = off + len)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu+%llu", n ? " " : "", (unsigned long long)off / g,
                                      (unsigned long long)(len + g - 1) / g);
        return text;
}

static void test_facts(void **state)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(MIB + 100, G);
        uint64_t off, len;

        (void)state;
        assert_int_equal(dirty_bitmap_granules(b), 257);
        assert_false(dirty_bitmap_next(b, 0, UINT64_MAX, &off, &len));
        dirty_bitmap_set(b, 8191, 2); /* one byte in each of two */
        dirty_bitmap_set(b, MIB + 99, 5000);
        dirty_bitmap_set(b, MIB + 100, 1);       /* beyond the end */
        dirty_bitmap_set(b, UINT64_MAX - 1, 10); /* and the sum wraps */
        dirty_bitmap_set(b, 0, 0);
        assert_int_equal(dirty_bitmap_count(b), 3);
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "1+2 256+1");
        assert_true(dirty_bitmap_next(b, 5000, 6000, &off, &len)); /* cut at both ends */
        assert_int_equal(off, 5000);
        assert_int_equal(len, 1000);
        assert_true(dirty_bitmap_next(b, MIB, UINT64_MAX, &off, &len));
        assert_int_equal(len, 100);
        assert_false(dirty_bitmap_next(b, 0, 4096, &off, &len));
        assert_false(dirty_bitmap_next(b, 9000, 8000, &off, &len));
        dirty_bitmap_clear(b, 4096, 1);
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "2+1 256+1");
        dirty_bitmap_set(b, 0, UINT64_MAX);
        assert_int_equal(dirty_bitmap_count(b), 257);
        dirty_bitmap_clear(b, 0, UINT64_MAX);
        assert_int_equal(dirty_bitmap_count(b), 0);
}

static void test_granularities(void **state)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *fine = new(GIB, 512), *coarse = new(GIB, 1u << 31), *other = new(MIB, G);

        (void)state;
        assert_int_equal(dirty_granularity_default(1), 64 * KIB);
        assert_int_equal(dirty_granularity_default(512), 4 * KIB);
        assert_int_equal(dirty_granularity_default(2 * MIB), 2 * MIB);
        assert_false(dirty_granularity_valid(256));
        assert_false(dirty_granularity_valid(3 * 512));
        assert_false(dirty_granularity_valid(4ull * GIB));
        assert_int_equal(dirty_bitmap_granules(coarse), 1);
        dirty_bitmap_set(fine, 77 * 512, 1);
        assert_int_equal(dirty_bitmap_merge(coarse, fine), 0);
        assert_int_equal(dirty_bitmap_count(coarse), 1);
        assert_int_equal(dirty_bitmap_merge(fine, coarse), 0);
        assert_int_equal(dirty_bitmap_count(fine), GIB / 512);
        assert_int_equal(dirty_bitmap_merge(other, fine), -EINVAL);
}

/* 16 TiB with a thousand writes all over it: a thousand pages, and none for what is dirty as a whole. */
static void test_memory(void **state)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(16 * TIB, 64 * KIB);

        (void)state;
        assert_int_equal(fault_arm("bitmap.leaf=0:ENOMEM"), 0);
        for (unsigned i = 0; i < 1000; i++)
                dirty_bitmap_set(b, i * (16 * GIB), 4096);
        assert_int_equal(fault_count("bitmap.leaf"), 1000);
        assert_int_equal(dirty_bitmap_count(b), 1000);
        dirty_bitmap_set(b, 15 * TIB + TIB / 2 + 4 * GIB, 8 * GIB);
        assert_int_equal(fault_count("bitmap.leaf"), 1000);
        assert_int_equal(dirty_bitmap_count(b), 1000 + 8 * GIB / (64 * KIB));
        fault_arm(NULL);
}

static void test_without_memory(void **state)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(300 * MIB, G), *all = NULL;

        (void)state;
        assert_int_equal(fault_arm("bitmap.leaf=1:ENOMEM:forever"), 0);
        dirty_bitmap_set(b, 5 * G, 1); /* no page for it: the whole page's part counts as changed */
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "0+32768");
        assert_int_equal(dirty_bitmap_count(b), 32768);
        dirty_bitmap_clear(b, 5 * G, 1); /* this needs the page, too */
        assert_int_equal(dirty_bitmap_count(b), 32768);
        assert_int_equal(dirty_bitmap_resize(b, 301 * MIB), 0);
        dirty_bitmap_set(b, 290 * MIB, 1);
        assert_int_equal(dirty_bitmap_resize(b, 302 * MIB), -ENOMEM); /* what is new would look dirty */
        assert_int_equal(dirty_bitmap_size(b), 301 * MIB);
        assert_int_equal(dirty_bitmap_split(b, &all), 0);
        assert_int_equal(dirty_bitmap_count(b), 0);
        assert_string_equal(parts(all, 0, UINT64_MAX, G), "0+32768 65536+11520");
        fault_arm(NULL);
        dirty_bitmap_clear(all, 5 * G, 1);
        assert_string_equal(parts(all, 0, UINT64_MAX, G), "0+5 6+32762 65536+11520");
        assert_int_equal(dirty_bitmap_resize(all, 400 * MIB), 0);
        assert_string_equal(parts(all, 0, UINT64_MAX, G), "0+5 6+32762 65536+11520");
}

/* --- against a plain array ---------------------------------------------------------------------------------------- */

#define MODEL (4 * 32768u)

static void compare(struct dirty_bitmap *b, const uint8_t *model, uint64_t nbits)
{
        uint64_t count = 0, at = 0, off, len;

        for (uint64_t i = 0; i < nbits; i++)
                count += model[i];
        assert_int_equal(dirty_bitmap_count(b), count);
        while (dirty_bitmap_next(b, at, UINT64_MAX, &off, &len)) {
                assert_null(memchr(model + at / G, 1, off / G - at / G));
                assert_null(memchr(model + off / G, 0, len / G));
                at = off + len;
        }
        assert_null(memchr(model + at / G, 1, nbits - at / G));
}

static void through_bytes(struct dirty_bitmap **b, uint64_t nbits)
{
        uint8_t bytes[MODEL / 8 + 8];
        struct dirty_bitmap *copy = new(nbits * G, G);
        size_t half = nbits / 16 / 8 * 8;

        memset(bytes, 0xee, sizeof(bytes));
        dirty_bitmap_get_bytes(*b, 0, bytes, half);
        dirty_bitmap_get_bytes(*b, half, bytes + half, sizeof(bytes) - half);
        assert_int_equal(bytes[sizeof(bytes) - 1], 0);
        dirty_bitmap_or_bytes(copy, 0, bytes, half);
        memset(bytes + (nbits + 7) / 8, 0xff, sizeof(bytes) - (nbits + 7) / 8); /* cut off at the end */
        dirty_bitmap_or_bytes(copy, half, bytes + half, sizeof(bytes) - half);
        dirty_bitmap_unref(*b);
        *b = copy;
}

static void turn(struct dirty_bitmap **b, uint8_t *model, uint64_t *nbits, uint64_t *rnd)
{
        uint64_t at = vf_rnd(rnd) % *nbits, n = 1 + vf_rnd(rnd) % (vf_rnd(rnd) % 3 ? 100 : MODEL), fits = min_u64(n, *nbits - at);
        struct dirty_bitmap *part;
        uint64_t size;

        switch (vf_rnd(rnd) % 8) {
        case 0:
                size = 1 + vf_rnd(rnd) % MODEL;
                assert_int_equal(dirty_bitmap_resize(*b, size * G), 0);
                if (size > *nbits)
                        memset(model + *nbits, 0, size - *nbits);
                *nbits = size;
                break;
        case 1:
                assert_int_equal(dirty_bitmap_split(*b, &part), 0);
                assert_int_equal(dirty_bitmap_count(*b), 0);
                dirty_bitmap_set(*b, at * G, 1);
                model[at] = 1;
                assert_int_equal(dirty_bitmap_merge(*b, part), 0);
                dirty_bitmap_unref(part);
                break;
        case 2:
                through_bytes(b, *nbits);
                break;
        case 3:
        case 4:
                dirty_bitmap_clear(*b, at * G, n * G);
                memset(model + at, 0, fits);
                break;
        default:
                dirty_bitmap_set(*b, at * G, n * G);
                memset(model + at, 1, fits);
        }
}

static void test_random(void **state)
{
        static uint8_t model[MODEL];
        struct dirty_bitmap *b = new(MODEL * (uint64_t)G, G);
        uint64_t nbits = MODEL, rnd = 20261129;

        (void)state;
        for (unsigned i = 0; i < 2000; i++) {
                turn(&b, model, &nbits, &rnd);
                compare(b, model, nbits);
        }
        dirty_bitmap_unref(b);
}

/* --- threads ------------------------------------------------------------------------------------------------------ */

#define WRITERS 3u
#define PLACES 256u
#define ROUNDS 20000u

static struct {
        struct dirty_bitmap *b;
        atomic_uint disk[PLACES]; /* how often each was written */
        atomic_uint running;
} shared;

static void *writer(void *arg)
{
        uint64_t rnd = 7 + (uintptr_t)arg;

        for (unsigned i = 0; i < ROUNDS; i++) {
                unsigned at = vf_rnd(&rnd) % PLACES;

                atomic_fetch_add(&shared.disk[at], 1);
                dirty_bitmap_set(shared.b, at * 1000ull * G, 1); /* places lie in several leaves */
        }
        atomic_fetch_sub(&shared.running, 1);
        return NULL;
}

static void copy_dirty(unsigned *copy)
{
        struct dirty_bitmap *part;
        uint64_t at = 0, off, len;

        while (dirty_bitmap_next(shared.b, at, 128 * 1000ull * G, &off, &len)) {
                dirty_bitmap_clear(shared.b, off, len);
                copy[off / G / 1000] = shared.disk[off / G / 1000];
                at = off + len;
        }
        assert_int_equal(dirty_bitmap_split(shared.b, &part), 0);
        for (at = 0; dirty_bitmap_next(part, at, UINT64_MAX, &off, &len); at = off + len)
                copy[off / G / 1000] = shared.disk[off / G / 1000];
        dirty_bitmap_unref(part);
}

/* Who copies what was dirty, and clears it first, has everything in the end. */
static void test_threads(void **state)
{
        pthread_t threads[WRITERS];
        unsigned copy[PLACES] = { 0 };

        (void)state;
        shared.b = new(PLACES * 1000ull * G, G);
        shared.running = WRITERS;
        for (uintptr_t i = 0; i < WRITERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
        while (shared.running)
                copy_dirty(copy);
        for (unsigned i = 0; i < WRITERS; i++)
                pthread_join(threads[i], NULL);
        copy_dirty(copy);
        for (unsigned i = 0; i < PLACES; i++)
                assert_int_equal(copy[i], shared.disk[i]);
        assert_int_equal(dirty_bitmap_count(shared.b), 0);
        dirty_bitmap_unref(shared.b);
}

/* --- on volumes --------------------------------------------------------------------------------------------------- */

static const struct engine_opts sync_engine = { .kind = ENGINE_SYNC, .seed = 1 };

static void test_volume(void **state)
{
        static const struct { const char *format; } formats[] = { { "raw" }, { "qcow2" } };
        AUTO(freep) char *buf = aligned_alloc(4096, 128 * KIB);

        (void)state;
        memset(buf, 'x', 128 * KIB);
        for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
                struct vol_opts vo = { .format = formats[f].format };
                AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(MIB, G), *off = new(4 * MIB, G), *late = new(4 * MIB, G);
                struct rig g;

                vf_create("disk", formats[f].format, "", 4 * MIB, NULL);
                vf_open(&g, "disk", &vo, &sync_engine);
                assert_int_equal(vol_attach_bitmap(g.v, b), 0);
                assert_int_equal(dirty_bitmap_size(b), 4 * MIB);
                dirty_bitmap_record(off, false);
                assert_int_equal(vol_attach_bitmap(g.v, off), 0);
                assert_int_equal(vol_attach_bitmap(g.v, b), 0); /* once more is no more */

                assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), 0); /* allocates */
                assert_int_equal(vf_do(&g, BLK_READ, 0, 64 * KIB, 4096, buf), 0);
                assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
                assert_string_equal(parts(b, 0, UINT64_MAX, G), "0+1");
                assert_int_equal(vol_attach_bitmap(g.v, late), 0);
                assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), 0); /* in place */
                assert_string_equal(parts(late, 0, UINT64_MAX, G), "0+1");
                assert_int_equal(vf_do(&g, BLK_WRITE, BLK_FUA, 3 * G + 512, 512, buf), 0);
                assert_int_equal(vf_do(&g, BLK_WRITE_ZEROES, BLK_UNMAP, 5 * G, 2 * G, NULL), 0);
                assert_int_equal(vf_do(&g, BLK_DISCARD, 0, MIB, MIB, NULL), 0);
                assert_string_equal(parts(b, 0, UINT64_MAX, G), "0+1 3+1 5+2 256+256");
                assert_int_equal(dirty_bitmap_count(off), 0);
                vol_detach_bitmap(g.v, b);
                vol_detach_bitmap(g.v, b);
                assert_int_equal(vf_do(&g, BLK_WRITE, 0, 3 * MIB, 4096, buf), 0);
                assert_string_equal(parts(b, 0, UINT64_MAX, G), "0+1 3+1 5+2 256+256");
                assert_string_equal(parts(late, 3 * MIB, UINT64_MAX, G), "768+1");
                dirty_bitmap_record(off, true);
                assert_int_equal(vf_do(&g, BLK_WRITE, 0, 3 * MIB, 4096, buf), 0);
                assert_string_equal(parts(off, 0, UINT64_MAX, G), "768+1");
                assert_int_equal(vf_close(&g), 0); /* two are still attached */
        }
}

/* A write that failed may have written some of it. */
static void test_failed_write(void **state)
{
        struct vol_opts vo = { .format = "raw" };
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(4 * MIB, G);
        AUTO(freep) char *buf = aligned_alloc(4096, 8192);
        struct rig g;

        (void)state;
        memset(buf, 'x', 8192);
        vf_create("disk", "raw", "", 4 * MIB, NULL);
        vf_open(&g, "disk", &vo, &sync_engine);
        assert_int_equal(vol_attach_bitmap(g.v, b), 0);
        assert_int_equal(fault_arm("engine.write=1:EIO"), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, MIB, 8192, buf), -EIO);
        fault_arm(NULL);
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "256+2");
        assert_int_equal(vf_close(&g), 0);
}

struct answer {
        bool done;
        int res;
};

static void on_resized(void *opaque, int res, const char *why)
{
        struct answer *a = opaque;

        (void)why;
        *a = (struct answer){ true, res };
}

static void test_resize(void **state)
{
        struct vol_opts vo = { .format = "qcow2" };
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *b = new(4 * MIB, G);
        struct answer a = { 0 };
        char *buf = aligned_alloc(4096, 4096);
        struct rig g;

        (void)state;
        memset(buf, 'x', 4096);
        vf_create("disk", "qcow2", "", 4 * MIB, NULL);
        vf_open(&g, "disk", &vo, &sync_engine);
        assert_int_equal(vol_attach_bitmap(g.v, b), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 4 * MIB - 4096, 4096, buf), 0);
        assert_int_equal(vol_resize(g.v, 8 * MIB, on_resized, &a), 0);
        qthread_run(g.home, &a.done);
        assert_int_equal(a.res, 0);
        assert_int_equal(dirty_bitmap_size(b), 8 * MIB);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 8 * MIB - 4096, 4096, buf), 0);
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "1023+1 2047+1");
        a.done = false;
        assert_int_equal(vol_resize(g.v, MIB, on_resized, &a), 0); /* refused, and nothing is lost */
        qthread_run(g.home, &a.done);
        assert_int_equal(a.res, -EINVAL);
        assert_string_equal(parts(b, 0, UINT64_MAX, G), "1023+1 2047+1");
        free(buf);
        assert_int_equal(vf_close(&g), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_facts),
                cmocka_unit_test(test_granularities),
                cmocka_unit_test(test_memory),
                cmocka_unit_test(test_without_memory),
                cmocka_unit_test(test_random),
                cmocka_unit_test(test_threads),
                cmocka_unit_test_setup_teardown(test_volume, vf_setup, vf_teardown),
                cmocka_unit_test_setup_teardown(test_failed_write, vf_setup, vf_teardown),
                cmocka_unit_test_setup_teardown(test_resize, vf_setup, vf_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
