/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vol_random.c - random requests, many at once.
 *
 *   one thread    against a flat model: requests in flight share no sector, but clusters. Reopened in between.
 *   threads       every sector that is written is stamped with its own number, so whatever is read must be zeros or its own
 *                 stamp, never a foreign one: writes, discards and zeroes of all threads race on the same clusters.
 *   stripes       each thread owns every n-th block and knows exactly what is in it; clusters are shared by all of them
 */
#include "vol_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "config.h"
#include "tests/lib/luks_image.h"

#define SECTOR 512u
#define DISK_SECTORS 8192u
#define DISK_SIZE ((uint64_t)DISK_SECTORS * SECTOR)
#define DEPTH 12u
#define LONGEST 96u /* sectors */
#define THREADS 3u

static uint64_t seed;

#define LUKS "encrypt.format=luks,encrypt.key-secret=luks-image,encrypt.iter-time=1"

static const struct kind {
        const char *what, *format, *opts;
        bool backing;
        size_t cache;
        bool encrypted;
} kinds[] = {
        { "raw", "raw", "", false, 0 },
        { "qcow2 64k", "qcow2", "", false, 0 },
        { "qcow2 64k, backing", "qcow2", "", true, 0 },
        { "qcow2 4k, backing", "qcow2", "cluster_size=4k", true, 0 },
        { "qcow2 512, backing, tiny cache", "qcow2", "cluster_size=512", true, 1 },
        { "qcow2 512, tiny cache", "qcow2", "cluster_size=512,refcount_bits=64", false, 1 },
        { "qcow2 2M", "qcow2", "cluster_size=2M", false, 0 },
        { "qcow2 16k, sub-clusters, backing", "qcow2", "cluster_size=16k,extended_l2=on", true, 0 },
#if HAVE_CRYPTO
        { "qcow2 16k, encrypted, backing", "qcow2", "cluster_size=16k," LUKS, true, 0, .encrypted = true },
#endif
        { "qcow2 4k, data file, backing", "qcow2", "cluster_size=4k,data_file=random.data", true, 0 },
        { "qcow2 64k, raw data file", "qcow2", "data_file=random.data,data_file_raw=on", false, 0 },
};

struct load;

struct slot {
        struct blk_req req;
        struct load *l;
        struct iovec iov[3];
        unsigned char *buf;
        unsigned first, n; /* sectors */
        bool busy;
};

/* One thread's share of the work. */
struct load {
        struct qthread *t;
        struct vol *v;
        struct vol_port *port;
        struct qtask task;
        struct slot slot[DEPTH];
        uint64_t rnd;
        unsigned left, in_flight, index, stride; /* stride 0: the whole disk */
        unsigned char *model; /* NULL: stamps only */
        bool *unknown;        /* by sector: discarded, so zeros or what was there */
        bool done, submitting;
        sem_t *sem;
};

static void stamp(unsigned char *to, unsigned first, unsigned n, uint64_t salt)
{
        for (unsigned s = 0; s < n; s++)
                for (unsigned i = 0; i < SECTOR; i += 16) {
                        uint64_t words[2] = { first + s + 1, salt };

                        memcpy(to + s * SECTOR + i, words, sizeof(words));
                }
}

static bool is_zero_sector(const unsigned char *p)
{
        return !p[0] && !memcmp(p, p + 1, SECTOR - 1);
}

static void check_stamps(const struct slot *s)
{
        for (unsigned i = 0; i < s->n * SECTOR; i += 16) {
                uint64_t word;

                memcpy(&word, s->buf + i, sizeof(word));
                if (word && word != s->first + i / SECTOR + 1)
                        fail_msg("sector %u holds the bytes of sector %" PRIu64, s->first + i / SECTOR, word - 1);
        }
}

static void check_model(struct load *l, const struct slot *s)
{
        for (unsigned i = 0; i < s->n; i++) {
                unsigned char *want = l->model + (uint64_t)(s->first + i) * SECTOR;
                const unsigned char *got = s->buf + i * SECTOR;

                if (l->unknown[s->first + i] && is_zero_sector(got))
                        memset(want, 0, SECTOR);
                l->unknown[s->first + i] = false;
                if (memcmp(want, got, SECTOR))
                        fail_msg("sector %u is wrong (seed %" PRIu64 ")", s->first + i, seed);
        }
}

static void pump(struct load *l);

static void on_done(struct blk_req *req, int res)
{
        struct slot *s = container_of(req, struct slot, req);
        struct load *l = s->l;

        if (res < 0)
                fail_msg("operation %d failed: %d", req->op, res);
        if (req->op == BLK_READ && l->model)
                check_model(l, s);
        else if (req->op == BLK_READ)
                check_stamps(s);
        for (unsigned i = 0; l->model && i < s->n; i++) {
                if (req->op == BLK_WRITE)
                        memcpy(l->model + (uint64_t)(s->first + i) * SECTOR, s->buf + i * SECTOR, SECTOR);
                else if (req->op == BLK_WRITE_ZEROES)
                        memset(l->model + (uint64_t)(s->first + i) * SECTOR, 0, SECTOR);
                if (req->op != BLK_READ)
                        l->unknown[s->first + i] = req->op == BLK_DISCARD;
        }
        s->busy = false;
        l->in_flight--;
        if (!l->submitting)
                pump(l);
}

