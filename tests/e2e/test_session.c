/* SPDX-License-Identifier: BSD-3-Clause */
/* Verified load while the session changes under it: rings stop and start, memory comes and goes, front ends leave. */
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
#include "common/err.h"
#include "worker.h"

#define DISK_LEN (64ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define QUEUES 4

static struct back_end be;
static uint64_t seed;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s", #r, err_text(must_r_)); } while (0)

/* One front end with a worker on each of its queues, on disk 0 (raw) or 1 (qcow2). */
struct load {
        struct front_end *fe;
        struct verify *verify;
        unsigned n;
        struct worker w[QUEUES];
};

static void load_start_workers(struct load *l, bool odd)
{
        for (unsigned i = 0; i < l->n; i++) {
                l->w[i] = (struct worker){ .fe = l->fe, .queue = i, .verify = l->verify, .first = i * (NUNITS / l->n),
                                           .nunits = NUNITS / l->n, .seed = seed + i, .odd = odd };
                must(worker_start(&l->w[i]));
        }
}

static void load_start(struct load *l, unsigned disk, unsigned nqueues, struct fe_opts o, bool odd)
{
        struct verify_opts vo = { .nunits = NUNITS, .unit_len = WORKER_UNIT, .seed = ++seed };

        l->n = o.num_queues = nqueues;
        o.max_segs = 32;
        must(verify_new(&vo, &l->verify));
        must(be_open(&be, disk, o, &l->fe));
        load_start_workers(l, odd);
}

static void load_wait(struct load *l, unsigned long more)
{
        for (unsigned i = 0; i < l->n; i++)
                must(worker_wait(&l->w[i], more));
}

static void load_stop(struct load *l)
{
        for (unsigned i = 0; i < l->n; i++)
                must(worker_stop(&l->w[i]));
        fe_close(l->fe);
        verify_free(l->verify);
}

static void test_any_framing_on_every_queue(void **state)
{
        static const uint64_t off[] = { 0, FE_F_INDIRECT_DESC, FE_F_EVENT_IDX, FE_F_INDIRECT_DESC | FE_F_EVENT_IDX };

        for (unsigned disk = 0; disk < 2; disk++) {
                for (unsigned i = 0; i < ARRAY_SIZE(off); i++) {
                        struct load l;

                        load_start(&l, disk, QUEUES, (struct fe_opts){ .features_off = off[i] }, true);
                        load_wait(&l, 500);
                        load_stop(&l);
                }
        }
}

static void test_rings_stop_and_start(void **state)
{
        struct load l;
        uint32_t base;

        load_start(&l, 1, 2, (struct fe_opts){ 0 }, true);
        for (unsigned round = 0; round < 30; round++) {
                struct worker *w = &l.w[round % 2];

                load_wait(&l, 20);
                if (!be_is_vdiskd())
                        continue; /* qemu-storage-daemon 7.2 does not wait for what is in flight */
                worker_hold(w);
                must(fe_ring_stop(l.fe, w->queue, &base));
                if (!be_packed()) /* all that it took; of a packed ring nothing but the next requests can tell */
                        assert_int_equal(base, fe_queue_ring(fe_queue(l.fe, w->queue))->used->idx);
                must(fe_ring_start(l.fe, w->queue, base));
                worker_go(w);
        }
        load_wait(&l, 100);
        load_stop(&l);
}

static void test_ring_disabled_and_enabled(void **state)
{
        struct load l;

        load_start(&l, 0, 2, (struct fe_opts){ 0 }, false);
        for (unsigned round = 0; round < 10; round++) {
                load_wait(&l, 20);
                must(fe_ring_enable(l.fe, 0, false));
                must(worker_wait(&l.w[1], 50)); /* the other ring goes on */
                must(fe_ring_enable(l.fe, 0, true));
        }
        load_wait(&l, 50);
        load_stop(&l);
}

static void change_memory(uint64_t protocol_off)
{
        struct load l;
        unsigned region[4], live = 0;

        load_start(&l, 1, 2, (struct fe_opts){ .protocol_off = protocol_off }, true);
        for (unsigned round = 0; round < 40; round++) {
                load_wait(&l, 10);
                if (live == 4 || (live && round % 3 == 2)) {
                        must(fe_region_remove(l.fe, region[--live]));
                        continue;
                }
                must(fe_region_add(l.fe, 0, 2 << 20, &region[live++]));
        }
        if (protocol_off)
                must(fe_set_mem_table(l.fe)); /* the same table again */
        load_wait(&l, 50);
        load_stop(&l);
}

static void test_memory_slots_come_and_go(void **state)
{
        change_memory(0);
}

static void test_memory_table_is_replaced(void **state)
{
        change_memory(FE_PF_CONFIGURE_MEM_SLOTS);
}

