/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/vq_ops.h"

#define NUM 4u
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull

/* The driver's side: plain memory. */
struct guest {
        struct mem_table *mt;
        struct vring_desc *desc;
        uint16_t *avail; /* flags, idx, ring[NUM], used_event */
        uint16_t *used;  /* flags, idx, { id, len }[NUM] as words of 32 bits, avail_event */
        struct virtqueue vq;
        struct chain chain;
};
static const struct vq_layout layout = { NUM, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED };

static int setup(void **state)
{
        struct guest *g = calloc(1, sizeof(*g));

        g->mt = guest_new(NULL);
        g->desc = (void *)guest_at(g->mt, DESC);
        g->avail = (void *)guest_at(g->mt, AVAIL);
        g->used = (void *)guest_at(g->mt, USED);
        for (unsigned i = 0; i < NUM; i++)
                g->desc[i] = (struct vring_desc){ 0x1000 + 16 * i, 16, 0, 0 };
        *state = g;
        return vq_start(&g->vq, g->mt, &layout, 0);
}

static int teardown(void **state)
{
        struct guest *g = *state;

        mem_table_put(g->mt);
        free(g);
        return 0;
}

static void offer(struct guest *g, uint16_t head)
{
        g->avail[2 + g->avail[1] % NUM] = head;
        g->avail[1]++;
}

static void push(struct guest *g, uint16_t head, uint32_t written)
{
        struct chain c = { .head = head };

        vq_push(&g->vq, &c, written);
}

static void test_sizes(void **state)
{
        for (uint32_t n = 0; n <= 70000; n++)
                assert_int_equal(vq_size_ok(n, false), n && n <= 1024 && !(n & (n - 1)));
        assert_true(vq_size_ok(1000, true) && vq_size_ok(1, true) && vq_size_ok(1024, true));
        assert_false(vq_size_ok(1u << 31, false) || vq_size_ok(1u << 31, true) || vq_size_ok(0, true) || vq_size_ok(1025, true));
}

static void test_start_refuses(void **state)
{
        struct guest *g = *state;
        struct vq_layout l = layout;

        l.device = GUEST_USER + 0x14000 - 36; /* just without the event field: 4 + 4 * 8 + 2 = 38 bytes */
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), -EFAULT);
        l.device = GUEST_USER + 0x14000 - 40;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), 0);
        l.desc += 8;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), -EFAULT);
        l = layout;
        l.driver++;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), -EFAULT);
        l.driver = 0;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), -EFAULT);
        err_clear();
}

/* Three rounds of the index: heads come back in any order, the used ring tells which and how much. */
static void test_pop_and_push(void **state)
{
        struct guest *g = *state;

        g->avail[1] = g->used[1] = 0xfff0;
        assert_int_equal(vq_start(&g->vq, g->mt, &layout, 0xfff0), 0);
        for (unsigned n = 0; n < 40; n++) {
                uint32_t at = g->vq.split.used_idx % NUM;

                offer(g, (uint16_t)(n % NUM));
                offer(g, (uint16_t)((n + 1) % NUM));
                assert_int_equal(vq_waiting(&g->vq), 2);
                assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
                assert_int_equal(g->chain.head, n % NUM);
                assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
                assert_int_equal(vq_waiting(&g->vq), 0);
                assert_int_equal(g->vq.in_flight, 2);
                push(g, (uint16_t)((n + 1) % NUM), n);
                assert_int_equal(((uint32_t *)(void *)g->used)[1 + 2 * at], (n + 1) % NUM);
                assert_int_equal(((uint32_t *)(void *)g->used)[2 + 2 * at], n);
                push(g, (uint16_t)(n % NUM), 0);
                assert_int_equal(g->used[1], (uint16_t)(0xfff0 + 2 * n)); /* not shown yet */
                assert_true(vq_publish(&g->vq));
                assert_int_equal(g->used[1], (uint16_t)(0xfff0 + 2 * n + 2));
                assert_false(vq_publish(&g->vq));
        }
}

static void test_hostile_indices(void **state)
{
        struct guest *g = *state;

        g->avail[1] = NUM;
        assert_int_equal(vq_waiting(&g->vq), NUM);
        g->avail[1] = NUM + 1;
        assert_int_equal(vq_waiting(&g->vq), -EINVAL);
        assert_non_null(g->vq.broken);
        assert_int_equal(vq_start(&g->vq, g->mt, &layout, 0), 0);
        g->avail[1] = (uint16_t)-1;
        assert_int_equal(vq_waiting(&g->vq), -EINVAL);

        assert_int_equal(vq_start(&g->vq, g->mt, &layout, 0), 0);
        g->avail[1] = 0;
        offer(g, NUM);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), -EINVAL);
        assert_int_equal(g->vq.split.last_avail, 0);
        assert_int_equal(g->vq.in_flight, 0);
}

