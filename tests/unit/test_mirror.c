/* SPDX-License-Identifier: BSD-3-Clause */
/* A mirror becomes the same under a guest that goes on writing, and takes the disk's place while he does. */
#include "copy_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blkq/change/exchange.h"
#include "blkq/jobs/mirror_impl.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"

#define MIB (1ull << 20)
#define SIZE (12 * MIB + 512)

static unsigned rounds = 2;
static bool no_sync = true; /* the order of steps is not what is asked here */
static unsigned writeback_ms = 5;
static bool blocking;
static struct rig src, dst;
static struct load load;
static struct owner owner;
static bool ended;
static int end_res;
static char end_why[256];

/* --- steps --------------------------------------------------------------------------------------------------------------- */

static void turn_while_load_goes_on(unsigned requests)
{
        load_turn(&load, requests);
}

static void begin(const char *format, const char *opts, const char *to_format, const char *to_opts, const char *behind,
                  uint64_t seed)
{
        cf_begin(&(struct pair){ .format = format, .opts = opts, .to = to_format, .to_opts = to_opts, .behind = behind, .size = SIZE,
                                 .seed = seed, .sync = !no_sync, .writeback_ms = writeback_ms }, &src, &dst, &load);
        load.window = 2 * MIB;
        owner = (struct owner){ 0 };
}

static struct copy_job *start(const struct mirror_opts *o)
{
        struct mirror_opts all = *o;
        struct copy_job *c;

        all.v = src.v;
        all.target = dst.v;
        all.owner = cf_owner(&owner);
        all.blocking = blocking;
        assert_int_equal(mirror_new(&all, &c), 0);
        owner.c = c;
        copy_job_start(c);
        return c;
}

static void on_ended(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        end_res = res;
        snprintf(end_why, sizeof(end_why), "%s", why);
        ended = true;
}

/* His port is the other volume's now. */
static void guest_has_moved(void)
{
        struct vol *v = src.v;

        assert_ptr_equal(port_vol(src.port), dst.v);
        src.v = dst.v;
        dst.v = v;
        vol_ports_moved(v);
}

static int finish_as(enum mirror_how how)
{
        while (!owner.over)
                cf_turn(&owner, &src);
        ended = false;
        mirror_end(owner.c, how, on_ended, NULL);
        while (!ended)
                qthread_run_once(src.home, NS_PER_MS);
        cf_finish(&owner, &src);
        if (how == MIRROR_EXCHANGE && end_res == 0)
                guest_has_moved();
        return end_res;
}

static void wait_ready(void)
{
        while (!owner.readies)
                cf_turn(&owner, &src);
}

static void close_both(void)
{
        load_stop(&load);
        assert_int_equal(cf_close(&dst), 0);
        assert_int_equal(vf_close(&src), 0);
}

static void check(const char *name, const char *format)
{
        if (!strcmp(format, "qcow2"))
                assert_int_equal(vf_check(name), 0);
}

/* What is clean is the same, as soon as the guest has heard of it: for a mirror that he waits for. */
static void expect_clean_is_same(void)
{
        struct mirror *m = mirror_of(owner.c);
        uint64_t off, len, n = m->unit;
        AUTO(freep) uint8_t *a = malloc(n), *b = malloc(n);

        while (owner.c->in_flight) /* it stands still */
                qthread_run_once(src.home, NS_PER_MS);
        for (uint64_t at = 0; at < SIZE; at += n) {
                if (dirty_bitmap_next(m->dirty, at, at + n, &off, &len))
                        continue;
                n = SIZE - at < n ? SIZE - at : n;
                assert_int_equal(vf_do(&src, BLK_READ, 0, at, n, a), 0);
                assert_int_equal(vf_do(&dst, BLK_READ, 0, at, n, b), 0);
                if (memcmp(a, b, n))
                        fail_msg("clean, and not the same: %#llx", (unsigned long long)at);
        }
}

static uint64_t dirty_bytes(void)
{
        struct mirror *m = mirror_of(owner.c);

        return dirty_bitmap_count(m->dirty) * dirty_bitmap_granularity(m->dirty);
}

/* Turns until nothing is dirty: a guest who waits cannot keep it from that for long. */
static void wait_clean(void)
{
        while (dirty_bytes())
                qthread_run_once(src.home, NS_PER_MS);
}

/* --- the target takes the disk's place -------------------------------------------------------------------------------------- */

