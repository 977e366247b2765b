/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that wait under limits: in which lines, for whom nobody has to wait, and how they come to their end. The limits
 * are so low that nothing more would go through in the life of the test, or so high that all does.
 */
#include "vol_fixture.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define SIZE (1u << 20)

static struct engine_opts sync_engine = { .kind = ENGINE_THREADS };

static struct throttle_limits limit(enum throttle_kind k, uint64_t avg)
{
        struct throttle_limits l = THROTTLE_NO_LIMITS;

        l.kind[k].avg = avg;
        return l;
}

/* Bytes a second: after one request of 4 KiB the next one waits for more than an hour. */
static struct throttle_group *slow_group(enum throttle_kind k)
{
        struct throttle_limits l = limit(k, 1);
        struct throttle_group *g = throttle_group_new("slow", &l);

        assert_non_null(g);
        return g;
}

#define LEN 4096u

struct flight {
        char buf[LEN]; /* its own: threads read and write them at the same time */
        struct blk_req req;
        struct iovec iov;
        bool done;
        int res;
};

static void on_done(struct blk_req *req, int res)
{
        struct flight *f = container_of(req, struct flight, req);

        assert_false(f->done);
        f->done = true;
        f->res = res;
}

static void submit(struct rig *g, struct flight *f, enum blk_op op, uint64_t off)
{
        bool flush = op == BLK_FLUSH;

        *f = (struct flight){ .iov = { f->buf, LEN } };
        f->req = (struct blk_req){ .op = op, .off = off, .len = flush ? 0 : LEN, .iov = &f->iov, .niov = 1,
                                   .done = on_done };
        port_submit(g->port, &f->req);
}

static void turn(struct rig *g)
{
        for (int i = 0; i < 50; i++)
                qthread_run_once(g->home, NS_PER_MS / 10);
}

static unsigned count(const struct flight *f, unsigned n)
{
        unsigned done = 0;

        for (unsigned i = 0; i < n; i++) {
                assert_true(!f[i].done || f[i].res == 0);
                done += f[i].done;
        }
        return done;
}

static void wait_for(struct rig *g, struct flight *f)
{
        qthread_run(g->home, &f->done);
        assert_int_equal(f->res, 0);
}

static void open_raw(struct rig *g)
{
        vf_create("a.raw", "raw", "", SIZE, NULL);
        vf_open(g, "a.raw", &(struct vol_opts){ .format = "raw", .writeback = true }, &sync_engine);
}

/* --- one port ----------------------------------------------------------------------------------------------------- */

static void test_lines(void **state)
{
        struct throttle_group *g = slow_group(THROTTLE_BPS_WRITE);
        struct flight w[4], r[4], flush, discard;
        struct rig rig;

        (void)state;
        open_raw(&rig);
        assert_int_equal(vol_set_throttle(rig.v, g), 0);
        turn(&rig);
        for (unsigned i = 0; i < 4; i++)
                submit(&rig, &w[i], BLK_WRITE, i * 4096);
        submit(&rig, &discard, BLK_DISCARD, 8192);
        for (unsigned i = 0; i < 4; i++) /* reads have no limit, and do not stand behind writes */
                submit(&rig, &r[i], BLK_READ, i * 4096);
        submit(&rig, &flush, BLK_FLUSH, 0);
        for (unsigned i = 0; i < 4; i++)
                wait_for(&rig, &r[i]);
        wait_for(&rig, &flush);
        wait_for(&rig, &w[0]);
        turn(&rig);
        assert_int_equal(count(w, 4), 1);
        assert_false(discard.done);
        assert_int_equal(vol_set_throttle(rig.v, NULL), 0); /* who waits goes when there are no limits any more */
        for (unsigned i = 1; i < 4; i++)
                wait_for(&rig, &w[i]);
        wait_for(&rig, &discard);
        throttle_group_unref(g);
        assert_int_equal(vf_close(&rig), 0);
}

