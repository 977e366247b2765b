/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * neighbours [OPERATIONS [ROUNDS [WORD]]] - what does a disk notice while another one of the same daemon, on the same queue thread, is attacked? A
 * reader and writer that verifies every byte on disk A; on disk B, one after the other:
 *
 *   nothing
 *   honest load          as many requests as it gets answered
 *   coming and going     an honest front end that connects, asks for 20 things and goes
 *   small clusters       reads and writes all over an image of 512-byte clusters
 *   hostile front end    conversations of random messages with descriptors, hung up on again and again
 *   hostile guest        rings of random descriptors, kicked; memory truncated under them
 *   hostile image        as "small clusters", with random damage in its tables
 *   greedy guest         a ring full of reads of 16 MiB each
 *   greedy, no data      the same of a disk that is empty
 *   compressed image     reads all over an image of compressed clusters
 *   hostile compression  the same, of clusters that take as long to unpack as they can
 *
 * Prints median, p99 and the worst answer of A for each, and how they stand to the honest work that is most like it, which is done
 * just before and after, round after round.
 * It fails when a byte was wrong, a request of A failed or the daemon died, and on no time. As a test it does a few operations, for
 * people more.
 * E2E_BACK_END: vdiskd. SEED repeats its choices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
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
#include "common/sanitized.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/slow_cluster.h"
#include "tests/lib/front_end.h"
#include "tests/lib/tmp_image.h"

#define TIMEOUT_MS 60000
#define BLOCK 4096u
#define BLOCKS 4096u /* of A: 16 MiB */
#define HOSTILE_MIB 16u
#define GREEDY_DESCS 18u /* header, 16 MiB, status */

static unsigned operations;
static uint64_t seed;
static cpu_set_t processors;
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

/* So that reads of it move bytes. */
static void fill_disk(const char *socket)
{
        struct front_end *fe = try_dial(socket);
        uint8_t *buf = fe_alloc(fe, 1 << 20, 4096);

        memset(buf, 0x5a, 1 << 20);
        for (unsigned i = 0; i < 16; i++) {
                struct fe_io io = { .type = FE_WRITE, .sector = i * 2048, .len = 1 << 20, .gpa = fe_gpa(fe, buf) };

                assert_int_equal(fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS), 0);
                assert_int_equal(io.status, FE_OK);
        }
        fe_close(fe);
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

/* What a hostile guest does, in order: it comes, asks for this and that, and goes. */
static void coming_and_going(uint64_t *rng)
{
        while (!atomic_load(&over)) {
                struct front_end *fe = try_dial("b.sock");
                uint8_t *buf = fe ? fe_alloc(fe, 128 << 10, 4096) : NULL;

                for (unsigned i = 0; fe && i < 20; i++) {
                        struct fe_io io = { .type = rnd_below(rng, 2) ? FE_WRITE : FE_READ, .sector = rnd_below(rng, 2048) * 8,
                                            .len = 512 * (1 + (uint32_t)rnd_below(rng, 200)), .gpa = fe_gpa(fe, buf) };

                        if (fe_do(fe_queue(fe, 0), &io, TIMEOUT_MS) < 0)
                                break;
                }
                fe_close(fe);
                err_clear();
                attacks++;
        }
}