static const struct { const char *format, *opts, *to, *to_opts; } pairs[] = {
        { "qcow2", "", "qcow2", "" },
        { "qcow2", "cluster_size=4096", "raw", "" },
        { "raw", "", "qcow2", "cluster_size=4096" },
        { "raw", "", "raw", "" },
        { "qcow2", "extended_l2=on", "qcow2", "cluster_size=2M" },
};

static void exchange(size_t i, uint32_t granularity, uint64_t seed)
{
        begin(pairs[i].format, pairs[i].opts, pairs[i].to, pairs[i].to_opts, NULL, seed);
        start(&(struct mirror_opts){ .granularity = granularity });
        if (blocking) { /* in the middle */
                copy_job_set_speed(owner.c, 1);
                turn_while_load_goes_on(60);
                load_stop(&load);
                expect_clean_is_same();
                copy_job_set_speed(owner.c, 0);
                load_start(&load);
        }
        wait_ready();
        turn_while_load_goes_on(60);
        if (blocking) {
                load_stop(&load);
                wait_clean();
                load_start(&load);
                turn_while_load_goes_on(60);
                load_stop(&load);
                assert_int_equal(dirty_bytes(), 0);
                expect_clean_is_same();
                load_start(&load);
        }
        copy_job_complete(owner.c);
        if (finish_as(MIRROR_EXCHANGE) != 0)
                fail_msg("%s", end_why);
        assert_int_equal(owner.readies, 1);
        turn_while_load_goes_on(60);
        close_both();
        vf_compare("copy", pairs[i].to, load.model, SIZE);
        check("copy", pairs[i].to);
        check("disk", pairs[i].format);
        load_finish(&load);
}

static void test_exchange(void **state)
{
        static const uint32_t granularities[] = { 0, 512, 256 << 10 };

        for (unsigned r = 0; r < rounds; r++)
                for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                        exchange(i, granularities[(r + i) % ARRAY_SIZE(granularities)], 1 + i + r * 1000);
}

static void test_exchange_blocking(void **state)
{
        static const uint32_t granularities[] = { 512, 0, 1 << 20 };

        blocking = true;
        for (unsigned r = 1; r < rounds; r++)
                for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
                        exchange(i, granularities[(r + i) % ARRAY_SIZE(granularities)], 500 + i + r * 1000);
        blocking = false;
}

/* There and back again, without closing anything. */
static void test_twice(void **state)
{
        begin("qcow2", "", "raw", "", NULL, 8);
        for (int i = 0; i < 2; i++) {
                start(&(struct mirror_opts){ 0 });
                wait_ready();
                copy_job_complete(owner.c);
                assert_int_equal(finish_as(MIRROR_EXCHANGE), 0);
                assert_string_equal(vol_path(src.v), i ? "disk" : "copy");
                assert_string_equal(vol_format(src.v), i ? "qcow2" : "raw");
                turn_while_load_goes_on(30);
                owner = (struct owner){ 0 };
        }
        close_both();
        vf_compare("disk", "qcow2", load.model, SIZE);
        check("disk", "qcow2");
        load_finish(&load);
}

/* --- two disks that are the same --------------------------------------------------------------------------------------------- */

static void test_same(void **state)
{
        begin("qcow2", "", "qcow2", "", NULL, 21);
        start(&(struct mirror_opts){ .buf_size = 1 });
        wait_ready();
        turn_while_load_goes_on(60);
        load_stop(&load);
        copy_job_complete(owner.c);
        assert_int_equal(finish_as(MIRROR_SAME), 0);
        assert_string_equal(vol_path(src.v), "disk");
        assert_int_equal(cf_close(&dst), 0);
        vf_compare("copy", "qcow2", load.model, SIZE);
        check("copy", "qcow2");
        load_start(&load);
        turn_while_load_goes_on(30);
        load_stop(&load);
        assert_int_equal(vf_close(&src), 0);
        vf_compare("disk", "qcow2", load.model, SIZE);
        load_finish(&load);
}

/* What the image below has, the target has, too. */
static void test_top(void **state)
{
        begin("qcow2", "cluster_size=4096", "qcow2", "", "base", 33);
        start(&(struct mirror_opts){ .sync = MIRROR_TOP });
        wait_ready();
        turn_while_load_goes_on(60);
        copy_job_complete(owner.c);
        assert_int_equal(finish_as(MIRROR_EXCHANGE), 0);
        turn_while_load_goes_on(30);
        close_both();
        vf_compare("copy", "qcow2", load.model, SIZE);
        check("copy", "qcow2");
        load_finish(&load);
}