static void test_total(void **state)
{
        struct throttle_group *g = slow_group(THROTTLE_BPS_TOTAL);
        struct throttle_limits fast = limit(THROTTLE_IOPS_READ, 100000);
        struct flight w[3], r[3];
        struct rig rig;

        (void)state;
        open_raw(&rig);
        assert_int_equal(vol_set_throttle(rig.v, g), 0);
        turn(&rig);
        for (unsigned i = 0; i < 3; i++) {
                submit(&rig, &w[i], BLK_WRITE, i * 4096);
                submit(&rig, &r[i], BLK_READ, i * 4096);
        }
        wait_for(&rig, &w[0]);
        turn(&rig);
        assert_int_equal(count(w, 3) + count(r, 3), 1);
        throttle_group_set(g, &fast); /* noticed without anybody coming */
        for (unsigned i = 0; i < 3; i++) {
                wait_for(&rig, &r[i]);
                wait_for(&rig, &w[i]);
        }
        throttle_group_unref(g);
        assert_int_equal(vf_close(&rig), 0);
}

/* --- nobody waits for them ---------------------------------------------------------------------------------------- */

static bool resized;

static void on_resized(void *opaque, int res, const char *why)
{
        assert_int_equal(res, 0);
        resized = true;
}

static void test_hold(void **state)
{
        struct throttle_group *g = slow_group(THROTTLE_BPS_TOTAL);
        struct flight w[3], late;
        struct rig rig;

        (void)state;
        open_raw(&rig);
        assert_int_equal(vol_set_throttle(rig.v, g), 0);
        turn(&rig);
        for (unsigned i = 0; i < 3; i++)
                submit(&rig, &w[i], BLK_WRITE, i * 4096);
        wait_for(&rig, &w[0]);
        resized = false;
        assert_int_equal(vol_resize(rig.v, 2 * SIZE, on_resized, NULL), 0);
        while (!resized) {
                qthread_run_once(rig.home, NS_PER_MS);
                if (!resized)
                        submit(&rig, &late, BLK_FLUSH, 0);
                if (!resized)
                        wait_for(&rig, &late);
        }
        turn(&rig);
        assert_int_equal(count(w, 3), 1); /* the hold let nobody through */
        /* One that comes while the volume is held obeys as well. */
        resized = false;
        assert_int_equal(vol_resize(rig.v, 3 * SIZE, on_resized, NULL), 0);
        qthread_run_once(rig.home, 0);
        submit(&rig, &late, BLK_WRITE, 4096 * 5);
        qthread_run(rig.home, &resized);
        turn(&rig);
        assert_false(late.done);
        assert_int_equal(vol_set_throttle(rig.v, NULL), 0);
        wait_for(&rig, &late);
        for (unsigned i = 1; i < 3; i++)
                wait_for(&rig, &w[i]);
        throttle_group_unref(g);
        assert_int_equal(vf_close(&rig), 0);
}

static void test_hurry(void **state)
{
        struct throttle_group *g = slow_group(THROTTLE_BPS_TOTAL);
        struct throttle_limits l;
        struct flight w[8], more;
        struct rig rig;

        (void)state;
        open_raw(&rig);
        assert_int_equal(vol_set_throttle(rig.v, g), 0);
        turn(&rig);
        for (unsigned i = 0; i < 8; i++)
                submit(&rig, &w[i], i % 2 ? BLK_READ : BLK_WRITE, i * 4096);
        turn(&rig);
        assert_int_equal(count(w, 8), 1);
        port_hurry(rig.port, true);
        for (unsigned i = 0; i < 8; i++)
                wait_for(&rig, &w[i]);
        submit(&rig, &more, BLK_WRITE, 0);
        wait_for(&rig, &more);
        port_hurry(rig.port, false);
        submit(&rig, &more, BLK_WRITE, 0);
        turn(&rig);
        assert_false(more.done);
        throttle_group_get(g, &l);
        assert_int_equal(l.kind[THROTTLE_BPS_TOTAL].avg, 1);
        port_hurry(rig.port, true);
        wait_for(&rig, &more);
        port_hurry(rig.port, false);
        throttle_group_unref(g); /* the volume's reference is the last one */
        assert_int_equal(vf_close(&rig), 0);
}

/* --- a group of two disks, on two threads, while everything changes ----------------------------------------------- */

