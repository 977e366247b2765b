/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The daemon is replaced again and again under verified load on a raw image, a qcow2 image that is used in turn and a
 * chain of two, two queues each: the front ends see neither an error nor wrong data, their connections stay, and how long
 * they wait is printed. And new processes that fail in every way: then the old one goes on.
 *
 *   e2e_upgrade [ROUNDS]     E2E_P99_MS=100: fail when the pause is longer at the 99th percentile
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back_end.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "worker.h"

#define DISK_LEN (32ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define DISKS 3
#define QUEUES 2

static struct back_end be;
static uint64_t seed;
static unsigned rounds = 20;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s (E2E_SEED=%llu)", #r, err_text(must_r_), \
                                                                  (unsigned long long)seed); } while (0)

/* --- load --------------------------------------------------------------------------------------------------------- */

static struct load {
        struct front_end *fe;
        struct verify *verify;
        struct worker w[QUEUES];
} load[DISKS];

static int begin(void **state)
{
        static bool written; /* by the test before */

        for (unsigned d = 0; d < DISKS; d++) {
                struct verify_opts vo = { .nunits = NUNITS, .unit_len = WORKER_UNIT, .seed = ++seed, .fresh = !written };
                struct load *l = &load[d];

                *l = (struct load){ 0 };
                must(verify_new(&vo, &l->verify));
                must(be_open(&be, d, (struct fe_opts){ .num_queues = QUEUES, .max_segs = 32 }, &l->fe));
                for (unsigned i = 0; i < QUEUES; i++) {
                        l->w[i] = (struct worker){ .fe = l->fe, .queue = i, .verify = l->verify,
                                                   .first = i * (NUNITS / QUEUES), .nunits = NUNITS / QUEUES,
                                                   .seed = seed + i, .odd = true };
                        must(worker_start(&l->w[i]));
                }
        }
        written = true;
        return 0;
}

static void all_move(unsigned long more)
{
        err_clear();
        for (unsigned d = 0; d < DISKS; d++)
                for (unsigned i = 0; i < QUEUES; i++)
                        if (worker_wait(&load[d].w[i], more) < 0)
                                must(worker_stop(&load[d].w[i])); /* says why */
}

static void end(void)
{
        err_clear();
        for (unsigned d = 0; d < DISKS; d++) {
                for (unsigned i = 0; i < QUEUES; i++)
                        must(worker_stop(&load[d].w[i]));
                must(fe_alive(load[d].fe, 0)); /* one connection all the time */
                fe_close(load[d].fe);
                verify_free(load[d].verify);
        }
}

/* --- how long did they wait? -------------------------------------------------------------------------------------- */

static void forget_pauses(void)
{
        for (unsigned d = 0; d < DISKS; d++)
                for (unsigned i = 0; i < QUEUES; i++)
                        load[d].w[i].longest_ns = 0;
}

static double longest_ms(void)
{
        double longest = 0;

        for (unsigned d = 0; d < DISKS; d++)
                for (unsigned i = 0; i < QUEUES; i++)
                        if ((double)load[d].w[i].longest_ns > longest)
                                longest = (double)load[d].w[i].longest_ns;
        return longest / NS_PER_MS;
}

