/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight record: a queue dies at every step and is taken up again; and records that somebody wrote to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/unit/fail_calls.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/inflight_split.h"
#include "vhost_user/ring/virtqueue.h"

#define NUM 8u
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull

/* The layout a second time, so that one mistake cannot agree with itself. */
struct record {
        uint64_t features;
        uint16_t version, desc_num, last_batch_head, used_idx;
        struct { uint8_t inflight, padding[5]; uint16_t next; uint64_t counter; } desc[NUM];
};

struct guest {
        struct mem_table *mt;
        uint16_t *avail, *used;
        struct inflight_map *map;
        struct record *rec;
        struct vq_layout at;
        struct virtqueue vq;
        struct chain chain;
};
static unsigned seed;

static int setup(void **state)
{
        struct guest *g = calloc(1, sizeof(*g));
        struct vring_desc *desc;
        uint64_t len;
        int fd = inflight_memfd(2, &len);

        assert_true(fd >= 0);
        assert_int_equal(inflight_map_new(fd, 0, len, 2, &g->map), 0);
        close(fd);
        g->mt = guest_new(NULL);
        desc = (void *)guest_at(g->mt, DESC);
        g->avail = (void *)guest_at(g->mt, AVAIL);
        g->used = (void *)guest_at(g->mt, USED);
        for (unsigned i = 0; i < NUM; i++)
                desc[i] = (struct vring_desc){ 0x1000 + 16 * i, 16, 0, 0 };
        g->at = (struct vq_layout){ NUM, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED,
                                    inflight_part(g->map, 1) };
        g->rec = g->at.record.at;
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

static void offer(struct guest *g, uint16_t head)
{
        g->avail[2 + g->avail[1] % NUM] = head;
        g->avail[1]++;
}

static uint16_t pop(struct guest *g)
{
        assert_int_equal(vq_pop(&g->vq, g->mt, &g->chain), 1);
        return g->chain.head;
}

static void push(struct guest *g, uint16_t head)
{
        struct chain c = { .head = head };

        vq_push(&g->vq, &c, 0);
}

/* A new process: what it knows is in the ring and in the record. */
static int die_and_start(struct guest *g)
{
        vq_finish(&g->vq);
        memset(&g->vq, 0x55, sizeof(g->vq));
        g->vq = (struct virtqueue){ 0 };
        return vq_start(&g->vq, g->mt, &g->at, g->used[1]); /* the base that QEMU gives */
}

static void test_fresh_record(void **state)
{
        struct guest *g = *state;

        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        assert_int_equal(g->rec->version, 1);
        assert_int_equal(g->rec->desc_num, NUM);
        g->avail[1] = g->used[1] = 40000;
        g->rec->version = 0;
        g->rec->desc[3].inflight = 1; /* rubbish: fresh memory has none, but nobody looks at it then */
        g->rec->features = 5;
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 39998), 0); /* then the base counts */
        assert_int_equal(g->vq.split.last_avail, 39998);
        assert_int_equal(g->rec->used_idx, 40000);
        assert_int_equal(g->rec->desc[3].inflight, 0);
        assert_int_equal(g->rec->features, 0);
}

/* The bytes after each step are those of the specification. */
static void test_steps(void **state)
{
        struct guest *g = *state;

        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        offer(g, 5);
        offer(g, 2);
        pop(g);
        pop(g);
        assert_int_equal(g->rec->desc[5].inflight, 1);
        assert_int_equal(g->rec->desc[5].counter, 0);
        assert_int_equal(g->rec->desc[2].inflight, 1);
        assert_int_equal(g->rec->desc[2].counter, 1);
        push(g, 2);
        assert_int_equal(g->rec->last_batch_head, 2);
        push(g, 5);
        assert_int_equal(g->rec->last_batch_head, 5);
        assert_int_equal(g->rec->desc[5].next, 2);
        assert_int_equal(g->rec->desc[5].inflight, 1);
        assert_int_equal(g->rec->used_idx, 0);
        vq_publish(&g->vq);
        assert_int_equal(g->rec->desc[5].inflight, 0);
        assert_int_equal(g->rec->desc[2].inflight, 0);
        assert_int_equal(g->rec->used_idx, 2);
}