static void test_top_blocking(void **state)
{
        blocking = true;
        test_top(state);
        blocking = false;
}

/* Only what is written from now on: the rest was put there before. */
static void test_none(void **state)
{
        AUTO(freep) uint8_t *buf = malloc(MIB);

        begin("qcow2", "", "raw", "", NULL, 44);
        load_stop(&load);
        for (uint64_t at = 0; at + MIB <= SIZE; at += MIB) {
                assert_int_equal(vf_do(&src, BLK_READ, 0, at, MIB, buf), 0);
                assert_int_equal(vf_do(&dst, BLK_WRITE, 0, at, MIB, buf), 0);
        }
        assert_int_equal(vf_do(&src, BLK_READ, 0, SIZE - 512, 512, buf), 0);
        assert_int_equal(vf_do(&dst, BLK_WRITE, 0, SIZE - 512, 512, buf), 0);
        start(&(struct mirror_opts){ .sync = MIRROR_NONE });
        wait_ready();
        assert_int_equal(atomic_load(&owner.c->done), 0);
        load_start(&load);
        turn_while_load_goes_on(60);
        copy_job_complete(owner.c);
        assert_int_equal(finish_as(MIRROR_EXCHANGE), 0);
        close_both();
        vf_compare("copy", "raw", load.model, SIZE);
        load_finish(&load);
}

static void test_none_blocking(void **state)
{
        blocking = true;
        test_none(state);
        blocking = false;
}

/* --- where a guest writes, and how far the copying is -------------------------------------------------------------------------- */

#define UNIT (64u << 10)

static uint8_t expected[SIZE];

static void guest_fills(int byte, uint64_t from, uint64_t to)
{
        memset(expected + from, byte, to - from);
        assert_int_equal(vf_do(&src, BLK_WRITE, 0, from, to - from, expected + from), 0);
}

static bool target_has(int byte, uint64_t from, uint64_t to)
{
        AUTO(freep) uint8_t *buf = malloc(to - from);

        assert_int_equal(vf_do(&dst, BLK_READ, 0, from, to - from, buf), 0);
        return buf[0] == byte && !memcmp(buf, buf + 1, to - from - 1);
}

static bool is_dirty(uint64_t from, uint64_t to)
{
        uint64_t off, len;

        return dirty_bitmap_next(mirror_of(owner.c)->dirty, from, to, &off, &len);
}

/* The loop has copied the first units, and rests. */
static void test_places(void **state)
{
        uint64_t k;

        blocking = true;
        begin("qcow2", "", "raw", "", NULL, 81);
        load_stop(&load);
        memcpy(expected, load.model, SIZE);
        start(&(struct mirror_opts){ .granularity = UNIT, .buf_size = UNIT });
        copy_job_set_speed(owner.c, 1);
        while (!atomic_load(&owner.c->done))
                qthread_run_once(src.home, NS_PER_MS);
        k = atomic_load(&owner.c->done) / UNIT;
        assert_true(k >= 1 && k < 16 && !is_dirty(0, k * UNIT) && is_dirty(k * UNIT, k * UNIT + 1));

        guest_fills(1, 512, 1024);                                     /* what is copied */
        assert_true(target_has(1, 512, 1024) && !is_dirty(0, k * UNIT));
        guest_fills(2, 20 * UNIT + 512, 20 * UNIT + 1024);             /* what is not: left to the loop */
        assert_true(!target_has(2, 20 * UNIT + 512, 20 * UNIT + 1024) && is_dirty(20 * UNIT, 20 * UNIT + 1));
        guest_fills(3, 30 * UNIT, 32 * UNIT);                          /* as a whole */
        assert_true(target_has(3, 30 * UNIT, 32 * UNIT) && !is_dirty(30 * UNIT, 32 * UNIT));
        guest_fills(4, 40 * UNIT - 512, 42 * UNIT + 512);              /* with parts of its neighbours */
        assert_true(target_has(4, 40 * UNIT, 42 * UNIT) && !is_dirty(40 * UNIT, 42 * UNIT));
        assert_true(is_dirty(39 * UNIT, 40 * UNIT) && is_dirty(42 * UNIT, 43 * UNIT));
        guest_fills(5, k * UNIT - 1024, k * UNIT + 512);               /* half copied */
        assert_true(target_has(5, k * UNIT - 1024, k * UNIT) && !target_has(5, k * UNIT, k * UNIT + 512));
        guest_fills(6, SIZE - 512, SIZE);                              /* the last unit is a short one */
        assert_true(target_has(6, SIZE - 512, SIZE) && !is_dirty(SIZE - 512, SIZE));
        assert_int_equal(vf_do(&src, BLK_DISCARD, 0, 50 * UNIT, 3 * UNIT, NULL), 0); /* what is there now is up to the image */
        assert_int_equal(vf_do(&src, BLK_READ, 0, 50 * UNIT, 3 * UNIT, expected + 50 * UNIT), 0);
        assert_false(is_dirty(50 * UNIT, 53 * UNIT));
        expect_clean_is_same();

        copy_job_set_speed(owner.c, 0);
        wait_ready();
        assert_int_equal(dirty_bytes(), 0);
        assert_int_equal(atomic_load(&owner.c->done), atomic_load(&owner.c->total));
        memset(expected + UNIT, 0, UNIT);
        assert_int_equal(vf_do(&src, BLK_WRITE_ZEROES, 0, UNIT, UNIT, NULL), 0);
        assert_true(target_has(0, UNIT, 2 * UNIT) && dirty_bytes() == 0);
        copy_job_complete(owner.c);
        assert_int_equal(finish_as(MIRROR_EXCHANGE), 0);
        blocking = false;
        close_both();
        vf_compare("copy", "raw", expected, SIZE);
        load_finish(&load);
}

