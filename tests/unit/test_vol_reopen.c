/* SPDX-License-Identifier: BSD-3-Clause */
/* An image changes its size, or its user, under requests that wait and notice nothing. */
#include "vol_fixture.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blkq/change/change.h"
#include "blkq/qthread.h"
#include "blkq/change/refit.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/range.h"
#include "formats/format.h"

#define MIB (1ull << 20)
#define THREADS 2u
#define DEPTH 8u
#define SLOTS 64u
#define SLOT 12288u /* bytes: slots do not end where clusters do */

static struct qthread *threads[THREADS];
static struct vol *vol;
static atomic_bool stop;

/* --- a load: each thread writes its own slots, and reads back what it wrote ---------------------------------------- */

struct load {
        struct qtask task;
        struct qthread *thread;
        struct vol_port *port;
        uint64_t rnd;
        unsigned id, running;
        uint8_t now[SLOTS]; /* what each slot is filled with */
        bool busy[SLOTS];
        struct one {
                struct load *l;
                struct blk_req req;
                struct iovec iov;
                unsigned slot;
                uint8_t fill, *buf;
        } one[DEPTH];
        sem_t done;
        atomic_uint count;
};
static struct load loads[THREADS];

static void next(struct one *o);

static void on_done(struct blk_req *req, int res)
{
        struct one *o = container_of(req, struct one, req);
        struct load *l = o->l;

        if (res != 0)
                fail_msg("request %u of thread %u: %d", l->count, l->id, res);
        for (unsigned i = 0; req->op == BLK_READ && i < SLOT; i++)
                if (o->buf[i] != l->now[o->slot])
                        fail_msg("thread %u, slot %u, byte %u: %02x, not %02x", l->id, o->slot, i, o->buf[i],
                                 l->now[o->slot]);
        if (req->op == BLK_WRITE)
                l->now[o->slot] = o->fill;
        l->busy[o->slot] = false;
        l->count++;
        next(o);
}

static void next(struct one *o)
{
        struct load *l = o->l;

        if (atomic_load(&stop)) {
                if (--l->running == 0) {
                        port_detach(l->port);
                        sem_post(&l->done);
                }
                return;
        }
        do
                o->slot = (unsigned)(vf_rnd(&l->rnd) % SLOTS);
        while (l->busy[o->slot]);
        l->busy[o->slot] = true;
        o->fill = (uint8_t)vf_rnd(&l->rnd);
        o->req.op = vf_rnd(&l->rnd) % 3 ? BLK_WRITE : BLK_READ;
        o->req.off = (l->id * SLOTS + o->slot) * (uint64_t)SLOT;
        memset(o->buf, o->fill, SLOT);
        port_submit(l->port, &o->req);
}

static void load_start(struct qtask *task)
{
        struct load *l = container_of(task, struct load, task);

        assert_int_equal(port_attach(vol, l->thread, &l->port), 0);
        l->running = DEPTH;
        for (unsigned i = 0; i < DEPTH; i++) {
                struct one *o = &l->one[i];

                o->l = l;
                o->buf = aligned_alloc(4096, SLOT);
                o->iov = (struct iovec){ o->buf, SLOT };
                o->req = (struct blk_req){ .len = SLOT, .iov = &o->iov, .niov = 1, .done = on_done };
                next(o);
        }
}

static void loads_start(void)
{
        atomic_store(&stop, false);
        for (unsigned t = 0; t < THREADS; t++) {
                struct load *l = &loads[t];

                l->thread = threads[t];
                l->id = t;
                l->rnd = 4711 + t;
                l->count = 0;
                sem_init(&l->done, 0, 0);
                l->task.run = load_start;
                qthread_post(threads[t], &l->task);
        }
}

/* Not before each has done something. */
static void loads_stop(void)
{
        for (unsigned t = 0; t < THREADS; t++)
                while (atomic_load(&loads[t].count) < 4 * DEPTH)
                        usleep(100);
        atomic_store(&stop, true);
        for (unsigned t = 0; t < THREADS; t++) {
                sem_wait(&loads[t].done);
                for (unsigned i = 0; i < DEPTH; i++)
                        free(loads[t].one[i].buf);
        }
}

