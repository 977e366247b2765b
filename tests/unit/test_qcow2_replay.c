/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A daemon is killed (the image is dropped as it is, sometimes in the middle of a flush) and started again, many times
 * over: every write that was answered must be there, flushed or not, and QEMU must find the image without errors.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/maplog.h"
#include "common/range.h"
#include "formats/format.h"
#include "tests/lib/img_io.h"
#include "tests/lib/tmp_image.h"

#define KILLS 8
#define OPS 40

static uint64_t rng;

struct disk {
        char path[TMP_PATH_MAX], dir[TMP_PATH_MAX];
        uint64_t size, cluster;
        uint8_t *model;
        struct fmt_image *img;
        struct img_io io;
};

static void disk_open(struct disk *d)
{
        struct fmt_open_opts opts = { .format = "qcow2", .state_dir = d->dir };
        int r = chain_open(d->path, &opts, &d->img);

        if (r < 0)
                fail_msg("cannot open again: %s", err_text(r));
        d->io = (struct img_io){ .img = d->img };
}

static void disk_compare(struct disk *d)
{
        AUTO(freep) uint8_t *buf = malloc(d->size);

        assert_int_equal(img_read(&d->io, buf, d->size, 0), 0);
        for (uint64_t i = 0; i < d->size; i++)
                if (buf[i] != d->model[i])
                        fail_msg("byte %llu is 0x%02x instead of 0x%02x", (unsigned long long)i, buf[i], d->model[i]);
}

static void one_op(struct disk *d)
{
        uint64_t off = rnd_below(&rng, d->size / 512) * 512;
        uint64_t len = min_u64((1 + rnd_below(&rng, 3 * d->cluster / 512)) * 512, d->size - off);
        uint8_t value = (uint8_t)(1 + rnd_below(&rng, 255));
        unsigned what = (unsigned)rnd_below(&rng, 10);

        if (what == 0) {
                assert_int_equal(img_flush(&d->io), 0);
        } else if (what <= 2) {
                assert_int_equal(img_zero(&d->io, off, len, what == 1 ? ZERO_MAY_UNMAP : 0), 0);
                memset(d->model + off, 0, len);
        } else {
                AUTO(freep) uint8_t *data = malloc(len);

                memset(data, value, len);
                assert_int_equal(img_write(&d->io, data, len, off), 0);
                memset(d->model + off, value, len);
        }
}

/* Not a step more, as after kill -9. Half of the time a flush was under way. */
static void disk_kill(struct disk *d)
{
        if (rnd_below(&rng, 2)) {
                d->io.stop_at = d->io.steps + 1 + rnd_below(&rng, 6);
                (void)img_flush(&d->io);
        }
        chain_close(TAKE(d->img, NULL));
}

static void qemu_finds_no_error(struct disk *d)
{
        /* 3: leaks only. They are what is left of reservations. */
        assert_int_equal(run_cmd("qemu-img check -U -q -f qcow2 %s > /dev/null 2>&1; test $? -eq 0 -o $? -eq 3", d->path), 0);
}

static void disk_init(struct disk *d, uint64_t cluster, uint64_t size)
{
        memset(d, 0, sizeof(*d));
        tmp_path("replay.qcow2", d->path);
        tmp_path("state", d->dir);
        mkdir(d->dir, 0700);
        run_cmd("rm -f %s %s/*", d->path, d->dir);
        d->size = size;
        d->cluster = cluster;
        d->model = calloc(1, size);
        assert_non_null(d->model);
}

static const struct {
        uint64_t cluster, size;
        bool backing, snapshot;
        const char *options;
} configs[] = {
        { 65536, 24 << 20, false, false, "" },
        { 65536, 24 << 20, true, false, "" },
        { 65536, 24 << 20, false, true, "" },
        { 512, 256 << 10, false, false, "" },
        { 4096, 4 << 20, true, true, "" },
        { 4096, 4 << 20, true, false, ",compat=0.10" },
        { 2 << 20, 32 << 20, false, true, "" },
        { 65536, 24 << 20, false, false, ",refcount_bits=1" },
        { 65536, 24 << 20, true, true, ",extended_l2=on" },
        { 16384, 4 << 20, false, false, ",extended_l2=on" },
        { 65536, 24 << 20, true, false, ",data_file=" },
        { 4096, 4 << 20, false, false, ",data_file_raw=on,data_file=" },
};

static void create(struct disk *d, size_t c)
{
        char base[TMP_PATH_MAX], chain[TMP_PATH_MAX + 32] = "", data[TMP_PATH_MAX] = "";

        if (strstr(configs[c].options, "data_file="))
                tmp_path("replay.data", data);

        if (configs[c].backing) {
                tmp_path("base.raw", base);
                for (uint64_t off = 0; off < d->size; off += 8 * d->cluster)
                        memset(d->model + off, 0x77, d->cluster);
                assert_int_equal(save_file(base, d->model, d->size), 0);
                snprintf(chain, sizeof(chain), "-b %s -F raw", base);
        }
        assert_int_equal(run_cmd("qemu-img create -q -f qcow2 -o cluster_size=%llu%s%s %s %s %llu",
                                 (unsigned long long)d->cluster, configs[c].options, data, chain, d->path,
                                 (unsigned long long)d->size), 0);
}

