/* SPDX-License-Identifier: BSD-3-Clause */
/* Volumes get new top images, several at one instant, while guests use them and notice nothing. */
#include "vol_fixture.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "blkq/change/overlay.h"
#include "blkq/qthread.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"
#include "formats/format.h"

#define MIB (1ull << 20)
#define SIZE (2 * MIB)
#define CHUNK 4096u

/* --- groups of changes, from a test's thread ---------------------------------------------------------------------- */

struct group {
        struct vol_changes g;
        struct vol_change *change[4];
        sem_t over;
        bool done;
        int res;
        char why[256];
};

static void on_over(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        struct group *t = opaque;

        (void)pause_ns;
        t->res = res;
        snprintf(t->why, sizeof(t->why), "%s", why);
        t->done = true;
        sem_post(&t->over);
}

static void begin(struct group *t)
{
        sem_init(&t->over, 0, 0);
        t->done = false;
        t->g.change = t->change;
        t->g.done = on_over;
        t->g.opaque = t;
        vol_change_all(&t->g);
}

static int open_overlay(struct vol *v, const char *name, const char *backing, const char *backing_format,
                        struct vol_overlay **ret)
{
        struct fmt_create req = { .size = vol_size(v), .backing_name = backing, .backing_format = backing_format };

        assert_int_equal(fmt_create_path(name, fmt_driver_find("qcow2"), &req), 0);
        return vol_overlay_open(v, name, "qcow2", NULL, ret);
}

/* --- one thread, every operation, a model ------------------------------------------------------------------------- */

static uint8_t model[SIZE];

static void random_request(struct rig *r, uint64_t *rnd)
{
        uint64_t off = vf_rnd(rnd) % (SIZE / 512) * 512, len = (vf_rnd(rnd) % 160 + 1) * 512;
        AUTO(freep) uint8_t *buf = aligned_alloc(4096, 160 * 512);
        uint8_t fill = (uint8_t)vf_rnd(rnd);

        if (off + len > SIZE)
                len = SIZE - off;
        switch (vf_rnd(rnd) % 8) {
        case 0:
                assert_int_equal(vf_do(r, BLK_FLUSH, 0, 0, 0, NULL), 0);
                break;
        case 1:
                assert_int_equal(vf_do(r, BLK_WRITE_ZEROES, vf_rnd(rnd) % 2 ? BLK_UNMAP : 0, off, len, NULL), 0);
                memset(model + off, 0, len);
                break;
        case 2:
        case 3:
                assert_int_equal(vf_do(r, BLK_READ, 0, off, len, buf), 0);
                assert_memory_equal(buf, model + off, len);
                break;
        default:
                memset(buf, fill, len);
                assert_int_equal(vf_do(r, BLK_WRITE, vf_rnd(rnd) % 8 ? 0 : BLK_FUA, off, len, buf), 0);
                memset(model + off, fill, len);
        }
}

static void snapshot(struct rig *r, const char *name)
{
        struct vol_overlay *o;
        struct group t = { .g.n = 1 };

        assert_int_equal(open_overlay(r->v, name, vol_path(r->v), vol_format(r->v), &o), 0);
        t.change[0] = &o->change;
        begin(&t);
        qthread_run(r->home, &t.done);
        assert_int_equal(t.res, 0);
        assert_string_equal(vol_path(r->v), name);
        vol_overlay_free(o);
}

static void model_run(const char *format, unsigned seed)
{
        struct engine_opts sync = { .kind = ENGINE_SYNC, .seed = seed };
        struct vol_opts vo = { .format = format };
        AUTO(freep) uint8_t *then = malloc(8 * SIZE);
        uint64_t rnd = seed * 77 + 1;
        char name[16] = "disk";
        struct rig r;

        memset(model, 0, sizeof(model));
        vf_create("disk", format, "", SIZE, NULL);
        vf_open(&r, "disk", &vo, &sync);
        for (unsigned s = 0; s < 8; s++) {
                for (unsigned i = 0; i < 60; i++)
                        random_request(&r, &rnd);
                memcpy(then + s * SIZE, model, SIZE);
                snprintf(name, sizeof(name), "snap%u", s);
                snapshot(&r, name);
        }
        for (unsigned i = 0; i < 60; i++)
                random_request(&r, &rnd);
        assert_int_equal(vf_close(&r), 0);
        vf_compare("snap7", "qcow2", model, SIZE);
        for (unsigned s = 0; s < 8; s++) {
                snprintf(name, sizeof(name), "snap%u", s);
                assert_int_equal(vf_check(name), 0);
                if (s)
                        snprintf(name, sizeof(name), "snap%u", s - 1);
                else
                        strcpy(name, "disk");
                vf_compare(name, s ? "qcow2" : format, then + s * SIZE, SIZE);
        }
        for (unsigned s = 0; s < 8; s++) {
                snprintf(name, sizeof(name), "snap%u", s);
                unlink(name);
        }
}

