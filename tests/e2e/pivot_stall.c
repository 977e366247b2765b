/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pivot_stall KIND [ROUNDS] - how long does a guest wait when a job changes the chain under it? Under the load of stall_load.h, one
 * disk, 64 MiB of it in use. KIND: mirror (the guest goes on with the target), active (commit of the image that it writes to), stream,
 * middle (commit of an image behind it). The longest time between two completions at the job's begin, in its copying, at its end
 * (from the command that ends it to 20 ms after its last event), and in as long a time after it. How long requests were held the
 * daemon says in its log, on stderr. A measurement for people, not a test: it fails on no time. E2E_BACK_END: vdiskd.
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

static unsigned rounds = 20;
static const char *kind;
static char disk[32] = "d0"; /* the node that the guest uses */
static uint64_t *gaps[4];

static void command(const char *name, const char *format, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        must(name, text);
}

static void await(const char *name)
{
        json_t *event;
        bool found;

        do {
                assert_int_equal(qmp_client_event(client, &event), 0);
                found = !strcmp(json_string_value(json_object_get(event, "event")), name);
                json_decref(event);
        } while (!found);
}

static void overlay(unsigned round, const char *name)
{
        command("blockdev-snapshot-sync", "{'node-name':'%s','snapshot-file':'%s%u.qcow2','snapshot-node-name':'%s%u'}", disk, name,
                round, name, round);
        snprintf(disk, sizeof(disk), "%s%u", name, round);
        usleep(300000); /* the guest writes to it */
}

static void new_target(unsigned round)
{
        char text[128];

        snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 t%u.qcow2 256M", round);
        assert_int_equal(run(text), 0);
        command("blockdev-add", "{'driver':'qcow2','node-name':'t%u','file':{'driver':'file','filename':'t%u.qcow2'}}", round, round);
}

/* Into a state in which only the command that ends the job is missing. */
static void prepare(unsigned round, char *below)
{
        if (!strcmp(kind, "mirror")) {
                new_target(round);
                return;
        }
        strcpy(below, disk);
        overlay(round, "a");
        if (!strcmp(kind, "middle"))
                overlay(round, "b");
}

static void begin(unsigned round, const char *below)
{
        if (!strcmp(kind, "mirror"))
                command("blockdev-mirror", "{'device':'%s','target':'t%u','sync':'full','job-id':'j'}", disk, round);
        else if (!strcmp(kind, "active"))
                command("block-commit", "{'device':'%s','base-node':'%s','job-id':'j'}", disk, below);
        else if (!strcmp(kind, "stream"))
                command("block-stream", "{'device':'%s','job-id':'j','auto-finalize':false}", disk);
        else
                command("block-commit", "{'device':'%s','top-node':'a%u','base-node':'%s','job-id':'j','auto-finalize':false}",
                        disk, round, below);
        usleep(STALL_AFTER_US);
}

static bool has_ready(void)
{
        return !strcmp(kind, "mirror") || !strcmp(kind, "active");
}

static void end(unsigned round, const char *below)
{
        if (has_ready())
                command("block-job-complete", "{'device':'j'}");
        else
                command("job-finalize", "{'id':'j'}");
        await("BLOCK_JOB_COMPLETED");
        usleep(STALL_AFTER_US);
        if (!strcmp(kind, "mirror")) {
                command("blockdev-del", "{'node-name':'%s'}", disk);
                snprintf(disk, sizeof(disk), "t%u", round);
        } else if (!strcmp(kind, "active")) {
                strcpy(disk, below);
        }
}

static void one_round(unsigned round)
{
        char below[32] = "";
        uint64_t from;

        prepare(round, below);
        stall_longest();
        begin(round, below);
        gaps[0][round] = stall_longest();
        await(has_ready() ? "BLOCK_JOB_READY" : "BLOCK_JOB_PENDING");
        usleep(STALL_AFTER_US);
        gaps[1][round] = stall_longest();
        from = clock_ns();
        end(round, below);
        gaps[2][round] = stall_longest();
        usleep((unsigned)((clock_ns() - from) / 1000));
        gaps[3][round] = stall_longest();
}

static void measure(void **state)
{
        static const char *const what[] = { "at its begin", "while it copies", "at its end", "without it" };

        (void)state;
        for (unsigned i = 0; i < 4; i++)
                gaps[i] = calloc(rounds, sizeof(*gaps[i]));
        stall_begin(1, 256, 64);
        for (unsigned round = 0; round < rounds; round++)
                one_round(round);
        stall_end();
        printf("%s, %u times\n", kind, rounds);
        for (unsigned i = 0; i < 4; i++) {
                stall_print(what[i], gaps[i], rounds);
                free(gaps[i]);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(measure, start_default, stop) };

        kind = argc > 1 ? argv[1] : "";
        rounds = argc > 2 ? (unsigned)atoi(argv[2]) : rounds;
        if (!rounds || (strcmp(kind, "mirror") && strcmp(kind, "active") && strcmp(kind, "stream") && strcmp(kind, "middle"))) {
                fprintf(stderr, "usage: pivot_stall mirror|active|stream|middle [ROUNDS]\n");
                return 2;
        }
        more_option = "--log-level=info";
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
