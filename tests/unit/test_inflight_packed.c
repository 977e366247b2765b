/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight record of a packed ring: it dies at every step and is taken up again; and records that somebody wrote to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/unit/fail_calls.h"
#include "tests/unit/packed_driver.h"
#include "vhost_user/ring/inflight_packed.h"

#define NUM 8u
#define FIRST 0x80008000u

/* The layout a second time, so that one mistake cannot agree with itself. */
struct record {
        uint64_t features;
        uint16_t version, desc_num, free_head, old_free_head, used_idx, old_used_idx;
        uint8_t used_wrap_counter, old_used_wrap_counter, padding[7];
        struct {
                uint8_t inflight, padding;
                uint16_t next, last, num;
                uint64_t counter;
                uint16_t id, flags;
                uint32_t len;
                uint64_t addr;
        } desc[NUM];
};

struct guest {
        struct mem_table *mt;
        struct packed_driver d;
        struct inflight_map *map;
        struct record *rec;
        struct vq_layout at;
        struct virtqueue vq;
        struct chain chain;
};
static unsigned seed;

static void begin(struct guest *g)
{
        vq_finish(&g->vq);
        g->vq = (struct virtqueue){ 0 };
        pd_init(&g->d, guest_at(g->mt, PD_RING), NUM);
        memset(g->rec, 0, g->at.record.len);
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, FIRST), 0);
}

static int setup(void **state)
{
        struct guest *g = calloc(1, sizeof(*g));
        uint64_t len;
        int fd = inflight_memfd(2, &len);

        assert_true(fd >= 0);
        assert_int_equal(inflight_map_new(fd, 0, len, 2, &g->map), 0);
        close(fd);
        g->mt = guest_new(NULL);
        g->at = pd_layout(NUM);
        g->at.record = inflight_part(g->map, 1);
        g->rec = g->at.record.at;
        begin(g);
        *state = g;
        return 0;
}

static int teardown(void **state)
{
        struct guest *g = *state;

        vq_finish(&g->vq);
        inflight_map_free(g->map);
        mem_table_put(g->mt);
        free(g);
        err_clear();
        return 0;
}

static struct chain pop(struct guest *g)
{
        if (vq_pop(&g->vq, g->mt, &g->chain) != 1)
                fail_msg("seed %u: nothing was taken: %s", seed, g->vq.broken ? g->vq.broken : "the ring is empty");
        return g->chain;
}

/* A new process: what it knows is in the ring and in the record. The base is one that nobody can use. */
static int die_and_start(struct guest *g)
{
        vq_finish(&g->vq);
        g->vq = (struct virtqueue){ 0 };
        return vq_start(&g->vq, g->mt, &g->at, FIRST);
}

static void test_fresh_record(void **state)
{
        struct guest *g = *state;

        assert_int_equal(sizeof(*g->rec), 32 + 32 * NUM);
        assert_int_equal(g->rec->version, 1);
        assert_int_equal(g->rec->desc_num, NUM);
        assert_int_equal(g->rec->free_head, 0);
        assert_int_equal(g->rec->desc[3].next, 4);
        assert_int_equal(g->rec->used_wrap_counter, 1);
        assert_int_equal(g->rec->old_used_wrap_counter, 1);
        memset(g->rec, 0x55, g->at.record.len); /* rubbish: nobody looks at it in fresh memory */
        g->rec->version = 0;
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0x00058005), -EINVAL); /* something in flight, but what? */
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0x00050005), 0);
        assert_int_equal(g->rec->used_idx, 5);
        assert_int_equal(g->rec->old_used_idx, 5);
        assert_int_equal(g->rec->used_wrap_counter, 0);
        assert_int_equal(g->rec->old_used_wrap_counter, 0);
        assert_int_equal(g->rec->desc[7].inflight, 0);
        assert_int_equal(g->rec->features, 0);
}