static void test_again_in_order_before_new_ones(void **state)
{
        static const uint16_t order[] = { 7, 0, 3, 6, 1 };
        struct guest *g = *state;

        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        for (unsigned i = 0; i < 3; i++)
                offer(g, order[i]);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(pop(g), order[i]);
        push(g, 0);
        vq_publish(&g->vq);
        offer(g, order[3]);
        offer(g, order[4]);
        assert_int_equal(die_and_start(g), 0);
        assert_int_equal(vq_waiting(&g->vq), 4);
        for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
                if (order[i])
                        assert_int_equal(pop(g), order[i]);
        assert_int_equal(vq_waiting(&g->vq), 0);
        assert_int_equal(die_and_start(g), 0); /* and once more, with the new ones among the old */
        for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
                if (order[i])
                        assert_int_equal(pop(g), order[i]);
        assert_int_equal(g->vq.split.last_avail, 5);
}

/* A head whose answer was beyond giving stays recorded: the next process must not take the ring's entries one off. */
static void test_dropped_head_is_kept(void **state)
{
        struct guest *g = *state;

        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        offer(g, 4);
        pop(g);
        vq_drop(&g->vq, &g->chain);
        assert_int_equal(die_and_start(g), 0);
        assert_int_equal(pop(g), 4);
}

/* --- death at any step ---------------------------------------------------------------------------------------------- */

/* What the guest knows: heads that it offered, in order, without those that it saw answered. */
struct model {
        uint16_t queue[NUM];
        unsigned n, taken; /* the first taken[] of them were popped by somebody */
        bool answered[NUM]; /* pushed, not published */
};

static void model_remove(struct model *m, uint16_t head)
{
        for (unsigned i = 0; i < m->n; i++) {
                if (m->queue[i] != head)
                        continue;
                memmove(&m->queue[i], &m->queue[i + 1], (--m->n - i) * sizeof(m->queue[0]));
                m->taken--;
                return;
        }
        fail_msg("head %u was answered, but not offered (seed %u)", head, seed);
}

static bool model_has(const struct model *m, uint16_t head)
{
        for (unsigned i = 0; i < m->n; i++)
                if (m->queue[i] == head)
                        return true;
        return false;
}

static void guest_sees(struct guest *g, struct model *m, uint16_t *seen)
{
        while (*seen != g->used[1]) {
                uint16_t head = (uint16_t)((uint32_t *)(void *)g->used)[1 + 2 * (*seen % NUM)];

                model_remove(m, head);
                m->answered[head] = false;
                (*seen)++;
        }
}

/* Publish, and die after the index was stored and some of the batch taken off the record, but not all of the rest. */
static void publish_and_die(struct guest *g)
{
        struct record before = *g->rec;
        unsigned done;

        vq_publish(&g->vq);
        done = (unsigned)rand() % (NUM + 1);
        for (unsigned i = 0; i < NUM; i++)
                if (i >= done)
                        g->rec->desc[i].inflight = before.desc[i].inflight;
        g->rec->used_idx = before.used_idx;
}

static void restart_and_compare(struct guest *g, struct model *m)
{
        unsigned taken = m->taken;

        memset(m->answered, 0, sizeof(m->answered));
        if (die_and_start(g) < 0)
                fail_msg("seed %u: %s", seed, err_text(-EBADMSG));
        assert_int_equal(vq_waiting(&g->vq), m->n);
        for (unsigned i = 0; i < taken; i++)
                if (pop(g) != m->queue[i])
                        fail_msg("seed %u: head %u came where %u was due", seed, g->chain.head, m->queue[i]);
}

