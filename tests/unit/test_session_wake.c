/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that is asleep while no ring runs: who waits for whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/unit/session_fixture.h"

/* Up to the message that starts ring 0, which is not answered yet. */
static void almost_running(void)
{
        struct vu_vring_state on = { 0, 1 };
        struct packet k;

        sleepy(true);
        starts = 0;
        connect_session();
        handshake(FEATURES);
        assert_int_equal(set_memory(), 0);
        start_ring(0);
        assert_int_equal(wakes, 0); /* asking costs nothing */
        send_raw(VU_SET_VRING_ENABLE, VU_VERSION | VU_NEED_REPLY, &on, sizeof(on), NULL, 0);
        assert_false(answered(VU_SET_VRING_ENABLE, &k));
        assert_int_equal(wakes, 1);
        assert_int_equal(starts, 0);
}

static void ask_base(uint32_t q)
{
        send_raw(VU_GET_VRING_BASE, VU_VERSION, &(struct vu_vring_state){ q, 0 }, 8, NULL, 0);
}

static void test_start_and_stop(void **state)
{
        struct packet k;

        almost_running();
        turn_over(0);
        assert_true(answered(VU_SET_VRING_ENABLE, &k) && k.p.u64 == 0);
        assert_int_equal(starts, 1);
        offer(0);
        kick_it();
        assert_int_equal(used_idx(), 1);
        ask_base(0);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(stops, 1);
        assert_int_equal(rests, 1);
        turn_over(0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(k.p.state.num, 1);
        assert_int_equal(say_state(VU_SET_VRING_BASE, 0, 1), 0); /* and again */
        send_raw(VU_SET_VRING_KICK, VU_VERSION | VU_NEED_REPLY, &(uint64_t){ 0 }, 8, &kick, 1);
        assert_false(answered(VU_SET_VRING_KICK, &k));
        assert_int_equal(wakes, 2);
        turn_over(0);
        assert_true(answered(VU_SET_VRING_KICK, &k) && k.p.u64 == 0);
        offer(1);
        kick_it();
        assert_int_equal(used_idx(), 2);
        close(TAKE(peer, -1));
        turn();
        assert_int_equal(ended, 0); /* the end waits for the image, too */
        assert_int_equal(rests, 2);
        turn_over(0);
        disconnect();
}

/* One wake for all rings; the rest comes behind the last one. */
static void test_two_rings(void **state)
{
        struct packet k;

        almost_running();
        turn_over(0);
        assert_true(answered(VU_SET_VRING_ENABLE, &k));
        assert_int_equal(say_state(VU_SET_VRING_NUM, 1, NUM), 0);
        assert_int_equal(set_addr(1), 0);
        assert_int_equal(say_u64(VU_SET_VRING_KICK, 1, kick), 0);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 1, 1), 0);
        assert_int_equal(starts, 2);
        assert_int_equal(wakes, 1);
        ask_base(0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(rests, 0);
        ask_base(1);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        turn_over(0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(rests, 1);
        disconnect();
}

/* Somebody else has the image: the front end is told, and may try again. */
static void test_no_wake(void **state)
{
        struct packet k;

        almost_running();
        turn_over(-EBUSY);
        assert_true(answered(VU_SET_VRING_ENABLE, &k) && k.p.u64 == 1);
        assert_int_equal(starts, 0);
        send_raw(VU_SET_VRING_KICK, VU_VERSION | VU_NEED_REPLY, &(uint64_t){ 0 }, 8, &kick, 1);
        assert_false(answered(VU_SET_VRING_KICK, &k));
        assert_int_equal(wakes, 2);
        turn_over(0);
        assert_true(answered(VU_SET_VRING_KICK, &k) && k.p.u64 == 0);
        assert_int_equal(starts, 1);
        refuse_start = true; /* awake for nothing: back to rest */
        ask_base(0);
        turn();
        turn_over(0);
        assert_true(answered(VU_GET_VRING_BASE, &k));
        send_raw(VU_SET_VRING_KICK, VU_VERSION | VU_NEED_REPLY, &(uint64_t){ 0 }, 8, &kick, 1);
        turn();
        turn_over(0);
        assert_int_equal(rests, 2);
        turn_over(0);
        assert_true(answered(VU_SET_VRING_KICK, &k) && k.p.u64 == 1);
        disconnect();
}

/* Not all of the image is on its disk: no answer that would let another process have it. */
static void test_no_rest(void **state)
{
        struct packet k;

        almost_running();
        turn_over(0);
        assert_true(answered(VU_SET_VRING_ENABLE, &k));
        ask_base(0);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        turn_over(-EIO);
        assert_false(answered(VU_GET_VRING_BASE, &k));
        assert_int_equal(ended, 1);
        disconnect();
}

static void test_gone_meanwhile(void **state)
{
        almost_running();
        close(TAKE(peer, -1));
        turn();
        assert_int_equal(ended, 0);
        turn_over(0);
        assert_int_equal(starts, 0);
        assert_int_equal(rests, 1);
        turn_over(-EIO);
        disconnect();
        wakes = rests = 0;
        almost_running();
        close(TAKE(peer, -1));
        turn();
        turn_over(-EBUSY);
        assert_int_equal(rests, 0);
        disconnect();
}

static void test_reset(void **state)
{
        struct packet k;

        almost_running();
        turn_over(0);
        assert_true(answered(VU_SET_VRING_ENABLE, &k));
        send_raw(VU_RESET_DEVICE, VU_VERSION | VU_NEED_REPLY, NULL, 0, NULL, 0);
        assert_false(answered(VU_RESET_DEVICE, &k));
        assert_int_equal(rests, 1);
        turn_over(0);
        assert_true(answered(VU_RESET_DEVICE, &k) && k.p.u64 == 0);
        disconnect();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_start_and_stop),
                TEST(test_two_rings),
                TEST(test_no_wake),
                TEST(test_no_rest),
                TEST(test_gone_meanwhile),
                TEST(test_reset),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