#define DEPTH 8u

struct load {
        struct qthread *thread;
        struct vol_port *port;
        struct vol *v;
        struct qtask begin;
        struct flight flight[DEPTH];
        unsigned left, running;
        sem_t done;
};

static void load_next(struct load *l, struct flight *f);

static void on_load(struct blk_req *req, int res)
{
        struct load *l = *(struct load **)req->iov->iov_base;

        assert_int_equal(res, 0);
        load_next(l, container_of(req, struct flight, req));
}

static void load_next(struct load *l, struct flight *f)
{
        if (!l->left) {
                if (--l->running == 0) {
                        port_detach(l->port);
                        sem_post(&l->done);
                }
                return;
        }
        l->left--;
        f->req.op = l->left % 3 ? BLK_READ : BLK_FLUSH;
        f->req.op = l->left % 7 ? f->req.op : BLK_DISCARD;
        f->req.off = f->req.op == BLK_FLUSH ? 0 : l->left % 128 * 512;
        f->req.len = f->req.op == BLK_FLUSH ? 0 : 512;
        port_submit(l->port, &f->req);
}

/* The null format: what is read leaves the buffer as it is, so it may say whose it is. */
static void load_begin(struct qtask *task)
{
        struct load *l = container_of(task, struct load, begin);

        assert_int_equal(port_attach(l->v, l->thread, &l->port), 0);
        l->running = DEPTH;
        for (unsigned i = 0; i < DEPTH; i++) {
                struct flight *f = &l->flight[i];

                f->iov = (struct iovec){ calloc(1, 512), 512 };
                *(struct load **)f->iov.iov_base = l;
                f->req = (struct blk_req){ .iov = &f->iov, .niov = 1, .done = on_load };
        }
        for (unsigned i = 0; i < DEPTH; i++)
                load_next(l, &l->flight[i]);
}

static void on_closed(void *opaque, int res)
{
        assert_int_equal(res, 0);
        sem_post(opaque);
}

static void test_group(void **state)
{
        struct throttle_limits a = limit(THROTTLE_IOPS_TOTAL, 20000), b = limit(THROTTLE_BPS_READ, 20000000);
        struct throttle_group *g = throttle_group_new("both", &a);
        struct qthread_opts qo = { .name = "test", .engine.kind = ENGINE_THREADS };
        struct vol_opts vo = { .format = "null", .null_size = SIZE };
        struct qthread *thread[2];
        struct load l[4]; /* two disks on two threads */
        struct vol *v[2];
        sem_t closed;

        (void)state;
        memset(l, 0, sizeof(l));
        sem_init(&closed, 0, 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(qthread_new(&qo, &thread[i]), 0);
                assert_int_equal(vol_open("null", &vo, thread[i], &v[i]), 0);
                assert_int_equal(vol_set_throttle(v[i], g), 0);
        }
        for (unsigned i = 0; i < 4; i++) {
                l[i].thread = thread[i % 2];
                l[i].v = v[i / 2];
                l[i].left = 3000;
                l[i].begin.run = load_begin;
                sem_init(&l[i].done, 0, 0);
                qthread_post(thread[i % 2], &l[i].begin);
        }
        for (unsigned i = 0; i < 100; i++) {
                throttle_group_set(g, i % 2 ? &a : &b);
                assert_int_equal(vol_set_throttle(v[i % 2], i % 4 < 2 ? NULL : g), 0);
        }
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(vol_set_throttle(v[i], g), 0);
        for (unsigned i = 0; i < 4; i++)
                sem_wait(&l[i].done);
        for (unsigned i = 0; i < 2; i++) {
                vol_close(v[i], on_closed, &closed);
                sem_wait(&closed);
        }
        qthread_free_all(thread, 2);
        for (unsigned i = 0; i < 4; i++)
                for (unsigned k = 0; k < DEPTH; k++)
                        free(l[i].flight[k].iov.iov_base);
        throttle_group_unref(g);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_total),
                cmocka_unit_test(test_hold),
                cmocka_unit_test(test_hurry),
                cmocka_unit_test(test_group),
        };

        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