/* --- calls that come back on home ----------------------------------------------------------------------------------- */

static sem_t back;
static int back_res;
static char back_why[256];

static void on_back(void *opaque, int res, const char *why)
{
        (void)opaque;
        back_res = res;
        snprintf(back_why, sizeof(back_why), "%s", why);
        sem_post(&back);
}

static int wait_back(int r)
{
        assert_int_equal(r, 0);
        sem_wait(&back);
        return back_res;
}

static int resize(uint64_t size) { return wait_back(vol_resize(vol, size, on_back, NULL)); }
static int wake(struct vol *v) { return wait_back(vol_wake(v, on_back, NULL)); }
static int rest(struct vol *v) { return wait_back(vol_rest(v, on_back, NULL)); }

static void on_closed(void *opaque, int res)
{
        on_back(opaque, res, "");
}

static void close_vol(struct vol *v)
{
        vol_close(v, on_closed, NULL);
        sem_wait(&back);
        assert_int_equal(back_res, 0);
}

static void open_vol(const struct vol_opts *vo, struct vol **ret)
{
        assert_int_equal(vol_open("disk", vo, threads[0], ret), 0);
}

/* What both loads left, and zeros up to @size. */
static void compare(const char *format, uint64_t size)
{
        AUTO(freep) uint8_t *model = calloc(1, size);

        for (unsigned t = 0; t < THREADS; t++)
                for (unsigned s = 0; s < SLOTS; s++)
                        memset(model + (t * SLOTS + s) * (uint64_t)SLOT, loads[t].now[s], SLOT);
        vf_compare("disk", format, model, size);
}

/* --- resize ------------------------------------------------------------------------------------------------------------ */

static void grow_under_load(const char *format)
{
        uint64_t size = 2 * MIB;

        memset(loads, 0, sizeof(loads));
        vf_create("disk", format, "", size, NULL);
        open_vol(&(struct vol_opts){ .format = format }, &vol);
        loads_start();
        for (unsigned i = 0; i < 12; i++) {
                size += i % 3 ? 64 << 10 : 7 * 512;
                if (i == 8) /* another L1 table: 512 MiB an entry, and the table grows */
                        size = 5ull << 30;
                size = i % 3 ? round_up(size, 4096) : size;
                if (resize(round_up(size, 4096)) != 0)
                        fail_msg("resize %u to %llu: %s", i, (unsigned long long)size, back_why);
                assert_int_equal(vol_size(vol), round_up(size, 4096));
        }
        assert_int_equal(resize(MIB), -EINVAL);
        assert_non_null(strstr(back_why, "does not shrink"));
        assert_int_equal(resize(vol_size(vol)), 0);
        loads_stop();
        close_vol(vol);
        if (!strcmp(format, "qcow2"))
                vf_check("disk");
        compare(format, 4 * MIB); /* the rest is zeros; it would take long to read */
}

static void test_grow_raw(void **state)
{
        (void)state;
        grow_under_load("raw");
}

static void test_grow_qcow2(void **state)
{
        (void)state;
        grow_under_load("qcow2");
        assert_int_equal(vf_check("disk"), 0);
}

/* What cannot be resized says so; requests go on. */
static void test_refused(void **state)
{
        struct vol_opts null = { .format = "null", .null_size = MIB }, ro = { .format = "raw", .read_only = true };

        (void)state;
        assert_int_equal(vol_open("null", &null, threads[0], &vol), 0);
        assert_int_equal(resize(2 * MIB), -ENOTSUP);
        close_vol(vol);
        vf_create("disk", "raw", "", MIB, NULL);
        open_vol(&ro, &vol);
        assert_int_equal(resize(2 * MIB), -EROFS);
        close_vol(vol);
}