/* The bytes after each step are those of the specification. */
static void test_steps(void **state)
{
        struct guest *g = *state;
        struct chain three, one;

        pd_offer(&g->d, 6, 3);
        pd_offer(&g->d, 2, 1);
        three = pop(g);
        assert_int_equal(g->rec->desc[0].inflight, 1);
        assert_int_equal(g->rec->desc[0].num, 3);
        assert_int_equal(g->rec->desc[0].last, 2);
        assert_int_equal(g->rec->desc[0].next, 1);
        assert_int_equal(g->rec->desc[2].id, 6);
        assert_int_equal(g->rec->desc[2].addr, 0x1060);
        assert_int_equal(g->rec->desc[2].len, 16);
        assert_int_equal(g->rec->desc[2].flags & 7, VRING_DESC_F_WRITE);
        assert_int_equal(g->rec->free_head, 3);
        assert_int_equal(g->rec->old_free_head, 3);
        one = pop(g);
        assert_int_equal(g->rec->desc[3].counter, 1);
        vq_push(&g->vq, &one, 0);
        assert_int_equal(g->rec->desc[3].inflight, 1);
        vq_push(&g->vq, &three, 0);
        vq_publish(&g->vq);
        assert_int_equal(g->rec->desc[0].inflight, 0);
        assert_int_equal(g->rec->desc[3].inflight, 0);
        assert_int_equal(g->rec->free_head, 0);
        assert_int_equal(g->rec->old_free_head, 0);
        assert_int_equal(g->rec->desc[2].next, 3); /* 0 1 2, then 3, then what was free */
        assert_int_equal(g->rec->desc[3].next, 4);
        assert_int_equal(g->rec->used_idx, 4);
        assert_int_equal(g->rec->old_used_idx, 4);
}

/* A chain whose answer was beyond giving stays recorded. */
static void test_dropped_chain_is_kept(void **state)
{
        struct guest *g = *state;

        pd_offer(&g->d, 4, 2);
        pop(g);
        vq_drop(&g->vq, &g->chain);
        assert_int_equal(die_and_start(g), 0);
        assert_int_equal(pop(g).head, 4);
}

/* --- death at any step ---------------------------------------------------------------------------------------------- */

struct model {
        struct chain held[NUM]; /* in the order in which they were taken */
        unsigned nheld;
        uint16_t offered[NUM];
        unsigned noffered;
        bool pushed[NUM];       /* by id: given back, not shown */
};

static void forget(struct model *m, uint16_t id)
{
        for (unsigned i = 0; i < m->nheld; i++) {
                if (m->held[i].head != id)
                        continue;
                memmove(&m->held[i], &m->held[i + 1], (--m->nheld - i) * sizeof(m->held[0]));
                return;
        }
        fail_msg("id %u was answered, but not in flight (seed %u)", id, seed);
}

static void guest_sees(struct guest *g, struct model *m, bool all)
{
        unsigned pushed = 0;
        uint32_t len;
        int id;

        while ((id = pd_reap(&g->d, &len)) >= 0) {
                if (!m->pushed[id])
                        fail_msg("id %d was answered, but nobody did (seed %u)", id, seed);
                m->pushed[id] = false;
                forget(m, (uint16_t)id);
        }
        for (unsigned i = 0; i < NUM; i++)
                pushed += m->pushed[i];
        if (all)
                assert_int_equal(pushed, 0);
}

static void restart_and_compare(struct guest *g, struct model *m)
{
        int r = die_and_start(g);

        if (r < 0)
                fail_msg("seed %u: %s", seed, err_text(r));
        memset(m->pushed, 0, sizeof(m->pushed));
        assert_int_equal(vq_waiting(&g->vq) > 0, m->nheld + m->noffered > 0);
        for (unsigned i = 0; i < m->nheld; i++) {
                struct chain c = pop(g);

                if (c.head != m->held[i].head || c.ndescs != m->held[i].ndescs || c.read_len != m->held[i].read_len ||
                    c.iov[0].iov_base != m->held[i].iov[0].iov_base)
                        fail_msg("seed %u: chain %u came where %u was due", seed, c.head, m->held[i].head);
                m->held[i] = c;
        }
}

static void guest_offers(struct guest *g, struct model *m, uint16_t id, unsigned n)
{
        if (g->d.ndescs[id] || n > g->d.free)
                return;
        pd_offer(&g->d, id, n);
        m->offered[m->noffered++] = id;
}

static void random_step(struct guest *g, struct model *m)
{
        unsigned id;

        switch (rand() % 3) {
        case 0:
                guest_offers(g, m, (uint16_t)((unsigned)rand() % NUM), 1 + (unsigned)rand() % 3);
                break;
        case 1:
                if (!m->noffered)
                        break;
                m->held[m->nheld++] = pop(g);
                assert_int_equal(g->chain.head, m->offered[0]);
                memmove(m->offered, m->offered + 1, --m->noffered * sizeof(m->offered[0]));
                break;
        case 2:
                id = m->nheld ? (unsigned)rand() % m->nheld : 0;
                if (!m->nheld || m->pushed[m->held[id].head])
                        break;
                vq_push(&g->vq, &m->held[id], 0);
                m->pushed[m->held[id].head] = true;
        }
}