static bool is_taken(const struct load *l, unsigned first, unsigned n)
{
        for (unsigned i = 0; i < DEPTH; i++)
                if (l->slot[i].busy && range_overlaps(first, n, l->slot[i].first, l->slot[i].n))
                        return true;
        return false;
}

/* A range that no request in flight of this load shares a sector with. */
static void pick_range(struct load *l, unsigned *first, unsigned *n)
{
        do {
                *n = 1 + vf_rnd(&l->rnd) % (vf_rnd(&l->rnd) % 4 ? 16 : LONGEST);
                *first = vf_rnd(&l->rnd) % (DISK_SECTORS - LONGEST);
                if (vf_rnd(&l->rnd) % 8 == 0) { /* whole clusters are what can be unmapped */
                        *first = round_down(*first, 128) % (DISK_SECTORS - 128);
                        *n = 128;
                }
                if (l->stride) {
                        *first = (*first / 8 / l->stride * l->stride + l->index) * 8 % DISK_SECTORS;
                        *n = 1 + *n % 8;
                        if (*first + *n > DISK_SECTORS || *first / 8 % l->stride != l->index)
                                *first = l->index * 8;
                }
        } while (is_taken(l, *first, *n));
}

static enum blk_op pick_op(struct load *l)
{
        unsigned dice = vf_rnd(&l->rnd) % 100;

        if (dice < 75)
                return dice < 40 ? BLK_WRITE : BLK_READ;
        return dice < 85 ? BLK_DISCARD : dice < 97 ? BLK_WRITE_ZEROES : BLK_FLUSH;
}

static void submit(struct load *l, struct slot *s)
{
        enum blk_op op = pick_op(l);
        size_t len, cut;

        pick_range(l, &s->first, &s->n);
        len = s->n * SECTOR;
        if (op == BLK_WRITE)
                stamp(s->buf, s->first, s->n, vf_rnd(&l->rnd));
        else
                memset(s->buf, 0xee, len);
        cut = vf_rnd(&l->rnd) % len;
        s->iov[0] = (struct iovec){ s->buf, cut };
        s->iov[1] = (struct iovec){ s->buf + cut, len - cut };
        s->req = (struct blk_req){
                .op = op, .flags = vf_rnd(&l->rnd) % 4 ? 0 : op == BLK_WRITE_ZEROES ? BLK_UNMAP : BLK_FUA,
                .off = s->first * SECTOR, .len = len, .iov = s->iov, .niov = 2, .done = on_done,
        };
        if (vf_rnd(&l->rnd) % 2) {
                s->iov[0] = (struct iovec){ s->buf, len };
                s->req.niov = 1;
        }
        if (op == BLK_FLUSH) {
                s->req.off = s->req.len = 0;
                s->n = 0;
        }
        s->busy = true;
        l->in_flight++;
        port_submit(l->port, &s->req);
}

static void pump(struct load *l)
{
        l->submitting = true;
        for (unsigned i = 0; i < DEPTH && l->left; i++)
                if (!l->slot[i].busy) {
                        l->left--;
                        submit(l, &l->slot[i]);
                }
        l->submitting = false;
        for (unsigned i = 0; i < DEPTH; i++)
                if (!l->slot[i].busy && l->left)
                        i = (pump(l), DEPTH);
        if (!l->left && !l->in_flight && !l->done) {
                l->done = true;
                if (l->sem) {
                        port_detach(l->port);
                        sem_post(l->sem);
                }
        }
}

static void load_init(struct load *l, struct vol *v, uint64_t rnd, unsigned ops)
{
        memset(l, 0, sizeof(*l));
        l->v = v;
        l->rnd = rnd | 1;
        l->left = ops;
        for (unsigned i = 0; i < DEPTH; i++) {
                l->slot[i].l = l;
                l->slot[i].buf = aligned_alloc(4096, round_up(LONGEST < 128 ? 128 * SECTOR : LONGEST * SECTOR, 4096));
                assert_non_null(l->slot[i].buf);
        }
}

static void load_finish(struct load *l)
{
        for (unsigned i = 0; i < DEPTH; i++)
                free(l->slot[i].buf);
}

static void make_disk(const struct kind *k, unsigned char *model)
{
        FILE *f;

        memset(model, 0, DISK_SIZE);
        vf_layer = k->encrypted ? luks_image_layer() : NULL;
        if (k->backing) {
                unsigned char *base = malloc(DISK_SIZE / 2);

                assert_non_null(base);
                stamp(base, 0, DISK_SECTORS / 2, 99);
                memcpy(model, base, DISK_SIZE / 2);
                f = fopen("base", "w");
                assert_non_null(f);
                assert_int_equal(fwrite(base, 1, DISK_SIZE / 2, f), DISK_SIZE / 2);
                fclose(f);
                free(base);
        }
        vf_create("disk", k->format, k->opts, DISK_SIZE, k->backing ? "base" : NULL);
}

