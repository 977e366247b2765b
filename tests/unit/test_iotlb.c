/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest behind an IOMMU: the cache of translations, and sessions whose rings wait for them, lose them and stop without them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>

#include "common/err.h"
#include "tests/unit/session_fixture.h"
#include "vhost_user/memory/iotlb.h"

#define WITH_IOMMU (FEATURES | 1ull << VIRTIO_F_ACCESS_PLATFORM)
#define IOVA 0xffff00000000ull /* of guest address 0: nothing agrees by chance */

/* --- the cache -------------------------------------------------------------------------------------------------------- */

static void expect(struct iotlb *t, uint64_t iova, uint64_t len, uint8_t perm, int r, uint64_t user, uint64_t here)
{
        uint64_t u = 0, h = 0;
        int got = iotlb_look(t, iova, len, perm, &u, &h);

        if (got != r || (r == 0 && (u != user || h != here)))
                fail_msg("0x%llx: %d 0x%llx+0x%llx, not %d 0x%llx+0x%llx", (unsigned long long)iova, got, (unsigned long long)u,
                         (unsigned long long)h, r, (unsigned long long)user, (unsigned long long)here);
}

static void expect_miss(struct iotlb *t, uint64_t iova, uint8_t perm)
{
        uint64_t at;
        uint8_t p;

        assert_true(iotlb_next_miss(t, &at, &p));
        assert_int_equal(at, iova);
        assert_int_equal(p, perm);
}

static void test_look(void **state)
{
        struct iotlb *t = iotlb_new();
        uint64_t iova;
        uint8_t perm;

        assert_int_equal(iotlb_update(t, 0x10000, 0x3000, 0x500000, 3), 0);
        assert_int_equal(iotlb_update(t, 0x20000, 0x1000, 0x600000, IOTLB_READ), 0);
        expect(t, 0x10000, 8, 1, 0, 0x500000, 8);
        expect(t, 0x12ffe, 8, 2, 0, 0x502ffe, 2);
        expect(t, 0xffff, 8, 1, -EAGAIN, 0, 0);
        expect(t, 0xf123, 8, 1, -EAGAIN, 0, 0); /* the same page */
        expect(t, 0x13000, 8, 1, -EAGAIN, 0, 0);
        expect(t, 0x20000, 8, IOTLB_WRITE, -EAGAIN, 0, 0);
        expect_miss(t, 0xf000, 1);
        expect_miss(t, 0x13000, 1);
        expect_miss(t, 0x20000, 2);
        assert_false(iotlb_next_miss(t, &iova, &perm)); /* each is asked for once */
        iotlb_refused(t, 0xf000, 1);
        expect(t, 0xf000, 1, 1, -EFAULT, 0, 0);
        expect(t, 0xf000, 1, 1, -EAGAIN, 0, 0); /* and may be mapped later */
        assert_int_equal(iotlb_update(t, 0x20000, 0x1000, 0x600000, IOTLB_READ), 0);
        expect(t, 0x20000, 8, IOTLB_WRITE, -EFAULT, 0, 0); /* mapped, but not for that */
        iotlb_ask_again(t);
        expect_miss(t, 0xf000, 1);
        iotlb_free(t);
}

