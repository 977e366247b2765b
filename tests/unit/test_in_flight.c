/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No more of a disk than its bound is with the kernel at any moment; what waits goes in order, whatever else waits elsewhere does not
 * count, and nobody is forgotten. engine_submit() is counted on its way (the linker's --wrap).
 *
 *   test_in_flight [LOADS]
 */
#include "vol_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blkq/in_flight.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"

#define KIB 1024ull
#define SIZE (8ull << 20)
#define SLOTS 32u
#define LONGEST (512 * KIB)

static struct engine_opts threads = { .kind = ENGINE_THREADS };
static unsigned loads = 2;
static uint64_t seed;

/* --- what the engine has -------------------------------------------------------------------------------------------- */

static const char *counted; /* file: of this one's reads and writes is */
static uint64_t with_engine, most_seen, longest_seen;
static unsigned nlog;
static uint64_t offsets[256]; /* where they began, in order */
static struct watched {
        struct io *io;
        void (*done)(struct io *io, int res);
} watched[1024];

void __wrap_engine_submit(struct engine *e, struct io *io);
void __real_engine_submit(struct engine *e, struct io *io);

static void on_io(struct io *io, int res)
{
        struct watched *w = watched;

        while (w->io != io)
                assert_true(++w < watched + ARRAY_SIZE(watched));
        with_engine -= in_flight_cost(io->len);
        io->done = w->done;
        w->io = NULL;
        io->done(io, res);
}

void __wrap_engine_submit(struct engine *e, struct io *io)
{
        const char *name = io->file ? strrchr(io->file->path, '/') : NULL;

        if (counted && io->file && !strcmp(name ? name + 1 : io->file->path, counted) && (io->op == IO_READ || io->op == IO_WRITE)) {
                struct watched *w = watched;

                while (w->io)
                        assert_true(++w < watched + ARRAY_SIZE(watched));
                *w = (struct watched){ io, io->done };
                io->done = on_io;
                with_engine += in_flight_cost(io->len);
                most_seen = max_u64(most_seen, with_engine);
                longest_seen = max_u64(longest_seen, io->len);
                if (nlog < ARRAY_SIZE(offsets))
                        offsets[nlog++] = io->off;
        }
        __real_engine_submit(e, io);
}

static void count(const char *file)
{
        counted = file;
        with_engine = most_seen = longest_seen = 0;
        nlog = 0;
}

/* --- requests --------------------------------------------------------------------------------------------------------- */

struct slot {
        struct blk_req req;
        struct iovec iov;
        bool busy, done;
        int res;
};
static struct slot slots[SLOTS];
static unsigned busy, ndone;
static struct slot *order[SLOTS]; /* of their ends */

static void on_done(struct blk_req *req, int res)
{
        struct slot *s = container_of(req, struct slot, req);

        assert_true(s->busy);
        s->busy = false;
        s->done = true;
        s->res = res;
        if (ndone < SLOTS)
                order[ndone] = s;
        ndone++;
        busy--;
}

static void submit(struct rig *g, struct slot *s, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
        void *buf = s->iov.iov_base;

        assert_false(s->busy);
        *s = (struct slot){ .iov = { buf, len }, .busy = true };
        s->req = (struct blk_req){ .op = op, .flags = flags, .off = op == BLK_FLUSH ? 0 : off, .len = op == BLK_FLUSH ? 0 : len,
                                   .iov = &s->iov, .niov = 1, .done = on_done };
        busy++;
        port_submit(g->port, &s->req);
}

static void turn(struct rig *g)
{
        for (int i = 0; i < 50; i++)
                qthread_run_once(g->home, NS_PER_MS / 10);
}

static void wait_all(struct rig *g)
{
        while (busy)
                qthread_run_once(g->home, NS_PER_MS);
}

static void wait_one(struct rig *g, struct slot *s)
{
        while (!s->done)
                qthread_run_once(g->home, NS_PER_MS);
        assert_int_equal(s->res, 0);
}

static int setup(void **state)
{
        for (unsigned i = 0; i < SLOTS; i++) {
                slots[i] = (struct slot){ .iov.iov_base = aligned_alloc(4096, SIZE / 4) };
                assert_non_null(slots[i].iov.iov_base);
                memset(slots[i].iov.iov_base, (int)i + 1, SIZE / 4);
        }
        ndone = busy = 0;
        return vf_setup(state);
}

static int teardown(void **state)
{
        count(NULL);
        for (unsigned i = 0; i < SLOTS; i++)
                free(slots[i].iov.iov_base);
        return vf_teardown(state);
}

static void open_raw(struct rig *g, struct vol_opts vo, const struct engine_opts *eo)
{
        unlink("disk");
        vf_create_random("disk", SIZE, 3);
        vo.format = "raw";
        vf_open(g, "disk", &vo, eo);
        count("disk");
}

/* --- the bound, and order ----------------------------------------------------------------------------------------------- */

static void test_order(void **state)
{
        struct engine_opts eo = { .kind = ENGINE_SYNC };
        struct rig g;

        open_raw(&g, (struct vol_opts){ .max_in_flight = 128 * KIB }, &eo);
        for (unsigned i = 0; i < SLOTS; i++) /* some would fit before others that came first */
                submit(&g, &slots[i], i % 3 ? BLK_READ : BLK_WRITE, 0, i * 64 * KIB, i % 2 ? 4 * KIB : 64 * KIB);
        assert_int_equal(nlog, 2); /* 64 + 32 KiB, since a short one counts for more than it has */
        wait_all(&g);
        assert_int_equal(nlog, SLOTS);
        for (unsigned i = 0; i < SLOTS; i++)
                assert_int_equal(offsets[i], i * 64 * KIB);
        assert_int_equal(most_seen, 128 * KIB);
        assert_int_equal(with_engine, 0);
        for (unsigned i = 0; i < SLOTS; i++)
                assert_int_equal(slots[i].res, 0);
        assert_int_equal(vf_close(&g), 0);
}

/* No bound, and another one while requests wait. */
static void test_changes(void **state)
{
        struct engine_opts eo = { .kind = ENGINE_SYNC };
        struct rig g;

        open_raw(&g, (struct vol_opts){ 0 }, &eo);
        for (unsigned i = 0; i < SLOTS; i++)
                submit(&g, &slots[i], BLK_READ, 0, i * 64 * KIB, 64 * KIB);
        assert_int_equal(nlog, SLOTS);
        wait_all(&g);
        count("disk");
        vol_set_max_in_flight(g.v, 64 * KIB);
        assert_int_equal(vol_max_in_flight(g.v), 64 * KIB);
        for (unsigned i = 0; i < SLOTS; i++)
                submit(&g, &slots[i], BLK_READ, 0, i * 64 * KIB, 4 * KIB);
        assert_int_equal(nlog, 2);
        vol_set_max_in_flight(g.v, 256 * KIB);
        qthread_run_once(g.home, 0);
        qthread_run_once(g.home, 0);
        assert_int_equal(most_seen, 256 * KIB);
        vol_set_max_in_flight(g.v, 0);
        wait_all(&g);
        assert_int_equal(nlog, SLOTS);
        assert_true(most_seen > 256 * KIB);
        assert_int_equal(vf_close(&g), 0);
}

/* What is longer than the bound goes in pieces, each of which fits; what it reads is right. */
static void test_long(void **state)
{
        struct engine_opts eo = { .kind = ENGINE_SYNC, .seed = 5 };
        uint8_t *all = malloc(SIZE / 4);
        struct rig g;
        FILE *f;

        open_raw(&g, (struct vol_opts){ .max_in_flight = 256 * KIB }, &eo);
        for (unsigned i = 0; i < 4; i++)
                submit(&g, &slots[i], i == 2 ? BLK_WRITE : BLK_READ, 0, i * SIZE / 4, SIZE / 4);
        wait_all(&g);
        assert_int_equal(longest_seen, 64 * KIB);
        assert_int_equal(most_seen, 256 * KIB);
        f = fopen("disk", "r");
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(slots[i].res, 0);
                assert_int_equal(fread(all, 1, SIZE / 4, f), SIZE / 4);
                assert_memory_equal(all, slots[i].iov.iov_base, SIZE / 4);
        }
        fclose(f);
        /* One that a single piece is too long for goes all the same. */
        vol_set_max_in_flight(g.v, 1);
        submit(&g, &slots[0], BLK_READ, 0, 0, 256 * KIB);
        submit(&g, &slots[1], BLK_READ, 0, 0, 4 * KIB);
        wait_all(&g);
        assert_int_equal(slots[0].res | slots[1].res, 0);
        free(all);
        assert_int_equal(vf_close(&g), 0);
}