/* What was stored until the k-th of the steps of a publish: taken from a publish that came to its end. */
static void publish_and_die(struct guest *g, struct model *m)
{
        struct record before = *g->rec, after;
        struct vring_packed_desc ring[NUM];
        bool shown = rand() % 2;

        memcpy(ring, g->d.ring, sizeof(ring));
        vq_publish(&g->vq);
        after = *g->rec;
        if (!shown) {
                unsigned what = (unsigned)rand() % 3;

                memcpy(g->d.ring, ring, sizeof(ring));
                *g->rec = before;
                if (what > 0) /* the free list has grown */
                        g->rec->free_head = after.free_head;
                for (unsigned i = 0; i < NUM && what > 0; i++)
                        g->rec->desc[i].next = after.desc[i].next;
                if (what > 1) { /* and the place has moved */
                        g->rec->used_idx = after.used_idx;
                        g->rec->used_wrap_counter = after.used_wrap_counter;
                }
        } else if (rand() % 4) {
                unsigned cleared = (unsigned)rand() % (NUM + 1);

                for (unsigned i = cleared; i < NUM; i++)
                        g->rec->desc[i].inflight = before.desc[i].inflight;
                if (cleared < NUM || rand() % 2)
                        g->rec->old_free_head = before.old_free_head;
                g->rec->old_used_idx = before.old_used_idx;
                g->rec->old_used_wrap_counter = before.old_used_wrap_counter;
        }
        guest_sees(g, m, shown);
        for (uint16_t id = 0; id < NUM && shown && rand() % 3; id++) /* the guest goes on before we are back */
                guest_offers(g, m, id, 1);
}

static void test_death_at_any_step(void **state)
{
        struct guest *g = *state;
        static struct model m;

        for (unsigned n = 0; n < 200000; n++) {
                random_step(g, &m);
                switch (rand() % 12) {
                case 0:
                        vq_publish(&g->vq);
                        guest_sees(g, &m, true);
                        break;
                case 1:
                        restart_and_compare(g, &m);
                        guest_sees(g, &m, false);
                        break;
                case 2:
                        publish_and_die(g, &m);
                        restart_and_compare(g, &m);
                }
        }
}

/* --- strangers' bytes ------------------------------------------------------------------------------------------------ */

/* A chain of three and one of one in flight, four entries free; nothing is being shown. */
static void make_record(struct guest *g)
{
        begin(g);
        pd_offer(&g->d, 6, 3);
        pd_offer(&g->d, 2, 1);
        pop(g);
        pop(g);
}

#define REC(field, v) { #field " = " #v, offsetof(struct record, field), sizeof(((struct record *)0)->field), v }
static const struct { const char *what; size_t at, len; uint64_t value; } tampered[] = {
        REC(version, 2), REC(features, 1), REC(desc_num, 4), REC(desc_num, 0), REC(desc_num, 0xffff),
        REC(old_free_head, NUM + 1), REC(old_free_head, 5), REC(old_free_head, 0xffff),
        REC(old_used_idx, NUM), REC(used_idx, NUM), REC(used_idx, 0xffff), REC(used_wrap_counter, 2),
        REC(old_used_wrap_counter, 0xff), REC(desc[0].inflight, 2), REC(desc[0].inflight, 0), REC(desc[1].inflight, 1),
        REC(desc[0].num, 0), REC(desc[0].num, 2), REC(desc[0].num, 4), REC(desc[0].num, 0xffff), REC(desc[0].last, 1),
        REC(desc[0].next, 0), REC(desc[0].next, 3), REC(desc[0].next, NUM), REC(desc[0].next, 0xffff),
        REC(desc[1].next, 1), REC(desc[4].next, 4), REC(desc[4].next, 0), REC(desc[7].next, 4), REC(desc[7].next, 9),
        REC(desc[6].next, NUM), REC(desc[2].id, NUM), REC(desc[2].id, 2), REC(desc[0].counter, 1),
        REC(desc[3].counter, UINT64_MAX),
};

static void test_tampered(void **state)
{
        struct guest *g = *state;

        make_record(g);
        assert_int_equal(die_and_start(g), 0);
        assert_int_equal(pop(g).head, 6);
        assert_int_equal(pop(g).head, 2);
        assert_int_equal(vq_base(&g->vq), 0x80008004);
        for (size_t i = 0; i < ARRAY_SIZE(tampered); i++) {
                make_record(g);
                memcpy((char *)g->rec + tampered[i].at, &tampered[i].value, tampered[i].len);
                if (die_and_start(g) != -EBADMSG)
                        fail_msg("%s was believed", tampered[i].what);
                err_clear();
        }
}

