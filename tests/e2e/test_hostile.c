/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end that lies, on disk 0; a neighbour with verified load on disk 1 of the same daemon. After every attack the
 * daemon lives, the neighbour moves on, disk 0 serves an honest front end, and in the end no fd is left over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back_end.h"
#include "bystander.h"
#include "common/cleanup.h"
#include "common/err.h"

#define DISK_LEN (64ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define NFDS 32

static struct back_end be;
static struct bystander neighbour;
static struct rng rng;
static int fds[NFDS]; /* what we pass: some of everything */

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s", #r, err_text(must_r_)); } while (0)

static void check_neighbour(void)
{
        if (!be_running(&be))
                fail_msg("the daemon is dead");
        must(worker_wait(&neighbour.worker, 3));
}

static void check_victim(void)
{
        struct front_end *fe;
        struct fe_io io = { .type = FE_READ, .len = 4096 };

        check_neighbour();
        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        io.gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096));
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        assert_int_equal(io.status, FE_OK);
        fe_close(fe);
}

/* Sessions in the states an attack starts from. */
enum from { FROM_HELLO, FROM_FEATURES, FROM_RUNNING, FROMS };

struct attack {
        struct front_end *fe; /* FROM_RUNNING */
        int sock;
};

static int hello(int sock)
{
        struct fe_msg m = { .request = FE_GET_FEATURES, .flags = FE_VERSION };

        return fe_wire_call(sock, &m, NULL, 0, 60000);
}

static int connect_hello(void)
{
        for (unsigned i = 0; i < 10000; i++) {
                int sock = fe_wire_connect(be.disks[0].socket);

                must(sock);
                if (hello(sock) == 0)
                        return sock;
                close(sock); /* the daemon still has the one before */
                err_clear();
                usleep(1000);
        }
        fail_msg("nobody answers on %s", be.disks[0].socket);
        return -1;
}

static void say_u64(int sock, uint32_t request, uint64_t value)
{
        struct fe_msg m = { .request = request, .flags = FE_VERSION, .size = 8 };

        m.u64 = value;
        must(fe_wire_send(sock, &m, NULL, 0));
}

static struct attack attack_begin(enum from from)
{
        struct attack a = { .sock = -1 };

        if (from == FROM_RUNNING) {
                must(be_open(&be, 0, (struct fe_opts){ .num_queues = 2 }, &a.fe));
                a.sock = fe_socket(a.fe);
                return a;
        }
        a.sock = connect_hello();
        if (from == FROM_FEATURES) {
                say_u64(a.sock, FE_SET_FEATURES, FE_F_VERSION_1 | FE_F_PROTOCOL_FEATURES);
                say_u64(a.sock, FE_SET_PROTOCOL_FEATURES, FE_PF_MQ | FE_PF_CONFIG | FE_PF_REPLY_ACK |
                        FE_PF_CONFIGURE_MEM_SLOTS | FE_PF_BACKEND_REQ);
        }
        return a;
}

/* Waits until the daemon has read all we said: it answers or hangs up; or it waits for more, which is its right. */
static void attack_end(struct attack *a)
{
        struct fe_msg m = { .request = FE_GET_QUEUE_NUM, .flags = FE_VERSION };
        int r = fe_wire_send(a->sock, &m, NULL, 0);

        for (unsigned i = 0; r == 0 && i < 8; i++) {
                r = fe_wire_recv(a->sock, &m, NULL, NULL, 20);
                if (r == 0 && m.request == FE_GET_QUEUE_NUM)
                        break;
        }
        err_clear();
        if (a->fe)
                fe_close(a->fe);
        else
                close(a->sock);
}

static uint64_t nasty_u64(void)
{
        static const uint64_t list[] = { 0, 1, 2, 3, 4, 5, 63, 64, 127, 128, 255, 256, 257, 0x100, 0x101, 0x1ff, 1024,
                                         32768, 65535, 65536, 0x7fffffff, 0xffffffff, 1ull << 32, 1ull << 63,
                                         UINT64_MAX, UINT64_MAX - 4095 };

        return rng_below(&rng, 4) ? list[rng_below(&rng, ARRAY_SIZE(list))] : rng_next(&rng);
}