static int by_size(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void report(double *ms)
{
        const char *limit = getenv("E2E_P99_MS");
        double p99;

        qsort(ms, rounds, sizeof(ms[0]), by_size);
        p99 = ms[(rounds - 1) * 99 / 100];
        print_message("%u upgrades: a front end waited at most %.1f ms (median), %.1f ms (p99), %.1f ms (maximum)\n", rounds,
                      ms[rounds / 2], p99, ms[rounds - 1]);
        if (limit && p99 > atof(limit))
                fail_msg("p99 %.1f ms", p99);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_under_load(void **state)
{
        double *ms = calloc(rounds, sizeof(*ms));
        int fds = 0;

        for (unsigned n = 0; n < rounds; n++) {
                all_move(20);
                forget_pauses();
                must(be_upgrade(&be, NULL));
                all_move(20);
                ms[n] = longest_ms();
                if (n == 0)
                        fds = be_count_fds(&be);
        }
        assert_int_equal(be_count_fds(&be), fds); /* nothing is handed on that nobody needs */
        report(ms);
        free(ms);
        end();
}

/* A program that is not what it should be. "%s" stands for the daemon. */
static const struct { const char *script, *says; } bad[] = {
        { NULL, "No such file" },
        { "exit 1", "the new process ended" },
        { "exec %s --no-such-option", "the new process ended" },
        { "printf 'garbage' >&3; exec sleep 60", "talks nonsense" },
        { "printf '[]' >&3; exec sleep 60", "talks nonsense" },
        { "printf '{}' >&3; exec sleep 60", "does not speak as one of ours: 'vdiskd' is missing" },
        { "printf '{\"ready\":true}' >&3; exec sleep 60", "does not speak as one of ours" },
        { "printf '{\"vdiskd\":\"9.9\",\"reads\":99}' >&3; exec sleep 60", "vdiskd 9.9 reads hand-overs of version 99" },
        { "printf '{\"vdiskd\":\"0.1\",\"reads\":1}' >&3; exit 0", "" }, /* takes nothing and goes */
        { "printf '{\"vdiskd\":\"0.1\",\"reads\":1}' >&3; printf '{\"ready\":true}' >&3; exec sleep 60", "out of turn" },
        { "VDISKD_FAULT=takeover.hello=1:EIO exec %s \"$@\"", "the new process: " },
        { "VDISKD_FAULT=takeover.hello=1:KILL exec %s \"$@\"", "the new process ended" },
        { "VDISKD_FAULT=takeover.received=1:EIO exec %s \"$@\"", "the new process: " },
        { "VDISKD_FAULT=takeover.received=1:KILL exec %s \"$@\"", "the new process ended" },
        { "VDISKD_FAULT=mem.map=2:ENOMEM exec %s \"$@\"", "cannot map memory region" },
        { "VDISKD_FAULT=file.read=3:EIO exec %s \"$@\"", "the new process: " },
        { "VDISKD_FAULT=takeover.ready=1:EIO exec %s \"$@\"", "the new process: " },
        { "VDISKD_FAULT=takeover.ready=1:KILL exec %s \"$@\"", "the new process ended" },
};

static void write_script(const char *path, const char *script)
{
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        fprintf(f, "#!/bin/sh\n");
        fprintf(f, script, getenv("E2E_BACK_END"));
        fclose(f);
        assert_int_equal(chmod(path, 0755), 0);
}

static void test_hand_overs_that_fail(void **state)
{
        char path[96];
        pid_t pid = be.pid;

        snprintf(path, sizeof(path), "%s/new", be.dir);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r;

                if (bad[i].script)
                        write_script(path, bad[i].script);
                else
                        unlink(path);
                all_move(20);
                err_clear();
                r = be_upgrade(&be, path);
                if (r != -EREMOTEIO)
                        fail_msg("row %zu: %d, %s", i, r, err_text(r));
                if (!strstr(err_text(r), bad[i].says))
                        fail_msg("row %zu: '%s' does not say '%s'", i, err_text(r), bad[i].says);
                all_move(20);
        }
        err_clear();
        assert_int_equal(be_upgrade(&be, "no-such-vdiskd"), -EREMOTEIO); /* looked for in PATH */
        assert_non_null(strstr(err_text(-EREMOTEIO), "cannot be started"));
        write_script(path, "exec %s \"$@\"");
        assert_int_equal(chmod(path, 0777), 0);
        err_clear();
        assert_int_equal(be_upgrade(&be, path), -EREMOTEIO);
        assert_non_null(strstr(err_text(-EREMOTEIO), "may write to it"));
        all_move(20);
        assert_int_equal(be.pid, pid);
        write_script(path, "exec %s \"$@\"");
        must(be_upgrade(&be, path)); /* and one that does it */
        all_move(20);
        unlink(path);
        end();
}

/* Nobody else may have the image at any time. */
static void test_the_image_stays_locked(void **state)
{
        char command[256];

        must(be_upgrade(&be, NULL));
        must(be_upgrade(&be, NULL));
        snprintf(command, sizeof(command), "qemu-img check %s >/dev/null 2>&1", be.disks[1].path);
        assert_int_not_equal(system(command), 0);
        all_move(1);
        end();
}

/* SIGTERM in the middle: whoever serves then stops. */
static void test_stop_meanwhile(void **state)
{
        char path[96];

        snprintf(path, sizeof(path), "%s/new", be.dir);
        write_script(path, "kill -TERM $PPID; sleep 0.3; exit 1 # %s");
        assert_int_equal(be_upgrade(&be, path), -EREMOTEIO);
        err_clear();
        must(be_stop(&be));
        must(be_start(&be));
        write_script(path, "kill -TERM $PPID; sleep 0.3; exec %s \"$@\"");
        must(be_upgrade(&be, path));
        must(be_stop(&be));
        unlink(path);
        must(be_start(&be));
}

/* --- the daemon, once --------------------------------------------------------------------------------------------- */

static int start(void **state)
{
        struct be_disk disks[DISKS] = {
                { .format = "raw", .size = DISK_LEN },
                { .format = "qcow2", .size = DISK_LEN, .migratable = true },
                { .format = "qcow2", .size = DISK_LEN, .chain = true },
        };
        int r = be_adopt_orphans();

        return r < 0 ? r : be_group_start(&be, disks, ARRAY_SIZE(disks), &seed);
}

static int stop(void **state)
{
        return be_group_stop(&be);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_under_load, begin),
                cmocka_unit_test_setup(test_hand_overs_that_fail, begin),
                cmocka_unit_test_setup(test_the_image_stays_locked, begin),
                cmocka_unit_test(test_stop_meanwhile),
        };

        if (argc > 1)
                rounds = (unsigned)atoi(argv[1]);
        return cmocka_run_group_tests(tests, start, stop);
}