/* Whatever write fails on the way, the disk is as large as before or as wished, goes on, and is whole. */
static void test_resize_fails(void **state)
{
        char spec[64];

        (void)state;
        for (unsigned k = 1; k <= 6; k++) {
                memset(loads, 0, sizeof(loads));
                vf_create("disk", "qcow2", "", 2 * MIB, NULL);
                open_vol(&(struct vol_opts){ .format = "qcow2" }, &vol);
                snprintf(spec, sizeof(spec), "file.write=%u:ENOSPC", k);
                fault_arm(spec);
                resize(5ull << 30);
                fault_arm(NULL);
                loads_start();
                assert_int_equal(resize(6ull << 30), 0);
                loads_stop();
                close_vol(vol);
                vf_check("disk");
                compare("qcow2", 2 * MIB);
                unlink("disk");
        }
}

/* --- two users, one after the other ------------------------------------------------------------------------------------ */

static void take_turns(const char *format)
{
        struct vol_opts vo = { .format = format, .asleep = true };
        struct vol *two[2];

        memset(loads, 0, sizeof(loads));
        vf_create("disk", format, "", 2 * MIB, NULL);
        open_vol(&vo, &two[0]);
        open_vol(&vo, &two[1]); /* both: nobody has it locked */
        assert_int_equal(vol_size(two[1]), 2 * MIB);
        for (unsigned i = 0; i < 8; i++) {
                vol = two[i % 2];
                assert_int_equal(wake(vol), 0);
                assert_int_equal(wake(vol), 0); /* a second export of it */
                loads_start();
                if (i == 3)
                        assert_int_equal(resize(3 * MIB), 0);
                loads_stop();
                assert_int_equal(rest(vol), 0);
                if (i == 5) {
                        assert_int_equal(wake(two[(i + 1) % 2]), -EBUSY); /* patience is over */
                        assert_non_null(strstr(back_why, "in use"));
                }
                assert_int_equal(rest(vol), 0);
                compare(format, i < 3 ? 2 * MIB : 3 * MIB);
        }
        assert_int_equal(vol_size(two[1]), 3 * MIB);
        vol = two[0];
        assert_int_equal(resize(4 * MIB), -EBUSY); /* asleep */
        close_vol(two[0]);
        close_vol(two[1]);
        if (!strcmp(format, "qcow2"))
                assert_int_equal(vf_check("disk"), 0);
}

static void test_turns_raw(void **state)
{
        (void)state;
        take_turns("raw");
}

static void test_turns_qcow2(void **state)
{
        (void)state;
        take_turns("qcow2");
}

/* Requests that come while it is asleep wait for the next wake. */
static void test_requests_wait(void **state)
{
        (void)state;
        memset(loads, 0, sizeof(loads));
        vf_create("disk", "qcow2", "", 2 * MIB, NULL);
        open_vol(&(struct vol_opts){ .format = "qcow2", .asleep = true }, &vol);
        loads_start();
        assert_int_equal(wake(vol), 0);
        for (unsigned i = 0; i < 5; i++) {
                assert_int_equal(rest(vol), 0);
                assert_int_equal(wake(vol), 0);
        }
        loads_stop();
        close_vol(vol);
        compare("qcow2", 2 * MIB);
}

/* What could not be made durable is not handed on. */
static void test_no_rest_after_a_failure(void **state)
{
        struct vol *other;

        (void)state;
        memset(loads, 0, sizeof(loads));
        vf_create("disk", "qcow2", "", 2 * MIB, NULL);
        open_vol(&(struct vol_opts){ .format = "qcow2", .asleep = true }, &vol);
        open_vol(&(struct vol_opts){ .format = "qcow2", .asleep = true }, &other);
        assert_int_equal(wake(vol), 0);
        loads_start();
        loads_stop();
        fault_arm("engine.sync=1:EIO");
        assert_int_equal(rest(vol), -EIO);
        fault_arm(NULL);
        assert_int_equal(wake(other), -EBUSY);
        close_vol(other);
        vol_close(vol, on_closed, NULL);
        sem_wait(&back);
}

/* --- another manner ---------------------------------------------------------------------------------------------------- */

static struct vol_manner manner;

static int refit_work(struct vol_change *c)
{
        return vol_refit(c->v, &manner);
}

