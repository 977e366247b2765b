/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Other threads look mappings up without a lock while home writes, discards, evicts and flushes. Each answer must make
 * sense by itself, and a place that home never touches must always be found where it is, or not cached.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/qcow2.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define SIZE (256u << 20) /* 4 KiB clusters: 128 pages, more than the smallest cache holds */
#define STILL (1u << 20)  /* the first MiB is written once */
#define READERS 2

static uint64_t seed;

struct reader {
        pthread_t thread;
        struct fmt_image *img;
        atomic_bool *stop;
        uint64_t rnd, still_host;
        unsigned long hits, misses, wrong;
};

static bool sensible(const struct extent *e, int n, uint64_t off, uint64_t len)
{
        uint64_t at = off;

        for (int i = 0; i < n; i++) {
                if (e[i].off != at || e[i].len == 0 || e[i].kind == EXT_COMPRESSED || e[i].kind > EXT_ABSENT)
                        return false;
                at += e[i].len;
        }
        return at <= off + len;
}

static void *read_on(void *arg)
{
        struct reader *r = arg;

        rcu_register_thread();
        while (!atomic_load(r->stop)) {
                bool still = rnd_below(&r->rnd, 4) == 0;
                uint64_t off = rnd_below(&r->rnd, (still ? STILL : SIZE) / 4096) * 4096;
                struct extent e[8];
                int n;

                rcu_read_lock();
                n = fmt_map(r->img, off, still ? 4096 : min_u64(65536, SIZE - off), e, ARRAY_SIZE(e));
                rcu_read_unlock();
                if (n == -EAGAIN)
                        r->misses++;
                else if (n < 1 || !sensible(e, n, off, 65536) ||
                         (still && (e[0].kind != EXT_DATA || e[0].host != r->still_host + off)))
                        r->wrong++;
                else
                        r->hits++;
        }
        rcu_unregister_thread();
        return NULL;
}

static void change(struct img_io *io, uint64_t *rng, void *buf)
{
        uint64_t off = STILL + rnd_below(rng, (SIZE - STILL) / 4096) * 4096, len = (1 + rnd_below(rng, 8)) * 4096;

        len = min_u64(len, SIZE - off);
        if (rnd_below(rng, 20) == 0)
                assert_int_equal(img_flush(io), 0);
        else if (rnd_below(rng, 3) == 0)
                assert_int_equal(img_zero(io, off, len, ZERO_DISCARD), 0);
        else
                assert_int_equal(img_write(io, buf, len, off), 0);
}

static void lookups(const char *options)
{
        struct fmt_open_opts opts = { .format = "qcow2", .cache_bytes = 1 };
        struct reader reader[READERS] = { 0 };
        atomic_bool stop = false;
        char path[TMP_PATH_MAX];
        void *buf = calloc(1, STILL);
        struct fmt_image *img;
        struct img_io io = { 0 };
        unsigned long hits = 0;
        uint64_t rng = seed;
        struct extent e;

        tmp_path("threads.qcow2", path);
        assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o %s '%s' %u", options, path, SIZE), 0);
        assert_int_equal(chain_open(path, &opts, &img), 0);
        io.img = img;
        assert_int_equal(img_write(&io, buf, STILL, 0), 0);
        assert_int_equal(fmt_map(img, 0, STILL, &e, 1), 1);
        assert_int_equal(e.len, STILL); /* written at once, so in one run */
        for (unsigned i = 0; i < READERS; i++) {
                reader[i] = (struct reader){ .img = img, .stop = &stop, .rnd = seed + 2 * i + 2, .still_host = e.host };
                assert_int_equal(pthread_create(&reader[i].thread, NULL, read_on, &reader[i]), 0);
        }
        for (unsigned i = 0; i < 3000; i++)
                change(&io, &rng, buf);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < READERS; i++) {
                pthread_join(reader[i].thread, NULL);
                assert_int_equal(reader[i].wrong, 0);
                hits += reader[i].hits;
        }
        assert_true(hits > 0);
        assert_int_equal(img_settle(&io), 0);
        chain_close(img);
        assert_int_equal(run_cmd("qemu-img check '%s'", path), 0);
        free(buf);
}

static void test_lookups(void **state)
{
        lookups("cluster_size=4k");
}

/* Entries of two words: a lookup may not see half of a change (it would be a contradiction, and so an error). */
static void test_lookups_of_subclusters(void **state)
{
        lookups("cluster_size=128k,extended_l2=on");
}

/* The same with nothing in between: one entry, whose two words belong together. */
struct pair {
        struct qcow2_image q;
        struct page page;
        atomic_bool stop;
        unsigned long torn;
};

static void *look_on(void *arg)
{
        struct pair *p = arg;

        while (!atomic_load(&p->stop)) {
                struct l2e e;

                if (!page_look(&p->q, &p->page, 0, &e))
                        continue;
                p->torn += e.desc != ~e.subs;
        }
        return NULL;
}

static void test_two_words(void **state)
{
        struct pair *p = calloc(1, sizeof(*p));
        pthread_t thread;

        (void)state;
        p->q.h.incompatible = QCOW2_INCOMPAT_EXTENDED_L2;
        p->q.subs = QCOW2_SUBCLUSTERS;
        p->page.bytes = calloc(1, 4096);
        page_set_entry(&p->q, &p->page, 0, (struct l2e){ 0, UINT64_MAX });
        assert_int_equal(pthread_create(&thread, NULL, look_on, p), 0);
        for (uint64_t i = 1; i < 2000000; i++)
                page_set_entry(&p->q, &p->page, 0, (struct l2e){ i, ~i });
        atomic_store(&p->stop, true);
        pthread_join(thread, NULL);
        assert_int_equal(p->torn, 0);
        free(p->page.bytes);
        free(p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lookups),
                cmocka_unit_test(test_lookups_of_subclusters),
                cmocka_unit_test(test_two_words),
        };

        rcu_register_thread();
        seed = test_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
