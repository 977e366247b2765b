/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two daemons with one image that is theirs in turn, and the dirty log with real I/O. What QEMU makes of both is in
 * tests/guest/test_migrate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"

#define TIMEOUT_MS 60000
#define BLOCK 65536u
#define BLOCKS 64u
#define LOG_BYTES (1u << 20)

static struct proc daemons[2];

static void start_two(void)
{
        start(&daemons[0], NULL, 1, ARGS("--disk", "path=%/d.qcow2,format=qcow2,socket=%/a.sock,migratable=on"));
        start(&daemons[1], NULL, 1, ARGS("--disk", "path=%/d.qcow2,format=qcow2,socket=%/b.sock,migratable=on"));
}

static int dial(unsigned which, struct front_end **fe)
{
        struct fe_opts o = { .path = at(which ? "b.sock" : "a.sock"), .timeout_ms = TIMEOUT_MS };

        err_clear();
        return fe_open(&o, fe);
}

static struct front_end *must_dial(unsigned which)
{
        struct front_end *fe;

        if (dial(which, &fe) < 0)
                fail_msg("daemon %u: %s", which, err_text(-1));
        return fe;
}

static void do_io(struct front_end *fe, uint32_t type, uint64_t block, char *buf)
{
        struct fe_io io = { .type = type, .sector = block * (BLOCK / 512), .gpa = buf ? fe_gpa(fe, buf) : 0,
                            .len = buf ? BLOCK : 0 };

        assert_int_equal(fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS), 0);
        assert_int_equal(io.status, FE_OK);
}

/* Every block is what the last one wrote, then something new; never flushed. */
static void check_and_write(struct front_end *fe, char *buf, uint8_t was, uint8_t now)
{
        for (unsigned b = 0; b < BLOCKS; b++) {
                do_io(fe, FE_READ, b, buf);
                for (unsigned i = 0; i < BLOCK; i++)
                        if ((uint8_t)buf[i] != was)
                                fail_msg("block %u, byte %u: %02x, not %02x", b, i, (uint8_t)buf[i], was);
                memset(buf, now, BLOCK);
                do_io(fe, FE_WRITE, b, buf);
        }
}

static void test_in_turn(void **state)
{
        struct front_end *fe[2];
        uint8_t now = 0;

        (void)state;
        start_two();
        for (unsigned turn = 0; turn < 6; turn++) {
                unsigned which = turn % 2;
                char *buf;

                fe[which] = must_dial(which);
                buf = fe_alloc(fe[which], BLOCK, 4096);
                check_and_write(fe[which], buf, now, now + 1);
                now++;
                if (turn == 2) {
                        assert_true(dial(!which, &fe[!which]) < 0); /* not while we run */
                        do_io(fe[which], FE_FLUSH, 0, NULL);
                }
                fe_close(fe[which]);
        }
        stop(&daemons[0]);
        stop(&daemons[1]);
        qemu_img(ARGS("check", "-q", "%/d.qcow2"));
}

/* Between the stop of the rings and their next start the other one has it; the first front end stays connected. */
static void test_stopped_rings(void **state)
{
        struct front_end *a, *b;
        uint32_t base;
        char *buf;

        (void)state;
        start_two();
        a = must_dial(0);
        buf = fe_alloc(a, BLOCK, 4096);
        memset(buf, 'a', BLOCK);
        do_io(a, FE_WRITE, 100, buf);
        assert_int_equal(fe_ring_stop(a, 0, &base), 0);
        b = must_dial(1);
        buf = fe_alloc(b, BLOCK, 4096);
        do_io(b, FE_READ, 100, buf);
        assert_int_equal(buf[0], 'a');
        memset(buf, 'b', BLOCK);
        do_io(b, FE_WRITE, 100, buf);
        fe_close(b);
        assert_int_equal(fe_ring_start(a, 0, base), 0);
        buf = fe_alloc(a, BLOCK, 4096);
        do_io(a, FE_READ, 100, buf);
        assert_int_equal(buf[BLOCK - 1], 'b');
        fe_close(a);
        stop(&daemons[0]);
        stop(&daemons[1]);
}

/* The one that has it is killed: the next one finds what was written, flushed or not. */
static void test_killed(void **state)
{
        struct front_end *a, *b;
        char *buf;

        (void)state;
        start_two();
        a = must_dial(0);
        buf = fe_alloc(a, BLOCK, 4096);
        memset(buf, 'k', BLOCK);
        do_io(a, FE_WRITE, 200, buf);
        kill(daemons[0].pid, SIGKILL);
        assert_int_equal(finish(&daemons[0]), -SIGKILL);
        b = must_dial(1);
        buf = fe_alloc(b, BLOCK, 4096);
        do_io(b, FE_READ, 200, buf);
        assert_int_equal(buf[77], 'k');
        fe_close(b);
        fe_close(a);
        stop(&daemons[1]);
        qemu_img(ARGS("check", "-q", "%/d.qcow2"));
}