static void test_model_raw(void **state)
{
        (void)state;
        for (unsigned seed = 1; seed <= 4; seed++)
                model_run("raw", seed);
}

static void test_model_qcow2(void **state)
{
        (void)state;
        for (unsigned seed = 1; seed <= 8; seed++)
                model_run("qcow2", seed);
}

/* --- several disks at one instant --------------------------------------------------------------------------------- */

#define THREADS 2u
#define DISKS 2u
#define STREAMS 8u /* of each thread */
#define ROUNDS 12u

static struct qthread *threads[THREADS];
static struct vol *disk[DISKS];
static atomic_bool stop;

/* Writes n to its place on one disk and, when that is done, on the next one; then n + 1. */
struct stream {
        struct writer *w;
        struct blk_req req;
        struct iovec iov;
        uint64_t n;
        unsigned at;
        uint8_t *buf;
};
static struct writer {
        struct qtask task;
        struct qthread *thread;
        struct vol_port *port[DISKS];
        struct stream stream[STREAMS];
        unsigned id, running;
        uint64_t rnd;
        sem_t over;
        atomic_uint count;
} writers[THREADS];

static void next(struct stream *s);

static void on_written(struct blk_req *req, int res)
{
        struct stream *s = container_of(req, struct stream, req);

        if (res != 0)
                fail_msg("op %u of %llu: %d", req->op, (unsigned long long)s->n, res);
        if (req->op == BLK_WRITE)
                s->at = (s->at + 1) % DISKS;
        s->w->count++;
        next(s);
}

static void next(struct stream *s)
{
        struct writer *w = s->w;
        unsigned place = w->id * STREAMS + (unsigned)(s - w->stream);

        if (atomic_load(&stop) && s->at == 0) {
                if (--w->running)
                        return;
                for (unsigned d = 0; d < DISKS; d++)
                        port_detach(w->port[d]);
                sem_post(&w->over);
                return;
        }
        s->req = (struct blk_req){
                .op = BLK_WRITE, .off = place * (uint64_t)CHUNK, .len = CHUNK, .iov = &s->iov, .niov = 1, .done = on_written,
        };
        if (vf_rnd(&w->rnd) % 16 == 0) {
                s->req.op = BLK_FLUSH;
                s->req.off = s->req.len = 0;
        } else {
                s->n += s->at == 0;
                s->req.flags = vf_rnd(&w->rnd) % 16 ? 0 : BLK_FUA;
                for (unsigned i = 0; i < CHUNK / 8; i++)
                        ((uint64_t *)s->buf)[i] = s->n;
        }
        port_submit(w->port[s->at], &s->req);
}

static void writer_start(struct qtask *task)
{
        struct writer *w = container_of(task, struct writer, task);

        for (unsigned d = 0; d < DISKS; d++)
                assert_int_equal(port_attach(disk[d], w->thread, &w->port[d]), 0);
        w->running = STREAMS;
        for (unsigned i = 0; i < STREAMS; i++) {
                struct stream *s = &w->stream[i];

                s->w = w;
                s->buf = aligned_alloc(4096, CHUNK);
                s->iov = (struct iovec){ s->buf, CHUNK };
                next(s);
        }
}

static void writers_start(void)
{
        atomic_store(&stop, false);
        memset(writers, 0, sizeof(writers));
        for (unsigned t = 0; t < THREADS; t++) {
                struct writer *w = &writers[t];

                w->thread = threads[t];
                w->id = t;
                w->rnd = 99 + t;
                sem_init(&w->over, 0, 0);
                w->task.run = writer_start;
                qthread_post(threads[t], &w->task);
        }
}