static void test_data_in_a_region_added_later(void **state)
{
        struct front_end *fe;
        unsigned a, b;
        uint8_t *pa, *pb;
        struct fe_io io = { .len = 8192, .sector = 64 };
        uint64_t gpa = 1ull << 32;
        /* qemu-storage-daemon 7.2 takes an indirect chain that falls in more pieces than descriptors for a loop */
        struct fe_opts o = { .features_off = be_is_vdiskd() ? 0 : FE_F_INDIRECT_DESC };

        must(be_open(&be, 0, o, &fe));
        must(fe_region_add(fe, gpa, 1 << 20, &a));
        must(fe_region_add(fe, gpa + (1 << 20), 1 << 20, &b)); /* neighbours for the guest, strangers for us */
        pa = fe_mem(fe)->regions[a].map + (1 << 20) - 4608;
        pb = fe_mem(fe)->regions[b].map;
        memset(pa, 0xa1, 4608);
        memset(pb, 0xb2, 8192 - 4608);
        io.gpa = gpa + (1 << 20) - 4608;
        io.type = FE_WRITE;
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        assert_int_equal(io.status, FE_OK);
        memset(pa, 0, 4608);
        memset(pb, 0, 8192);
        io.type = FE_READ;
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        assert_int_equal(io.status, FE_OK);
        for (unsigned i = 0; i < 8192; i++)
                assert_int_equal(i < 4608 ? pa[i] : pb[i - 4608], i < 4608 ? 0xa1 : 0xb2);
        assert_int_equal(pb[8192 - 4608], 0); /* and not a byte more */
        fe_close(fe);
}

/* A daemon that still drains the old connection hangs up at once. */
static int connect_again(struct front_end *fe)
{
        int r = -ECONNRESET;

        for (unsigned i = 0; r == -ECONNRESET && i < 10000; i++) {
                err_clear();
                r = fe_connect(fe);
                if (r < 0)
                        usleep(1000);
        }
        return r;
}

/* The front end leaves without a word, with requests in flight, and the next one finds all that was answered. */
static void test_front_end_leaves_under_load(void **state)
{
        struct load l;
        int fds = -1;

        load_start(&l, 1, QUEUES, (struct fe_opts){ 0 }, false);
        for (unsigned round = 0; round < 20; round++) {
                struct fe_io *io;

                load_wait(&l, 20);
                for (unsigned i = 0; i < l.n; i++)
                        worker_hold(&l.w[i]);
                fe_disconnect(l.fe);
                for (unsigned i = 0; i < l.n; i++) {
                        while ((io = fe_queue_unanswered(fe_queue(l.fe, i)))) {
                                struct worker_slot *s = container_of(io, struct worker_slot, io);

                                /* not answered: old or new, or still to come until the back end has let go */
                                verify_release(l.verify, s->unit, s->n, s->write);
                                s->busy = false;
                        }
                }
                must(connect_again(l.fe));
                for (unsigned i = 0; i < l.n; i++)
                        worker_go(&l.w[i]);
                if (round == 2)
                        fds = be_count_fds(&be);
        }
        load_wait(&l, 50);
        assert_in_range(be_count_fds(&be), 1, fds + 2); /* nothing piles up over 17 reconnects */
        load_stop(&l);
}

static void test_idle_connection_leaks_no_fd(void **state)
{
        struct front_end *fe;
        int before = -1;

        for (unsigned i = 0; i < 30; i++) {
                must(be_open(&be, 0, (struct fe_opts){ .num_queues = QUEUES }, &fe));
                if (i == 4)
                        before = be_count_fds(&be);
                if (i == 29)
                        assert_in_range(be_count_fds(&be), 1, before + 1);
                fe_close(fe);
        }
}

static int start(void **state)
{
        struct be_disk disks[] = { { .format = "raw", .size = DISK_LEN }, { .format = "qcow2", .size = DISK_LEN } };

        return be_group_start(&be, disks, ARRAY_SIZE(disks), &seed);
}

static int stop(void **state)
{
        return be_group_stop(&be);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_any_framing_on_every_queue),
                cmocka_unit_test(test_rings_stop_and_start),
                cmocka_unit_test(test_ring_disabled_and_enabled),
                cmocka_unit_test(test_memory_slots_come_and_go),
                cmocka_unit_test(test_data_in_a_region_added_later),
                cmocka_unit_test(test_front_end_leaves_under_load),
                cmocka_unit_test(test_idle_connection_leaks_no_fd),
        };

        /* qemu-storage-daemon 7.2 unmaps memory that requests in flight still use: they fail. So that is asked of us only. */
        const struct CMUnitTest ours[] = {
                cmocka_unit_test(test_memory_table_is_replaced),
        };
        int failed = cmocka_run_group_tests(tests, start, stop);

        return be_is_vdiskd() ? failed + cmocka_run_group_tests(ours, start, stop) : failed;
}
