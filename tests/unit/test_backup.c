/* SPDX-License-Identifier: BSD-3-Clause */
/* A backup is what the disk was when it was armed, whatever the guest does meanwhile and whatever fails. */
#include "copy_fixture.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blkq/jobs/backup.h"
#include "blkq/vol_impl.h"
#include "blkq/bitmaps/dirty_bitmap.h"
#include "blkq/jobs/copy_range.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/range.h"

#define MIB (1ull << 20)
#define SIZE (12 * MIB + 512)

static unsigned rounds = 2;
static bool no_sync = true; /* the order of steps is not what is asked here */
static struct rig src, dst;
static struct load load;
static struct owner owner;
static uint8_t *before; /* the disk at the instant */

/* --- steps --------------------------------------------------------------------------------------------------------------- */

static void begin(const char *format, const char *opts, const char *to_format, const char *to_opts, uint64_t seed)
{
        cf_begin(&(struct pair){ .format = format, .opts = opts, .to = to_format, .to_opts = to_opts, .size = SIZE, .seed = seed,
                                 .sync = !no_sync }, &src, &dst, &load);
        load_stop(&load);
        owner = (struct owner){ 0 };
}

static struct copy_job *arm(const struct backup_opts *o)
{
        struct backup_opts all = *o;
        struct copy_job *c;

        all.v = src.v;
        all.target = dst.v;
        all.owner = cf_owner(&owner);
        assert_int_equal(backup_new(&all, &c), 0);
        owner.c = c;
        backup_arm(c); /* nothing is in flight */
        before = malloc(SIZE);
        memcpy(before, load.model, SIZE);
        return c;
}

/* @to: what the copy must be like @before; NULL: it is not complete. */
static void end(const char *format, const char *to)
{
        load_stop(&load);
        assert_int_equal(cf_close(&dst), 0);
        assert_int_equal(vf_close(&src), 0);
        vf_compare("disk", format, load.model, SIZE);
        if (!strcmp(format, "qcow2"))
                assert_int_equal(vf_check("disk"), 0);
        if (to) {
                vf_compare("copy", to, before, SIZE);
                if (!strcmp(to, "qcow2"))
                        assert_int_equal(vf_check("copy"), 0);
        }
        load_finish(&load);
        free(TAKE(before, NULL));
}

/* --- whole disks ----------------------------------------------------------------------------------------------------------- */

static const struct { const char *format, *opts, *to, *to_opts; bool compress; } pairs[] = {
        { "qcow2", "", "qcow2", "", false },
        { "qcow2", "cluster_size=4096", "raw", "", false },
        { "qcow2", "extended_l2=on", "qcow2", "cluster_size=2M", false },
        { "raw", "", "qcow2", "cluster_size=4096", false },
        { "qcow2", "cluster_size=512", "qcow2", "extended_l2=on", false },
        { "raw", "", "qcow2", "", true },
        { "qcow2", "cluster_size=4096", "qcow2", "", true },
};

static void full(size_t i, uint64_t seed, bool late)
{
        struct copy_job *c;

        begin(pairs[i].format, pairs[i].opts, pairs[i].to, pairs[i].to_opts, seed);
        c = arm(&(struct backup_opts){ .compress = pairs[i].compress });
        load_start(&load);
        while (late && load.count < 400) /* most of it is copied for the guest's sake */
                qthread_run_once(src.home, 0);
        copy_job_start(c);
        assert_int_equal(cf_finish(&owner, &src), 0);
        assert_int_equal(owner.read_errors + owner.write_errors, 0);
        end(pairs[i].format, pairs[i].to);
}

static void test_full(void **state)
{
        for (unsigned r = 0; r < rounds; r++)
                for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                        full(i, 1 + r * 1000 + i, r % 2);
}

static uint64_t blocks(const char *name)
{
        struct stat st;

        assert_int_equal(stat(name, &st), 0);
        return (uint64_t)st.st_blocks * 512;
}

