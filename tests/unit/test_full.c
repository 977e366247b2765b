/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's disk is full at every step at which it can be: no request fails, what was written is there, and the image is
 * clean. And those for whom nobody may have to wait: holds, stops, and reads.
 *
 *   test_full [SEED]
 */
#include "vol_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/range.h"

#define SIZE (1u << 20)
#define OPS 16

static struct engine_opts threads = { .kind = ENGINE_THREADS };
static uint64_t seed = 1;

/* --- what the volume says ------------------------------------------------------------------------------------------ */

static unsigned seen[VOL_EV_IO_ERROR + 1];

static void on_event(void *opaque, const struct vol_event *ev)
{
        seen[ev->kind]++;
        if (ev->kind == VOL_EV_FULL)
                assert_int_equal(ev->err, -ENOSPC);
}

/* The operator makes space at once: in time for the next try, since the fault comes once. */
static void on_event_try(void *opaque, const struct vol_event *ev)
{
        struct rig *g = opaque;

        on_event(opaque, ev);
        if (ev->kind == VOL_EV_FULL)
                assert_int_equal(vol_try_space(g->v), 0);
}

static void open_waiting(struct rig *g, const char *name, const char *format, unsigned timeout_s)
{
        struct vol_opts vo = { .format = format, .writeback = true, .wait_for_space = true, .space_timeout_s = timeout_s };

        memset(seen, 0, sizeof(seen));
        vf_open(g, name, &vo, &threads);
        vol_on_event(g->v, on_event, g);
}

/* --- every step ----------------------------------------------------------------------------------------------------- */

struct world {
        struct rig g;
        unsigned char model[SIZE], buf[SIZE];
        uint64_t rnd;
};

static void one_op(struct world *w)
{
        static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES, BLK_DISCARD, BLK_FLUSH, BLK_READ };
        enum blk_op op = ops[vf_rnd(&w->rnd) % ARRAY_SIZE(ops)];
        uint64_t off = vf_rnd(&w->rnd) % (SIZE / 512) * 512, len = (1 + vf_rnd(&w->rnd) % 200) * 512;
        unsigned flags = op == BLK_FLUSH || op == BLK_READ || vf_rnd(&w->rnd) % 4 ? 0 : BLK_FUA;
        int r;

        len = op == BLK_FLUSH ? 0 : min_u64(len, SIZE - off);
        off = op == BLK_FLUSH ? 0 : off;
        memset(w->buf, op == BLK_WRITE ? (int)(1 + vf_rnd(&w->rnd) % 255) : 0, len);
        r = vf_do(&w->g, op, flags, off, len, w->buf);
        if (r != 0)
                fail_msg("operation %d at %llu: %s", op, (unsigned long long)off, strerror(-r));
        if (op == BLK_READ)
                assert_memory_equal(w->buf, w->model + off, len);
        else if (op == BLK_WRITE || op == BLK_WRITE_ZEROES)
                memcpy(w->model + off, w->buf, len);
        else if (op == BLK_DISCARD) /* zeros or as before */
                assert_int_equal(vf_do(&w->g, BLK_READ, 0, off, len, w->model + off), 0);
}