/* --- what goes wrong --------------------------------------------------------------------------------------------------------- */

static void expect_source_goes_on(void)
{
        assert_string_equal(vol_path(src.v), "disk");
        load_start(&load);
        turn_while_load_goes_on(30);
        close_both();
        vf_compare("disk", "qcow2", load.model, SIZE);
        check("disk", "qcow2");
        check("copy", "qcow2");
        load_finish(&load);
}

static const struct { const char *fault; enum copy_action action; int res; unsigned stands; } faults[] = {
        { "engine.read=6:EIO", COPY_FAIL, -EIO, 0 },
        { "engine.read=6:EIO", COPY_AGAIN, 0, 0 },
        { "engine.write=6:ENOSPC", COPY_STOP, 0, 1 },
        { "engine.write=6:EIO", COPY_FAIL, -EIO, 0 },
};

/* The guest rests. */
static void expect_same(void)
{
        AUTO(freep) uint8_t *copy = malloc(SIZE);

        assert_int_equal(vf_do(&dst, BLK_READ, 0, 0, SIZE, copy), 0);
        for (uint64_t at = 0; at < SIZE; at += 512)
                if (memcmp(copy + at, load.model + at, 512))
                        fail_msg("not the same: %#llx", (unsigned long long)at);
}

static void test_errors(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                begin("qcow2", "", "qcow2", "", NULL, 50 + i);
                load_stop(&load);
                owner.read_action = owner.write_action = faults[i].action;
                fault_arm(faults[i].fault);
                start(&(struct mirror_opts){ 0 });
                while (!owner.over && !owner.stands && !owner.readies)
                        cf_turn(&owner, &src);
                fault_arm(NULL);
                assert_int_equal(owner.read_errors + owner.write_errors, 1);
                assert_int_equal(owner.stands, faults[i].stands);
                if (owner.stands)
                        copy_job_resume(owner.c);
                if (faults[i].res == 0) {
                        wait_ready();
                        copy_job_complete(owner.c);
                        assert_int_equal(finish_as(MIRROR_SAME), 0);
                        expect_same();
                } else {
                        assert_int_equal(finish_as(MIRROR_DROP), 0);
                        assert_int_equal(owner.res, faults[i].res);
                }
                expect_source_goes_on();
        }
}

static void test_errors_blocking(void **state)
{
        blocking = true;
        test_errors(state);
        blocking = false;
}

/* A copy on behalf of the guest fails: he does not hear of it. 1: the disk's own write; 2: the target's. */
static const struct { const char *fault; enum copy_action action; int res; } twin_faults[] = {
        { "engine.write=2:EIO", COPY_FAIL, -EIO },
        { "engine.read=1:EIO", COPY_FAIL, -EIO },
        { "engine.write=2:EIO", COPY_AGAIN, 0 },
        { "engine.write=2:ENOSPC", COPY_STOP, 0 },
};