static void test_zeros_need_no_space(void **state)
{
        static const char *const to[] = { "raw", "qcow2" };
        struct vol_opts vo = { .format = "raw" };

        for (int i = 0; i < 2; i++) {
                struct vol_opts tv = { .format = to[i] };
                AUTO(freep) char *buf = calloc(1, MIB);

                vf_create("disk", "raw", "", 64 * MIB, NULL);
                vf_create("copy", to[i], "", 64 * MIB, NULL);
                vf_open(&src, "disk", &vo, &(struct engine_opts){ .kind = ENGINE_SYNC });
                cf_open(&dst, &src, "copy", &tv);
                memset(buf + 128 * 1024, 0x55, 64 * 1024);
                assert_int_equal(vf_do(&src, BLK_WRITE, 0, 7 * MIB, MIB, buf), 0); /* zeros that are written, too */
                owner = (struct owner){ 0 };
                assert_int_equal(backup_new(&(struct backup_opts){ .v = src.v, .target = dst.v, .owner = cf_owner(&owner) },
                                            &owner.c), 0);
                backup_arm(owner.c);
                copy_job_start(owner.c);
                assert_int_equal(cf_finish(&owner, &src), 0);
                assert_int_equal(vf_do(&dst, BLK_READ, 0, 7 * MIB, MIB, buf), 0);
                for (unsigned k = 0; k < MIB; k++)
                        assert_int_equal(buf[k], k >= 128 * 1024 && k < 192 * 1024 ? 0x55 : 0);
                assert_int_equal(cf_close(&dst), 0);
                assert_int_equal(vf_close(&src), 0);
                assert_true(blocks("copy") < MIB);
        }
}

/* --- parts ------------------------------------------------------------------------------------------------------------------- */

static void test_top(void **state)
{
        struct vol_opts to = { .format = "qcow2", .writeback = true };

        for (unsigned compress = 0; compress < 2; compress++) {
                begin("qcow2", "cluster_size=4096", "raw", "", 77 + compress);
                assert_int_equal(cf_close(&dst), 0);
                vf_create("copy", "qcow2", "", SIZE, "base");
                cf_open(&dst, &src, "copy", &to);
                copy_job_start(arm(&(struct backup_opts){ .sync = BACKUP_TOP, .compress = compress }));
                load_start(&load);
                assert_int_equal(cf_finish(&owner, &src), 0);
                end("qcow2", "qcow2");
                assert_true(blocks("copy") < SIZE / 2);
        }
}

/* What the guest overwrote is in the copy; the rest is where it was. */
static void test_none(void **state)
{
        AUTO(freep) uint8_t *copy = malloc(SIZE);
        unsigned copied = 0;

        begin("qcow2", "", "qcow2", "", 4711);
        copy_job_start(arm(&(struct backup_opts){ .sync = BACKUP_NONE }));
        load_start(&load);
        while (load.count < 120)
                qthread_run_once(src.home, 0);
        load_stop(&load);
        assert_false(owner.over);
        copy_job_cancel(owner.c);
        assert_int_equal(cf_finish(&owner, &src), -ECANCELED);
        assert_int_equal(vf_do(&dst, BLK_READ, 0, 0, SIZE, copy), 0);
        for (uint64_t at = 0; at < SIZE; at += COPY_UNIT) {
                uint64_t len = min_u64(COPY_UNIT, SIZE - at);

                if (!memcmp(copy + at, before + at, len))
                        copied++;
                else if (memcmp(load.model + at, before + at, len))
                        fail_msg("at %#llx the old bytes are lost", (unsigned long long)at);
        }
        assert_true(copied > 20);
        end("qcow2", NULL);
}

/* A full backup that begins a chain of incremental ones, one of which fails. */
static void test_incremental(void **state)
{
        struct vol_opts to = { .format = "qcow2", .writeback = true };
        struct dirty_bitmap *bm;

        begin("qcow2", "", "qcow2", "", 99);
        assert_int_equal(dirty_bitmap_new(SIZE, 65536, &bm), 0);
        assert_int_equal(vol_attach_bitmap(src.v, bm), 0);
        for (unsigned i = 0; i < 4; i++) {
                uint64_t dirty = dirty_bitmap_count(bm);
                bool fails = i == 2;
                struct copy_job *c = arm(&(struct backup_opts){ .sync = i ? BACKUP_BITMAP : BACKUP_FULL, .bitmap = bm });

                assert_int_equal(dirty_bitmap_count(bm), 0);
                if (fails)
                        copy_job_cancel(c);
                load_start(&load);
                copy_job_start(c);
                while (!owner.over)
                        cf_turn(&owner, &src);
                assert_int_equal(owner.res, fails ? -ECANCELED : 0);
                while (load.count < 60 * (i + 2))
                        qthread_run_once(src.home, 0);
                load_stop(&load);
                backup_bitmap_end(c, owner.res == 0, BITMAP_ON_SUCCESS);
                if (fails)
                        assert_true(dirty_bitmap_count(bm) >= dirty);
                assert_int_equal(cf_finish(&owner, &src), owner.res);
                assert_int_equal(cf_close(&dst), 0);
                if (!fails)
                        vf_compare("copy", "qcow2", before, SIZE);
                cf_open(&dst, &src, "copy", &to);
                free(TAKE(before, NULL));
                owner = (struct owner){ 0 };
        }
        vol_detach_bitmap(src.v, bm);
        dirty_bitmap_unref(bm);
        end("qcow2", NULL);
}

