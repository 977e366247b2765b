/* SPDX-License-Identifier: BSD-3-Clause */
/* The volume and the ring are replaced here: what reaches them, and what the guest gets, are the facts to check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "tests/unit/fetch_once.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/ring.h"
#include "vhost_user_blk/blk_device.h"

#define CAPACITY 1000u /* sectors */
#define HEADER 0x1000ull
#define DATA 0x10000ull
#define STATUS 0x2f00ull
#define TABLE 0x2000ull
#define BIG 0x10000000ull
#define BIG_LEN (8u << 20)
#define UNTOUCHED 0xee

static struct blk_device dev;
static struct ring ring;
static struct mem_table *mt;
static struct qthread *one_thread[1];

/* What the request turned into. */
static struct {
        unsigned submits, completes, breaks;
        struct blk_req *req[64];
        uint64_t off[64], len[64];
        unsigned flags[64];
        unsigned refused[BLK_WRITE_ZEROES + 1]; /* by operation */
        uint32_t written;
        const void *wrote; /* ring_wrote(): the status byte */
        size_t wrote_len;
        struct iovec piece; /* the first writable one that is left in the chain at the end */
        const char *why;
} seen;
static int next_result;
static bool hold; /* port_submit() keeps the request; the test completes it */

struct vol_port { int dummy; } the_port;

int port_attach(struct vol *v, struct qthread *t, struct vol_port **ret)
{
        *ret = &the_port;
        return 0;
}

void port_detach(struct vol_port *p)
{
        (void)p;
}

void port_hurry(struct vol_port *p, bool hurry)
{
        (void)p;
        (void)hurry;
}

void port_submit(struct vol_port *p, struct blk_req *req)
{
        assert_ptr_equal(p, &the_port);
        assert_true(seen.submits < ARRAY_SIZE(seen.req));
        seen.req[seen.submits] = req;
        seen.off[seen.submits] = req->off;
        seen.len[seen.submits] = req->len;
        seen.flags[seen.submits++] = req->flags;
        if (!hold)
                req->done(req, next_result);
}

void port_refused(struct vol_port *p, enum blk_op op)
{
        assert_ptr_equal(p, &the_port);
        seen.refused[op]++;
}

void ring_complete(struct ring_req *q, uint32_t written)
{
        seen.completes++;
        seen.piece = q->chain.nwrite ? q->chain.iov[q->chain.nread] : (struct iovec){ 0 };
        seen.written = written;
}

void ring_wrote(struct ring_req *q, const void *host, size_t len)
{
        seen.wrote = host;
        seen.wrote_len = len;
}

void ring_break(struct ring_req *q, const char *why)
{
        seen.breaks++;
        seen.why = why;
        blk_put(q->ring, q);
}

/* --- a guest that sends one request ------------------------------------------------------------------------------ */

static struct vring_desc table[256];
static unsigned ndesc;

static void desc(uint64_t addr, uint32_t len, bool write)
{
        table[ndesc++] = (struct vring_desc){ addr, len, write ? VRING_DESC_F_WRITE : 0, 0 };
}

static void send_chain(void)
{
        const char *why = NULL;
        struct ring_req *q;

        for (unsigned i = 0; i + 1 < ndesc; i++) {
                table[i].flags |= VRING_DESC_F_NEXT;
                table[i].next = (uint16_t)(i + 1);
        }
        memset(&seen, 0, sizeof(seen));
        nfetched = 0;
        *guest_at(mt, STATUS) = (char)UNTOUCHED;
        q = blk_get(&ring);
        assert_non_null(q);
        q->ring = &ring;
        q->chain.indirect_ok = true;
        if (chain_read(&q->chain, mt, table, 256, 0, &why) < 0)
                fail_msg("the test's own chain is wrong: %s", why);
        blk_take(&ring, q);
        ndesc = 0;
}

static void header(uint32_t type, uint64_t sector)
{
        struct virtio_blk_outhdr h = { .type = type, .ioprio = 0xffffffff, .sector = sector };

        memcpy(guest_at(mt, HEADER), &h, sizeof(h));
}

static uint8_t status(void)
{
        return (uint8_t)*guest_at(mt, STATUS);
}

