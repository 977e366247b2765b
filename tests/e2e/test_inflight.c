/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill -9 of the daemon at random moments under verified load, and the front end comes back with the rings as they are:
 * every request is answered exactly once. The queue (fe_reap) finds answers to what is not in flight, the worker finds what
 * is never answered and data that is wrong.
 *
 *   e2e_inflight [ROUNDS]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "back_end.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "worker.h"

#define DISK_LEN (64ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define QUEUES 2

static struct back_end be;
static uint64_t seed;
static unsigned rounds = 40;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s (E2E_SEED=%llu)", #r, err_text(must_r_), \
                                                                  (unsigned long long)seed); } while (0)

static int resume(struct front_end *fe)
{
        uint64_t deadline = clock_ns() + 30 * NS_PER_SEC;
        int r;

        do { /* a daemon that still drains the connection before hangs up at once */
                err_clear();
                r = fe_resume(fe);
                if (r == -ECONNRESET || r == -ECONNREFUSED || r == -EPIPE)
                        usleep(1000);
                else
                        break;
        } while (clock_ns() < deadline);
        return r;
}

struct load {
        struct front_end *fe;
        struct verify *verify;
        struct worker w[QUEUES];
        unsigned long in_flight; /* on record when the connection was lost, over all rounds */
};

/*
 * Every cluster gets its place in the image, durably: after a daemon died, unflushed writes to new clusters may be lost, as
 * docs/PROMISES.md says, and here it is about requests.
 */
static void fill(struct front_end *fe)
{
        uint8_t *buf = fe_alloc(fe, 1 << 20, 4096);
        struct fe_io io = { .type = FE_WRITE, .gpa = fe_gpa(fe, buf), .len = 1 << 20 };

        for (; io.sector < DISK_LEN / 512; io.sector += io.len / 512) {
                must(fe_do(fe_queue(fe, 0), &io, 60000));
                assert_int_equal(io.status, FE_OK);
        }
        io = (struct fe_io){ .type = FE_FLUSH };
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        assert_int_equal(io.status, FE_OK);
}

static void begin(struct load *l, unsigned disk, struct fe_opts o)
{
        struct verify_opts vo = { .nunits = NUNITS, .unit_len = WORKER_UNIT, .seed = ++seed, .fresh = true };

        o.num_queues = QUEUES;
        o.max_segs = 32;
        must(verify_new(&vo, &l->verify));
        must(be_open(&be, disk, o, &l->fe));
        assert_true(fe_protocol_features(l->fe) & FE_PF_INFLIGHT_SHMFD);
        fill(l->fe);
        for (unsigned i = 0; i < QUEUES; i++) {
                l->w[i] = (struct worker){ .fe = l->fe, .queue = i, .verify = l->verify, .first = i * (NUNITS / QUEUES),
                                           .nunits = NUNITS / QUEUES, .seed = seed + i, .odd = true };
                must(worker_start(&l->w[i]));
        }
}

static void lose_connection(struct load *l, bool kill)
{
        for (unsigned i = 0; i < QUEUES; i++)
                if (worker_wait(&l->w[i], 1) < 0)
                        must(worker_stop(&l->w[i])); /* says why */
        usleep((useconds_t)rand() % 20000);
        if (kill)
                must(be_kill(&be));
        for (unsigned i = 0; i < QUEUES; i++) {
                worker_hold(&l->w[i]);
                must(fe_recorded(l->fe, i));
                l->in_flight += (unsigned)fe_recorded(l->fe, i);
        }
        fe_disconnect(l->fe);
        if (kill)
                must(be_start(&be));
        must(resume(l->fe));
        for (unsigned i = 0; i < QUEUES; i++)
                worker_go(&l->w[i]);
}

static void every_request_once(unsigned disk, struct fe_opts o, unsigned n, bool kill)
{
        struct load l = { 0 };

        begin(&l, disk, o);
        for (unsigned round = 0; round < n; round++)
                lose_connection(&l, kill);
        for (unsigned i = 0; i < QUEUES; i++)
                must(worker_stop(&l.w[i]));
        print_message("%u rounds, %lu requests were on record when the connection was lost\n", n, l.in_flight);
        if (kill)
                assert_true(l.in_flight >= n); /* else the moments were badly chosen, and this proves nothing */
        fe_close(l.fe);
        verify_free(l.verify);
}

static void test_daemon_killed_qcow2(void **state)
{
        every_request_once(1, (struct fe_opts){ 0 }, (rounds + 1) / 2, true);
}

static void test_daemon_killed_raw_small_ring(void **state)
{
        every_request_once(0, (struct fe_opts){ .queue_size = 32, .features_off = FE_F_EVENT_IDX | FE_F_INDIRECT_DESC },
                           rounds / 2, true);
}

/* The same daemon sees the same rings again: all was answered before it let go, nothing is done twice. */
static void test_connection_lost(void **state)
{
        every_request_once(1, (struct fe_opts){ 0 }, 20, false);
}

static int start(void **state)
{
        struct be_disk disks[] = { { .format = "raw", .size = DISK_LEN }, { .format = "qcow2", .size = DISK_LEN } };
        int r = be_group_start(&be, disks, ARRAY_SIZE(disks), &seed);

        srand((unsigned)seed);
        return r;
}

static int stop(void **state)
{
        return be_group_stop(&be);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_daemon_killed_qcow2),
                cmocka_unit_test(test_daemon_killed_raw_small_ring),
                cmocka_unit_test(test_connection_lost),
        };

        if (argc > 1)
                rounds = (unsigned)atoi(argv[1]);
        return cmocka_run_group_tests(tests, start, stop);
}