static void test_same_head_twice(void **state)
{
        struct guest *g = *state;

        offer(g, 2);
        offer(g, 2);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), -EINVAL);
        assert_string_equal(g->vq.broken, "a head or buffer id that is in flight already");
        assert_int_equal(g->vq.in_flight, 1);

        assert_int_equal(vq_start(&g->vq, g->mt, &layout, 0), 0);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
        push(g, 2, 0);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1); /* given back in between: fine */
}

/* Every (old, new, event) of an 8-bit index. Times 256, the 16-bit index wraps where the small one does. */
static void test_all_events(void **state)
{
        for (unsigned from = 0; from < 256; from++)
                for (unsigned to = 0; to < 256; to++)
                        for (unsigned event = 0; event < 256; event++) {
                                bool want = ((event - from) & 255) < ((to - from) & 255); /* event in [from, to) */

                                if (vq_event_passed((uint16_t)(event << 8), (uint16_t)(from << 8),
                                                    (uint16_t)(to << 8)) != want)
                                        fail_msg("from %u to %u, event %u", from, to, event);
                        }
}

static void test_event_edges(void **state)
{
        static const unsigned edge[] = { 0, 1, 2, 3, 127, 128, 255, 256, 1023, 1024, 32766, 32767, 32768, 32769,
                                         65279, 65280, 65532, 65533, 65534, 65535 };

        for (size_t i = 0; i < ARRAY_SIZE(edge); i++)
                for (size_t j = 0; j < ARRAY_SIZE(edge); j++)
                        for (unsigned event = 0; event < 65536; event++) {
                                bool want = ((event - edge[i]) & 0xffff) < ((edge[j] - edge[i]) & 0xffff);

                                if (vq_event_passed((uint16_t)event, (uint16_t)edge[i], (uint16_t)edge[j]) != want)
                                        fail_msg("from %u to %u, event %u", edge[i], edge[j], event);
                        }
}

static bool serve_one(struct guest *g)
{
        offer(g, 0);
        if (vq_waiting(&g->vq) != 1 || vq_pop(&g->vq, g->mt, &g->chain) < 0)
                fail_msg("nothing to serve");
        push(g, 0, 0);
        return vq_publish(&g->vq);
}

static void test_when_to_notify(void **state)
{
        struct guest *g = *state;

        assert_true(serve_one(g));
        g->avail[0] = VRING_AVAIL_F_NO_INTERRUPT;
        assert_false(serve_one(g));
        g->avail[0] = 0;
        assert_true(serve_one(g));

        g->vq.event_idx = true;
        g->avail[0] = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing now */
        g->avail[2 + NUM] = 3;                    /* the fourth */
        assert_true(serve_one(g));
        assert_false(serve_one(g));
        g->avail[2 + NUM] = 6;
        assert_false(serve_one(g));
        assert_true(serve_one(g));

        assert_int_equal(vq_start(&g->vq, g->mt, &layout, g->avail[1]), 0); /* a fresh start cannot know: it notifies */
        assert_true(serve_one(g));
        assert_false(serve_one(g));
}

static void test_when_to_be_kicked(void **state)
{
        struct guest *g = *state;
        uint16_t *avail_event = g->used + 2 + NUM * 4;

        vq_want_kicks(&g->vq, false);
        assert_int_equal(g->used[0], VRING_USED_F_NO_NOTIFY);
        vq_want_kicks(&g->vq, true);
        assert_int_equal(g->used[0], 0);
        g->vq.event_idx = true;
        serve_one(g);
        serve_one(g);
        vq_want_kicks(&g->vq, true);
        assert_int_equal(*avail_event, 2);
        serve_one(g);
        vq_want_kicks(&g->vq, false);
        assert_int_equal(*avail_event, 2);
        assert_int_equal(g->used[0], 0);
}

/* The table is exchanged under a queue: it goes on in the new memory, or stays where it was and is broken. */
static void test_remap(void **state)
{
        struct guest *g = *state;
        struct mem_table *old = g->mt, *none;
        int fd = guest_memfd(GUEST_FILE), fds[GUEST_REGIONS] = { fd, fd, fd };

        offer(g, 1);
        assert_int_equal(mem_table_new(guest_layout, fds, GUEST_REGIONS, &g->mt), 0);
        close(fd);
        memcpy(guest_at(g->mt, 0x10000), guest_at(old, 0x10000), 0x4000);
        assert_int_equal(vq_remap(&g->vq, g->mt, &layout), 0);
        mem_table_put(old);
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
        assert_ptr_equal(g->chain.iov[0].iov_base, guest_at(g->mt, 0x1010));

        assert_int_equal(mem_table_new(guest_layout, fds, 0, &none), 0);
        assert_int_equal(vq_remap(&g->vq, none, &layout), -EFAULT);
        assert_non_null(g->vq.broken);
        push(g, 1, 0); /* what is in flight still has a place to go */
        mem_table_put(none);
        err_clear();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sizes),   TEST(test_start_refuses),
                TEST(test_pop_and_push),        TEST(test_hostile_indices),
                TEST(test_same_head_twice),     cmocka_unit_test(test_all_events),
                cmocka_unit_test(test_event_edges), TEST(test_when_to_notify),
                TEST(test_when_to_be_kicked),   TEST(test_remap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