static void nasty_payload(struct fe_msg *m)
{
        static const uint32_t sizes[] = { 0, 1, 8, 12, 16, 32, 40, 13, 72, 268, 264, FE_PAYLOAD_MAX };

        for (unsigned i = 0; i + 8 <= FE_PAYLOAD_MAX; i += 8) {
                uint64_t v = rng_below(&rng, 2) ? nasty_u64() : nasty_u64() & 0xffffffff;

                memcpy(m->bytes + i, &v, sizeof(v));
        }
        if (rng_below(&rng, 2)) { /* (index, number) and (offset, size) pairs */
                m->state.index = (uint32_t)rng_below(&rng, 6);
                m->state.num = (uint32_t)nasty_u64();
        }
        m->size = sizes[rng_below(&rng, ARRAY_SIZE(sizes))];
}

static void nasty_send(int sock, uint32_t request, unsigned nfds)
{
        struct fe_msg m = { .request = request };

        m.flags = rng_below(&rng, 8) ? FE_VERSION | (rng_below(&rng, 2) ? FE_NEED_REPLY : 0) : (uint32_t)nasty_u64();
        nasty_payload(&m);
        for (unsigned i = NFDS - 1; i > 0; i--) { /* shuffle */
                unsigned k = (unsigned)rng_below(&rng, i + 1);
                int t = fds[i];

                fds[i] = fds[k];
                fds[k] = t;
        }
        if (fe_wire_send(sock, &m, fds, nfds) < 0)
                err_clear(); /* it has hung up already: fine */
}

static void test_every_message_in_every_state(void **state)
{
        static const unsigned nfds[] = { 0, 1, 2, 9, NFDS };

        for (uint32_t request = 0; request <= FE_REQUEST_LAST + 1; request++) {
                for (enum from from = 0; from < FROMS; from++) {
                        for (unsigned i = 0; i < ARRAY_SIZE(nfds); i++) {
                                struct attack a = attack_begin(from);

                                nasty_send(a.sock, request, nfds[i]);
                                attack_end(&a);
                        }
                }
                check_neighbour();
        }
        check_victim();
}

static void test_random_conversations(void **state)
{
        for (unsigned session = 0; session < 150; session++) {
                struct attack a = attack_begin((enum from)rng_below(&rng, FROMS));
                unsigned n = 1 + (unsigned)rng_below(&rng, 12);

                while (n--)
                        nasty_send(a.sock, (uint32_t)rng_below(&rng, FE_REQUEST_LAST + 2),
                                   (unsigned)rng_below(&rng, 3));
                attack_end(&a);
                if (session % 10 == 0)
                        check_neighbour();
        }
        check_victim();
}

static void test_half_messages(void **state)
{
        struct fe_msg m = { .request = FE_SET_VRING_NUM, .flags = FE_VERSION, .size = 8 };

        for (unsigned len = 1; len < FE_HEADER_LEN + 8; len++) {
                struct attack a = attack_begin(FROM_FEATURES);

                must(fe_wire_send_bytes(a.sock, &m, len, fds, len % 3)); /* and then nothing */
                usleep(1000);
                close(a.sock);
        }
        m.size = UINT32_MAX;
        for (unsigned i = 0; i < 3; i++) {
                struct attack a = attack_begin((enum from)i);

                must(fe_wire_send_bytes(a.sock, &m, FE_HEADER_LEN, NULL, 0));
                attack_end(&a);
        }
        check_victim();
}