static void refit_apply(struct vol_change *c)
{
        vol_refit_stays(c->v);
}

static void on_refitted(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        (void)pause_ns;
        on_back(opaque, res, why);
}

static int refit(struct vol_manner m)
{
        struct vol_change c = { .v = vol, .settled = true, .work = refit_work, .apply = refit_apply }, *list = &c;
        struct vol_changes all = { .change = &list, .n = 1, .done = on_refitted };

        manner = m;
        vol_change_all(&all);
        return wait_back(0);
}

static int open_another(bool read_only)
{
        struct vol *other;
        int r = vol_open("disk", &(struct vol_opts){ .format = vol_format(vol), .read_only = read_only }, threads[1], &other);

        err_clear();
        if (r == 0)
                close_vol(other);
        return r;
}

static void refit_under_load(const char *format)
{
        memset(loads, 0, sizeof(loads));
        vf_create("disk", format, "", 2 * MIB, NULL);
        open_vol(&(struct vol_opts){ .format = format }, &vol);
        loads_start();
        for (unsigned i = 0; i < 12; i++) {
                assert_int_equal(refit((struct vol_manner){ .writeback = i % 2, .entry_with_data = i % 3 == 0 }), 0);
                assert_int_equal(vol_failed(vol), 0);
        }
        loads_stop();
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(open_another(true), -EBUSY);
                assert_int_equal(refit((struct vol_manner){ .read_only = true, .writeback = i % 2 }), 0);
                assert_true(vol_read_only(vol));
                assert_int_equal(open_another(true), 0);
                assert_int_equal(open_another(false), -EBUSY);
                assert_int_equal(refit((struct vol_manner){ .writeback = i % 2 }), 0);
                assert_false(vol_read_only(vol));
        }
        loads_start();
        loads_stop();
        close_vol(vol);
        if (!strcmp(format, "qcow2"))
                vf_check("disk");
        compare(format, 2 * MIB);
}

static void test_manner_raw(void **state)
{
        (void)state;
        refit_under_load("raw");
}

static void test_manner_qcow2(void **state)
{
        (void)state;
        refit_under_load("qcow2");
}

/* Its tables cannot be read once: it goes on as it was, for a load that goes on, too. */
static void test_manner_fails(void **state)
{
        static const struct vol_manner to[] = {
                { .writeback = true }, { .entry_with_data = true }, { .read_only = true }, { .writeback = true, .read_only = true },
        };

        (void)state;
        memset(loads, 0, sizeof(loads));
        vf_create("disk", "qcow2", "", 2 * MIB, NULL);
        open_vol(&(struct vol_opts){ .format = "qcow2" }, &vol);
        loads_start();
        for (unsigned i = 0; i < ARRAY_SIZE(to); i++) {
                fault_arm("file.read=1:EIO");
                assert_int_equal(refit(to[i]), -EIO);
                fault_arm(NULL);
                assert_int_equal(vol_failed(vol), 0);
                assert_false(vol_read_only(vol));
                assert_int_equal(open_another(true), -EBUSY);
        }
        loads_stop();
        close_vol(vol);
        vf_check("disk");
        compare("qcow2", 2 * MIB);
}

static int threads_begin(void **state)
{
        struct qthread_opts qo = { .name = "test", .engine.kind = ENGINE_THREADS };

        sem_init(&back, 0, 0);
        for (unsigned t = 0; t < THREADS; t++)
                if (qthread_new(&qo, &threads[t]) < 0)
                        return -1;
        return vf_setup(state);
}

static int threads_end(void **state)
{
        qthread_free_all(threads, THREADS);
        return vf_teardown(state);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, threads_begin, threads_end)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_grow_raw),
                TEST(test_grow_qcow2),
                TEST(test_refused),
                TEST(test_resize_fails),
                TEST(test_turns_raw),
                TEST(test_turns_qcow2),
                TEST(test_requests_wait),
                TEST(test_no_rest_after_a_failure),
                TEST(test_manner_raw),
                TEST(test_manner_qcow2),
                TEST(test_manner_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
