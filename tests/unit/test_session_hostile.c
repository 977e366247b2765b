/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests and front ends that mean no good, or do not know better. Nothing may leak, crash or hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/fault.h"
#include "tests/unit/session_fixture.h"

/* --- hostile guests ---------------------------------------------------------------------------------------------- */

static void test_broken_queue(void **state)
{
        AUTO(closep) int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        struct packet k;

        running_session();
        assert_int_equal(say_u64(VU_SET_VRING_ERR, 0, err), 0);
        hold = true;
        offer(0);
        kick_it();
        offer(0); /* the same head again */
        kick_it();
        assert_int_equal(drain(err), 1);
        offer(1);
        kick_it();
        assert_int_equal(nheld, 1);
        release_all();
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ 0, 0 }, 8, NULL, 0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        /* a reset guest gets a working queue again */
        hold = false;
        start_ring(0);
        offer(1);
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_refusals(void **state)
{
        AUTO(closep) int zero = memfd_create("no eventfd", MFD_CLOEXEC);
        static const uint32_t sizes[] = { 0, 3, 7, 1000, 1025, 2048, 32768, 65536, UINT32_MAX };

        running_session();
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                assert_int_equal(say_state(VU_SET_VRING_NUM, 1, sizes[i]), 1);
        for (uint32_t i = 0; i < 5; i++) {
                uint32_t bad = i == 4 ? UINT32_MAX : QUEUES + i;

                assert_int_equal(say_state(VU_SET_VRING_NUM, bad, 8), 1);
                assert_int_equal(say_state(VU_SET_VRING_BASE, bad, 8), 1);
                assert_int_equal(say_state(VU_SET_VRING_ENABLE, bad, 1), 1);
                assert_int_equal(set_addr(bad), 1);
                assert_int_equal(say_u64(VU_SET_VRING_KICK, (QUEUES + i) & 0xff, kick), 1);
        }
        assert_int_equal(say_state(VU_SET_VRING_BASE, 1, 65536), 1);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 1, 2), 1);
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, 8), 1); /* running */
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 0, kick), 1);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1, -1), 1);                   /* no fd and no flag */
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1 | VU_VRING_NO_FD, call), 1); /* both */
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 1, zero), 1);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 1, peer), 1);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 1ull << 32, kick), 1);
        assert_int_equal(say_u64(VU_SET_PROTOCOL_FEATURES, 1ull << 2, -1), 1);
        offer(0); /* and after all that it still works */
        kick_it();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

/* A GET message for a queue that does not exist has no way to be refused. */
static void test_get_vring_base_of_nothing(void **state)
{
        connect_session();
        handshake(FEATURES);
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ QUEUES, 0 }, 8, NULL, 0);
        turn();
        assert_int_equal(ended, 1);
        disconnect();
}

/* Who holds the other end of its own socket never hears that the front end is gone. disconnect() sees the end. */
static void test_its_own_end_as_an_fd(void **state)
{
        running_session();
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, peer), 1);
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, kick), 1);
        assert_int_equal(say_u64(VU_SET_BACKEND_REQ_FD, 0, memfd), 1);
        disconnect();
}

static void test_start_fails(void **state)
{
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        refuse_start = true;
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 1);
        disconnect();
        assert_int_equal(stops, 0);
}

static void test_packed_rings_are_refused(void **state)
{
        connect_session();
        handshake(FEATURES | 1ull << VIRTIO_F_RING_PACKED); /* some front ends pass bits nobody offered */
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 1);
        disconnect();
}

/* --- every message, wrong in every way --------------------------------------------------------------------------- */

/* Every request number, every payload size up to 300, in three states: no crash, no leak, and the rest goes on or
 * ends. */
static void test_all_sizes(void **state)
{
        static const uint8_t zeros[300];

        for (unsigned how = 0; how < 3; how++)
                for (uint32_t request = 0; request <= VU_REQUEST_MAX + 2; request++)
                        for (uint32_t len = 0; len <= sizeof(zeros); len += len < 50 || len > 260 ? 1 : 7) {
                                connect_session();
                                if (how)
                                        handshake(FEATURES);
                                if (how == 2)
                                        assert_int_equal(set_memory(), 0);
                                send_raw(request, VU_VERSION | VU_NEED_REPLY, zeros, len, NULL, 0);
                                turn();
                                disconnect();
                        }
        assert_int_equal(open_fds(), fds_before + 3);
}

static void test_all_fd_counts(void **state)
{
        uint8_t zeros[300] = { 0 };
        int fds[32];

        for (unsigned i = 0; i < 32; i++)
                fds[i] = i & 1 ? kick : memfd;
        for (uint32_t request = 0; request <= VU_REQUEST_MAX; request++)
                for (unsigned n = 0; n <= 32; n++)
                        for (uint32_t len = 0; len <= 40; len += 8) {
                                connect_session();
                                handshake(FEATURES);
                                send_raw(request, VU_VERSION, zeros, len, fds, n);
                                turn();
                                disconnect();
                        }
        assert_int_equal(open_fds(), fds_before + 3);
}