/* Nothing wrong in it, but as much at once as the ring holds, and each request as long as the disk. */
static void greedy(const char *socket)
{
        struct front_end *fe = try_dial(socket);
        struct fe_ring *ring = fe ? fe_queue_ring(fe_queue(fe, 0)) : NULL;
        uint32_t *hdr = fe ? fe_alloc(fe, 4096, 4096) : NULL;
        uint8_t *data = fe ? fe_alloc(fe, 1 << 20, 4096) : NULL;
        uint16_t shown = ring ? ring->avail->idx : 0;
        unsigned n = 0;

        for (; ring && n + GREEDY_DESCS <= ring->size; n += GREEDY_DESCS) {
                for (unsigned i = 0; i < GREEDY_DESCS; i++)
                        ring->desc[n + i] = (struct fe_ring_desc){ fe_gpa(fe, data), 1 << 20, FE_DESC_NEXT | FE_DESC_WRITE,
                                                                   (uint16_t)(n + i + 1) };
                ring->desc[n] = (struct fe_ring_desc){ fe_gpa(fe, hdr), 16, FE_DESC_NEXT, (uint16_t)(n + 1) };
                ring->desc[n + GREEDY_DESCS - 1] = (struct fe_ring_desc){ fe_gpa(fe, hdr + 4), 1, FE_DESC_WRITE, 0 };
        }
        while (ring && !atomic_load(&over)) {
                uint64_t one = 1;

                for (unsigned i = 0; i < n; i += GREEDY_DESCS)
                        ring->avail->ring[shown++ % ring->size] = (uint16_t)i;
                __atomic_store_n(&ring->avail->idx, shown, __ATOMIC_RELEASE);
                (void)!write(ring->kick_fd, &one, sizeof(one));
                while (__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) != shown && fe_alive(fe, 0) == 0)
                        usleep(100);
                if (__atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) != shown)
                        break;
                attacks++;
        }
        fe_close(fe);
        err_clear();
}

static void greedy_guest(uint64_t *rng)
{
        (void)rng;
        greedy("b.sock");
}

static void greedy_for_nothing(uint64_t *rng)
{
        (void)rng;
        greedy("e.sock");
}

/* Reads and writes all over an image of small clusters. When it is damaged most of it gets an I/O error. */
static void all_over(const char *socket, uint64_t *rng)
{
        struct front_end *fe = try_dial(socket);
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

static void hostile_image(uint64_t *rng)
{
        all_over("c.sock", rng);
}

static void sound_image(uint64_t *rng)
{
        all_over("d.sock", rng);
}

static void read_all_over(const char *socket, uint64_t *rng)
{
        struct front_end *fe = try_dial(socket);
        uint8_t *buf = fe ? fe_alloc(fe, 16 << 12, 4096) : NULL;

        while (fe && !atomic_load(&over)) { /* four at a time, each of a cluster of its own */
                struct fe_io io[4];
                unsigned n = 0;

                for (; n < 4; n++) {
                        io[n] = (struct fe_io){ .type = FE_READ, .sector = rnd_below(rng, HOSTILE_MIB * 2048 - 8), .len = 4096,
                                                .gpa = fe_gpa(fe, buf + n * 4096) };
                        if (fe_submit(fe_queue(fe, 0), &io[n]) < 0)
                                break;
                }
                fe_kick(fe_queue(fe, 0));
                for (unsigned left = n; left;) {
                        struct fe_io *done[4];
                        int r = fe_wait(fe_queue(fe, 0), TIMEOUT_MS);

                        r = r < 0 ? r : fe_reap(fe_queue(fe, 0), done, 4);
                        if (r < 0)
                                fail_msg("no answer of a compressed image: %s", err_text(r));
                        left -= (unsigned)r;
                }
                attacks++;
        }
        fe_close(fe);
}

static void sound_compression(uint64_t *rng)
{
        read_all_over("g.sock", rng);
}

static void hostile_compression(uint64_t *rng)
{
        read_all_over("f.sock", rng);
}

/* --- phases ----------------------------------------------------------------------------------------------------------- */

enum { NOTHING, HONEST, COMING, SOUND, FRONT_END, GUEST, IMAGE, GREEDY, EMPTY, PACKED, SLOW, PHASES };
static const struct phase {
        const char *name;
        void (*attack)(uint64_t *rng);
        unsigned like; /* the honest work that it is compared with */
} phases[PHASES] = {
        [NOTHING] = { "nothing", NULL, HONEST },
        [HONEST] = { "honest load", honest_load, HONEST },
        [COMING] = { "coming and going", coming_and_going, HONEST },
        [SOUND] = { "small clusters", sound_image, HONEST },
        [FRONT_END] = { "hostile front end", hostile_front_end, HONEST },
        [GUEST] = { "hostile guest", hostile_guest, COMING },
        [IMAGE] = { "hostile image", hostile_image, SOUND },
        [GREEDY] = { "greedy guest", greedy_guest, HONEST },
        [EMPTY] = { "greedy, no data", greedy_for_nothing, HONEST },
        [PACKED] = { "compressed image", sound_compression, HONEST },
        [SLOW] = { "hostile compression", hostile_compression, PACKED },
};

/*
 * With two processors: one for A and the queue thread, one for the attacker and the rest of the daemon. What A notices then is what
 * happens on the queue thread and between threads, and not that four threads share two processors.
 */
static void keep_to(pid_t task, unsigned nth)
{
        cpu_set_t one;

        CPU_ZERO(&one);
        for (int c = 0; c < CPU_SETSIZE; c++)
                if (CPU_ISSET(c, &processors) && nth-- == 0)
                        CPU_SET(c, &one);
        if (CPU_COUNT(&one))
                sched_setaffinity(task, sizeof(one), &one);
}

static void deal_processors(pid_t daemon)
{
        char path[320], name[32] = "";
        DIR *d;

        sched_getaffinity(0, sizeof(processors), &processors);
        snprintf(path, sizeof(path), "/proc/%d/task", (int)daemon);
        d = opendir(path);
        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d)) != NULL;) {
                FILE *f;

                if (e->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)daemon, e->d_name);
                f = fopen(path, "re");
                if (f && fgets(name, sizeof(name), f))
                        keep_to((pid_t)atoi(e->d_name), strncmp(name, "vdiskd-q", 8) ? 1 : 0);
                if (f)
                        fclose(f);
        }
        closedir(d);
        keep_to(0, 0);
}

