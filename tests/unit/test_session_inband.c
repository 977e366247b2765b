/* SPDX-License-Identifier: BSD-3-Clause */
/* In-band notifications: kicks, calls and errors as messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <sys/socket.h>

#include "tests/unit/session_fixture.h"

static int back; /* our end of the back-end channel */

/* A ring that has no eventfd at all, not kicked yet. */
static void inband_session(void)
{
        int sv[2];

        connect_session();
        handshake_with(FEATURES, ALL_PF | INBAND_PF);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
        back = sv[0];
        assert_int_equal(say(VU_SET_BACKEND_REQ_FD, NULL, 0, sv[1]), 0);
        close(sv[1]);
        assert_int_equal(set_memory(), 0);
        clear_ring();
        assert_int_equal(say_state(VU_SET_VRING_NUM, 0, NUM), 0);
        assert_int_equal(set_addr(0), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 0, 1), 0);
        assert_int_equal(starts, 0);
}

static void end(void)
{
        close(back);
        disconnect();
}

/* The next message of the channel about ring 0: its number, or 0. */
static uint32_t told(void)
{
        struct { struct vu_header h; struct vu_vring_state s; } m;

        turn();
        if (recv(back, &m, sizeof(m), MSG_DONTWAIT) != sizeof(m))
                return 0;
        assert_int_equal(m.h.flags, VU_VERSION | VU_NEED_REPLY);
        assert_int_equal(m.h.size, sizeof(m.s));
        assert_int_equal(m.s.index, 0);
        assert_int_equal(m.s.num, 0);
        return m.h.request;
}

static void acknowledge(uint32_t request)
{
        struct { struct vu_header h; uint64_t v; } __attribute__((packed)) m = { { request, VU_VERSION | VU_REPLY, 8 }, 0 };

        assert_int_equal(send(back, &m, sizeof(m), 0), sizeof(m));
        turn();
}

static void test_kick_starts_the_ring_and_is_a_kick(void **state)
{
        inband_session();
        offer(0);
        turn();
        assert_int_equal(used_idx(), 0);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        turn();
        assert_int_equal(starts, 1);
        assert_int_equal(used_idx(), 1);
        offer(1);
        assert_int_equal(fake_expire(thread), 0); /* nobody polls */
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        turn();
        assert_int_equal(used_idx(), 2);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 1), 1);
        assert_int_equal(say_state(VU_VRING_KICK, QUEUES, 0), 1);
        end();
}

/* The kick is acknowledged when its requests are with the device: simulations count on that. */
static void test_kick_is_answered_when_its_requests_are_taken(void **state)
{
        inband_session();
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        hold = true;
        offer(0);
        offer(1);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(nheld, 2);
        release_all();
        end();
}

static void test_call_is_a_message_and_calls_are_merged(void **state)
{
        inband_session();
        offer(0);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(told(), VU_BACK_VRING_CALL);
        offer(1);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        offer(2);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(used_idx(), 3);
        assert_int_equal(told(), 0); /* the first one is not acknowledged */
        acknowledge(VU_BACK_VRING_CALL);
        assert_int_equal(told(), VU_BACK_VRING_CALL);
        acknowledge(VU_BACK_VRING_CALL);
        assert_int_equal(told(), 0);
        end();
}

/* An eventfd is preferred; and a front end that says "none" looks for itself. */
static void test_eventfd_or_none_instead_of_messages(void **state)
{
        inband_session();
        assert_int_equal(say_u64(VU_SET_VRING_CALL, 0, call), 0);
        drain(call);
        offer(0);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(told(), 0);
        assert_true(drain(call) > 0);
        assert_int_equal(say_u64(VU_SET_VRING_CALL, VU_VRING_NO_FD, -1), 0);
        offer(1);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(used_idx(), 2);
        assert_int_equal(told(), 0);
        end();
}

static void test_error_is_a_message(void **state)
{
        inband_session();
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        offer(NUM + 5);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        assert_int_equal(told(), VU_BACK_VRING_ERR);
        acknowledge(VU_BACK_VRING_ERR);
        end();
}

/* No channel, no rings: what is due waits, and nobody trips over it. */
static void test_without_a_channel(void **state)
{
        inband_session();
        close(back);
        offer(0);
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), 0);
        turn();
        assert_int_equal(used_idx(), 1);
        disconnect();
}

static void test_needs_its_two_companions(void **state)
{
        static const uint64_t wrong[] = { INBAND_PF, INBAND_PF | 1ull << VU_PF_REPLY_ACK, INBAND_PF | 1ull << VU_PF_BACKEND_REQ };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                connect_session();
                assert_int_equal(say_u64(VU_SET_PROTOCOL_FEATURES, wrong[i], -1), -1); /* hung up, as the specification wants */
                disconnect();
        }
        running_session(); /* and a kick as a message needs the feature */
        assert_int_equal(say_state(VU_VRING_KICK, 0, 0), -1);
        disconnect();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_kick_starts_the_ring_and_is_a_kick),
                TEST(test_kick_is_answered_when_its_requests_are_taken),
                TEST(test_call_is_a_message_and_calls_are_merged),
                TEST(test_eventfd_or_none_instead_of_messages),
                TEST(test_error_is_a_message),
                TEST(test_without_a_channel),
                TEST(test_needs_its_two_companions),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