static void run_config(size_t c)
{
        struct disk d;

        disk_init(&d, configs[c].cluster, configs[c].size);
        create(&d, c);
        disk_open(&d);
        for (unsigned k = 0; k < KILLS; k++) {
                for (unsigned i = 0; i < OPS; i++)
                        one_op(&d);
                if (configs[c].snapshot && k == 2) {
                        assert_int_equal(img_settle(&d.io), 0);
                        chain_close(TAKE(d.img, NULL));
                        assert_int_equal(run_cmd("qemu-img snapshot -c s %s", d.path), 0);
                } else {
                        disk_kill(&d);
                }
                qemu_finds_no_error(&d);
                disk_open(&d);
                disk_compare(&d);
                qemu_finds_no_error(&d);
        }
        assert_int_equal(img_settle(&d.io), 0);
        chain_close(d.img);
        qemu_finds_no_error(&d);
        assert_int_equal(run_cmd("test -z \"$(ls %s)\"", d.dir), 0); /* a clean end leaves no log */
        free(d.model);
}

static void test_every_answered_write_survives(void **state)
{
        for (size_t c = 0; c < ARRAY_SIZE(configs); c++) {
                printf("cluster %llu%s%s%s\n", (unsigned long long)configs[c].cluster, configs[c].backing ? ", backing" : "",
                       configs[c].snapshot ? ", snapshot" : "", configs[c].options);
                run_config(c);
        }
}

/* --- one write, one kill -------------------------------------------------------------------------------------- */

#define PLACE (1u << 20)

static void write_at(struct disk *d, uint64_t off)
{
        uint8_t data[4096];

        memset(data, 0x5a, sizeof(data));
        assert_int_equal(img_write(&d->io, data, sizeof(data), off), 0);
}

static int read_at(struct disk *d, uint64_t off)
{
        uint8_t back[4096];

        assert_int_equal(img_read(&d->io, back, sizeof(back), off), 0);
        return back[0];
}

static void begin(struct disk *d)
{
        disk_init(d, 65536, 8 << 20);
        create(d, 0);
        disk_open(d);
}

static void end(struct disk *d)
{
        assert_int_equal(img_settle(&d->io), 0);
        chain_close(d->img);
        qemu_finds_no_error(d);
        free(d->model);
}

/* Without the log the writes would be gone: so the test above is able to fail. */
static void test_without_a_log_they_are_lost(void **state)
{
        struct disk d;

        begin(&d);
        write_at(&d, PLACE);
        chain_close(TAKE(d.img, NULL));
        run_cmd("rm %s/*", d.dir);
        disk_open(&d);
        assert_int_equal(read_at(&d, PLACE), 0);
        end(&d);
}

/* A flush carries what was there when it began; what came while it ran is still in memory only. */
static void test_a_write_during_a_flush(void **state)
{
        struct fmt_batch *b;
        struct disk d;

        begin(&d);
        write_at(&d, 0);
        assert_int_equal(fmt_flush(d.img, &b), 0);
        write_at(&d, PLACE);
        assert_int_equal(img_run(&d.io, b), 0);
        chain_close(TAKE(d.img, NULL));
        disk_open(&d);
        assert_int_equal(read_at(&d, 0), 0x5a);
        assert_int_equal(read_at(&d, PLACE), 0x5a);
        end(&d);
}

/* The image cannot be written when we come back: it is not opened, and what is in the log stays there. */
static void test_the_log_waits_for_the_image(void **state)
{
        static const char *const faults[] = { "file.write=1:EIO", "file.write=2:EIO", "file.sync=1:EIO" };

        for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
                struct fmt_open_opts opts = { .format = "qcow2" };
                struct disk d;

                begin(&d);
                opts.state_dir = d.dir;
                write_at(&d, PLACE);
                chain_close(TAKE(d.img, NULL));
                assert_int_equal(fault_arm(faults[i]), 0);
                assert_int_equal(chain_open(d.path, &opts, &d.img), -EIO);
                fault_arm(NULL);
                err_clear();
                disk_open(&d);
                assert_int_equal(read_at(&d, PLACE), 0x5a);
                end(&d);
        }
}