static void random_step(struct guest *g, struct model *m)
{
        uint16_t head = (uint16_t)((unsigned)rand() % NUM);

        switch (rand() % 3) {
        case 0:
                if (!model_has(m, head)) {
                        offer(g, head);
                        m->queue[m->n++] = head;
                }
                break;
        case 1:
                if (m->taken < m->n)
                        assert_int_equal(pop(g), m->queue[m->taken++]);
                break;
        case 2:
                for (unsigned i = 0; i < m->taken; i++)
                        if (m->queue[i] == head && !m->answered[head]) {
                                push(g, head);
                                m->answered[head] = true;
                                break;
                        }
        }
}

static void test_death_at_any_step(void **state)
{
        struct guest *g = *state;
        struct model m = { 0 };
        uint16_t seen = 65000;

        g->avail[1] = g->used[1] = seen;
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, seen), 0);
        for (unsigned step = 0; step < 200000; step++) {
                random_step(g, &m);
                switch (rand() % 12) {
                case 0:
                        vq_publish(&g->vq);
                        guest_sees(g, &m, &seen);
                        break;
                case 1:
                        restart_and_compare(g, &m);
                        break;
                case 2:
                        publish_and_die(g);
                        guest_sees(g, &m, &seen);
                        restart_and_compare(g, &m);
                }
        }
}

/* --- strangers' bytes ------------------------------------------------------------------------------------------------ */

/* Two requests in flight (3 then 1), one just shown (0), and the record has not heard of that. */
static void make_record(struct guest *g)
{
        memset(g->rec, 0, g->at.record.len);
        g->avail[1] = 13;
        g->used[1] = 11;
        *g->rec = (struct record){
                .version = 1, .desc_num = NUM, .last_batch_head = 0, .used_idx = 10,
                .desc = { [0] = { 1, { 0 }, 4, 8 }, [1] = { 1, { 0 }, 0, 10 }, [3] = { 1, { 0 }, 0, 9 } },
        };
}

#define REC_U8(field, v) { #field " = " #v, offsetof(struct record, field), 1, v }
#define REC_U16(field, v) { #field " = " #v, offsetof(struct record, field), 2, v }
#define REC_U64(field, v) { #field " = " #v, offsetof(struct record, field), 8, v }
static const struct { const char *what; size_t at, len; uint64_t value; } tampered[] = {
        REC_U16(version, 2), REC_U16(version, 0xffff), REC_U64(features, 1), REC_U16(desc_num, 4), REC_U16(desc_num, 0),
        REC_U16(last_batch_head, NUM), REC_U16(last_batch_head, 0xffff), REC_U16(used_idx, 2), REC_U16(used_idx, 12),
        REC_U16(used_idx, 9), /* a batch of 2: 0, then 4, which was not in flight: the count is right, 4 is off anyway */
        REC_U8(desc[2].inflight, 2), REC_U8(desc[2].inflight, 0xff), REC_U64(desc[1].counter, 9),
        REC_U64(desc[3].counter, UINT64_MAX), REC_U8(desc[2].inflight, 1),
        { "a head beyond the ring", 16 + 16 * NUM, 1, 1 }, { "far beyond", 16 + 16 * 1023, 1, 1 },
};

static void test_tampered(void **state)
{
        struct guest *g = *state;

        make_record(g);
        assert_int_equal(die_and_start(g), 0);
        assert_int_equal(vq_waiting(&g->vq), 2);
        assert_int_equal(pop(g), 3);
        assert_int_equal(pop(g), 1);
        for (size_t i = 0; i < ARRAY_SIZE(tampered); i++) {
                bool fine = tampered[i].at == offsetof(struct record, used_idx) && tampered[i].value == 9;
                int r;

                make_record(g);
                memcpy((char *)g->rec + tampered[i].at, &tampered[i].value, tampered[i].len);
                r = die_and_start(g);
                if (r != (fine ? 0 : -EBADMSG))
                        fail_msg("%s: %d", tampered[i].what, r);
                err_clear();
        }
}