static void test_invalidate(void **state)
{
        static const struct { uint64_t iova, len; unsigned left; } cases[] = {
                { 0x3000, 0x1000, 7 }, { 0x3800, 1, 7 }, { 0x2fff, 2, 6 }, { 0, 0, 0 }, { 0, UINT64_MAX, 0 },
                { 0x4000, UINT64_MAX, 4 }, { 0x8000, 0x1000, 8 }, { 0x4000, 0, 4 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct iotlb *t = iotlb_new();
                unsigned left = 0;

                for (uint64_t p = 0; p < 8; p++)
                        assert_int_equal(iotlb_update(t, p << 12, 4096, p << 20, 3), 0);
                iotlb_invalidate(t, cases[i].iova, cases[i].len);
                for (uint64_t p = 0; p < 8; p++) {
                        uint64_t user, here;

                        left += iotlb_look(t, p << 12, 1, 1, &user, &here) == 0;
                }
                if (left != cases[i].left)
                        fail_msg("case %zu: %u left", i, left);
                iotlb_free(t);
        }
}

/* The top of the address space, overlaps, nonsense. */
static void test_corners(void **state)
{
        struct iotlb *t = iotlb_new();

        assert_int_equal(iotlb_update(t, UINT64_MAX - 4095, 4096, 0x1000, 3), 0);
        expect(t, UINT64_MAX, 1, 1, 0, 0x1fff, 1);
        iotlb_invalidate(t, UINT64_MAX, 1);
        expect(t, UINT64_MAX, 1, 1, -EAGAIN, 0, 0);
        assert_int_equal(iotlb_update(t, 0x1000, 0x3000, 0x10000, 3), 0);
        assert_int_equal(iotlb_update(t, 0x2000, 0x1000, 0x90000, 3), 0); /* the newer one is true */
        expect(t, 0x2000, 4, 1, 0, 0x90000, 4);
        expect(t, 0x1000, 4, 1, -EAGAIN, 0, 0);
        assert_int_equal(iotlb_update(t, 0x1000, 0, 0, 3), -EINVAL);
        assert_int_equal(iotlb_update(t, UINT64_MAX, 2, 0, 3), -EINVAL);
        assert_int_equal(iotlb_update(t, 0, 2, UINT64_MAX, 3), -EINVAL);
        assert_int_equal(iotlb_update(t, 0, 1, 0, 0), -EINVAL);
        assert_int_equal(iotlb_update(t, 0, 1, 0, 4), -EINVAL);
        err_clear();
        iotlb_free(t);
}

/* More than fits, in random order: what is there is right, and there is always room for a request's own pages. */
static void test_bounded(void **state)
{
        struct iotlb *t = iotlb_new();
        uint64_t seed = 88172645463325252ull;

        for (unsigned i = 0; i < 4 * IOTLB_ENTRIES; i++) {
                uint64_t page, user, here;

                seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
                page = seed % (8 * IOTLB_ENTRIES);
                assert_int_equal(iotlb_update(t, page << 12, 4096, page << 13, 3), 0);
                expect(t, page << 12, 4096, 3, 0, page << 13, 4096);
                page = (page + 1) % (8 * IOTLB_ENTRIES);
                if (iotlb_look(t, page << 12, 1, 1, &user, &here) == 0)
                        assert_int_equal(user, page << 13);
        }
        iotlb_free(t);
}

/* --- sessions --------------------------------------------------------------------------------------------------------- */

static int back;

static void begin(void)
{
        struct vu_vring_addr a = { .desc = IOVA + DESC, .avail = IOVA + AVAIL, .used = IOVA + USED };
        int sv[2];

        starts = 0;
        connect_session();
        handshake(WITH_IOMMU);
        assert_int_equal(set_memory(), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
        back = sv[0];
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, sv[1]), 0);
        close(sv[1]);
        clear_ring();
        for (unsigned i = 0; i < NUM; i++)
                ((struct vring_desc *)at(DESC))[i].addr += IOVA;
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, NUM), 0);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, 0), 0);
        assert_int_equal(say(VU_SET_VRING_ADDR, &a, sizeof(a), -1), 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, call), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0); /* answered, though the ring is not found yet */
}

static void finish(void)
{
        close(back);
        disconnect();
}

static int update(uint64_t guest, uint64_t len, uint8_t perm)
{
        struct vu_iotlb i = { IOVA + guest, len, GUEST_USER + guest, perm, VU_IOTLB_UPDATE, { 0 } };

        return say(VU_IOTLB_MSG, &i, sizeof(i), -1);
}

static void send_invalidate(uint64_t iova, uint64_t len)
{
        struct vu_iotlb i = { .iova = iova, .size = len, .type = VU_IOTLB_INVALIDATE };

        send_raw(VU_IOTLB_MSG, VU_VERSION | VU_NEED_REPLY, &i, sizeof(i), NULL, 0);
}

static void invalidate(uint64_t iova, uint64_t len)
{
        struct packet k;

        send_invalidate(iova, len);
        assert_true(answered(VU_IOTLB_MSG, &k) && k.p.u64 == 0);
}