/* --- one thread --------------------------------------------------------------------------------------------------- */

static void run_model(const struct kind *k, const struct engine_opts *eo, unsigned rounds, unsigned ops)
{
        /* some with a bound that most requests have to wait for (in_flight.h) */
        struct vol_opts vo = { .format = k->format, .cache_bytes = k->cache, .max_in_flight = (k - kinds) % 2 ? 0 : 64u << 10 };
        AUTO(freep) unsigned char *model = malloc(DISK_SIZE);
        AUTO(freep) bool *unknown = calloc(DISK_SECTORS, sizeof(bool));
        struct load l;

        make_disk(k, model);
        vo.layer = vf_layer;
        for (unsigned i = 0; i < rounds; i++) {
                struct rig g;

                vf_open(&g, "disk", &vo, eo);
                load_init(&l, g.v, seed + i * 7919, ops);
                l.port = g.port;
                l.model = model;
                l.unknown = unknown;
                pump(&l);
                qthread_run(g.home, &l.done);
                l.done = false;
                l.left = 0;
                for (unsigned s = 0; s < DISK_SECTORS; s++) { /* what the discards left */
                        unsigned char got[SECTOR];

                        if (!unknown[s])
                                continue;
                        assert_int_equal(vf_do(&g, BLK_READ, 0, (uint64_t)s * SECTOR, SECTOR, got), 0);
                        memcpy(model + (uint64_t)s * SECTOR, got, SECTOR);
                        unknown[s] = false;
                }
                load_finish(&l);
                assert_int_equal(vf_close(&g), 0);
                if (!strcmp(k->format, "qcow2"))
                        assert_int_equal(vf_check("disk"), 0);
                vf_compare("disk", k->format, model, DISK_SIZE);
        }
}

static void test_model(void **state)
{
        (void)state;
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct engine_opts sync = { .kind = ENGINE_SYNC, .seed = seed + i, .slow_steps = i % 2 }, uring = { .kind = ENGINE_AUTO };

                print_message("%s\n", kinds[i].what);
                run_model(&kinds[i], &sync, 2, 400);
                run_model(&kinds[i], &uring, 1, 300);
        }
}

/* --- threads ------------------------------------------------------------------------------------------------------ */

static void start_load(struct qtask *task)
{
        struct load *l = container_of(task, struct load, task);

        assert_int_equal(port_attach(l->v, l->t, &l->port), 0);
        pump(l);
}

static sem_t closed;
static int closed_res;

static void on_closed(void *opaque, int res)
{
        (void)opaque;
        closed_res = res;
        sem_post(&closed);
}

static void run_threads(const struct kind *k, enum engine_kind engine, bool stripes, unsigned ops)
{
        struct vol_opts vo = { .format = k->format, .cache_bytes = k->cache, .writeback_ms = 20, .max_in_flight = stripes ? 64u << 10 : 0 };
        struct qthread_opts qo = { .name = "load", .engine = { .kind = engine } };
        AUTO(freep) unsigned char *model = malloc(DISK_SIZE);
        AUTO(freep) bool *unknown = calloc(DISK_SECTORS, sizeof(bool));
        struct qthread *t[THREADS];
        struct load *l = calloc(THREADS, sizeof(*l));
        struct vol *v;
        sem_t sem;

        make_disk(k, model);
        vo.layer = vf_layer;
        sem_init(&sem, 0, 0);
        sem_init(&closed, 0, 0);
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(qthread_new(&qo, &t[i]), 0);
        assert_int_equal(vol_open("disk", &vo, t[0], &v), 0);
        for (unsigned i = 0; i < THREADS; i++) {
                load_init(&l[i], v, seed + i * 104729, ops);
                l[i].t = t[i];
                l[i].sem = &sem;
                l[i].index = i;
                l[i].stride = stripes ? THREADS : 0;
                l[i].model = stripes ? model : NULL;
                l[i].unknown = unknown;
                l[i].task.run = start_load;
                qthread_post(t[i], &l[i].task);
        }
        for (unsigned i = 0; i < THREADS; i++)
                sem_wait(&sem);
        vol_close(v, on_closed, NULL);
        sem_wait(&closed);
        assert_int_equal(closed_res, 0);
        qthread_free_all(t, THREADS);
        for (unsigned i = 0; i < THREADS; i++)
                load_finish(&l[i]);
        free(l);
        sem_destroy(&sem);
        sem_destroy(&closed);
        if (!strcmp(k->format, "qcow2"))
                assert_int_equal(vf_check("disk"), 0);
}

static void test_threads(void **state)
{
        (void)state;
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
                print_message("%s\n", kinds[i].what);
                run_threads(&kinds[i], i % 2 ? ENGINE_AUTO : ENGINE_THREADS, false, 300);
                run_threads(&kinds[i], i % 2 ? ENGINE_THREADS : ENGINE_AUTO, true, 300);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_model),
                cmocka_unit_test(test_threads),
        };
        const char *given = getenv("TEST_SEED");

        seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
        print_message("TEST_SEED=%" PRIu64 "\n", seed);
        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