static uint64_t spent(struct rig *g, unsigned op, enum stats_stage stage)
{
        struct blk_totals *t = calloc(1, sizeof(*t));
        uint64_t ns;

        vol_totals(g->v, t);
        ns = t->op[op].stage[stage].total_ns;
        free(t);
        return ns;
}

/* The time that they wait is told apart from the disk's, and all stages are the whole. */
static void test_time(void **state)
{
        struct engine_opts eo = { .kind = ENGINE_SYNC };
        struct rig g;
        uint64_t sum = 0;

        open_raw(&g, (struct vol_opts){ .max_in_flight = 32 * KIB }, &eo);
        submit(&g, &slots[0], BLK_READ, 0, 0, 4096);
        submit(&g, &slots[1], BLK_READ, 0, 0, 4096);
        usleep(3000);
        wait_all(&g);
        qthread_run_once(g.home, 0);
        assert_true(spent(&g, STATS_READ, STAGE_TURN) >= 3000000);
        for (unsigned s = 0; s < STAGE_TOTAL; s++)
                sum += spent(&g, STATS_READ, s);
        assert_int_equal(sum, spent(&g, STATS_READ, STAGE_TOTAL));
        assert_int_equal(spent(&g, STATS_WRITE, STAGE_TURN), 0);
        assert_int_equal(vf_close(&g), 0);
}

