/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/unit/packed_driver.h"

#define FIRST 0x80008000u /* the base of a ring that begins */
#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)

struct guest {
        struct mem_table *mt;
        struct packed_driver d;
        struct virtqueue vq;
        struct chain chain;
};

static int setup(void **state)
{
        struct guest *g = calloc(1, sizeof(*g));

        g->mt = guest_new(NULL);
        *state = g;
        return 0;
}

static int teardown(void **state)
{
        struct guest *g = *state;

        vq_finish(&g->vq);
        mem_table_put(g->mt);
        free(g);
        err_clear();
        return 0;
}

static void begin(struct guest *g, unsigned num)
{
        struct vq_layout at = pd_layout(num);

        pd_init(&g->d, guest_at(g->mt, PD_RING), num);
        g->vq.indirect = true;
        assert_int_equal(vq_start(&g->vq, g->mt, &at, FIRST), 0);
}

static int pop(struct guest *g)
{
        return vq_pop(&g->vq, g->mt, &g->chain);
}

static void test_start_refuses(void **state)
{
        struct guest *g = *state;
        struct vq_layout l = pd_layout(4);
        static const struct { uint32_t base; int result; } bases[] = {
                { FIRST, 0 }, { 0, 0 }, { 0x80018003, 0 }, { 0x00028003, -EINVAL }, /* five of four in flight */
                { 0x80008004, -EINVAL }, { 0x80048000, -EINVAL }, { 0xffffffff, -EINVAL }, { 0x8000, 0 }, { 3, 0 },
                { 0x80000000, 0 }, /* all four in flight */ { 0x80000001, -EINVAL },
        };

        for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
                if (vq_start(&g->vq, g->mt, &l, bases[i].base) != bases[i].result)
                        fail_msg("base 0x%08x", bases[i].base);
        l.desc += 8;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, FIRST), -EFAULT);
        l = pd_layout(4);
        l.driver += 2;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, FIRST), -EFAULT);
        l = pd_layout(4);
        l.device = 0;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, FIRST), -EFAULT);
        l = pd_layout(0x4000 / 16 + 1); /* one more than the region has room for */
        assert_int_equal(vq_start(&g->vq, g->mt, &l, FIRST), -EINVAL);
        l = pd_layout(1000);
        assert_int_equal(vq_start(&g->vq, g->mt, &l, FIRST), 0);
        l.packed = false;
        assert_int_equal(vq_start(&g->vq, g->mt, &l, 0), -EINVAL); /* no power of two */
}

/* --- everything that a good guest does, at random, against a model ------------------------------------------------- */

struct model {
        unsigned short offered[PD_MAX], held[PD_MAX], pushed[PD_MAX]; /* ids, oldest first */
        unsigned noffered, nheld, npushed;
        uint32_t len[PD_MAX];
        struct chain chain[PD_MAX];
};

static unsigned short take_out(unsigned short *list, unsigned *n, unsigned at)
{
        unsigned short id = list[at];

        memmove(&list[at], &list[at + 1], (--*n - at) * sizeof(list[0]));
        return id;
}

static void guest_offers(struct guest *g, struct model *m)
{
        unsigned id = (unsigned)rand() % (g->d.num < PD_MAX ? g->d.num : PD_MAX), n = 1 + (unsigned)rand() % 3;

        if (g->d.ndescs[id] || n > g->d.free)
                return;
        pd_offer(&g->d, (uint16_t)id, n);
        m->offered[m->noffered++] = (unsigned short)id;
}

static void device_takes(struct guest *g, struct model *m)
{
        int n = vq_waiting(&g->vq);
        unsigned id, descs;

        if (!m->noffered) {
                assert_int_equal(n, 0);
                assert_int_equal(pop(g), 0);
                return;
        }
        assert_true(n >= 1);
        assert_int_equal(pop(g), 1);
        id = take_out(m->offered, &m->noffered, 0);
        descs = g->d.ndescs[id];
        assert_int_equal(g->chain.head, id);
        assert_int_equal(g->chain.ndescs, descs);
        assert_int_equal(g->chain.nread + g->chain.nwrite, descs);
        assert_int_equal(g->chain.read_len, 16 * (descs - 1));
        assert_ptr_equal(g->chain.iov[0].iov_base, guest_at(g->mt, 0x1000 + 16 * id));
        m->chain[id] = g->chain;
        m->held[m->nheld++] = (unsigned short)id;
}

static void device_gives_back(struct guest *g, struct model *m)
{
        unsigned id;

        if (!m->nheld)
                return;
        id = take_out(m->held, &m->nheld, (unsigned)rand() % m->nheld);
        m->len[id] = (unsigned)rand() % 3;
        vq_push(&g->vq, &m->chain[id], m->len[id]);
        m->pushed[m->npushed++] = (unsigned short)id;
}