static void *attacker(void *arg)
{
        const struct phase *p = arg;
        uint64_t rng = seed ^ (uint64_t)(p - phases + 1) << 32 ^ 1;

        keep_to(0, 1);

        p->attack(&rng);
        return NULL;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

struct result {
        double median, p99, worst; /* ms */
        unsigned long attacks;
};

static double quantile(const uint64_t *ns, unsigned n, double q)
{
        return (double)ns[(unsigned)((n - 1) * q)] / 1e6;
}

static struct result run_phase(const struct phase *p, struct front_end *fe, uint8_t *buf, uint64_t *ns)
{
        uint64_t rng = seed | 1;
        pthread_t t;

        atomic_store(&over, false);
        atomic_store(&attacks, 0);
        if (p->attack)
                assert_int_equal(pthread_create(&t, NULL, attacker, (void *)p), 0);
        while (p->attack && atomic_load(&attacks) < 2)
                usleep(1000);
        for (unsigned i = 0; i < operations; i++)
                ns[i] = operate(fe, buf, &rng);
        atomic_store(&over, true);
        if (p->attack)
                pthread_join(t, NULL);
        qsort(ns, operations, sizeof(*ns), compare);
        return (struct result){ quantile(ns, operations, .5), quantile(ns, operations, .99), quantile(ns, operations, 1), atomic_load(&attacks) };
}

/* --- rounds: each attack between two times the honest work that is like it, since a machine is never the same for long --------- */

#define ROUNDS_MAX 100u
static unsigned rounds;
static const char *only; /* NULL: all */
static struct result results[PHASES][ROUNDS_MAX];
static double ratios[PHASES][2][ROUNDS_MAX]; /* median and p99, of the honest work */

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median_of(double *v)
{
        qsort(v, rounds, sizeof(*v), compare_doubles);
        return v[rounds / 2];
}

static void run_round(unsigned round, struct front_end *fe, uint8_t *buf, uint64_t *ns)
{
        for (size_t k = 0; k < PHASES; k++) {
                const struct phase *p = &phases[k], *like = &phases[p->like];
                struct result before, r, after;

                if (k == EMPTY && SANITIZED_THREAD) /* its requests share one buffer, which the thread sanitizer calls a race of ours */
                        continue;
                if (k == HONEST || (only && !strstr(p->name, only)))
                        continue;
                before = run_phase(like, fe, buf, ns);
                r = results[k][round] = run_phase(p, fe, buf, ns);
                after = results[p->like][round] = run_phase(like, fe, buf, ns);
                ratios[k][0][round] = 2 * r.median / (before.median + after.median);
                ratios[k][1][round] = 2 * r.p99 / (before.p99 + after.p99);
                printf("%u %-19s %8lu times, median %7.3f ms, p99 %7.3f ms, worst %8.3f ms%s; %s %7lu times, %7.3f, %7.3f ms\n", round,
                       p->name, r.attacks, r.median, r.p99, r.worst, r.worst > 1000 ? ", a stall" : "", like->name, after.attacks,
                       (before.median + after.median) / 2, (before.p99 + after.p99) / 2);
                fflush(stdout);
        }
}

static void print_medians(void)
{
        printf("of %u rounds:\n", rounds);
        for (size_t k = 0; k < PHASES; k++) {
                double all[2][ROUNDS_MAX], worst = 0;

                if (k == HONEST || !ratios[k][0][0])
                        continue;
                for (unsigned i = 0; i < rounds; i++) {
                        all[0][i] = results[k][i].median;
                        all[1][i] = results[k][i].p99;
                        worst = results[k][i].worst > worst ? results[k][i].worst : worst;
                }
                printf("  %-19s median %7.3f ms, p99 %7.3f ms; beside %s: median %4.2f, p99 %4.2f; worst of all %8.3f ms\n",
                       phases[k].name, median_of(all[0]), median_of(all[1]), phases[phases[k].like].name, median_of(ratios[k][0]),
                       median_of(ratios[k][1]), worst);
        }
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
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "%/e.qcow2", "16M"));
        qemu_img(ARGS("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "%/c.qcow2", "16M"));
        snprintf(cmd, sizeof(cmd), "cd %s && qemu-io -f qcow2 -c 'write -P 5 0 8M' c.qcow2 > /dev/null && cp c.qcow2 d.qcow2", at("."));
        assert_int_equal(system(cmd), 0);
        damage(at("c.qcow2"));
        snprintf(cmd, sizeof(cmd), "cd %s && seq 2500000 > raw && truncate -s 16M raw && qemu-img convert -c -f raw -O qcow2 -o cluster_size=2M "
                 "raw g.qcow2 && cp g.qcow2 f.qcow2", at("."));
        assert_int_equal(system(cmd), 0);
        make_slow(at("f.qcow2"));
        start(&d, NULL, 7, ARGS("--disk", "path=%/a.qcow2,format=qcow2,socket=%/a.sock", "--disk",
                                "path=%/b.qcow2,format=qcow2,socket=%/b.sock", "--disk",
                                "path=%/c.qcow2,format=qcow2,socket=%/c.sock", "--disk",
                                "path=%/d.qcow2,format=qcow2,socket=%/d.sock", "--disk",
                                "path=%/e.qcow2,format=qcow2,socket=%/e.sock", "--disk",
                                "path=%/f.qcow2,format=qcow2,socket=%/f.sock,read-only=on", "--disk",
                                "path=%/g.qcow2,format=qcow2,socket=%/g.sock,read-only=on"));
        fe = try_dial("a.sock");
        assert_non_null(fe);
        buf = fe_alloc(fe, BLOCK, BLOCK);
        fill_disk("b.sock");
        deal_processors(d.pid);
        printf("%u operations each, %u rounds, SEED=%llu\n", operations, rounds, (unsigned long long)seed);
        for (unsigned i = 0; i < rounds; i++)
                run_round(i, fe, buf, ns);
        print_medians();
        fe_close(fe);
        stop(&d);
        free(ns);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_neighbours) };

        operations = argc > 1 ? (unsigned)atoi(argv[1]) : 20000;
        rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;
        only = argc > 3 ? argv[3] : NULL;
        rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
        seed = test_seed();
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