/* Header, data, status in three descriptors; returns the status. */
static uint8_t simple(uint32_t type, uint64_t sector, uint32_t len, bool write)
{
        header(type, sector);
        desc(HEADER, 16, false);
        if (len)
                desc(DATA, len, write);
        desc(STATUS, 1, true);
        send_chain();
        assert_int_equal(seen.breaks, 0);
        assert_int_equal(seen.completes, !hold);
        return status();
}

static void ring_with(uint64_t features)
{
        if (ring.priv)
                blk_ring_stop(&dev.vu, &ring);
        ring.features = features;
        assert_int_equal(blk_ring_start(&dev.vu, &ring), 0);
}

static int setup(void **state)
{
        static struct vol_port *ports[1];
        struct mem_table *small = guest_new(NULL);
        int big = guest_memfd(BIG_LEN); /* sparse: only names are needed */

        mem_table_add(small, &(struct vu_region){ BIG, BIG_LEN, BIG, 0 }, big, &mt);
        mem_table_put(small);
        close(big);
        memset(&dev, 0, sizeof(dev));
        dev.capacity = CAPACITY;
        dev.block_size = 512;
        dev.cluster_size = 65536;
        dev.port = ports;
        dev.vu.threads = one_thread;
        dev.vu.nthreads = 1;
        atomic_init(&dev.wce, true);
        memcpy(dev.serial, "0123456789abcdefghij", BLK_ID_LEN);
        memset(&ring, 0, sizeof(ring));
        ring.dev = &dev.vu;
        ring_with(blk_features(&dev));
        next_result = 0;
        hold = false;
        gm_fetch_hook = fetch_once;
        return 0;
}

static int teardown(void **state)
{
        gm_fetch_hook = NULL;
        blk_ring_stop(&dev.vu, &ring);
        mem_table_put(mt);
        return 0;
}

/* --- ranges ------------------------------------------------------------------------------------------------------ */

#define T_IN VIRTIO_BLK_T_IN
#define T_OUT VIRTIO_BLK_T_OUT
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static const struct {
        const char *what;
        uint64_t sector;
        uint32_t len;
        uint8_t want;
        bool reaches; /* the volume */
} ranges[] = {
        { "the first sector", 0, 512, OK, true },
        { "the last sector", CAPACITY - 1, 512, OK, true },
        { "one behind the last", CAPACITY, 512, IOERR, false },
        { "one of two behind the last", CAPACITY - 1, 1024, IOERR, false },
        { "half a sector", 0, 256, IOERR, false },
        { "a sector and a byte", 0, 513, IOERR, false },
        { "sector * 512 wraps to 0", 1ull << 55, 512, IOERR, false },
        { "sector + length wraps", UINT64_MAX, 512, IOERR, false },
        { "sector + length wraps to 1", UINT64_MAX, 1024, IOERR, false },
        { "no data", 0, 0, OK, false },
        { "no data at the end", CAPACITY, 0, OK, false },
        { "no data behind the end", CAPACITY + 1, 0, IOERR, false },
};

static void test_ranges(void **state)
{
        for (int write = 0; write < 2; write++)
                for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
                        uint8_t got = simple(write ? T_OUT : T_IN, ranges[i].sector, ranges[i].len, !write);

                        if (got != ranges[i].want || seen.submits != ranges[i].reaches)
                                fail_msg("%s, %s: status %u, %u requests", write ? "write" : "read", ranges[i].what,
                                         got, seen.submits);
                        assert_int_equal(seen.refused[write ? BLK_WRITE : BLK_READ], ranges[i].want == IOERR);
                        if (ranges[i].reaches) {
                                assert_int_equal(seen.off[0], ranges[i].sector * 512);
                                assert_int_equal(seen.len[0], ranges[i].len);
                                assert_int_equal(seen.req[0]->op, write ? BLK_WRITE : BLK_READ);
                        }
                        assert_int_equal(seen.written, 1 + (write || !ranges[i].reaches ? 0 : ranges[i].len));
                }
}

static void test_4096_byte_blocks(void **state)
{
        dev.block_size = 4096;
        dev.capacity = 96;
        assert_int_equal(simple(T_IN, 0, 512, true), IOERR);
        assert_int_equal(simple(T_IN, 1, 4096, true), IOERR);
        assert_int_equal(simple(T_IN, 88, 4096, true), OK);
        assert_int_equal(simple(T_IN, 96, 4096, true), IOERR);
}