static void wait_for(unsigned more)
{
        for (unsigned t = 0; t < THREADS; t++)
                for (unsigned from = atomic_load(&writers[t].count); atomic_load(&writers[t].count) < from + more;)
                        usleep(100);
}

static void writers_stop(void)
{
        atomic_store(&stop, true);
        for (unsigned t = 0; t < THREADS; t++) {
                sem_wait(&writers[t].over);
                for (unsigned i = 0; i < STREAMS; i++)
                        free(writers[t].stream[i].buf);
        }
}

static sem_t closed;

static void on_closed(void *opaque, int res)
{
        *(int *)opaque = res;
        sem_post(&closed);
}

static void read_image(const char *name, const char *format, uint8_t *buf)
{
        struct fmt_open_opts oo = { .format = format, .flags = FMT_RDONLY };
        struct fmt_image *img;

        if (chain_open(name, &oo, &img) < 0)
                fail_msg("%s: %s", name, err_text(-EIO));
        assert_int_equal(chain_read_sync(img, buf, THREADS * STREAMS * CHUNK, 0), 0);
        chain_close(img);
}

/* The counters on the disks at one instant: whole, and each at most one step behind the one before it. */
static void check_instant(const char *names[DISKS], const char *formats[DISKS], unsigned round)
{
        uint8_t *buf[DISKS];

        for (unsigned d = 0; d < DISKS; d++) {
                buf[d] = malloc(THREADS * STREAMS * CHUNK);
                read_image(names[d], formats[d], buf[d]);
        }
        for (unsigned p = 0; p < THREADS * STREAMS; p++) {
                uint64_t n[DISKS];

                for (unsigned d = 0; d < DISKS; d++) {
                        const uint64_t *words = (const uint64_t *)(buf[d] + p * CHUNK);

                        n[d] = words[0];
                        for (unsigned i = 1; i < CHUNK / 8; i++)
                                if (words[i] != n[d])
                                        fail_msg("round %u, disk %u, place %u: torn", round, d, p);
                }
                if (n[1] > n[0] || n[0] > n[1] + 1)
                        fail_msg("round %u, place %u: %llu on the first disk, %llu on the second", round, p,
                                 (unsigned long long)n[0], (unsigned long long)n[1]);
        }
        for (unsigned d = 0; d < DISKS; d++)
                free(buf[d]);
}

static void name_of(char *name, unsigned d, unsigned round)
{
        snprintf(name, 16, round ? "disk%u.%u" : "disk%u", d, round);
}

static void take_snapshots(unsigned round)
{
        struct vol_overlay *o[DISKS];
        struct group t = { .g.n = DISKS };
        char name[16];

        for (unsigned d = 0; d < DISKS; d++) {
                name_of(name, d, round);
                assert_int_equal(open_overlay(disk[d], name, vol_path(disk[d]), vol_format(disk[d]), &o[d]), 0);
                t.change[d] = &o[d]->change;
        }
        begin(&t);
        sem_wait(&t.over);
        assert_int_equal(t.res, 0);
        for (unsigned d = 0; d < DISKS; d++)
                vol_overlay_free(o[d]);
}

static void test_one_instant(void **state)
{
        const char *formats[2][DISKS] = { { "raw", "qcow2" }, { "qcow2", "qcow2" } };
        char name[DISKS][16];
        int res = -1;

        (void)state;
        for (unsigned d = 0; d < DISKS; d++) {
                name_of(name[d], d, 0);
                vf_create(name[d], formats[0][d], "", SIZE, NULL);
                assert_int_equal(vol_open(name[d], &(struct vol_opts){ .format = formats[0][d] }, threads[d % THREADS],
                                          &disk[d]), 0);
        }
        writers_start();
        for (unsigned round = 1; round <= ROUNDS; round++) {
                wait_for(20);
                take_snapshots(round);
        }
        wait_for(20);
        writers_stop();
        for (unsigned d = 0; d < DISKS; d++) {
                vol_close(disk[d], on_closed, &res);
                sem_wait(&closed);
                assert_int_equal(res, 0);
        }
        for (unsigned round = 0; round <= ROUNDS; round++) {
                const char *names[DISKS] = { name[0], name[1] };

                for (unsigned d = 0; d < DISKS; d++) {
                        name_of(name[d], d, round);
                        if (round || d)
                                vf_check(name[d]);
                }
                check_instant(names, formats[round > 0], round);
        }
}

