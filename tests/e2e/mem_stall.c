/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem_stall [CHANGES [MIB]] - how long does a disk's slowest request take while another disk of the same queue thread gets its
 * whole memory table anew, again and again? A measurement for people, not a test: it fails on no time. E2E_BACK_END: vdiskd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"

#define TIMEOUT_MS 60000
#define BLOCK (1u << 20)

static unsigned changes, mib;
static atomic_bool over;

static struct front_end *dial(const char *socket, uint64_t mem)
{
        struct fe_opts o = { .path = at(socket), .timeout_ms = TIMEOUT_MS, .mem_len = mem,
                             .protocol_off = FE_PF_CONFIGURE_MEM_SLOTS };
        struct front_end *fe;

        if (fe_open(&o, &fe) < 0)
                fail_msg("%s: %s", socket, err_text(-1));
        return fe;
}

static uint64_t read_ns(struct front_end *fe, char *buf, uint32_t len)
{
        struct fe_io io = { .type = FE_READ, .gpa = fe_gpa(fe, buf), .len = len };
        uint64_t start = clock_ns();

        assert_int_equal(fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS), 0);
        assert_int_equal(io.status, FE_OK);
        return clock_ns() - start;
}

/* The daemon gets to know all of the memory before it is taken away, so that there is something to take away. */
static void *change_memory(void *arg)
{
        struct front_end *fe = dial("b.sock", (mib + 1ull) * BLOCK);
        char *mem = fe_alloc(fe, mib * (size_t)BLOCK, 4096);

        (void)arg;
        for (unsigned i = 0; i < changes; i++) {
                for (unsigned m = 0; m < mib; m++)
                        read_ns(fe, mem + m * (size_t)BLOCK, BLOCK);
                assert_int_equal(fe_set_mem_table(fe), 0);
        }
        fe_close(fe);
        atomic_store(&over, true);
        return NULL;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static void measure(void **state)
{
        const unsigned max = 1u << 22;
        uint64_t *ns = calloc(max, sizeof(*ns));
        struct front_end *fe;
        struct proc d;
        pthread_t t;
        unsigned n = 0;
        char *buf;

        (void)state;
        start(&d, NULL, 2, ARGS("--disk", "path=%/d.qcow2,format=qcow2,socket=%/a.sock",
                                "--disk", "path=%/zeros.img,format=raw,cache=writeback,socket=%/b.sock"));
        fe = dial("a.sock", 0);
        buf = fe_alloc(fe, 4096, 4096);
        assert_int_equal(pthread_create(&t, NULL, change_memory, NULL), 0);
        while (!atomic_load(&over) && n < max)
                ns[n++] = read_ns(fe, buf, 4096);
        pthread_join(t, NULL);
        fe_close(fe);
        stop(&d);
        qsort(ns, n, sizeof(*ns), compare);
        printf("%u tables of %u MiB anew; %u reads of the other disk meanwhile: median %.3f ms, 99.9 %% %.3f ms, worst %.3f ms\n",
               changes, mib, n, (double)ns[n / 2] / 1e6, (double)ns[n - n / 1000 - 1] / 1e6, (double)ns[n - 1] / 1e6);
        free(ns);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(measure) };

        changes = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
        mib = argc > 2 ? (unsigned)atoi(argv[2]) : 256;
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