/* Returns whether there was a step number @nth. */
static bool run_full_at(const char *format, const char *opts, bool backing, const char *point, unsigned nth)
{
        AUTO(freep) struct world *w = calloc(1, sizeof(*w));
        char spec[64];
        bool hit;

        unlink("d.img");
        vf_create("d.img", format, opts, SIZE, backing ? "base.raw" : NULL);
        open_waiting(&w->g, "d.img", format, 0);
        vol_on_event(w->g.v, on_event_try, &w->g);
        w->rnd = seed;
        assert_int_equal(vf_do(&w->g, BLK_READ, 0, 0, SIZE, w->model), 0);
        snprintf(spec, sizeof(spec), "%s=%u:ENOSPC", point, nth);
        assert_int_equal(fault_arm(spec), 0);
        for (unsigned i = 0; i < OPS; i++)
                one_op(w);
        assert_int_equal(vf_do(&w->g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        hit = fault_count(point) >= nth;
        fault_arm(NULL);
        assert_int_equal(seen[VOL_EV_FULL], seen[VOL_EV_SPACE]);
        assert_int_equal(vol_waiting_for_space(w->g.v), 0);
        assert_int_equal(vf_close(&w->g), 0);
        vf_compare("d.img", format, w->model, SIZE);
        if (strcmp(format, "raw"))
                vf_check("d.img"); /* leaks are allowed */
        return hit;
}

static void every_step(const char *format, const char *opts, bool backing)
{
        static const char *const points[] = { "engine.write", "engine.truncate", "engine.zero" };

        vf_create_random("base.raw", SIZE, 7);
        for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
                unsigned n = 1;

                while (run_full_at(format, opts, backing, points[i], n))
                        n++;
                print_message("%s %s %s: full at %u of them\n", format, opts, points[i], n - 1);
        }
        unlink("base.raw");
}

static void test_every_step_raw(void **state) { every_step("raw", "", false); }
static void test_every_step_qcow2(void **state) { every_step("qcow2", "", false); }
static void test_every_step_small(void **state) { every_step("qcow2", "cluster_size=4k", true); }
static void test_every_step_sub(void **state) { every_step("qcow2", "extended_l2=on,cluster_size=64k", true); }

/* --- who does not wait ----------------------------------------------------------------------------------------------- */

static char buf[8192] __attribute__((aligned(4096)));

struct flight {
        struct blk_req req;
        struct iovec iov;
        bool done;
        int res;
};

static void on_done(struct blk_req *req, int res)
{
        struct flight *f = container_of(req, struct flight, req);

        f->done = true;
        f->res = res;
}

static void submit(struct rig *g, struct flight *f, enum blk_op op, uint64_t off)
{
        *f = (struct flight){ .iov = { buf, 4096 } };
        f->req = (struct blk_req){ .op = op, .off = off, .len = 4096, .iov = &f->iov, .niov = 1, .done = on_done };
        port_submit(g->port, &f->req);
}

static void turn(struct rig *g)
{
        for (int i = 0; i < 50; i++)
                qthread_run_once(g->home, NS_PER_MS / 10);
}

static void fill_up(struct rig *g, struct flight *f, unsigned n)
{
        assert_int_equal(fault_arm("engine.write=1:ENOSPC:forever"), 0);
        for (unsigned i = 0; i < n; i++)
                submit(g, &f[i], BLK_WRITE, i * 65536);
        while (vol_waiting_for_space(g->v) < n)
                qthread_run_once(g->home, NS_PER_MS);
        assert_int_equal(seen[VOL_EV_FULL], 1);
}

static bool changed;

static void on_changed(void *opaque, int res, const char *why)
{
        if (res < 0)
                fail_msg("resize: %s", why);
        changed = true;
}

static void test_hold(void **state)
{
        struct flight f[4];
        struct rig g;

        unlink("d.img");
        vf_create("d.img", "raw", "", SIZE, NULL);
        open_waiting(&g, "d.img", "raw", 0);
        fill_up(&g, f, 4);
        assert_int_equal(vf_do(&g, BLK_READ, 0, 0, 4096, buf), 0);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), 0);
        changed = false;
        assert_int_equal(vol_resize(g.v, 2 * SIZE, on_changed, NULL), 0);
        qthread_run(g.home, &changed);
        while (vol_waiting_for_space(g.v) < 4) /* they have begun anew */
                qthread_run_once(g.home, NS_PER_MS);
        for (unsigned i = 0; i < 4; i++)
                assert_false(f[i].done);
        fault_arm(NULL);
        assert_int_equal(vol_try_space(g.v), 0);
        for (unsigned i = 0; i < 4; i++) {
                qthread_run(g.home, &f[i].done);
                assert_int_equal(f[i].res, 0);
        }
        assert_int_equal(seen[VOL_EV_SPACE], 1);
        assert_int_equal(vf_close(&g), 0);
}