/* --- all or none -------------------------------------------------------------------------------------------------- */

struct made_up {
        struct vol_change change;
        int res;
        atomic_uint worked, applied, undone;
};

static int work(struct vol_change *c)
{
        struct made_up *m = container_of(c, struct made_up, change);

        m->worked++;
        return m->res < 0 ? err_note(m->res, "made to fail") : 0;
}

static void apply(struct vol_change *c)
{
        container_of(c, struct made_up, change)->applied++;
}

static void undo(struct vol_change *c, bool worked)
{
        struct made_up *m = container_of(c, struct made_up, change);

        m->undone += worked ? 1 : 16;
}

static void all_or_none(bool fails)
{
        struct made_up m = { .change = { .v = disk[1], .work = work, .apply = apply, .undo = undo }, .res = fails ? -EIO : 0 };
        struct group t = { .g.n = 2 };
        struct vol_overlay *o;

        unlink("extra");
        assert_int_equal(open_overlay(disk[0], "extra", vol_path(disk[0]), "qcow2", &o), 0);
        t.change[0] = &o->change;
        t.change[1] = &m.change;
        begin(&t);
        sem_wait(&t.over);
        assert_int_equal(t.res, fails ? -EIO : 0);
        assert_string_equal(t.why, fails ? "made to fail" : "");
        assert_int_equal(m.worked, 1);
        assert_int_equal(m.applied, !fails);
        assert_int_equal(m.undone, fails ? 16 : 0);
        assert_string_equal(vol_path(disk[0]), fails ? "disk0" : "extra");
        assert_true(!!o->img == fails);
        vol_overlay_free(o);
}

static void test_all_or_none(void **state)
{
        int res = -1;

        (void)state;
        for (unsigned d = 0; d < DISKS; d++) {
                char name[16];

                name_of(name, d, 0);
                vf_create(name, "qcow2", "", SIZE, NULL);
                assert_int_equal(vol_open(name, &(struct vol_opts){ .format = "qcow2" }, threads[d], &disk[d]), 0);
        }
        writers_start();
        all_or_none(true);
        wait_for(20);
        all_or_none(false);
        wait_for(20);
        writers_stop();
        for (unsigned d = 0; d < DISKS; d++) {
                vol_close(disk[d], on_closed, &res);
                sem_wait(&closed);
                assert_int_equal(res, 0);
        }
        check_instant((const char *[]){ "extra", "disk1" }, (const char *[]){ "qcow2", "qcow2" }, 0);
}

/* --- what cannot be ----------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
        struct engine_opts sync = { .kind = ENGINE_SYNC };
        struct vol_overlay *o = NULL;
        struct rig r;

        (void)state;
        vf_create("disk", "qcow2", "", SIZE, NULL);
        vf_create("small", "qcow2", "", SIZE - 512, NULL);
        vf_create("flat", "raw", "", SIZE, NULL);
        vf_open(&r, "disk", &(struct vol_opts){ .format = "qcow2" }, &sync);
        assert_int_equal(vol_overlay_open(r.v, "small", "qcow2", NULL, &o), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), "2096640"));
        assert_int_equal(vol_overlay_open(r.v, "flat", "raw", NULL, &o), -ENOTSUP);
        assert_int_equal(vol_overlay_open(r.v, "none", "qcow2", NULL, &o), -ENOENT);
        assert_int_equal(vol_overlay_open(r.v, "disk", "qcow2", NULL, &o), -EBUSY); /* our own lock */
        err_clear();
        assert_null(o);
        assert_int_equal(vf_close(&r), 0);
        vf_open(&r, "disk", &(struct vol_opts){ .format = "qcow2", .read_only = true }, &sync);
        vf_create("over", "qcow2", "", SIZE, NULL);
        assert_int_equal(vol_overlay_open(r.v, "over", "qcow2", NULL, &o), -EROFS);
        err_clear();
        assert_int_equal(vf_close(&r), 0);
}