/* --- who waits elsewhere does not count ------------------------------------------------------------------------------- */

/* Writes wait for space on the host's disk, far more bytes of them than the bound. */
static void test_full(void **state)
{
        struct vol_opts vo = { .max_in_flight = 64 * KIB, .wait_for_space = true, .writeback = true };
        struct rig g;

        open_raw(&g, vo, &threads);
        assert_int_equal(fault_arm("engine.write=1:ENOSPC:forever"), 0);
        for (unsigned i = 0; i < 8; i++)
                submit(&g, &slots[i], BLK_WRITE, 0, i * 256 * KIB, 128 * KIB);
        while (vol_waiting_for_space(g.v) < 8)
                qthread_run_once(g.home, NS_PER_MS);
        for (unsigned i = 8; i < 16; i++)
                submit(&g, &slots[i], BLK_READ, 0, i * 256 * KIB, 64 * KIB);
        for (unsigned i = 8; i < 16; i++)
                wait_one(&g, &slots[i]);
        assert_int_equal(vol_waiting_for_space(g.v), 8);
        assert_int_equal(busy, 8);
        fault_arm(NULL);
        assert_int_equal(vol_try_space(g.v), 0);
        wait_all(&g);
        assert_true(most_seen <= 128 * KIB); /* the port's bound and home's */
        assert_int_equal(vf_close(&g), 0);
}

/* Writes wait for their turn under limits. */
static void test_limits(void **state)
{
        struct throttle_limits l = THROTTLE_NO_LIMITS;
        struct throttle_group *slow;
        struct rig g;

        l.kind[THROTTLE_BPS_WRITE].avg = 1; /* after the first one more than an hour */
        slow = throttle_group_new("slow", &l);
        assert_non_null(slow);
        open_raw(&g, (struct vol_opts){ .max_in_flight = 64 * KIB, .writeback = true }, &threads);
        assert_int_equal(vol_set_throttle(g.v, slow), 0);
        turn(&g);
        for (unsigned i = 0; i < 8; i++)
                submit(&g, &slots[i], BLK_WRITE, 0, i * 256 * KIB, 64 * KIB);
        for (unsigned i = 8; i < 16; i++)
                submit(&g, &slots[i], BLK_READ, 0, i * 256 * KIB, 64 * KIB);
        for (unsigned i = 8; i < 16; i++)
                wait_one(&g, &slots[i]);
        wait_one(&g, &slots[0]);
        assert_int_equal(busy, 7);
        assert_int_equal(vol_set_throttle(g.v, NULL), 0);
        throttle_group_unref(slow);
        wait_all(&g);
        assert_int_equal(vf_close(&g), 0);
}

/* --- random loads --------------------------------------------------------------------------------------------------------- */