/* The next question: the guest's page, UINT64_MAX when there is none. */
static uint64_t asked(uint8_t *perm)
{
        struct {
                struct vu_header h;
                struct vu_iotlb i;
        } __attribute__((packed)) m;

        turn();
        if (recv(back, &m, sizeof(m), 0) != sizeof(m))
                return UINT64_MAX;
        assert_int_equal(m.h.request, VU_BACK_IOTLB_MSG);
        assert_int_equal(m.h.flags, VU_VERSION | VU_NEED_REPLY);
        assert_int_equal(m.h.size, sizeof(m.i));
        assert_int_equal(m.i.type, VU_IOTLB_MISS);
        *perm = m.i.perm;
        return m.i.iova - IOVA;
}

static void say_asked(bool ok)
{
        struct {
                struct vu_header h;
                uint64_t v;
        } __attribute__((packed)) a = { { VU_BACK_IOTLB_MSG, VU_VERSION | VU_REPLY, 8 }, !ok };

        assert_int_equal(send(back, &a, sizeof(a), MSG_NOSIGNAL), sizeof(a));
        turn();
}

/* As QEMU: an update for each question, then the answer to it. How many there were. */
static unsigned answer_all(void)
{
        unsigned n = 0;
        uint64_t page;
        uint8_t perm;

        while ((page = asked(&perm)) != UINT64_MAX) {
                assert_int_equal(update(page, 4096, perm), 0);
                say_asked(true);
                n++;
                turn();
        }
        return n;
}

static void test_a_request(void **state)
{
        begin();
        assert_int_equal(answer_all(), 3); /* the ring's three areas */
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(answer_all(), 1);
        assert_int_equal(used_idx(), 1);
        offer(1); /* the same page: nobody is asked */
        kick_it();
        assert_int_equal(used_idx(), 2);
        assert_int_equal(*(uint8_t *)at(0x1010), 0x5a);
        finish();
}

/* All that a chain misses is asked for, in one round. */
static void test_a_long_chain(void **state)
{
        struct vring_desc *d = at(DESC);

        begin();
        answer_all();
        for (unsigned i = 0; i < 5; i++)
                d[i] = (struct vring_desc){ IOVA + 0x1000 + 0x1000 * (i % 3), 100, (uint16_t)(VRING_DESC_F_WRITE |
                                            (i < 4 ? VRING_DESC_F_NEXT : 0)), (uint16_t)(i + 1) };
        offer(0);
        kick_it();
        assert_int_equal(answer_all(), 3);
        assert_int_equal(used_idx(), 1);
        finish();
}

/* What the IOMMU does not map, or not for writing, breaks the queue and nothing is written. */
static void test_not_allowed(void **state)
{
        uint8_t perm;

        begin();
        answer_all();
        offer(0);
        kick_it();
        assert_int_equal(asked(&perm), 0x1000);
        assert_int_equal(perm, IOTLB_WRITE);
        say_asked(false);
        turn();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(*(uint8_t *)at(0x1000), 0);
        assert_int_equal(ended, 0);
        finish();
        begin();
        answer_all();
        assert_int_equal(update(0x1000, 4096, IOTLB_READ), 0);
        offer(0);
        kick_it();
        assert_int_equal(asked(&perm), 0x1000);
        assert_int_equal(update(0x1000, 4096, IOTLB_READ), 0);
        say_asked(true);
        turn();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(*(uint8_t *)at(0x1000), 0);
        finish();
}

/* The answer to INVALIDATE comes when nothing in flight touches the range: then the page may be somebody else's. */
static void test_invalidate_in_flight(void **state)
{
        struct packet k;

        begin();
        answer_all();
        hold = true;
        offer(0);
        kick_it();
        answer_all();
        assert_int_equal(nheld, 1);
        invalidate(IOVA + 0x3000, 0x1000); /* another page: at once */
        send_invalidate(IOVA + 0x1000, 0x1000);
        assert_false(answered(VU_IOTLB_MSG, &k));
        release_all();
        assert_true(answered(VU_IOTLB_MSG, &k) && k.p.u64 == 0);
        assert_int_equal(used_idx(), 1);
        hold = false;
        offer(1);
        kick_it();
        assert_int_equal(used_idx(), 1);
        assert_int_equal(answer_all(), 1); /* it is asked for again */
        assert_int_equal(used_idx(), 2);
        finish();
}