/* Nobody else is shut out: with the daemons at rest the image can be changed. */
static void test_free_at_rest(void **state)
{
        struct front_end *fe;

        (void)state;
        start_two();
        qemu_img(ARGS("resize", "-q", "%/d.qcow2", "80M"));
        fe = must_dial(0);
        assert_int_equal(fe_get_config(fe), 0);
        assert_int_equal(fe_disk(fe)->capacity, 80 * MIB); /* not what it was when the daemon started */
        fe_close(fe);
        stop(&daemons[0]);
        stop(&daemons[1]);
}

/* --- the dirty log ------------------------------------------------------------------------------------------------------ */

static uint8_t *bits;

static int log_begin(struct front_end *fe, bool packed)
{
        int fd = memfd_create("log", MFD_CLOEXEC);
        struct fe_msg base = { .request = FE_SET_LOG_BASE, .flags = FE_VERSION, .size = 16 };
        struct fe_msg features = { .request = FE_SET_FEATURES, .flags = FE_VERSION, .size = 8 };
        struct fe_msg addr = { .request = FE_SET_VRING_ADDR, .flags = FE_VERSION, .size = 40 };
        struct fe_ring *r = fe_queue_ring(fe_queue(fe, 0));

        assert_int_equal(ftruncate(fd, LOG_BYTES), 0);
        bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        base.inflight.len = LOG_BYTES;
        assert_int_equal(fe_tell(fe, &base, &fd, 1), 0);
        features.u64 = fe_features(fe) | FE_F_LOG_ALL;
        assert_int_equal(fe_tell(fe, &features, NULL, 0), 0);
        addr.addr.desc = packed ? (uintptr_t)r->packed : (uintptr_t)r->desc;
        addr.addr.avail = packed ? (uintptr_t)r->driver : (uintptr_t)r->avail;
        addr.addr.used = packed ? (uintptr_t)r->device : (uintptr_t)r->used;
        addr.addr.flags = 1;
        addr.addr.log = fe_gpa(fe, (void *)addr.addr.used);
        assert_int_equal(fe_tell(fe, &addr, NULL, 0), 0);
        return fd;
}

static bool is_marked(uint64_t gpa)
{
        return bits[gpa / 4096 / 8] >> gpa / 4096 % 8 & 1;
}

/* What the engines read into guest memory is marked, direct or bounced, and only that; and what answers are written to. */
static void log_reads(bool packed)
{
        static const struct { uint32_t off, len; } reads[] = {
                { 0, 4096 }, { 4096, 65536 }, { 512, 512 }, { 3584, 1024 }, { 13 * 512, 9 * 512 }, { 1, 512 }, { 4095, 8192 },
        };
        struct front_end *fe;
        struct fe_ring *r;
        char *buf;
        int fd;

        start_two();
        assert_int_equal(fe_open(&(struct fe_opts){ .path = at("a.sock"), .timeout_ms = TIMEOUT_MS, .packed = packed }, &fe), 0);
        fd = log_begin(fe, packed);
        r = fe_queue_ring(fe_queue(fe, 0));
        buf = fe_alloc(fe, 32 * 4096, 4096);
        for (unsigned i = 0; i < ARRAY_SIZE(reads); i++) {
                struct fe_io io = { .type = FE_READ, .gpa = fe_gpa(fe, buf + reads[i].off), .len = reads[i].len };

                memset(bits, 0, LOG_BYTES);
                assert_int_equal(fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS), 0);
                assert_int_equal(io.status, FE_OK);
                for (unsigned p = 0; p < 32; p++) {
                        bool want = p >= reads[i].off / 4096 && p <= (reads[i].off + reads[i].len - 1) / 4096;

                        if (is_marked(fe_gpa(fe, buf + p * 4096)) != want)
                                fail_msg("read %u: page %u is %smarked", i, p, want ? "not " : "");
                }
                assert_true(is_marked(fe_gpa(fe, packed ? (void *)r->packed : (void *)r->used)));
        }
        memset(bits, 0, LOG_BYTES);
        do_io(fe, FE_WRITE, 0, buf); /* nothing of the data */
        for (unsigned p = 0; p < 16; p++)
                assert_false(is_marked(fe_gpa(fe, buf + p * 4096)));
        fe_close(fe);
        munmap(bits, LOG_BYTES);
        close(fd);
        stop(&daemons[0]);
        stop(&daemons[1]);
}

static void test_log(void **state)
{
        (void)state;
        log_reads(false);
        log_reads(true);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_in_turn),
                cmocka_unit_test(test_stopped_rings),
                cmocka_unit_test(test_killed),
                cmocka_unit_test(test_free_at_rest),
                cmocka_unit_test(test_log),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