static void guest_reaps(struct guest *g, struct model *m, bool shown)
{
        uint32_t len;
        int id;

        while ((id = pd_reap(&g->d, &len)) >= 0) {
                assert_true(shown);
                assert_true(m->npushed);
                assert_int_equal(id, take_out(m->pushed, &m->npushed, 0));
                assert_int_equal(len, m->len[id]);
        }
        if (shown)
                assert_int_equal(m->npushed, 0);
}

/* All is answered: somebody else goes on from the base that we give, and it is a base that we take. */
static void hand_over(struct guest *g)
{
        struct vq_layout at = pd_layout(g->d.num);
        uint32_t base = vq_base(&g->vq);

        assert_int_equal(base & 0x7fff, g->d.avail);
        assert_int_equal(base >> 15 & 1, g->d.avail_wrap);
        assert_int_equal(base >> 16, base & 0xffff);
        assert_int_equal(vq_start(&g->vq, g->mt, &at, rand() % 2 ? base : base & 0xffff), 0);
}

static void test_random_against_model(void **state)
{
        static const unsigned sizes[] = { 1, 2, 3, 5, 8, 32 };
        struct guest *g = *state;

        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
                static struct model m;

                m = (struct model){ 0 };
                begin(g, sizes[s]);
                for (unsigned round = 0; round < 20000; round++) {
                        switch (rand() % 8) {
                        case 0: case 1: case 2:
                                guest_offers(g, &m);
                                break;
                        case 3: case 4:
                                device_takes(g, &m);
                                break;
                        case 5: case 6:
                                device_gives_back(g, &m);
                                guest_reaps(g, &m, false);
                                break;
                        case 7:
                                assert_int_equal(vq_publish(&g->vq), m.npushed > 0);
                                guest_reaps(g, &m, true);
                        }
                        assert_int_equal(g->vq.in_flight, m.nheld);
                        if (!m.nheld && !m.npushed && !m.noffered && rand() % 4 == 0)
                                hand_over(g);
                }
        }
}

/* --- guests that are not good ---------------------------------------------------------------------------------------- */

static void test_hostile_ids(void **state)
{
        struct guest *g = *state;

        begin(g, 4);
        pd_write(&g->d, (struct vring_packed_desc){ 0x1000, 16, 4, 0 });
        assert_int_equal(pop(g), -EINVAL);
        assert_string_equal(g->vq.broken, "a buffer id beyond the ring");
        assert_int_equal(g->vq.in_flight, 0);

        begin(g, 4);
        pd_write(&g->d, (struct vring_packed_desc){ 0x1000, 16, 2, 0 });
        pd_write(&g->d, (struct vring_packed_desc){ 0x1000, 16, 2, 0 });
        assert_int_equal(pop(g), 1);
        assert_int_equal(pop(g), -EINVAL);
        assert_int_equal(g->vq.in_flight, 1);
        vq_push(&g->vq, &g->chain, 0); /* what is in flight still has a place to go */
        assert_true(vq_publish(&g->vq));
}

/* Descriptors that were offered again before they were given back: there is no place for their answers. */
static void test_more_than_the_ring_has(void **state)
{
        struct guest *g = *state;

        begin(g, 4);
        for (uint16_t id = 0; id < 4; id++)
                pd_offer(&g->d, id, 1);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(pop(g), 1);
        vq_push(&g->vq, &g->chain, 0); /* not shown: the guest cannot know */
        assert_int_equal(vq_waiting(&g->vq), 0);
        pd_offer(&g->d, 3, 1);
        assert_int_equal(vq_waiting(&g->vq), -EINVAL);
        assert_int_equal(pop(g), -EINVAL);
        assert_non_null(g->vq.broken);

        begin(g, 4);
        for (unsigned i = 0; i < 4; i++)
                pd_write(&g->d, (struct vring_packed_desc){ 0x1000, 16, 0, VRING_DESC_F_NEXT });
        assert_int_equal(pop(g), -EINVAL); /* a chain that never ends */
        begin(g, 4);
        pd_offer(&g->d, 0, 2);
        assert_int_equal(pop(g), 1);
        for (unsigned i = 0; i < 3; i++)
                pd_write(&g->d, (struct vring_packed_desc){ 0x1000, 16, 1, VRING_DESC_F_NEXT });
        assert_int_equal(pop(g), -EINVAL); /* two are left, and it bites the one in flight */
        assert_int_equal(g->vq.in_flight, 1);
}

/* --- each byte is fetched once ------------------------------------------------------------------------------------- */

extern void (*gm_fetch_hook)(const void *host, size_t len);
static struct { char *p; size_t len; unsigned n; } fetched;

/* What was fetched before this is what the guest now changes, to something that would be refused. */
static void spoil_last(const void *host, size_t len)
{
        if (fetched.n++)
                memset(fetched.p, 0xff, fetched.len);
        fetched.p = (char *)(uintptr_t)host;
        fetched.len = len;
}