/* Everything is taken back, the ring's own memory too, while requests are in flight: their answers wait, none is lost. */
static void test_all_taken_back(void **state)
{
        struct packet k;

        begin();
        answer_all();
        hold = true;
        offer(0);
        offer(1);
        kick_it();
        answer_all();
        assert_int_equal(nheld, 2);
        send_invalidate(0, 0);
        assert_false(answered(VU_IOTLB_MSG, &k));
        release_all();
        assert_true(answered(VU_IOTLB_MSG, &k));
        assert_int_equal(used_idx(), 0); /* where that is we do not know */
        assert_int_equal(answer_all(), 3);
        assert_int_equal(used_idx(), 2);
        finish();
}

/* Stops do not wait for translations that nobody will bring. */
static void test_stop_without(void **state)
{
        struct packet k;

        begin(); /* before the ring was found */
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k) && k.p.state.num == 0);
        finish();
        begin(); /* while a request waits */
        answer_all();
        offer(0);
        kick_it();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k) && k.p.state.num == 0);
        finish();
        begin(); /* with an answer that cannot be given */
        answer_all();
        hold = true;
        offer(0);
        kick_it();
        answer_all();
        send_invalidate(0, 0);
        turn();
        release_all();
        assert_true(answered(VU_IOTLB_MSG, &k));
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        hold = false;
        finish();
}

/* What was known goes with the rings: nobody told us what changed meanwhile. */
static void test_stop_and_start(void **state)
{
        struct packet k;

        begin();
        answer_all();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(say_u64(VU_SET_FEATURES, WITH_IOMMU, -1), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 0);
        assert_int_equal(answer_all(), 3);
        offer(0);
        kick_it();
        assert_int_equal(answer_all(), 1);
        assert_int_equal(used_idx(), 1);
        finish();
}

/* --- hostile ones ------------------------------------------------------------------------------------------------------ */

static void test_refused(void **state)
{
        struct vu_iotlb miss = { .iova = 1, .size = 1, .type = VU_IOTLB_MISS };
        uint64_t no_ack = ALL_PF & ~(1ull << VU_PF_REPLY_ACK);

        running_session(); /* without the feature */
        assert_int_equal(update(0x1000, 4096, 3), 1);
        assert_int_equal(say_u64(VU_SET_FEATURES, WITH_IOMMU, -1), 1); /* not now */
        disconnect();
        begin();
        answer_all();
        assert_int_equal(say(VU_IOTLB_MSG, &miss, sizeof(miss), -1), 1);
        assert_int_equal(update(0x1000, 0, 3), 1);
        assert_int_equal(update(0x100000, 4096, 3), 0); /* leads nowhere: who uses it finds out */
        ((struct vring_desc *)at(DESC))[0].addr = IOVA + 0x100000;
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        finish();
        connect_session(); /* no way to hear that it was done */
        handshake(WITH_IOMMU);
        send_raw(VU_SET_PROTOCOL_FEATURES, VU_VERSION, &no_ack, 8, NULL, 0);
        assert_int_equal(set_memory(), -1); /* without REPLY_ACK nothing is answered */
        send_raw(VU_SET_VRING_KICK, VU_VERSION, &(uint64_t){ 0 }, 8, &kick, 1);
        turn();
        disconnect();
}

/* The ring's memory leads out of the guest's. */
static void test_a_ring_nowhere(void **state)
{
        uint8_t perm;

        begin();
        while (asked(&perm) != UINT64_MAX)
                say_asked(false);
        turn();
        assert_int_equal(ended, 0);
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 0);
        finish();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_look),
                TEST(test_invalidate),
                TEST(test_corners),
                TEST(test_bounded),
                TEST(test_a_request),
                TEST(test_a_long_chain),
                TEST(test_not_allowed),
                TEST(test_invalidate_in_flight),
                TEST(test_all_taken_back),
                TEST(test_stop_without),
                TEST(test_stop_and_start),
                TEST(test_refused),
                TEST(test_a_ring_nowhere),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