static void test_guests_copy_fails(void **state)
{
        blocking = true;
        for (size_t i = 0; i < ARRAY_SIZE(twin_faults); i++) {
                begin("raw", "", "raw", "", NULL, 90 + i);
                load_stop(&load);
                memcpy(expected, load.model, SIZE);
                owner.read_action = owner.write_action = twin_faults[i].action;
                start(&(struct mirror_opts){ .granularity = UNIT });
                wait_ready();
                wait_clean();
                fault_arm(twin_faults[i].fault);
                guest_fills(0x77, 4096, 8192);
                fault_arm(NULL);
                while (!owner.read_errors && !owner.write_errors)
                        cf_turn(&owner, &src);
                if (twin_faults[i].action == COPY_STOP) { /* it stands, and the target is left alone */
                        while (!owner.stands)
                                cf_turn(&owner, &src);
                        guest_fills(0x78, 8 * UNIT, 8 * UNIT + 512);
                        assert_true(is_dirty(0, UNIT) && is_dirty(8 * UNIT, 9 * UNIT) && !target_has(0x78, 8 * UNIT, 8 * UNIT + 512));
                        copy_job_resume(owner.c);
                }
                assert_int_equal(owner.read_errors + owner.write_errors, 1);
                if (twin_faults[i].res == 0) {
                        wait_clean();
                        guest_fills(0x79, 512, 1024);
                        assert_true(target_has(0x79, 512, 1024) && target_has(0x77, 4096, 8192));
                        copy_job_complete(owner.c);
                        assert_int_equal(finish_as(MIRROR_SAME), 0);
                } else {
                        assert_int_equal(finish_as(MIRROR_DROP), 0);
                        assert_int_equal(owner.res, twin_faults[i].res);
                }
                guest_fills(0x7a, UNIT, UNIT + 512); /* nobody follows any more */
                assert_true(!target_has(0x7a, UNIT, UNIT + 512));
                close_both();
                vf_compare("disk", "raw", expected, SIZE);
                load_finish(&load);
        }
        blocking = false;
}

/* The end itself fails: before the guest moves he goes on with his disk; afterwards the disk that he has says so. */
static void test_the_end_fails(void **state)
{
        static const char *const at[] = { "engine.sync=1:EIO", "engine.sync=2:EIO", "engine.read=1:EIO", "engine.write=1:EIO" };

        for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
                no_sync = false;
                writeback_ms = 3600 * 1000; /* or a sync that fails may be one nobody asked for, on a slow machine */
                begin("qcow2", "", "raw", "", NULL, 60 + i);
                no_sync = true;
                writeback_ms = 5;
                start(&(struct mirror_opts){ 0 });
                wait_ready();
                load_stop(&load);
                copy_job_complete(owner.c);
                while (!owner.over)
                        cf_turn(&owner, &src);
                assert_int_equal(vf_do(&src, BLK_WRITE, 0, 0, 4096, load.one[0].buf), 0); /* so there is a rest */
                fault_arm(at[i]);
                end_res = finish_as(MIRROR_EXCHANGE);
                fault_arm(NULL);
                assert_int_equal(end_res, i == 1 ? 0 : -EIO); /* 1: the target's last flush */
                assert_string_equal(vol_path(src.v), end_res < 0 ? "disk" : "copy");
                assert_int_equal(vf_do(&src, BLK_WRITE, 0, 0, 4096, load.one[0].buf), i == 1 ? -EIO : 0);
                load_finish(&load);
                cf_close(&dst);
                vf_close(&src);
        }
}

static void test_cancelled(void **state)
{
        for (int ready = 0; ready < 2; ready++) {
                begin("qcow2", "", "qcow2", "", NULL, 70 + ready);
                start(&(struct mirror_opts){ 0 });
                if (ready)
                        wait_ready();
                copy_job_cancel(owner.c);
                assert_int_equal(finish_as(MIRROR_DROP), 0);
                assert_int_equal(owner.res, -ECANCELED);
                load_stop(&load);
                expect_source_goes_on();
        }
}

/* With changes under way that wait for the target. */
static void test_cancelled_blocking(void **state)
{
        blocking = true;
        test_cancelled(state);
        blocking = false;
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exchange),
                cmocka_unit_test(test_exchange_blocking),
                cmocka_unit_test(test_twice),
                cmocka_unit_test(test_same),
                cmocka_unit_test(test_top),
                cmocka_unit_test(test_top_blocking),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_none_blocking),
                cmocka_unit_test(test_places),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_errors_blocking),
                cmocka_unit_test(test_guests_copy_fails),
                cmocka_unit_test(test_the_end_fails),
                cmocka_unit_test(test_cancelled),
                cmocka_unit_test(test_cancelled_blocking),
        };

        if (argc > 1)
                rounds = (unsigned)atoi(argv[1]);
        return cmocka_run_group_tests(tests, vf_setup, vf_teardown);
}
