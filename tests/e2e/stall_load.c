/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/e2e/stall_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/control_fixture.h"
#include "tests/lib/front_end.h"

#define MIB (1ull << 20)
#define BLOCK 4096u

static unsigned ndisks;
static uint64_t blocks; /* that are used, of each disk */
static struct disk {
        struct front_end *fe;
        struct fe_io io;
        char *buf;
        uint64_t last_ns;
} disks[STALL_DISKS_MAX];
static pthread_t thread;
static atomic_bool over;
static _Atomic uint64_t longest; /* since it was set to 0 */

static void next(struct disk *d, uint64_t *rnd)
{
        *rnd = *rnd * 6364136223846793005ull + 1442695040888963407ull;
        d->io = (struct fe_io){
                .type = (*rnd >> 40) % 3 ? FE_WRITE : FE_READ, .sector = (*rnd >> 20) % blocks * (BLOCK / 512),
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

static void add_disk(unsigned i, unsigned size)
{
        struct fe_opts o = { .timeout_ms = HANG_MS };
        char text[256];

        snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 d%u.qcow2 %uM", i, size);
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

void stall_begin(unsigned n, unsigned size, unsigned window)
{
        ndisks = n;
        blocks = window * MIB / BLOCK;
        for (unsigned i = 0; i < ndisks; i++)
                add_disk(i, size);
        atomic_store(&over, false);
        assert_int_equal(pthread_create(&thread, NULL, keep_busy, NULL), 0);
        usleep(200000);
}

void stall_end(void)
{
        atomic_store(&over, true);
        pthread_join(thread, NULL);
        for (unsigned i = 0; i < ndisks; i++)
                fe_close(disks[i].fe);
}

uint64_t stall_longest(void)
{
        return atomic_exchange(&longest, 0);
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

void stall_print(const char *what, uint64_t *ns, unsigned n)
{
        qsort(ns, n, sizeof(*ns), compare);
        printf("%s: longest gap between completions, of %u: median %.2f ms, 99 %% %.2f ms, worst %.2f ms\n", what, n,
               (double)ns[n / 2] / 1e6, (double)ns[n - 1 - n / 100] / 1e6, (double)ns[n - 1] / 1e6);
}