/* --- errors -------------------------------------------------------------------------------------------------------------------- */

static const struct { const char *fault; bool read; enum copy_action action; int res; unsigned errors, stands; } faults[] = {
        { "engine.read=6:EIO", true, COPY_FAIL, -EIO, 1, 0 },
        { "engine.read=6:EIO", true, COPY_AGAIN, 0, 1, 0 },
        { "engine.read=6:EIO", true, COPY_STOP, 0, 1, 1 },
        { "engine.write=6:ENOSPC", false, COPY_FAIL, -ENOSPC, 1, 0 },
        { "engine.write=6:ENOSPC", false, COPY_AGAIN, 0, 1, 0 },
        { "engine.write=6:ENOSPC", false, COPY_STOP, 0, 1, 1 },
};

static void test_errors(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                struct copy_job *c;

                begin("raw", "", "raw", "", i + 5);
                c = arm(&(struct backup_opts){ .sync = BACKUP_FULL });
                owner.read_action = owner.write_action = faults[i].action;
                fault_arm(faults[i].fault);
                copy_job_start(c);
                while (!owner.over && !owner.stands)
                        cf_turn(&owner, &src);
                fault_arm(NULL);
                load_start(&load);
                if (owner.stands)
                        copy_job_resume(c);
                assert_int_equal(cf_finish(&owner, &src), faults[i].res);
                assert_int_equal(faults[i].read ? owner.read_errors : owner.write_errors, faults[i].errors);
                assert_int_equal(faults[i].read ? owner.write_errors : owner.read_errors, 0);
                assert_int_equal(owner.stands, faults[i].stands);
                end("raw", faults[i].res ? NULL : "raw");
        }
}

/* The copy that a guest's write waits for fails: the guest does not notice, and the backup is no backup any more. */
static void test_a_guest_is_not_stopped(void **state)
{
        AUTO(freep) uint8_t *buf = malloc(4096);
        struct copy_job *c;

        begin("raw", "", "raw", "", 3);
        c = arm(&(struct backup_opts){ .sync = BACKUP_FULL });
        memset(buf, 9, 4096);
        owner.write_action = COPY_STOP; /* nobody is asked */
        fault_arm("engine.write=1:EIO");
        assert_int_equal(vf_do(&src, BLK_WRITE, 0, 3 * MIB, 4096, buf), 0);
        fault_arm(NULL);
        memcpy(load.model + 3 * MIB, buf, 4096);
        assert_int_equal(vf_do(&src, BLK_WRITE, 0, 5 * MIB, 4096, buf), 0);
        memcpy(load.model + 5 * MIB, buf, 4096);
        copy_job_start(c);
        load_start(&load);
        assert_int_equal(cf_finish(&owner, &src), -EIO);
        assert_int_equal(owner.write_errors, 1);
        end("raw", NULL);
}

static void guest_fills(int byte, uint64_t off, uint64_t len)
{
        memset(load.model + off, byte, len);
        assert_int_equal(vf_do(&src, BLK_WRITE, 0, off, len, load.model + off), 0);
}

/* A write that begins where the old bytes are copied already and ends where they are not; there is space for it. */
static void test_a_write_across_an_edge(void **state)
{
        AUTO(freep) uint8_t *copy = malloc(2 * COPY_UNIT);

        begin("raw", "", "raw", "", 31);
        guest_fills(8, MIB, 2 * COPY_UNIT);
        copy_job_start(arm(&(struct backup_opts){ .sync = BACKUP_NONE }));
        guest_fills(9, MIB, 4096);
        guest_fills(10, MIB + COPY_UNIT - 4096, 8192);
        copy_job_cancel(owner.c);
        assert_int_equal(cf_finish(&owner, &src), -ECANCELED);
        assert_int_equal(vf_do(&dst, BLK_READ, 0, MIB, 2 * COPY_UNIT, copy), 0);
        assert_memory_equal(copy, before + MIB, 2 * COPY_UNIT);
        end("raw", NULL);
}

/* --- steering -------------------------------------------------------------------------------------------------------------------- */

static void turn_while_load_goes_on(unsigned requests)
{
        uint64_t until = load.count + requests;

        while (load.count < until)
                qthread_run_once(src.home, 0);
}