static const struct kind {
        const char *what, *format, *opts, *counted;
        unsigned movers; /* whose bytes are in the file that is counted, each with the bound of its own */
        bool backing;
} kinds[] = {
        { "raw", "raw", "", "disk", 2, false },
        { "data file", "qcow2", "cluster_size=16k,data_file=flight.data", "flight.data", 2, false },
        { "data file, backing", "qcow2", "cluster_size=64k,data_file=flight.data", "flight.data", 2, true },
        { "qcow2", "qcow2", "cluster_size=4k", NULL, 0, true },
};

static bool resized;

static void on_resized(void *opaque, int res, const char *why)
{
        (void)opaque;
        if (res < 0)
                fail_msg("resize: %s", why);
        resized = true;
}

static void random_request(struct rig *g, struct slot *s, uint64_t *rnd)
{
        static const enum blk_op ops[] = { BLK_READ, BLK_READ, BLK_READ, BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES, BLK_DISCARD,
                                           BLK_FLUSH };
        enum blk_op op = ops[vf_rnd(rnd) % ARRAY_SIZE(ops)];
        uint64_t len = 512 * (1 + vf_rnd(rnd) % (vf_rnd(rnd) % 3 ? 64 : LONGEST / 512)), off = vf_rnd(rnd) % ((SIZE - len) / 512) * 512;
        unsigned flags = vf_rnd(rnd) % 8 || op == BLK_READ || op == BLK_FLUSH ? 0 : BLK_FUA;

        submit(g, s, op, flags, off, len);
}

/* Returns the most that the engine had. */
static uint64_t run_load(const struct kind *k, unsigned round, uint64_t bound)
{
        struct engine_opts eo = { .kind = ENGINE_SYNC, .seed = seed + round + 1, .slow_steps = round % 2 };
        struct vol_opts vo = { .format = k->format, .max_in_flight = bound, .writeback_ms = 1, .no_sync = true, .writeback = round % 2 };
        uint64_t rnd = seed * 31 + round, size = SIZE;
        struct rig g;

        unlink("disk");
        vf_create("disk", k->format, k->opts, SIZE, k->backing ? "base" : NULL);
        vf_open(&g, "disk", &vo, &eo);
        count(k->counted);
        resized = true;
        for (unsigned n = 0; n < 600; n++) {
                struct slot *s = &slots[vf_rnd(&rnd) % SLOTS];

                if (!s->busy)
                        random_request(&g, s, &rnd);
                if (vf_rnd(&rnd) % 4 == 0)
                        qthread_run_once(g.home, 0);
                if (bound && with_engine > k->movers * max_u64(bound, LONGEST))
                        fail_msg("%s: the engine has %" PRIu64 " bytes at once, %" PRIu64 " may (seed %" PRIu64 ")", k->what, with_engine,
                                 bound, seed);
                if (n % 150 == 149 && resized) { /* all that is under way has to end, what comes meanwhile waits */
                        resized = false;
                        assert_int_equal(vol_resize(g.v, size += 65536, on_resized, NULL), 0);
                }
        }
        wait_all(&g);
        qthread_run(g.home, &resized);
        assert_int_equal(with_engine, 0);
        for (unsigned i = 0; i < SLOTS; i++)
                assert_int_equal(slots[i].res, 0);
        assert_int_equal(vf_close(&g), 0);
        if (!strcmp(k->format, "qcow2"))
                assert_int_equal(vf_check("disk"), 0);
        unlink("flight.data");
        return most_seen;
}

static void test_random(void **state)
{
        vf_create_random("base", SIZE, 11);
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
                for (unsigned round = 0; round < loads; round++) {
                        const struct kind *k = &kinds[i];
                        uint64_t bound = 64 * KIB << (round % 3), most = run_load(k, round, bound);

                        if (most > k->movers * bound)
                                fail_msg("%s: %" PRIu64 " bytes at once where %" PRIu64 " may be (seed %" PRIu64 ")", k->what, most, bound, seed);
                        if (round == 0 && k->counted) /* and there was more to do than that */
                                assert_true(run_load(k, round, 0) > k->movers * bound);
                }
        unlink("base");
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_long, setup, teardown),
                cmocka_unit_test_setup_teardown(test_time, setup, teardown),
                cmocka_unit_test_setup_teardown(test_full, setup, teardown),
                cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        };
        const char *given = getenv("TEST_SEED");

        loads = argc > 1 ? (unsigned)atoi(argv[1]) : loads;
        seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
        print_message("TEST_SEED=%" PRIu64 "\n", seed);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
