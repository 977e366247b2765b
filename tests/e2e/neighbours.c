/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * neighbours [OPERATIONS] - what does a disk notice while another one of the same daemon, on the same queue thread, is attacked? A
 * reader and writer that verifies every byte on disk A; on disk B, one after the other:
 *
 *   nothing              what the rest is compared with
 *   honest load          what any neighbour costs: as many requests as it gets answered
 *   hostile front end    conversations of random messages with descriptors, hung up on again and again
 *   hostile guest        rings of random descriptors, kicked; memory truncated under them
 *   hostile image        a qcow2 image with random damage in its tables, opened anew and read and written all over
 *
 * Prints median, p99 and the worst answer of A for each, and p99 against "nothing" and against "honest load". It fails when a byte
 * was wrong, a request of A failed or the daemon died, and on no time. As a test it does a few operations, for people more.
 * E2E_BACK_END: vdiskd. SEED repeats its choices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"
#include "tests/lib/tmp_image.h"

#define TIMEOUT_MS 60000
#define BLOCK 4096u
#define BLOCKS 4096u /* of A: 16 MiB */
#define HOSTILE_MIB 16u

static unsigned operations;
static uint64_t seed;
static atomic_bool over;
static atomic_ulong attacks; /* done in this phase */

static struct front_end *try_dial(const char *socket)
{
        struct fe_opts o = { .path = at(socket), .timeout_ms = TIMEOUT_MS };
        struct front_end *fe = NULL;

        for (unsigned i = 0; i < 2000 && fe_open(&o, &fe) < 0; i++) { /* the one before may not be gone yet */
                err_clear();
                usleep(2000);
        }
        return fe;
}

/* --- disk A: every byte is known ------------------------------------------------------------------------------------ */

static uint8_t version[BLOCKS]; /* 0: not written yet */

static void fill(uint8_t *buf, unsigned block)
{
        uint64_t s = (uint64_t)block << 8 | version[block];

        memset(buf, 0, BLOCK);
        for (unsigned i = 0; version[block] && i < BLOCK; i += 8)
                memcpy(buf + i, &(uint64_t){ (s + 1) * 0x9e3779b97f4a7c15ull ^ i }, 8);
}

/* One operation; its time. */
static uint64_t operate(struct front_end *fe, uint8_t *buf, uint64_t *rng)
{
        unsigned block = (unsigned)rnd_below(rng, BLOCKS);
        bool write = rnd_below(rng, 3) == 0;
        struct fe_io io = { .type = write ? FE_WRITE : FE_READ, .sector = block * (BLOCK / 512), .len = BLOCK, .gpa = fe_gpa(fe, buf) };
        uint8_t expected[BLOCK];
        uint64_t start, ns;

        if (write) {
                version[block]++;
                fill(buf, block);
        }
        start = clock_ns();
        if (fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS) < 0)
                fail_msg("the neighbour got no answer: %s", err_text(-1));
        ns = clock_ns() - start;
        assert_int_equal(io.status, FE_OK);
        fill(expected, block);
        if (!write && memcmp(buf, expected, BLOCK))
                fail_msg("block %u of the neighbour has other bytes than were written (SEED=%llu)", block, (unsigned long long)seed);
        return ns;
}

/* --- attacks on disk B: each is done again and again until the phase is over ------------------------------------------ */

static void honest_load(uint64_t *rng)
{
        struct front_end *fe = try_dial("b.sock");
        uint8_t *buf = fe_alloc(fe, 64 << 10, 4096);

        while (!atomic_load(&over)) {
                struct fe_io io = { .type = rnd_below(rng, 2) ? FE_WRITE : FE_READ, .sector = rnd_below(rng, 2048) * 8,
                                    .len = 4096 << rnd_below(rng, 4), .gpa = fe_gpa(fe, buf) };

                if (fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS) < 0)
                        break;
                attacks++;
        }
        fe_close(fe);
}

static void random_message(int sock, uint64_t *rng, int fd)
{
        static const uint64_t list[] = { 0, 1, 2, 127, 128, 1024, 65535, 0xffffffff, 1ull << 32, UINT64_MAX, UINT64_MAX - 4095 };
        struct fe_msg m = { .request = (uint32_t)rnd_below(rng, 48), .flags = FE_VERSION | (rnd_below(rng, 2) ? FE_NEED_REPLY : 0) };
        int fds[4] = { fd, fd, fd, fd };

        for (unsigned i = 0; i + 8 <= FE_PAYLOAD_MAX; i += 8) {
                uint64_t v = rnd_below(rng, 4) ? list[rnd_below(rng, ARRAY_SIZE(list))] : rnd(rng);

                memcpy(m.bytes + i, &v, 8);
        }
        m.size = (uint32_t)(8 * rnd_below(rng, FE_PAYLOAD_MAX / 8));
        fe_wire_send(sock, &m, fds, (unsigned)rnd_below(rng, 5));
        err_clear();
}

static void hostile_front_end(uint64_t *rng)
{
        AUTO(closep) int fd = memfd_create("memory", MFD_CLOEXEC);

        assert_int_equal(ftruncate(fd, 1 << 20), 0);
        while (!atomic_load(&over)) {
                AUTO(closep) int sock = fe_wire_connect(at("b.sock"));

                for (unsigned i = 0; sock >= 0 && i < 20; i++)
                        random_message(sock, rng, fd);
                err_clear();
                attacks++;
        }
}