/* What only shows when the descriptors are used: like any descriptors, they are the guest's or nonsense. */
static void test_tampered_descriptors(void **state)
{
        struct guest *g = *state;

        for (unsigned how = 0; how < 5; how++) {
                make_record(g);
                if (how == 0)
                        g->rec->desc[1].addr = 0x5000;
                if (how == 1)
                        g->rec->desc[1].flags &= (uint16_t)~VRING_DESC_F_NEXT;
                if (how == 2)
                        g->rec->desc[2].flags |= VRING_DESC_F_NEXT;
                if (how == 3)
                        g->rec->desc[2].len = UINT32_MAX;
                if (how == 4)
                        g->rec->desc[0].flags |= VRING_DESC_F_INDIRECT;
                assert_int_equal(die_and_start(g), 0);
                assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), -EINVAL);
                assert_int_equal(g->vq.in_flight, 0);
        }
}

/* Whatever the bytes: an error, or chains with different ids that take up what the ring has left. */
static void test_random_bytes(void **state)
{
        struct guest *g = *state;
        unsigned accepted = 0;

        for (unsigned round = 0; round < 50000; round++) {
                unsigned descs = 0, n;

                make_record(g);
                for (n = 1 + (unsigned)rand() % 4; n; n--)
                        ((uint8_t *)g->rec)[(unsigned)rand() % sizeof(*g->rec)] = (uint8_t)(rand() % 4 ? rand() % 12 : rand());
                if (die_and_start(g) < 0) {
                        err_clear();
                        continue;
                }
                accepted++;
                for (n = 0; inflight_packed_left(g->vq.packed.record); n++) {
                        if (vq_pop(&g->vq, g->mt, &g->chain) < 0)
                                break;
                        descs += g->chain.ndescs;
                        vq_push(&g->vq, &g->chain, 0);
                }
                if (descs > NUM || n > NUM)
                        fail_msg("seed %u: %u descriptors", seed, descs);
                vq_publish(&g->vq);
        }
        assert_true(accepted > 500 && accepted < 49500);
}

/* A record for split rings is none for packed ones, nor the other way; one that is too small has no room. */
static void test_of_another_kind(void **state)
{
        struct guest *g = *state;
        struct vq_layout split = { .num = NUM, .desc = GUEST_USER + PD_RING, .driver = GUEST_USER + 0x12000,
                                   .device = GUEST_USER + 0x13000, .record = g->at.record };

        make_record(g);
        memset(guest_at(g->mt, 0x12000), 0, 0x2000);
        assert_int_equal(vq_start(&g->vq, g->mt, &split, 0), -EBADMSG);
        memset(g->rec, 0, g->at.record.len);
        assert_int_equal(vq_start(&g->vq, g->mt, &split, 0), 0);
        assert_int_equal(die_and_start(g), -EBADMSG);
        for (size_t len = 0; len < 32 + 32 * NUM; len += 16) {
                memset(g->rec, 0, sizeof(*g->rec));
                g->at.record.len = len;
                assert_int_equal(die_and_start(g), -EBADMSG);
        }
        g->at.record.len = 32 + 32 * NUM;
        assert_int_equal(die_and_start(g), 0);
}

static void test_without_memory(void **state)
{
        struct guest *g = *state;
        struct inflight_packed *f = NULL;
        uint16_t used = 0x8000;
        unsigned n;
        bool fresh;

        for (unsigned nth = 1; nth <= 2; nth++) { /* the record's state, and the copy to be judged */
                fail_call(CALL_CALLOC, nth, ENOMEM);
                assert_int_equal(inflight_packed_load(g->at.record, NUM, g->d.ring, &used, &n, &fresh, &f), -ENOMEM);
                assert_true(fail_call_done(CALL_CALLOC));
                assert_null(f);
        }
        memset(g->rec, 0, g->at.record.len);
        assert_int_equal(inflight_packed_load(g->at.record, NUM, g->d.ring, &used, &n, &fresh, &f), 0);
        assert_true(fresh);
        assert_null(inflight_packed_next(f, &n)); /* nothing is to be done again */
        inflight_packed_free(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TEST(test_fresh_record), TEST(test_steps), TEST(test_dropped_chain_is_kept), TEST(test_death_at_any_step),
                TEST(test_tampered), TEST(test_tampered_descriptors), TEST(test_random_bytes), TEST(test_of_another_kind),
                TEST(test_without_memory),
        };

        seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)time(NULL);
        printf("seed %u (give it as the argument to repeat)\n", seed);
        srand(seed);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