static void test_batch_that_loops(void **state)
{
        struct guest *g = *state;

        make_record(g);
        g->rec->used_idx = 8;
        g->rec->desc[4].next = 0; /* 0, 4, 0 */
        assert_int_equal(die_and_start(g), -EBADMSG);
        make_record(g);
        g->rec->used_idx = 9;
        g->rec->desc[0].next = NUM;
        assert_int_equal(die_and_start(g), -EBADMSG);
}

static void test_ring_that_shows_less(void **state)
{
        struct guest *g = *state;

        make_record(g);
        g->avail[1] = 12;
        assert_int_equal(die_and_start(g), -EBADMSG); /* two in flight, one offered */
        make_record(g);
        g->avail[1] = 11 + NUM + 1;
        assert_int_equal(die_and_start(g), -EBADMSG);
}

/* Whatever the bytes: an error, or a list of different heads of the ring that begins nothing twice. */
static void test_random_bytes(void **state)
{
        struct guest *g = *state;
        unsigned accepted = 0;

        for (unsigned round = 0; round < 100000; round++) {
                unsigned long seen = 0;

                make_record(g);
                for (unsigned n = 1 + (unsigned)rand() % 4; n; n--)
                        ((uint8_t *)g->rec)[(unsigned)rand() % sizeof(*g->rec)] = (uint8_t)(rand() % 4 ? rand() % 12 : rand());
                if (die_and_start(g) < 0) {
                        err_clear();
                        continue;
                }
                accepted++;
                for (unsigned i = 0, n = g->vq.split.record->nresubmit; i < n; i++) {
                        uint16_t head = pop(g);

                        if (head >= NUM || seen >> head & 1)
                                fail_msg("seed %u: head %u", seed, head);
                        seen |= 1ul << head;
                }
        }
        assert_true(accepted > 1000 && accepted < 99000);
}

static void test_maps(void **state)
{
        struct guest *g = *state;
        struct inflight_map *m = NULL;
        uint64_t len, page = 4096;
        int fd = inflight_memfd(3, &len);

        assert_true(len >= 3 * (16 + 16 * 1024) && len % 64 == 0);
        assert_int_not_equal(ftruncate(fd, 0), 0); /* sealed: our accesses are safe from its other owner */
        assert_int_equal(inflight_map_new(fd, 0, len, 0, &m), -EINVAL);
        assert_int_equal(inflight_map_new(fd, 0, len, 2, &m), -EINVAL); /* more than a queue can need */
        assert_int_equal(inflight_map_new(fd, 0, 16 * 3, 3, &m), -EINVAL);
        assert_int_equal(inflight_map_new(fd, 0, 3 * 36, 3, &m), -EINVAL); /* counters must be aligned */
        assert_int_equal(inflight_map_new(fd, 1, len - page, 3, &m), -EINVAL);
        assert_int_equal(inflight_map_new(fd, 8, 3 * 32, 3, &m), -EINVAL); /* no page begins there */
        assert_int_equal(inflight_map_new(-1, 0, len, 3, &m), -EBADF);
        assert_int_equal(inflight_map_new(fd, page, len, 3, &m), -EFBIG);
        assert_int_equal(inflight_map_new(fd, UINT64_MAX - page + 1, len, 3, &m), -EFBIG);
        assert_int_equal(inflight_map_new(fd, 0, len, 3, &m), 0);
        assert_null(inflight_part(m, 3).at);
        assert_null(inflight_part(NULL, 0).at);
        inflight_map_free(m);

        /* A smaller record, as for rings of 128 by others: it holds what it holds. */
        assert_int_equal(inflight_map_new(fd, 0, 3 * (16 + 128 * 16), 3, &m), 0);
        g->at.record = inflight_part(m, 2);
        g->at.num = 256;
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), -EBADMSG);
        g->at.num = 128;
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        vq_finish(&g->vq);
        inflight_map_free(m);
        close(fd);
}