static void test_message_byte_by_byte(void **state)
{
        struct fe_msg m = { .request = FE_GET_FEATURES, .flags = FE_VERSION };
        int sock = connect_hello();

        for (unsigned i = 0; i < FE_HEADER_LEN; i++) {
                must(fe_wire_send_bytes(sock, (uint8_t *)&m + i, 1, NULL, 0));
                usleep(500);
        }
        must(fe_wire_recv(sock, &m, NULL, NULL, 60000)); /* slow is not hostile */
        assert_int_equal(m.request, FE_GET_FEATURES);
        close(sock);
}

static void test_second_front_end_is_sent_away(void **state)
{
        struct front_end *fe;
        struct fe_io io = { .type = FE_READ, .len = 4096 };

        must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
        if (be_is_vdiskd()) { /* qemu-storage-daemon lets it wait */
                int sock = fe_wire_connect(be.disks[0].socket);

                must(sock);
                assert_int_equal(hello(sock), -ECONNRESET);
                err_clear();
                close(sock);
        }
        io.gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096));
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        fe_close(fe);
}

/*
 * Bad chains. D: data buffer, T: a table in guest memory, H/S: a good header and a status byte. The daemon may break the
 * ring or refuse the request, but not answer OK.
 */
enum where { ADDR_H, ADDR_D, ADDR_S, ADDR_T, ADDR_HOLE, ADDR_WRAP, ADDR_END };
struct bad_desc { enum where at; uint32_t len; uint16_t flags, next; };
#define N FE_DESC_NEXT
#define W FE_DESC_WRITE
#define I FE_DESC_INDIRECT