static void test_read_only(void **state)
{
        static const struct virtio_blk_discard_write_zeroes one = { .sector = 0, .num_sectors = 8 };

        dev.read_only = true;
        memcpy(guest_at(mt, DATA), &one, sizeof(one));
        assert_int_equal(simple(T_OUT, 0, 512, false), IOERR);
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16, false), IOERR);
        assert_int_equal(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), IOERR);
        assert_int_equal(seen.refused[BLK_WRITE_ZEROES], 1);
        assert_int_equal(seen.submits, 0);
        assert_int_equal(simple(T_IN, 0, 512, true), OK);
}

static void test_unknown_types(void **state)
{
        static const uint32_t known[] = { 0, 1, 4, 8, 11, 13 };

        for (uint32_t t = 0; t < 300; t++) {
                uint32_t type = t < 260 ? t : 1u << (t - 260) % 32;
                bool is_known = false;

                for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                        is_known |= type == known[i];
                if (!is_known && (simple(type, 0, 512, true) != UNSUPP || seen.submits))
                        fail_msg("type 0x%x", type);
        }
}

/* What the volume says, as the guest hears it. */
static void test_results(void **state)
{
        static const struct { int res; uint8_t want; } rows[] = {
                { 0, OK },            { -EIO, IOERR },    { -ENOSPC, IOERR },
                { -ENOTSUP, UNSUPP }, { -EFAULT, IOERR }, { -EINVAL, IOERR },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                next_result = rows[i].res;
                assert_int_equal(simple(T_IN, 0, 512, true), rows[i].want);
                assert_int_equal(seen.written, rows[i].res ? 1 : 513);
                assert_int_equal(simple(VIRTIO_BLK_T_FLUSH, 0, 0, false), rows[i].want);
                assert_int_equal(seen.req[0]->op, BLK_FLUSH);
        }
}

/* --- framing ----------------------------------------------------------------------------------------------------- */

/* Every way to cut the 16 bytes of the header, with the status alone, behind data, and with data in pieces; reads and
 * writes. */
static void test_all_header_splits(void **state)
{
        for (unsigned n = 0; n < (1u << 15) * 4; n++) {
                unsigned cuts = n / 4, start = 0;
                bool write = n & 1, odd = n & 2;

                header(write ? T_OUT : T_IN, 5);
                for (unsigned i = 1; i <= 16; i++)
                        if (i == 16 || cuts & 1u << (i - 1)) {
                                if (write && odd && i == 16) { /* the header's end and the data in one descriptor */
                                        memcpy(guest_at(mt, DATA), guest_at(mt, HEADER + start), i - start);
                                        desc(DATA, i - start + 1024, false);
                                } else {
                                        desc(HEADER + start, i - start, false);
                                }
                                start = i;
                        }
                if (write && !odd)
                        desc(DATA, 1024, false);
                if (!write && odd)
                        desc(STATUS - 1024, 1025, true); /* data and status in one descriptor */
                if (!write && !odd) {
                        desc(DATA, 1, true);
                        desc(DATA + 1, 1023, true);
                }
                if (write || !odd)
                        desc(STATUS, 1, true);
                send_chain();
                if (status() != OK || seen.submits != 1 || seen.off[0] != 5 * 512 || seen.len[0] != 1024 ||
                    seen.breaks)
                        fail_msg("cuts 0x%x write %d odd %d: status %u", cuts, write, odd, status());
        }
}

/* The iovecs that reach the volume: the data, all of it, nothing else. */
static void test_data_is_exact(void **state)
{
        hold = true;
        header(T_IN, 0);
        desc(HEADER, 16, false);
        desc(0x1f00, 0x200, true); /* over a border of two regions */
        desc(DATA, 0x200, true);
        desc(STATUS, 1, true);
        send_chain();
        assert_int_equal(seen.req[0]->niov, 3);
        assert_ptr_equal(seen.req[0]->iov[0].iov_base, guest_at(mt, 0x1f00));
        assert_int_equal(seen.req[0]->iov[0].iov_len, 0x100);
        assert_ptr_equal(seen.req[0]->iov[1].iov_base, guest_at(mt, 0x2000));
        assert_int_equal(seen.req[0]->iov[1].iov_len, 0x100);
        assert_ptr_equal(seen.req[0]->iov[2].iov_base, guest_at(mt, DATA));
        assert_int_equal(status(), UNTOUCHED);
        seen.req[0]->done(seen.req[0], 0);
        assert_int_equal(status(), OK);
        assert_int_equal(seen.written, 0x401);
}