/* Each call and each allocation fails: an error, and nothing is left of the map. */
static void test_failing_calls(void **state)
{
        static const struct { enum call call; unsigned nth; int err; } making[] = {
                { CALL_MEMFD, 1, EMFILE }, { CALL_FTRUNCATE, 1, ENOMEM }, { CALL_FCNTL, 1, EPERM },
        }, mapping[] = {
                { CALL_FSTAT, 1, EBADF }, { CALL_CALLOC, 1, ENOMEM }, { CALL_FCNTL, 1, EMFILE }, { CALL_MMAP, 1, ENOMEM },
        };
        struct guest *g = *state;
        struct inflight_map *m;
        uint64_t len;
        int fd;

        for (size_t i = 0; i < ARRAY_SIZE(making); i++) {
                fail_call(making[i].call, making[i].nth, making[i].err);
                assert_int_equal(inflight_memfd(3, &len), -making[i].err);
                assert_true(fail_call_done(making[i].call));
        }
        fd = inflight_memfd(3, &len);
        for (size_t i = 0; i < ARRAY_SIZE(mapping); i++) {
                fail_call(mapping[i].call, mapping[i].nth, mapping[i].err);
                assert_int_equal(inflight_map_new(fd, 0, len, 3, &m), -mapping[i].err);
                assert_true(fail_call_done(mapping[i].call));
        }
        close(fd);
        for (unsigned nth = 1; nth <= 2; nth++) { /* the copy to be judged, and what becomes of it */
                fail_call(CALL_CALLOC, nth, ENOMEM);
                assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), -ENOMEM);
                assert_true(fail_call_done(CALL_CALLOC));
        }
        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        err_clear();
}

static void test_map_from_another_process(void **state)
{
        static const char *const keys[] = { "fd", "offset", "len", "queues" };
        struct guest *g = *state;

        for (size_t i = 0; i <= ARRAY_SIZE(keys); i++) {
                struct inflight_map *m = NULL;
                struct parcel p = { 0 };

                p.root = inflight_map_pack(g->map, &p);
                assert_int_equal(p.nfds, 1);
                p.fd[0] = dup(p.fd[0]);
                p.received = true;
                if (i < ARRAY_SIZE(keys))
                        json_object_del(p.root, keys[i]);
                assert_int_equal(inflight_map_unpack(&p, p.root, &m), i < ARRAY_SIZE(keys) ? -EBADMSG : 0);
                if (m)
                        assert_int_equal(inflight_part(m, 1).len, g->at.record.len);
                inflight_map_free(m);
                parcel_finish(&p);
                err_clear();
        }
}

/* A guest that offers a head again before it was shown as used gives back more than the ring has: nothing is overwritten. */
static void test_more_given_back_than_there_is(void **state)
{
        struct guest *g = *state;

        assert_int_equal(vq_start(&g->vq, g->mt, &g->at, 0), 0);
        for (unsigned i = 0; i <= NUM; i++) {
                offer(g, i % NUM);
                assert_int_equal(pop(g), i % NUM);
                push(g, (uint16_t)(i % NUM));
        }
        assert_int_equal(g->vq.split.record->nbatch, NUM);
        vq_publish(&g->vq);
        assert_int_equal(g->rec->used_idx, NUM + 1);
        for (unsigned i = 0; i < NUM; i++)
                assert_int_equal(g->rec->desc[i].inflight, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TEST(test_fresh_record), TEST(test_steps), TEST(test_again_in_order_before_new_ones),
                TEST(test_dropped_head_is_kept), TEST(test_death_at_any_step), TEST(test_tampered),
                TEST(test_batch_that_loops), TEST(test_ring_that_shows_less), TEST(test_random_bytes), TEST(test_maps),
                TEST(test_failing_calls), TEST(test_map_from_another_process), TEST(test_more_given_back_than_there_is),
        };

        seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)time(NULL);
        printf("seed %u (give it as the argument to repeat)\n", seed);
        srand(seed);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