static void test_fetched_once(void **state)
{
        struct guest *g = *state;
        struct chain c;

        begin(g, 8);
        pd_offer(&g->d, 5, 3);
        fetched.n = 0;
        gm_fetch_hook = spoil_last;
        assert_int_equal(pop(g), 1);
        gm_fetch_hook = NULL;
        assert_int_equal(fetched.n, 3);
        assert_int_equal(g->chain.head, 5);
        assert_int_equal(g->chain.read_len, 32);
        c = g->chain;
        memset(g->d.ring, 0, 8 * sizeof(g->d.ring[0]));
        vq_push(&g->vq, &c, 7);
        vq_publish(&g->vq);
        assert_int_equal(g->d.ring[0].id, 5);
        assert_int_equal(g->d.ring[0].len, 7);
        assert_int_equal(g->d.ring[0].flags, AVAIL | USED | VRING_DESC_F_WRITE);
        assert_int_equal(vq_base(&g->vq), 0x80038003);
}

/* --- events ---------------------------------------------------------------------------------------------------------- */

static bool serve(struct guest *g, unsigned n)
{
        uint32_t len;
        bool call;

        pd_offer(&g->d, 1, n);
        assert_int_equal(pop(g), 1);
        vq_push(&g->vq, &g->chain, 0);
        call = vq_publish(&g->vq);
        assert_int_equal(pd_reap(&g->d, &len), 1);
        return call;
}

static void test_when_to_notify(void **state)
{
        struct guest *g = *state;

        begin(g, 5);
        assert_true(serve(g, 1));
        g->d.driver->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
        assert_false(serve(g, 1));
        g->d.driver->flags = VRING_PACKED_EVENT_FLAG_DESC; /* was not negotiated: better too often */
        assert_true(serve(g, 1));
        g->d.driver->flags = 3;
        assert_true(serve(g, 1));
}

/* Every batch and every event of three rounds: told exactly when the batch covers the place, in the words of a walk. */
static void test_all_events(void **state)
{
        struct guest *g = *state;

        g->vq.event_idx = true;
        for (unsigned start = 0; start < 10; start++)
                for (unsigned n = 1; n <= 5; n++)
                        for (unsigned event = 0; event < 10; event++) {
                                bool want = false;

                                begin(g, 5);
                                g->d.driver->flags = VRING_PACKED_EVENT_FLAG_DESC;
                                for (unsigned i = 0; i < 10 + start; i++)
                                        serve(g, 1);
                                for (unsigned i = 0; i < n; i++)
                                        want |= (start + i) % 10 == event;
                                g->d.driver->off_wrap = (uint16_t)(event % 5 | (event < 5 ? 0x8000 : 0));
                                if (serve(g, n) != want)
                                        fail_msg("from %u, %u descriptors, event %u", start, n, event);
                        }
        g->d.driver->off_wrap = 5; /* no place at all */
        assert_true(serve(g, 1));
        begin(g, 5); /* nobody knows what was told before */
        g->d.driver->flags = VRING_PACKED_EVENT_FLAG_DESC;
        g->d.driver->off_wrap = 0x8004;
        assert_true(serve(g, 1));
        assert_false(serve(g, 1));
}

static void test_when_to_be_kicked(void **state)
{
        struct guest *g = *state;

        begin(g, 5);
        vq_want_kicks(&g->vq, false);
        assert_int_equal(g->d.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
        vq_want_kicks(&g->vq, true);
        assert_int_equal(g->d.device->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
        g->vq.event_idx = true;
        for (unsigned i = 0; i < 12; i++) {
                serve(g, 1);
                vq_want_kicks(&g->vq, true);
                assert_int_equal(g->d.device->flags, VRING_PACKED_EVENT_FLAG_DESC);
                assert_int_equal(g->d.device->off_wrap, g->d.avail | (g->d.avail_wrap ? 0x8000 : 0));
        }
        vq_want_kicks(&g->vq, false);
        assert_int_equal(g->d.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static void test_remap(void **state)
{
        struct guest *g = *state;
        struct vq_layout at = pd_layout(4);
        struct mem_table *none;

        begin(g, 4);
        pd_offer(&g->d, 1, 2);
        assert_int_equal(vq_remap(&g->vq, g->mt, &at), 0);
        assert_int_equal(pop(g), 1);
        assert_int_equal(mem_table_new(guest_layout, NULL, 0, &none), 0);
        assert_int_equal(vq_remap(&g->vq, none, &at), -EFAULT);
        assert_non_null(g->vq.broken);
        vq_push(&g->vq, &g->chain, 0);
        assert_true(vq_publish(&g->vq));
        mem_table_put(none);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_start_refuses), TEST(test_random_against_model), TEST(test_hostile_ids),
                TEST(test_more_than_the_ring_has), TEST(test_fetched_once), TEST(test_when_to_notify),
                TEST(test_all_events), TEST(test_when_to_be_kicked), TEST(test_remap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
