/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snap_stall [SNAPSHOTS [DISKS]] - how long do guests wait while all of DISKS disks get new overlays in one transaction, again and
 * again? Each disk has one random 4 KiB request in flight at all times (two of three are writes). For each snapshot: the longest time
 * between two completions of any disk, from the command to 20 ms after its answer; and the same for as many pauses of the same length without
 * a snapshot. A measurement for people, not a test: it fails on no time. E2E_BACK_END: vdiskd. At most 60 snapshots: each makes
 * the chains longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/control_fixture.h"
#include "tests/lib/front_end.h"

#define MIB (1ull << 20)
#define SIZE (1024 * MIB)
#define BLOCK 4096u
#define MAX_DISKS 256u
#define AFTER_US 20000

static unsigned snapshots = 50, ndisks = 1;
static struct disk {
        struct front_end *fe;
        struct fe_io io;
        char *buf;
        uint64_t last_ns;
} disks[MAX_DISKS];
static atomic_bool over;
static _Atomic uint64_t longest; /* since it was set to 0 */

static void next(struct disk *d, uint64_t *rnd)
{
        *rnd = *rnd * 6364136223846793005ull + 1442695040888963407ull;
        d->io = (struct fe_io){
                .type = (*rnd >> 40) % 3 ? FE_WRITE : FE_READ, .sector = (*rnd >> 20) % (SIZE / BLOCK) * (BLOCK / 512),
                .gpa = fe_gpa(d->fe, d->buf), .len = BLOCK,
        };
        assert_int_equal(fe_submit(fe_queue(d->fe, 0), &d->io), 0);
        fe_kick(fe_queue(d->fe, 0));
}

static void note_gap(struct disk *d)
{
        uint64_t now = clock_ns(), gap = now - d->last_ns;

        d->last_ns = now;
        if (gap > atomic_load(&longest))
                atomic_store(&longest, gap);
}

static void *keep_busy(void *arg)
{
        uint64_t rnd = 1;

        (void)arg;
        for (unsigned i = 0; i < ndisks; i++) {
                disks[i].last_ns = clock_ns();
                next(&disks[i], &rnd);
        }
        while (!atomic_load(&over)) {
                for (unsigned i = 0; i < ndisks; i++) {
                        struct disk *d = &disks[i];
                        struct fe_io *io;

                        if (fe_reap(fe_queue(d->fe, 0), &io, 1) != 1)
                                continue;
                        assert_int_equal(io->status, FE_OK);
                        note_gap(d);
                        next(d, &rnd);
                }
                if (ndisks == 1)
                        fe_wait(fe_queue(disks[0].fe, 0), 1);
        }
        return NULL;
}

static void add_disk(unsigned i)
{
        struct fe_opts o = { .timeout_ms = HANG_MS };
        char text[256];

        snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 d%u.qcow2 1G", i);
        assert_int_equal(run(text), 0);
        snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'d%u','file':{'driver':'file','filename':'d%u.qcow2'}}", i, i);
        must("blockdev-add", text);
        snprintf(text, sizeof(text), "{'type':'vhost-user-blk','id':'d%u','node-name':'d%u','writable':true,"
                 "'addr':{'type':'unix','path':'d%u.sock'}}", i, i, i);
        must("block-export-add", text);
        snprintf(text, sizeof(text), "d%u.sock", i);
        o.path = at(text);
        if (fe_open(&o, &disks[i].fe) < 0)
                fail_msg("%s: %s", text, err_text(-1));
        disks[i].buf = fe_alloc(disks[i].fe, BLOCK, BLOCK);
}

static void take_snapshot(unsigned round, char *text)
{
        char *p = text + sprintf(text, "{'actions':[");

        for (unsigned i = 0; i < ndisks; i++)
                p += sprintf(p, "%s{'type':'blockdev-snapshot-sync','data':{'device':'d%u','snapshot-file':'d%u.%u.qcow2'}}",
                             i ? "," : "", i, i, round);
        strcpy(p, "]}");
        must("transaction", text);
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static void print(const char *what, uint64_t *ns)
{
        qsort(ns, snapshots, sizeof(*ns), compare);
        printf("%s: longest gap between completions, of %u: median %.2f ms, 99 %% %.2f ms, worst %.2f ms\n", what, snapshots,
               (double)ns[snapshots / 2] / 1e6, (double)ns[snapshots - 1 - snapshots / 100] / 1e6,
               (double)ns[snapshots - 1] / 1e6);
}

static void measure(void **state)
{
        uint64_t *with = calloc(snapshots, sizeof(*with)), *without = calloc(snapshots, sizeof(*without)), start, took;
        char *text = malloc(64 + ndisks * 128);
        pthread_t t;

        (void)state;
        for (unsigned i = 0; i < ndisks; i++)
                add_disk(i);
        assert_int_equal(pthread_create(&t, NULL, keep_busy, NULL), 0);
        usleep(200000);
        for (unsigned round = 0; round < snapshots; round++) {
                atomic_store(&longest, 0);
                start = clock_ns();
                take_snapshot(round, text);
                took = clock_ns() - start;
                usleep(AFTER_US);
                with[round] = atomic_exchange(&longest, 0);
                usleep((unsigned)(took / 1000) + AFTER_US);
                without[round] = atomic_load(&longest);
        }
        atomic_store(&over, true);
        pthread_join(t, NULL);
        for (unsigned i = 0; i < ndisks; i++)
                fe_close(disks[i].fe);
        printf("%u snapshots of %u disks at once\n", snapshots, ndisks);
        print("with a snapshot", with);
        print("without", without);
        free(with);
        free(without);
        free(text);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(measure, start_default, stop) };

        snapshots = argc > 1 ? (unsigned)atoi(argv[1]) : snapshots;
        ndisks = argc > 2 ? (unsigned)atoi(argv[2]) : ndisks;
        if (!snapshots || snapshots > 60 || !ndisks || ndisks > MAX_DISKS) {
                fprintf(stderr, "usage: snap_stall [SNAPSHOTS (1..60) [DISKS (1..%u)]]\n", MAX_DISKS);
                return 2;
        }
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