static void test_paused_and_cancelled(void **state)
{
        for (unsigned cancel = 0; cancel < 2; cancel++) {
                struct copy_job *c;
                uint64_t done;

                begin("qcow2", "", "qcow2", "", 15 + cancel);
                c = arm(&(struct backup_opts){ .sync = BACKUP_FULL });
                atomic_store(&c->speed, 8 * MIB);
                copy_job_start(c);
                load_start(&load);
                turn_while_load_goes_on(5);
                copy_job_pause(c);
                while (!owner.stands)
                        cf_turn(&owner, &src);
                load_stop(&load);
                done = atomic_load(&c->done);
                for (int i = 0; i < 50; i++)
                        qthread_run_once(src.home, NS_PER_MS);
                assert_int_equal(atomic_load(&c->done), done);
                load_start(&load);
                turn_while_load_goes_on(20); /* a guest's writes copy all the same */
                copy_job_set_speed(c, 0);
                if (cancel)
                        copy_job_cancel(c);
                else
                        copy_job_resume(c);
                assert_int_equal(cf_finish(&owner, &src), cancel ? -ECANCELED : 0);
                turn_while_load_goes_on(20);
                end("qcow2", cancel ? NULL : "qcow2");
        }
}

/* 2 MiB at 4 MiB a second: never sooner than that, but for the first piece, which is a tenth of a second's. */
static void test_speed(void **state)
{
        struct vol_opts vo = { .format = "raw" };
        uint64_t begun;

        vf_create_random("disk", 2 * MIB, 1);
        vf_create("copy", "raw", "", 2 * MIB, NULL);
        vf_open(&src, "disk", &vo, &(struct engine_opts){ .kind = ENGINE_SYNC });
        cf_open(&dst, &src, "copy", &vo);
        owner = (struct owner){ 0 };
        assert_int_equal(backup_new(&(struct backup_opts){ .v = src.v, .target = dst.v, .owner = cf_owner(&owner) }, &owner.c), 0);
        atomic_store(&owner.c->speed, 4 * MIB);
        backup_arm(owner.c);
        begun = clock_ns();
        copy_job_start(owner.c);
        assert_int_equal(cf_finish(&owner, &src), 0);
        assert_true(clock_ns() - begun >= 380 * NS_PER_MS);
        assert_int_equal(cf_close(&dst), 0);
        assert_int_equal(vf_close(&src), 0);
}

/* A queue thread with a port of the disk, which stands in the middle of a round as one that looks at what it found there. */
struct other {
        struct qtask attach, detach;
        struct vol_port *port;
        struct qthread *t;
        sem_t begun, go, gone;
};

static void on_attach(struct qtask *task)
{
        struct other *o = container_of(task, struct other, attach);

        assert_int_equal(port_attach(src.v, o->t, &o->port), 0);
        sem_post(&o->begun);
        sem_wait(&o->go);
}

static void on_detach(struct qtask *task)
{
        struct other *o = container_of(task, struct other, detach);

        port_detach(o->port);
        sem_post(&o->gone);
}

/* What is copied before a change is looked at by all threads of the disk: a backup is over, and that may go, when none does. */
static void test_over_when_no_thread_looks(void **state)
{
        struct other o = { .attach.run = on_attach, .detach.run = on_detach };

        (void)state;
        sem_init(&o.begun, 0, 0);
        sem_init(&o.go, 0, 0);
        sem_init(&o.gone, 0, 0);
        assert_int_equal(qthread_new(&(struct qthread_opts){ .name = "other", .engine.kind = ENGINE_SYNC }, &o.t), 0);
        begin("raw", "", "raw", "", 41);
        qthread_post(o.t, &o.attach);
        sem_wait(&o.begun);
        copy_job_start(arm(&(struct backup_opts){ .sync = BACKUP_FULL }));
        while (atomic_load(&src.v->cbw) != NULL)
                qthread_run_once(src.home, NS_PER_MS);
        for (unsigned i = 0; i < 200; i++)
                qthread_run_once(src.home, 0);
        assert_false(owner.over);
        sem_post(&o.go);
        assert_int_equal(cf_finish(&owner, &src), 0);
        qthread_post(o.t, &o.detach);
        sem_wait(&o.gone);
        qthread_free(o.t);
        end("raw", "raw");
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_zeros_need_no_space),
                cmocka_unit_test(test_top),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_incremental),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_a_guest_is_not_stopped),
                cmocka_unit_test(test_a_write_across_an_edge),
                cmocka_unit_test(test_paused_and_cancelled),
                cmocka_unit_test(test_speed),
                cmocka_unit_test(test_over_when_no_thread_looks),
        };

        if (argc > 1)
                rounds = (unsigned)atoi(argv[1]);
        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
