/* SPDX-License-Identifier: BSD-3-Clause */
/* --slow-ms: requests that a limit of their disk makes slow are in the log, while they wait and when they are done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"

#define HANG_MS ((int)(HANG_NS / NS_PER_MS))
#define REQUESTS 8u

/* All at once; ten a second are allowed. */
static void read_all(void)
{
        struct fe_io io[REQUESTS] = { 0 }, *done;
        struct front_end *fe;
        unsigned left = REQUESTS;
        char *buf;

        if (fe_open(&(struct fe_opts){ .path = at("d.sock"), .timeout_ms = HANG_MS }, &fe) < 0)
                fail_msg("%s", err_text(-EIO));
        buf = fe_alloc(fe, 4096, 4096);
        for (unsigned i = 0; i < REQUESTS; i++) {
                io[i] = (struct fe_io){ .type = FE_READ, .sector = 8 * i, .len = 4096, .gpa = fe_gpa(fe, buf) };
                assert_int_equal(fe_submit(fe_queue(fe, 0), &io[i]), 0);
        }
        fe_kick(fe_queue(fe, 0));
        while (left) {
                assert_int_equal(fe_wait(fe_queue(fe, 0), HANG_MS), 1);
                while (fe_reap(fe_queue(fe, 0), &done, 1) == 1) {
                        assert_int_equal(done->status, FE_OK);
                        left--;
                }
        }
        fe_close(fe);
}

#define DISK "path=%/d.qcow2,format=qcow2,socket=%/d.sock,iops-total=10"

static void test_slow_requests(void **state)
{
        const char *log;
        struct proc p;

        start(&p, NULL, 1, ARGS("--slow-ms=20", "--disk", DISK));
        read_all();
        wait_for(&p, "slow read of 4096 bytes at ", 3); /* the last ones waited for at least 100 ms */
        wait_for(&p, "is not done after", 1);
        log = log_of(&p);
        assert_non_null(strstr(log, "d.qcow2: slow read of 4096 bytes at 28672: "));
        assert_non_null(strstr(log, " of them waiting to be started"));
        assert_non_null(strstr(log, "d.qcow2: a read of 4096 bytes at "));
        assert_non_null(strstr(log, "it is waiting to be started"));
        stop(&p);
}

static void test_off_by_default(void **state)
{
        const char *log;
        struct proc p;

        start(&p, NULL, 1, ARGS("--disk", DISK));
        read_all();
        log = log_of(&p);
        assert_null(strstr(log, "slow"));
        assert_null(strstr(log, "not done"));
        stop(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_slow_requests),
                cmocka_unit_test(test_off_by_default),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