/* Messages that make sense alone, in every sequence of three. */
static const struct {
        uint32_t request;
        uint64_t word[5];
        uint32_t len;
        int fd; /* 0: none, 1: kick, 2: memory */
} sane[] = {
        { VU_GET_FEATURES, { 0 }, 0, 0 },
        { VU_SET_FEATURES, { FEATURES }, 8, 0 },
        { VU_SET_FEATURES, { 1ull << VIRTIO_F_VERSION_1 }, 8, 0 },
        { VU_SET_PROTOCOL_FEATURES, { ALL_PF }, 8, 0 },
        { VU_SET_PROTOCOL_FEATURES, { 0 }, 8, 0 },
        { VU_SET_OWNER, { 0 }, 0, 0 },
        { VU_RESET_OWNER, { 0 }, 0, 0 },
        { VU_SET_MEM_TABLE, { 0 }, 8, 0 },
        { VU_ADD_MEM_REG, { 0, 0x10000, 0x4000, GUEST_USER + 0x10000, 0x3000 }, 40, 2 },
        { VU_REM_MEM_REG, { 0, 0x10000, 0x4000, GUEST_USER + 0x10000, 0x3000 }, 40, 0 },
        { VU_SET_LOG_BASE, { 0x1000, 0 }, 16, 2 },
        { VU_SET_FEATURES, { FEATURES | 1ull << VU_F_LOG_ALL }, 8, 0 },
        { VU_SET_VRING_NUM, { 8ull << 32 }, 8, 0 },
        { VU_SET_VRING_ADDR, { 0, GUEST_USER + DESC, GUEST_USER + USED, GUEST_USER + AVAIL, 0 }, 40, 0 },
        { VU_SET_VRING_BASE, { 0 }, 8, 0 },
        { VU_GET_VRING_BASE, { 0 }, 8, 0 },
        { VU_SET_VRING_KICK, { 0 }, 8, 1 },
        { VU_SET_VRING_KICK, { VU_VRING_NO_FD }, 8, 0 },
        { VU_SET_VRING_CALL, { 0 }, 8, 1 },
        { VU_SET_VRING_ERR, { 0 }, 8, 1 },
        { VU_SET_VRING_ENABLE, { 1ull << 32 }, 8, 0 },
        { VU_SET_VRING_ENABLE, { 0 }, 8, 0 },
        { VU_SET_BACKEND_REQ_FD, { 0 }, 8, 1 },
        { VU_GET_CONFIG, { 8ull << 32 }, 12, 0 },
        { VU_RESET_DEVICE, { 0 }, 0, 0 },
        { VU_SET_STATUS, { 0 }, 8, 0 },
        { VU_GET_INFLIGHT_FD, { 0, 0, 1 | 128 << 16 }, 24, 0 },
        { VU_SET_INFLIGHT_FD, { 0x1000, 0, 1 | 128 << 16 }, 24, 2 },
};

static void send_sane(unsigned i)
{
        int fd = sane[i].fd == 1 ? kick : memfd;

        send_raw(sane[i].request, VU_VERSION | VU_NEED_REPLY, sane[i].word, sane[i].len, &fd, sane[i].fd != 0);
}

static void test_all_sequences(void **state)
{
        const unsigned n = ARRAY_SIZE(sane);

        for (unsigned ready = 0; ready < 2; ready++)
                for (unsigned s = 0; s < n * n * n; s++) {
                        if ((s % n + s / n % n + s / n / n) % 2) /* every pair, and half of what comes behind it */
                                continue;
                        clear_ring();
                        if (ready)
                                running_session();
                        else
                                connect_session();
                        offer(0);
                        send_sane(s % n);
                        send_sane(s / n % n);
                        send_sane(s / n / n);
                        turn();
                        disconnect();
                }
        assert_int_equal(open_fds(), fds_before + 3);
}

/* Each resource runs out once. */
static void test_faults(void **state)
{
        static const char *const specs[] = { "mem.map=1:ENOMEM", "mem.map=3:ENOMEM", "wire.receive=9:EIO",
                                             "wire.send=2:EIO" };

        for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
                uint64_t pf = ALL_PF;

                connect_session();
                assert_int_equal(fault_arm(specs[i]), 0);
                send_raw(VU_SET_PROTOCOL_FEATURES, VU_VERSION, &pf, sizeof(pf), NULL, 0);
                send_raw(VU_GET_FEATURES, VU_VERSION, NULL, 0, NULL, 0);
                send_raw(VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, NULL, 0, NULL, 0);
                turn();
                set_memory();
                set_memory();
                fault_arm(NULL);
                disconnect();
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_broken_queue),
                TEST(test_refusals),
                TEST(test_get_vring_base_of_nothing),
                TEST(test_its_own_end_as_an_fd),
                TEST(test_start_fails),
                TEST(test_packed_rings_are_refused),
                TEST(test_all_sizes),
                TEST(test_all_fd_counts),
                TEST(test_all_sequences),
                TEST(test_faults),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