/* The old top cannot be flushed just now: guests' flushes say so, and later all is well. */
static void test_no_space_when_retiring(void **state)
{
        struct engine_opts sync = { .kind = ENGINE_SYNC };
        uint8_t buf[CHUNK];
        struct rig r;

        (void)state;
        memset(buf, 7, sizeof(buf));
        memset(model, 0, sizeof(model));
        memset(model, 7, sizeof(buf));
        vf_create("disk", "qcow2", "", SIZE, NULL);
        vf_open(&r, "disk", &(struct vol_opts){ .format = "qcow2" }, &sync);
        assert_int_equal(vf_do(&r, BLK_WRITE, 0, 0, CHUNK, buf), 0);
        fault_arm("engine.write=1:ENOSPC:forever");
        snapshot(&r, "over");
        assert_int_equal(vf_do(&r, BLK_FLUSH, 0, 0, 0, NULL), -ENOSPC);
        fault_arm(NULL);
        assert_int_equal(vf_do(&r, BLK_FLUSH, 0, 0, 0, NULL), 0);
        assert_int_equal(vf_close(&r), 0);
        vf_check("disk");
        vf_compare("disk", "qcow2", model, SIZE);
        vf_compare("over", "qcow2", model, SIZE);
}

/* --- a process that is gone --------------------------------------------------------------------------------------- */

/* Its table changes are in the log of a backing image; who opens the chain puts them in. */
static void test_log_of_a_backing_image(void **state)
{
        struct vol_opts vo = { .format = "qcow2", .state_dir = "." };
        struct fmt_open_opts oo = { .format = "qcow2", .state_dir = "." };
        struct engine_opts sync = { .kind = ENGINE_SYNC };
        uint8_t buf[CHUNK], got[CHUNK];
        struct fmt_image *img;
        struct rig r;

        (void)state;
        memset(buf, 9, sizeof(buf));
        vf_create("disk", "qcow2", "", SIZE, NULL);
        vf_open(&r, "disk", &vo, &sync);
        assert_int_equal(vf_do(&r, BLK_WRITE, 0, 65536, CHUNK, buf), 0);
        assert_int_equal(system("cp disk left && for f in *.maplog; do cp $f $f.left; done"), 0);
        assert_int_equal(vf_close(&r), 0);
        /* As the killed process left it: the same file, with the bytes and the log it had then. */
        assert_int_equal(system("cat left >disk && for f in *.maplog.left; do mv $f ${f%.left}; done"), 0);
        assert_int_equal(fmt_create_path("over", fmt_driver_find("qcow2"), &(struct fmt_create){
                .size = SIZE, .backing_name = "disk", .backing_format = "qcow2" }), 0);
        assert_int_equal(chain_open("over", &oo, &img), 0);
        assert_int_equal(chain_read_sync(img, got, CHUNK, 65536), 0);
        assert_memory_equal(got, buf, CHUNK);
        assert_true(img->backing->read_only);
        chain_close(img);
        vf_check("disk");
}

/* --- frame -------------------------------------------------------------------------------------------------------- */

static int threads_begin(void **state)
{
        struct qthread_opts qo = { .name = "test", .engine.kind = ENGINE_THREADS };

        sem_init(&closed, 0, 0);
        for (unsigned t = 0; t < THREADS; t++)
                if (qthread_new(&qo, &threads[t]) < 0)
                        return -1;
        rcu_register_thread();
        return vf_setup(state);
}

static int threads_end(void **state)
{
        qthread_free_all(threads, THREADS);
        rcu_unregister_thread();
        return vf_teardown(state);
}

#define WITH_THREADS(f) cmocka_unit_test_setup_teardown(f, threads_begin, threads_end)
#define TEST(f) cmocka_unit_test_setup_teardown(f, vf_setup, vf_teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_model_raw),
                TEST(test_model_qcow2),
                WITH_THREADS(test_one_instant),
                WITH_THREADS(test_all_or_none),
                TEST(test_refused),
                TEST(test_no_space_when_retiring),
                TEST(test_log_of_a_backing_image),
        };

        log_init("test", LOG_LVL_ERR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