static void test_no_place_for_the_status(void **state)
{
        header(T_OUT, 0);
        desc(HEADER, 16, false);
        desc(DATA, 512, false);
        send_chain();
        assert_int_equal(seen.breaks, 1);
        assert_int_equal(seen.completes + seen.submits, 0);
}

static void test_short_headers(void **state)
{
        for (uint32_t len = 1; len < 16; len++) {
                header(T_IN, 0);
                desc(HEADER, len, false);
                desc(STATUS, 1, true);
                send_chain();
                assert_int_equal(status(), IOERR);
                assert_int_equal(seen.submits, 0);
        }
        desc(STATUS, 1, true); /* no header at all */
        send_chain();
        assert_int_equal(status(), IOERR);
}

static void test_get_id(void **state)
{
        for (uint32_t len = 0; len <= 40; len++) {
                memset(guest_at(mt, DATA), UNTOUCHED, 64);
                assert_int_equal(simple(VIRTIO_BLK_T_GET_ID, 0, len, true), OK);
                assert_int_equal(seen.written, 1 + (len < 20 ? len : 20));
                assert_ptr_equal(seen.wrote, guest_at(mt, STATUS));
                assert_int_equal(seen.wrote_len, 1);
                assert_int_equal(seen.piece.iov_len, len); /* the dirty log wants to know them all */
                assert_ptr_equal(seen.piece.iov_base, guest_at(mt, len ? DATA : STATUS));
                for (uint32_t i = 0; i < 64; i++)
                        assert_int_equal((uint8_t)guest_at(mt, DATA)[i],
                                         i < len && i < 20 ? "0123456789abcdefghij"[i] : UNTOUCHED);
        }
}

/* --- discard and write zeroes ------------------------------------------------------------------------------------ */

static const struct {
        const char *what;
        struct virtio_blk_discard_write_zeroes r;
        uint8_t discard, zeroes;
} lists[] = {
        { "eight sectors", { 8, 8, 0 }, OK, OK },
        { "with unmap", { 8, 8, 1 }, UNSUPP, OK },
        { "with an unknown flag", { 8, 8, 2 }, UNSUPP, UNSUPP },
        { "all flags", { 8, 8, 0xffffffff }, UNSUPP, UNSUPP },
        { "to the end", { 0, CAPACITY, 0 }, OK, OK },
        { "beyond the end", { 1, CAPACITY, 0 }, IOERR, IOERR },
        { "beyond 2^64", { UINT64_MAX, 2, 0 }, IOERR, IOERR },
        { "too many sectors", { 0, BLK_MAX_RANGE_SECTORS + 1, 0 }, IOERR, IOERR },
        { "nothing", { 0, 0, 0 }, OK, OK },
};

static void test_ranges_of_lists(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                for (int zeroes = 0; zeroes < 2; zeroes++) {
                        uint8_t want = zeroes ? lists[i].zeroes : lists[i].discard, got;

                        memcpy(guest_at(mt, DATA), &lists[i].r, 16);
                        got = simple(zeroes ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD, 0, 16, false);
                        if (got != want || seen.submits != (want == OK && lists[i].r.num_sectors))
                                fail_msg("%s, zeroes %d: %u", lists[i].what, zeroes, got);
                        if (!seen.submits)
                                continue;
                        assert_int_equal(seen.req[0]->op, zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD);
                        assert_int_equal(seen.off[0], lists[i].r.sector * 512);
                        assert_int_equal(seen.len[0], lists[i].r.num_sectors * 512);
                        assert_int_equal(seen.flags[0], lists[i].r.flags ? BLK_UNMAP : 0);
                }
}

static void test_longest_range(void **state)
{
        struct virtio_blk_discard_write_zeroes *list = (void *)guest_at(mt, DATA);

        dev.capacity = 1ull << 40;
        *list = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = BLK_MAX_RANGE_SECTORS };
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16, false), OK);
        assert_int_equal(seen.len[0], BLK_MAX_RANGE_SECTORS * 512ull);
        list->num_sectors++;
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16, false), IOERR);
        assert_int_equal(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), IOERR);
}