static void test_hurry(void **state)
{
        struct flight f[4], late;
        struct rig g;

        unlink("d.img");
        vf_create("d.img", "qcow2", "", SIZE, NULL);
        open_waiting(&g, "d.img", "qcow2", 0);
        fill_up(&g, f, 4);
        port_hurry(g.port, true);
        for (unsigned i = 0; i < 4; i++) {
                qthread_run(g.home, &f[i].done);
                assert_int_equal(f[i].res, -ENOSPC);
        }
        submit(&g, &late, BLK_WRITE, 0);
        qthread_run(g.home, &late.done);
        assert_int_equal(late.res, -ENOSPC);
        port_hurry(g.port, false);
        submit(&g, &late, BLK_WRITE, 0);
        turn(&g);
        assert_false(late.done);
        fault_arm(NULL);
        assert_int_equal(vol_try_space(g.v), 0);
        qthread_run(g.home, &late.done);
        assert_int_equal(late.res, 0);
        assert_int_equal(vf_close(&g), 0);
        vf_check("d.img");
}

static void test_patience_ends(void **state)
{
        struct flight f[3];
        struct rig g;

        unlink("d.img");
        vf_create("d.img", "qcow2", "", SIZE, NULL);
        open_waiting(&g, "d.img", "qcow2", 1);
        fill_up(&g, f, 3);
        for (unsigned i = 0; i < 3; i++) {
                qthread_run(g.home, &f[i].done);
                assert_int_equal(f[i].res, -ENOSPC);
        }
        turn(&g);
        assert_true(seen[VOL_EV_GAVE_UP] >= 1);
        assert_int_equal(seen[VOL_EV_SPACE], 0);
        fault_arm(NULL);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), 0);
        assert_int_equal(vf_close(&g), 0);
        vf_check("d.img");
}

/* A sync that failed failed for good, whatever the reason: nobody waits for that. */
static void test_failed_for_good(void **state)
{
        struct rig g;

        unlink("d.img");
        vf_create("d.img", "qcow2", "", SIZE, NULL);
        open_waiting(&g, "d.img", "qcow2", 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), 0);
        assert_int_equal(fault_arm("engine.sync=1:ENOSPC"), 0);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), -ENOSPC);
        assert_int_equal(vf_do(&g, BLK_FLUSH, 0, 0, 0, NULL), -ENOSPC);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 65536, 4096, buf), -ENOSPC);
        assert_int_equal(vol_waiting_for_space(g.v), 0);
        fault_arm(NULL);
        assert_int_equal(vf_close(&g), -ENOSPC);
}

/* As the tools want it, and on-full=report. */
static void test_no_wait(void **state)
{
        struct vol_opts vo = { .format = "qcow2", .writeback = true };
        struct rig g;

        unlink("d.img");
        vf_create("d.img", "qcow2", "", SIZE, NULL);
        vf_open(&g, "d.img", &vo, &threads);
        assert_int_equal(fault_arm("engine.write=1:ENOSPC:forever"), 0);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), -ENOSPC);
        assert_int_equal(vol_waiting_for_space(g.v), 0);
        fault_arm(NULL);
        assert_int_equal(vf_do(&g, BLK_WRITE, 0, 0, 4096, buf), 0);
        assert_int_equal(vf_close(&g), 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_step_raw),
                cmocka_unit_test(test_every_step_qcow2),
                cmocka_unit_test(test_every_step_small),
                cmocka_unit_test(test_every_step_sub),
                cmocka_unit_test(test_hold),
                cmocka_unit_test(test_hurry),
                cmocka_unit_test(test_patience_ends),
                cmocka_unit_test(test_failed_for_good),
                cmocka_unit_test(test_no_wait),
        };

        if (argc > 1)
                seed = strtoull(argv[1], NULL, 0);
        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