static void hostile_guest(uint64_t *rng)
{
        while (!atomic_load(&over)) {
                struct front_end *fe = try_dial("b.sock");
                struct fe_ring *ring = fe ? fe_queue_ring(fe_queue(fe, 0)) : NULL;
                uint64_t one = 1;

                for (unsigned i = 0; ring && i < ring->size; i++) {
                        ring->desc[i] = (struct fe_ring_desc){ rnd_below(rng, 32 << 20), (uint32_t)rnd_below(rng, 100000),
                                                               (uint16_t)rnd_below(rng, 8), (uint16_t)rnd_below(rng, ring->size + 4) };
                        ring->avail->ring[i] = (uint16_t)rnd_below(rng, ring->size);
                }
                for (unsigned i = 0; ring && i < 20; i++) {
                        __atomic_store_n(&ring->avail->idx, (uint16_t)(ring->avail->idx + rnd_below(rng, 20)), __ATOMIC_RELEASE);
                        (void)!write(ring->kick_fd, &one, sizeof(one));
                }
                if (ring && rnd_below(rng, 2)) /* no touch of ours behind this line */
                        (void)!ftruncate(fe_mem(fe)->regions[0].fd, 0);
                fe_close(fe);
                err_clear();
                attacks++;
        }
}

/* Reads and writes all over a damaged image; most of it gets an I/O error. */
static void hostile_image(uint64_t *rng)
{
        struct front_end *fe = try_dial("c.sock");
        uint8_t *buf = fe ? fe_alloc(fe, 64 << 10, 4096) : NULL;

        while (fe && !atomic_load(&over)) {
                struct fe_io io = { .type = rnd_below(rng, 2) ? FE_WRITE : FE_READ, .sector = rnd_below(rng, HOSTILE_MIB * 2048 - 128),
                                    .len = 512u << rnd_below(rng, 8), .gpa = fe_gpa(fe, buf) };

                if (fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS) < 0)
                        break;
                attacks++;
        }
        fe_close(fe);
}

/* --- phases ----------------------------------------------------------------------------------------------------------- */

static const struct phase {
        const char *name;
        void (*attack)(uint64_t *rng);
} phases[] = {
        { "nothing", NULL }, { "honest load", honest_load }, { "hostile front end", hostile_front_end },
        { "hostile guest", hostile_guest }, { "hostile image", hostile_image },
};

static void *attacker(void *arg)
{
        const struct phase *p = arg;
        uint64_t rng = seed ^ (uint64_t)(p - phases + 1) << 32 ^ 1;

        p->attack(&rng);
        return NULL;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static double p99_of[ARRAY_SIZE(phases)];

static void run_phase(size_t k, struct front_end *fe, uint8_t *buf, uint64_t *ns)
{
        uint64_t rng = seed | 1, worst;
        pthread_t t;

        atomic_store(&over, false);
        atomic_store(&attacks, 0);
        if (phases[k].attack)
                assert_int_equal(pthread_create(&t, NULL, attacker, (void *)&phases[k]), 0);
        while (phases[k].attack && atomic_load(&attacks) < 2)
                usleep(1000);
        for (unsigned i = 0; i < operations; i++)
                ns[i] = operate(fe, buf, &rng);
        atomic_store(&over, true);
        if (phases[k].attack)
                pthread_join(t, NULL);
        qsort(ns, operations, sizeof(*ns), compare);
        worst = ns[operations - 1];
        p99_of[k] = (double)ns[operations - operations / 100 - 1] / 1e6;
        printf("%-18s %9lu attacks, median %7.3f ms, p99 %7.3f ms (%4.2f of nothing, %4.2f of honest load), worst %8.3f ms%s\n",
               phases[k].name, atomic_load(&attacks), (double)ns[operations / 2] / 1e6, p99_of[k], p99_of[k] / p99_of[0],
               p99_of[k] / p99_of[k < 1 ? 0 : 1], (double)worst / 1e6, worst > NS_PER_SEC ? ", a stall" : "");
        fflush(stdout);
}

/* Damage beyond the header: the daemon opens it, and finds out as it goes. */
static void damage(const char *path)
{
        uint64_t rng = seed | 1;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        struct stat st;

        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        for (unsigned i = 0; i < 200; i++) {
                uint64_t v = rnd(&rng) & 0x80ffffffffffffffull;

                assert_int_equal(pwrite(fd, &v, sizeof(v), (off_t)(65536 + rnd_below(&rng, (uint64_t)st.st_size - 65536) / 8 * 8)), 8);
        }
        close(fd);
}

static void test_neighbours(void **state)
{
        uint64_t *ns = calloc(operations, sizeof(*ns));
        struct front_end *fe;
        struct proc d;
        char cmd[512];
        uint8_t *buf;

        (void)state;
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/a.qcow2", "16M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/b.qcow2", "16M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "%/c.qcow2", "16M"));
        snprintf(cmd, sizeof(cmd), "cd %s && qemu-io -f qcow2 -c 'write -P 5 0 8M' c.qcow2 > /dev/null", at("."));
        assert_int_equal(system(cmd), 0);
        damage(at("c.qcow2"));
        start(&d, NULL, 3, ARGS("--disk", "path=%/a.qcow2,format=qcow2,socket=%/a.sock", "--disk",
                                "path=%/b.qcow2,format=qcow2,socket=%/b.sock", "--disk",
                                "path=%/c.qcow2,format=qcow2,socket=%/c.sock"));
        fe = try_dial("a.sock");
        assert_non_null(fe);
        buf = fe_alloc(fe, BLOCK, BLOCK);
        printf("%u operations each, SEED=%llu\n", operations, (unsigned long long)seed);
        for (size_t k = 0; k < ARRAY_SIZE(phases); k++)
                run_phase(k, fe, buf, ns);
        fe_close(fe);
        stop(&d);
        free(ns);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_neighbours) };

        operations = argc > 1 ? (unsigned)atoi(argv[1]) : 20000;
        seed = test_seed();
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
