/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snap_stall [SNAPSHOTS [DISKS]] - how long do guests wait while all of DISKS disks get new overlays in one transaction, again and
 * again? Under the load of stall_load.h. For each snapshot: the longest time between two completions of any disk, from the command
 * to 20 ms after its answer; and the same for as many pauses of the same length without a snapshot. A measurement for people, not a
 * test: it fails on no time. E2E_BACK_END: vdiskd. At most 60 snapshots: each makes the chains longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/e2e/control_fixture.h"
#include "tests/e2e/stall_load.h"

static unsigned snapshots = 50, ndisks = 1;

static void take_snapshot(unsigned round, char *text)
{
        char *p = text + sprintf(text, "{'actions':[");

        for (unsigned i = 0; i < ndisks; i++)
                p += sprintf(p, "%s{'type':'blockdev-snapshot-sync','data':{'device':'d%u','snapshot-file':'d%u.%u.qcow2'}}",
                             i ? "," : "", i, i, round);
        strcpy(p, "]}");
        must("transaction", text);
}

static void measure(void **state)
{
        uint64_t *with = calloc(snapshots, sizeof(*with)), *without = calloc(snapshots, sizeof(*without)), start, took;
        char *text = malloc(64 + ndisks * 128);

        (void)state;
        stall_begin(ndisks, 1024, 1024);
        for (unsigned round = 0; round < snapshots; round++) {
                stall_longest();
                start = clock_ns();
                take_snapshot(round, text);
                took = clock_ns() - start;
                usleep(STALL_AFTER_US);
                with[round] = stall_longest();
                usleep((unsigned)(took / 1000) + STALL_AFTER_US);
                without[round] = stall_longest();
        }
        stall_end();
        printf("%u snapshots of %u disks at once\n", snapshots, ndisks);
        stall_print("with a snapshot", with, snapshots);
        stall_print("without", without, snapshots);
        free(with);
        free(without);
        free(text);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(measure, start_default, stop) };

        snapshots = argc > 1 ? (unsigned)atoi(argv[1]) : snapshots;
        ndisks = argc > 2 ? (unsigned)atoi(argv[2]) : ndisks;
        if (!snapshots || snapshots > 60 || !ndisks || ndisks > STALL_DISKS_MAX) {
                fprintf(stderr, "usage: snap_stall [SNAPSHOTS (1..60) [DISKS (1..%u)]]\n", STALL_DISKS_MAX);
                return 2;
        }
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
