/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device may take of its thread (vhost_user/ring/ring_share.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/session_fixture.h"

/* @n requests of 127 times @len bytes each. */
static void offer_long(uint16_t n, uint32_t len)
{
        struct vring_desc *table = at(0x2000), *desc = at(DESC);

        for (uint16_t i = 0; i < 127; i++)
                table[i] = (struct vring_desc){ 0x10000, len, VRING_DESC_F_NEXT, (uint16_t)(i + 1) };
        table[127] = (struct vring_desc){ 0x1000, 1, VRING_DESC_F_WRITE, 0 };
        for (uint16_t i = 0; i < n; i++) {
                desc[i] = (struct vring_desc){ 0x2000, 128 * sizeof(*table), VRING_DESC_F_INDIRECT, 0 };
                offer(i);
        }
}

/* A request of 1 MiB is a device's share of a round, and its rings take turns. (They lie in the same memory here.) */
static void test_rings_share_a_round(void **state)
{
        static struct vu_share share;

        device.shares = &share;
        running_session();
        start_ring(1);
        assert_int_equal(say_state(VU_SET_VRING_ENABLE, 1, 1), 0);
        offer_long(3, 0x2000);
        hold = true;
        for (unsigned i = 0; i < 6; i++) {
                fake_poll(thread);
                assert_int_equal(nheld, i + 1);
                assert_int_equal(held[i]->ring->index, i % 2);
        }
        fake_poll(thread);
        assert_int_equal(nheld, 6);
        release_all();
        disconnect();
        device.shares = NULL;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_rings_share_a_round, setup, teardown),
        };

        return cmocka_run_group_tests(tests, fixture_begin, fixture_end);
}