/* The most data a request may carry, and a byte (a sector) more: bounded by us, not by the guest. */
static void test_most_data(void **state)
{
        dev.capacity = 1ull << 40;
        hold = false;
        for (int more = 0; more < 2; more++) {
                header(T_OUT, 0);
                desc(HEADER, 16, false);
                for (uint64_t left = BLK_MAX_DATA + 512u * (unsigned)more; left;) {
                        uint32_t len = left < BIG_LEN ? (uint32_t)left : BIG_LEN;

                        desc(BIG, len, false);
                        left -= len;
                }
                desc(STATUS, 1, true);
                send_chain();
                assert_int_equal(status(), more ? IOERR : OK);
                assert_int_equal(seen.submits, !more);
        }
}

/* All ranges run, in order; with one bad range none runs; an error ends the list. */
static void test_lists(void **state)
{
        struct virtio_blk_discard_write_zeroes *list = (void *)guest_at(mt, DATA);

        for (unsigned i = 0; i <= BLK_MAX_RANGES; i++)
                list[i] = (struct virtio_blk_discard_write_zeroes){ .sector = i * 8, .num_sectors = 8 };
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16 * BLK_MAX_RANGES, false), OK);
        assert_int_equal(seen.submits, BLK_MAX_RANGES);
        for (unsigned i = 0; i < BLK_MAX_RANGES; i++)
                assert_int_equal(seen.off[i], i * 4096);
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16 * (BLK_MAX_RANGES + 1), false), IOERR);
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 24, false), IOERR);
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 0, false), IOERR);
        assert_int_equal(seen.submits, 0);
        next_result = -EIO;
        assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 64, false), IOERR);
        assert_int_equal(seen.submits, 1);
        list[3].sector = CAPACITY;
        assert_int_equal(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, 64, false), IOERR);
        assert_int_equal(seen.submits, 0);
}

/* --- features ---------------------------------------------------------------------------------------------------- */

#define BIT(n) (1ull << VIRTIO_BLK_F_##n)
static const struct {
        uint64_t features;
        bool wce;
        unsigned flags; /* of a write */
} caches[] = {
        { 0, true, BLK_FUA },           { 0, false, BLK_FUA },
        { BIT(FLUSH), true, 0 },        { BIT(FLUSH), false, 0 },
        { BIT(CONFIG_WCE), true, BLK_FUA }, { BIT(CONFIG_WCE), false, BLK_FUA },
        { BIT(FLUSH) | BIT(CONFIG_WCE), true, 0 }, { BIT(FLUSH) | BIT(CONFIG_WCE), false, BLK_FUA },
};

static void test_cache_mode(void **state)
{
        static const struct virtio_blk_discard_write_zeroes one = { .sector = 0, .num_sectors = 8 };

        for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
                ring_with(caches[i].features | BIT(WRITE_ZEROES));
                atomic_store(&dev.wce, caches[i].wce);
                assert_int_equal(simple(T_OUT, 0, 512, false), OK);
                assert_int_equal(seen.flags[0], caches[i].flags);
                assert_int_equal(simple(T_IN, 0, 512, true), OK);
                assert_int_equal(seen.flags[0], 0);
                memcpy(guest_at(mt, DATA), &one, sizeof(one));
                assert_int_equal(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), OK);
                assert_int_equal(seen.flags[0], caches[i].flags);
                assert_int_equal(simple(VIRTIO_BLK_T_DISCARD, 0, 16, false), UNSUPP); /* not negotiated */
        }
}

/* Many at once: memory grows in slabs, comes back, and its absence is a reason to wait. */
static void test_pool(void **state)
{
        struct ring_req *q[100];

        for (int round = 0; round < 2; round++) {
                for (size_t i = 0; i < ARRAY_SIZE(q); i++)
                        assert_non_null(q[i] = blk_get(&ring));
                for (size_t i = 0; i < ARRAY_SIZE(q); i++)
                        blk_put(&ring, q[i]);
        }
        ring_with(0);
        fault_arm("blk.grow=1:ENOMEM:forever");
        assert_null(blk_get(&ring));
        fault_arm(NULL);
        q[0] = blk_get(&ring);
        assert_non_null(q[0]);
        blk_put(&ring, q[0]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_ranges),       TEST(test_4096_byte_blocks), TEST(test_read_only), TEST(test_unknown_types),
                TEST(test_results),      TEST(test_all_header_splits), TEST(test_data_is_exact),
                TEST(test_no_place_for_the_status), TEST(test_short_headers), TEST(test_get_id),
                TEST(test_ranges_of_lists), TEST(test_longest_range), TEST(test_most_data),
                TEST(test_lists), TEST(test_cache_mode), TEST(test_pool),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
