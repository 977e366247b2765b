/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Many disks in one daemon: all added over the control socket, counted, idle, taken away again. What an idle disk may take is
 * bounded; times are printed, not judged. Usage: test_many [DISKS], by default 200; fio/README.md tells of 1000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sanitized.h"
#include "tests/e2e/control_fixture.h"

#define BYTES_A_DISK (256u << 10)
#define IDLE_S 2

static unsigned ndisks = 200;

/* Memory that is the daemon's alone, bytes. */
static uint64_t memory_of(pid_t pid)
{
        unsigned long kib, sum = 0;
        char path[64], line[256];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
        f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "Private_Dirty: %lu", &kib) == 1 || sscanf(line, "Private_Clean: %lu", &kib) == 1)
                        sum += kib;
        fclose(f);
        return (uint64_t)sum << 10;
}

/* What the scheduler counted for the process, all threads, ns. */
static uint64_t cpu_of(pid_t pid)
{
        unsigned long user, sys;
        char path[64];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        f = fopen(path, "re");
        assert_non_null(f);
        assert_int_equal(fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys), 2);
        fclose(f);
        return (user + sys) * (NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

static unsigned count(const char *query)
{
        json_t *all = ask(query);
        unsigned n = (unsigned)json_array_size(all);

        json_decref(all);
        return n;
}

static void add(unsigned i)
{
        char text[512];

        snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'d%u','file':{'driver':'file','filename':'many/%u.qcow2'}}", i, i);
        must("blockdev-add", text);
        snprintf(text, sizeof(text), "{'type':'vhost-user-blk','id':'d%u','node-name':'d%u','writable':true,'num-queues':4,"
                 "'addr':{'type':'unix','path':'many/%u.sock'}}", i, i, i);
        must("block-export-add", text);
}

static void begin(void)
{
        char command[160];

        snprintf(command, sizeof(command), "mkdir many && qemu-img create -q -f qcow2 many/one 10G && "
                 "for i in $(seq 0 %u); do cp many/one many/$i.qcow2; done", ndisks - 1);
        assert_int_equal(run(command), 0);
        start_with((const char *const[]){ "--control=control.sock", "--iothreads=2", "--log-level=warning",
                                          "--state-dir=state", NULL });
        client = dial();
}

static void test_many_disks(void **state)
{
        uint64_t before, took, memory, cpu, started;
        struct front_end *fe;

        (void)state;
        begin();
        add(0); /* what the first one brings along is not the others' */
        before = memory_of(daemon_pid);
        started = clock_ns();
        for (unsigned i = 1; i < ndisks; i++)
                add(i);
        took = clock_ns() - started;
        memory = (memory_of(daemon_pid) - before) / (ndisks - 1);
        cpu = cpu_of(daemon_pid);
        sleep(IDLE_S);
        cpu = cpu_of(daemon_pid) - cpu;
        printf("%u disks: added in %.2f s; %.1f KiB each; idle, %u ms of CPU in %u s\n", ndisks, (double)took / NS_PER_SEC,
               (double)memory / 1024, (unsigned)(cpu / NS_PER_MS), IDLE_S);
        assert_int_equal(count("query-block-exports"), ndisks);
        assert_int_equal(count("query-named-block-nodes"), ndisks);
        assert_int_equal(count("query-blockstats"), ndisks);
        if (!SANITIZED)
                assert_in_range(memory, 0, BYTES_A_DISK);

        fe = connect_to("many/7.sock"); /* any of them serves */
        assert_int_equal(fe_disk(fe)->capacity, 10ull << 30);
        fe_close(fe);

        started = clock_ns();
        must("quit", NULL);
        assert_int_equal(exit_status(), 0);
        printf("stopped in %.2f s\n", (double)(clock_ns() - started) / NS_PER_SEC);
}

/* Not one more than there are descriptors for; that is said, and those that are there go on. */
static void test_too_few_descriptors(void **state)
{
        struct rlimit few = { 80, 80 };
        const char *error = NULL;
        char text[256];
        unsigned i;

        (void)state;
        assert_int_equal(run("rm -rf many"), 0);
        begin();
        assert_int_equal(prlimit(daemon_pid, RLIMIT_NOFILE, &few, NULL), 0);
        for (i = 0; !error && i < ndisks; i++) {
                snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'d%u','file':{'driver':'file','filename':'many/%u.qcow2'}}",
                         i, i);
                error = try(client, "blockdev-add", text, NULL);
        }
        assert_non_null(error);
        printf("%u disks fit: %s\n", i - 1, error);
        assert_non_null(strstr(error, "Too many open files"));
        assert_int_equal(count("query-named-block-nodes"), i - 1);
        must("quit", NULL);
        assert_int_equal(exit_status(), 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_many_disks, stop),
                cmocka_unit_test_teardown(test_too_few_descriptors, stop),
        };

        if (argc > 1)
                ndisks = (unsigned)atoi(argv[1]);
        if (ndisks < 10)
                return 2;
        unsetenv("MALLOC_PERTURB_"); /* meson's: it touches memory that nobody asked for */
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