/* Somebody wrote to the file long after us, though nothing in it says so: the log may be older than what is there. */
static void test_a_file_that_was_written_to_later(void **state)
{
        for (int late = 0; late < 2; late++) {
                struct timespec t[2] = { { .tv_nsec = UTIME_OMIT } };
                struct disk d;

                begin(&d);
                write_at(&d, PLACE);
                chain_close(TAKE(d.img, NULL));
                clock_gettime(CLOCK_REALTIME, &t[1]);
                t[1].tv_sec += late ? 3600 : -3600;
                assert_int_equal(utimensat(AT_FDCWD, d.path, t, 0), 0);
                disk_open(&d);
                assert_int_equal(read_at(&d, PLACE), late ? 0 : 0x5a);
                end(&d);
        }
}

/* Somebody used the image between the kill and our return: what he wrote must stay, the log must go. */
static void test_a_log_that_does_not_fit_is_dropped(void **state)
{
        static const char *const others[] = {
                "qemu-io -f qcow2 -c 'write -P 0x11 0 4M' %s > /dev/null",        /* the same clusters */
                "qemu-io -f qcow2 -c 'write -P 0x11 4M 4M' %s > /dev/null",       /* the same space */
                "qemu-img create -q -f qcow2 %s 8M; qemu-io -f qcow2 -c 'write -P 0x11 4M 4M' %s > /dev/null",
        };

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                uint8_t data[4096], back[4096];
                struct disk d;

                disk_init(&d, 65536, 8 << 20);
                create(&d, 0);
                disk_open(&d);
                memset(data, 0x5a, sizeof(data));
                for (unsigned k = 0; k < 32; k++)
                        assert_int_equal(img_write(&d.io, data, sizeof(data), k * 65536), 0);
                chain_close(TAKE(d.img, NULL));
                assert_int_equal(run_cmd("qemu-img check -q -r leaks %s > /dev/null 2>&1; true", d.path), 0);
                assert_int_equal(run_cmd(others[i], d.path, d.path), 0);
                disk_open(&d);
                assert_int_equal(img_read(&d.io, back, sizeof(back), i == 0 ? 0 : 5 << 20), 0);
                assert_int_equal(back[0], 0x11);
                assert_int_equal(back[4095], 0x11);
                assert_int_equal(img_settle(&d.io), 0);
                chain_close(d.img);
                qemu_finds_no_error(&d);
                free(d.model);
        }
}

static void test_log_ring(void **state)
{
        struct maplog_entry e = { 7, 8, 9 };
        char dir[TMP_PATH_MAX];
        struct maplog *log;
        uint64_t mark;

        tmp_path("ring", dir);
        mkdir(dir, 0700);
        assert_int_equal(maplog_open(dir, 1, 2, &log), 0);
        assert_int_equal(maplog_pending(log), 0);
        maplog_put(log, &e, 1);
        mark = maplog_mark(log);
        e.index = 70;
        maplog_put(log, &e, 1);
        maplog_trim(log, mark);
        assert_int_equal(maplog_pending(log), 1);
        maplog_close(log);
        assert_int_equal(maplog_open(dir, 1, 2, &log), 0); /* it outlived us */
        assert_int_equal(maplog_pending(log), 1);
        assert_int_equal(maplog_get(log, 0).index, 70);
        assert_false(maplog_is_crowded(log));
        for (unsigned i = 0; i < 70000; i++)
                maplog_put(log, &e, 1);
        assert_true(maplog_is_crowded(log));
        assert_true(maplog_lost(log));
        maplog_trim(log, maplog_mark(log));
        assert_false(maplog_lost(log));
        maplog_close(log);
        assert_int_equal(run_cmd("test -z \"$(ls %s)\"", dir), 0);
}

static void test_a_file_that_is_no_log_is_emptied(void **state)
{
        char dir[TMP_PATH_MAX], path[TMP_PATH_MAX + 32];
        struct maplog *log;

        tmp_path("junk", dir);
        mkdir(dir, 0700);
        snprintf(path, sizeof(path), "%s/0-1-2.maplog", dir);
        assert_int_equal(run_cmd("head -c 1577000 /dev/urandom > %s", path), 0);
        assert_int_equal(maplog_open(dir, 1, 2, &log), 0);
        assert_int_equal(maplog_pending(log), 0);
        maplog_close(log);
        err_clear();
        assert_true(maplog_open("/nonexistent", 1, 2, &log) < 0);
        assert_non_null(strstr(err_text(-ENOENT), "/nonexistent"));
        err_clear();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_log_ring),
                cmocka_unit_test(test_a_file_that_is_no_log_is_emptied),
                cmocka_unit_test(test_every_answered_write_survives),
                cmocka_unit_test(test_without_a_log_they_are_lost),
                cmocka_unit_test(test_a_write_during_a_flush),
                cmocka_unit_test(test_the_log_waits_for_the_image),
                cmocka_unit_test(test_a_file_that_was_written_to_later),
                cmocka_unit_test(test_a_log_that_does_not_fit_is_dropped),
        };

        rng = test_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