static const struct {
        const char *what;
        struct bad_desc d[3]; /* in the ring */
        struct bad_desc t[3]; /* in the table */
        uint16_t head, idx;   /* what the avail ring says; idx 0: 1. Packed rings have no index, and a buffer id for a head */
        bool may_be_ok;       /* nobody is harmed by an OK */
} chains[] = {
        { "loop of one", { { ADDR_H, 16, N, 0 } } },
        { "loop of two", { { ADDR_H, 16, N, 1 }, { ADDR_D, 512, N | W, 0 } } },
        { "next out of range", { { ADDR_H, 16, N, 128 } } },
        { "next far out of range", { { ADDR_H, 16, N, 65535 } } },
        { "head out of range", { { ADDR_H, 16, 0, 0 } }, { }, 128 },
        { "head far out of range", { { ADDR_H, 16, 0, 0 } }, { }, 65535 },
        { "index jumps by more than the ring", { { ADDR_H, 16, 0, 0 } }, { }, 0, 129 },
        { "index jumps backwards", { { ADDR_H, 16, 0, 0 } }, { }, 0, 65535 },
        { "header alone", { { ADDR_H, 16, 0, 0 } } },
        { "half a header", { { ADDR_H, 8, N, 1 }, { ADDR_S, 1, W, 0 } } },
        { "status alone", { { ADDR_S, 1, W, 0 } } },
        { "no status", { { ADDR_H, 16, N, 1 }, { ADDR_D, 512, 0, 0 } } },
        { "header is writable", { { ADDR_H, 16, N | W, 1 }, { ADDR_S, 1, W, 0 } } },
        { "readable after writable", { { ADDR_S, 1, N | W, 1 }, { ADDR_H, 16, 0, 0 } } },
        { "empty descriptor", { { ADDR_H, 16, N, 1 }, { ADDR_D, 0, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "no data to read into", { { ADDR_H, 16, N, 1 }, { ADDR_S, 1, W, 0 } }, { }, 0, 0, true },
        { "odd length", { { ADDR_H, 16, N, 1 }, { ADDR_D, 511, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "data in a hole", { { ADDR_H, 16, N, 1 }, { ADDR_HOLE, 512, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "data wraps 2^64", { { ADDR_H, 16, N, 1 }, { ADDR_WRAP, 4096, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "data beyond the region", { { ADDR_H, 16, N, 1 }, { ADDR_END, 4096, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "4 GiB of data", { { ADDR_H, 16, N, 1 }, { ADDR_D, UINT32_MAX, N | W, 2 }, { ADDR_S, 1, W, 0 } } },
        { "header in a hole", { { ADDR_HOLE, 16, N, 1 }, { ADDR_S, 1, W, 0 } } },
        { "status in a hole", { { ADDR_H, 16, N, 1 }, { ADDR_D, 512, N | W, 2 }, { ADDR_HOLE, 1, W, 0 } } },
        { "empty table", { { ADDR_T, 0, I, 0 } } },
        { "table of 17 bytes", { { ADDR_T, 17, I, 0 } }, { { ADDR_H, 16, 0, 0 } } },
        { "table of 4 GiB", { { ADDR_T, 0xfffffff0, I, 0 } }, { { ADDR_H, 16, N, 1 }, { ADDR_S, 1, W, 0 } } },
        { "table in a hole", { { ADDR_HOLE, 48, I, 0 } } },
        { "table wraps 2^64", { { ADDR_WRAP, 8192, I, 0 } } },
        { "table in a table", { { ADDR_T, 48, I, 0 } }, { { ADDR_T, 48, I, 0 } } },
        { "table with a next", { { ADDR_T, 32, I | N, 1 }, { ADDR_S, 1, W, 0 } }, { { ADDR_H, 16, 0, 0 } } },
        { "loop in a table", { { ADDR_T, 48, I, 0 } }, { { ADDR_H, 16, N, 1 }, { ADDR_D, 512, N | W, 0 } } },
        { "next out of the table", { { ADDR_T, 48, I, 0 } }, { { ADDR_H, 16, N, 3 } } },
};

struct arena {
        uint8_t *hdr, *data, *status;
        struct fe_ring_desc *table;
        uint64_t end; /* guest address behind the last byte of region 0 */
};

static uint64_t bad_addr(struct front_end *fe, const struct arena *a, enum where at)
{
        switch (at) {
        case ADDR_H: return fe_gpa(fe, a->hdr);
        case ADDR_D: return fe_gpa(fe, a->data);
        case ADDR_S: return fe_gpa(fe, a->status);
        case ADDR_T: return fe_gpa(fe, a->table);
        case ADDR_HOLE: return 0x1000;
        case ADDR_WRAP: return UINT64_MAX - 1023;
        case ADDR_END: return a->end - 512;
        }
        return 0;
}

static void bad_fill(struct front_end *fe, const struct arena *a, struct fe_ring_desc *to, const struct bad_desc *d)
{
        for (unsigned i = 0; i < 3; i++)
                to[i] = (struct fe_ring_desc){ bad_addr(fe, a, d[i].at), d[i].len, d[i].flags, d[i].next };
}

static void bad_fill_packed(struct front_end *fe, const struct arena *a, struct fe_packed_desc *to,
                            const struct bad_desc *d, uint16_t id)
{
        for (unsigned i = 0; i < 3; i++)
                to[i] = (struct fe_packed_desc){ bad_addr(fe, a, d[i].at), d[i].len, id, d[i].flags };
}

/* Shows the chain that begins the ring; how often was it answered? */
#define PACKED_AVAIL (1u << 7)
#define PACKED_USED (1u << 15)

static void bad_show(struct fe_ring *ring, uint16_t head, uint16_t idx)
{
        if (!be_packed()) {
                ring->avail->ring[0] = head;
                __atomic_store_n(&ring->avail->idx, idx ? idx : 1, __ATOMIC_RELEASE);
                return;
        }
        for (unsigned i = 2; i > 0; i--)
                ring->packed[i].flags |= PACKED_AVAIL;
        __atomic_store_n(&ring->packed[0].flags, ring->packed[0].flags | PACKED_AVAIL, __ATOMIC_RELEASE);
}

static unsigned times_answered(struct fe_ring *ring)
{
        unsigned n = 0;

        if (!be_packed())
                return *(volatile uint16_t *)&ring->used->idx;
        while (n < 3 && *(volatile uint16_t *)&ring->packed[n].flags & PACKED_USED)
                n++;
        return n;
}

static void test_bad_chains(void **state)
{
        for (unsigned i = 0; i < ARRAY_SIZE(chains); i++) {
                struct front_end *fe;
                struct fe_ring *ring;
                struct arena a;
                uint64_t one = 1;

                must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
                ring = fe_queue_ring(fe_queue(fe, 0));
                a = (struct arena){ fe_alloc(fe, 16, 16), fe_alloc(fe, 4096, 4096), fe_alloc(fe, 1, 1),
                                    fe_alloc(fe, 4096, 4096), fe_mem(fe)->regions[0].gpa + fe_mem(fe)->regions[0].len };
                *a.status = FE_NOT_ANSWERED; /* the header is a read of sector 0: all zeros */
                if (be_packed()) {
                        bad_fill_packed(fe, &a, ring->packed, chains[i].d, chains[i].head);
                        bad_fill_packed(fe, &a, (void *)a.table, chains[i].t, 0);
                } else {
                        bad_fill(fe, &a, ring->desc, chains[i].d);
                        bad_fill(fe, &a, a.table, chains[i].t);
                }
                bad_show(ring, chains[i].head, chains[i].idx);
                assert_int_equal(write(ring->kick_fd, &one, sizeof(one)), sizeof(one));
                check_neighbour();
                usleep(2000);
                if (*(volatile uint8_t *)a.status == FE_OK && !chains[i].may_be_ok)
                        fail_msg("%s: answered with OK", chains[i].what);
                if (chains[i].idx == 0 && times_answered(ring) > 1)
                        fail_msg("%s: answered %u times", chains[i].what, times_answered(ring));
                fe_close(fe);
        }
        check_victim();
}

static void test_ring_and_table_of_random_bytes(void **state)
{
        for (unsigned round = 0; round < 60; round++) {
                struct front_end *fe;
                struct fe_ring *ring;
                uint64_t one = 1;
                uint8_t *bytes;

                must(be_open(&be, 0, (struct fe_opts){ .features_off = round & 1 ? FE_F_INDIRECT_DESC : 0 }, &fe));
                ring = fe_queue_ring(fe_queue(fe, 0));
                bytes = fe_alloc(fe, 65536, 4096);
                for (unsigned i = 0; i < 65536; i++)
                        bytes[i] = (uint8_t)rng_below(&rng, 3);
                for (unsigned i = 0; i < ring->size && be_packed(); i++)
                        ring->packed[i] = (struct fe_packed_desc){
                                fe_gpa(fe, bytes) + rng_below(&rng, 65536), (uint32_t)rng_below(&rng, 2000),
                                (uint16_t)rng_below(&rng, ring->size + 4),
                                (uint16_t)(rng_below(&rng, 8) | (rng_below(&rng, 64) ? PACKED_AVAIL : PACKED_USED)),
                        };
                for (unsigned i = 0; i < ring->size && !be_packed(); i++) {
                        ring->desc[i] = (struct fe_ring_desc){
                                fe_gpa(fe, bytes) + rng_below(&rng, 65536), (uint32_t)rng_below(&rng, 2000),
                                (uint16_t)rng_below(&rng, 8), (uint16_t)rng_below(&rng, ring->size + 4),
                        };
                        ring->avail->ring[i] = (uint16_t)rng_below(&rng, ring->size);
                }
                for (unsigned i = 0; i < 20; i++) {
                        if (!be_packed())
                                __atomic_store_n(&ring->avail->idx, (uint16_t)(ring->avail->idx + rng_below(&rng, 20)),
                                                 __ATOMIC_RELEASE);
                        assert_int_equal(write(ring->kick_fd, &one, sizeof(one)), sizeof(one));
                        ring->desc[rng_below(&rng, ring->size)].next = (uint16_t)rng_next(&rng);
                }
                check_neighbour();
                fe_close(fe);
        }
        check_victim();
}

static void truncate_under_load(bool rings)
{
        for (unsigned round = 0; round < 10; round++) {
                struct front_end *fe;
                struct fe_io io[64] = { 0 };
                uint64_t one = 1;
                unsigned region;

                must(be_open(&be, 0, (struct fe_opts){ 0 }, &fe));
                must(fe_region_add(fe, 0, 1 << 20, &region));
                for (unsigned i = 0; i < ARRAY_SIZE(io); i++) {
                        io[i] = (struct fe_io){ .type = i & 1 ? FE_WRITE : FE_READ, .sector = 8 * i, .len = 8192,
                                                .gpa = fe_mem(fe)->regions[region].gpa + 512 + i * 8192 };
                        must(fe_submit(fe_queue(fe, 0), &io[i]));
                }
                fe_kick(fe_queue(fe, 0));
                /* no touch of ours behind this line */
                assert_int_equal(ftruncate(fe_mem(fe)->regions[rings ? 0 : region].fd, 0), 0);
                assert_int_equal(write(fe_queue_ring(fe_queue(fe, 0))->kick_fd, &one, sizeof(one)), sizeof(one));
                check_neighbour();
                fe_close(fe);
        }
        check_victim();
}

static void test_data_memory_truncated_under_load(void **state)
{
        truncate_under_load(false);
}

static void test_ring_memory_truncated_under_load(void **state)
{
        truncate_under_load(true);
}

static int open_fds(void)
{
        for (unsigned i = 0; i < NFDS; i++) {
                switch (i % 6) {
                case 0: fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); break;
                case 1: fds[i] = memfd_create("short", MFD_CLOEXEC); break;
                case 2: fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); break;
                case 3: fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC); break;
                case 4: fds[i] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); break;
                case 5: fds[i] = open("/dev/zero", O_RDONLY | O_CLOEXEC); break;
                }
                if (fds[i] < 0)
                        return -errno;
        }
        return 0;
}

static int fds_before;

static void test_no_fd_is_left_over(void **state)
{
        int now = -1;

        for (unsigned i = 0; i < 3000 && (now < 0 || now > fds_before); i++) {
                usleep(20000); /* the daemon closes in its own time */
                now = be_count_fds(&be);
        }
        if (now > fds_before)
                fail_msg("%d fds open in the daemon before the attacks, %d after", fds_before, now);
}

static int start(void **state)
{
        struct be_disk disks[] = { { .format = "raw", .size = DISK_LEN }, { .format = "qcow2", .size = DISK_LEN } };
        struct front_end *fe;
        int r = be_new(&be, disks, ARRAY_SIZE(disks));

        rng.state = getenv("E2E_SEED") ? strtoull(getenv("E2E_SEED"), NULL, 10) : (uint64_t)getpid() << 16;
        print_message("E2E_SEED=%llu\n", (unsigned long long)rng.state);
        if (r == 0)
                r = open_fds();
        if (r == 0)
                r = bystander_start(&neighbour, &be, 1, NUNITS, rng.state);
        for (unsigned i = 0; r == 0 && i < 3; i++) { /* what a first session opens once is there before we count */
                r = be_open(&be, 0, (struct fe_opts){ 0 }, &fe);
                if (r == 0)
                        fe_close(fe);
        }
        usleep(200000);
        fds_before = be_count_fds(&be);
        if (r < 0)
                print_error("%s\n", err_text(r));
        return r;
}

static int stop(void **state)
{
        int r = bystander_end(&neighbour, &be);

        if (r < 0)
                print_error("%s\n", err_text(r));
        return r;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_second_front_end_is_sent_away),
                cmocka_unit_test(test_message_byte_by_byte),
                cmocka_unit_test(test_half_messages),
                cmocka_unit_test(test_every_message_in_every_state),
                cmocka_unit_test(test_random_conversations),
                cmocka_unit_test(test_bad_chains),
                cmocka_unit_test(test_ring_and_table_of_random_bytes),
                cmocka_unit_test(test_data_memory_truncated_under_load),
                cmocka_unit_test(test_ring_memory_truncated_under_load),
                cmocka_unit_test(test_no_fd_is_left_over),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
