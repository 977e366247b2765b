/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtqueue_race [MS] - the barrier between a wish and a look (virtio 1.2, 2.7.7 to 2.7.10), by two processors that meet:
 *
 *   device: shows answers | looks whether the driver wants to hear     driver: wants to hear | looks for answers
 *   device: wants kicks   | looks for requests                         driver: shows requests | looks whether to kick
 *
 * Each may see the other late, but not both: else both sleep, for ever. The device is our virtqueue, split or packed, the driver is here. Where the
 * bar is no barrier an x86 does it within some hundred meetings: the device's stores before it wait for cache lines that the other
 * processor has, and the load behind it does not. Right code never fails here, however busy the machine is.
 *
 * And the order of data and what shows them: requests go round and round, each with bytes that the other side wrote just before, through
 * nothing but the ring. The thread sanitizer sees where a release or an acquire is missing, which an x86 does by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/clock.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/vq_ops.h"

#define NUM 128u
#define BATCH 4u  /* answers before one look */
#define LINES 48u /* cache lines that the driver has and the device writes to just before */
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull

#define DATA 0x1000ull /* 16 bytes a buffer */
#define ROUNDS 3000u /* of requests that go round */

static uint64_t patience = 100 * NS_PER_MS; /* for each of eight */
static unsigned rounds = ROUNDS;

struct race;

/* A driver, as it sees its layout. */
struct driver {
        bool packed;
        void (*lay_out)(struct race *r);
        void (*offer)(struct race *r, unsigned n);
        void (*want_nothing)(struct race *r);
        void (*want_to_hear)(struct race *r); /* of the next answer */
        bool (*has_answer)(const struct race *r);
        void (*saw)(struct race *r, unsigned n); /* answers */
        bool (*may_kick)(const struct race *r); /* for the last one offered */
        uint16_t (*answered)(const struct race *r); /* the id of the next answer, which is there */
};

struct race {
        const struct driver *driver;
        struct mem_table *mt;
        unsigned offered, seen; /* requests, answers, mod 2 * NUM */
        struct vring_desc *desc; /* split */
        uint16_t *avail, *used; /* flags, idx, ring, event */
        uint16_t *used_event, *avail_event;
        struct vring_packed_desc *ring; /* packed */
        struct vring_packed_desc_event *wish, *device;
        struct virtqueue vq;
        bool event_idx, wants_kicks;

        _Alignas(64) atomic_uint arrived;
        atomic_bool over;
        _Alignas(64) bool device_acts; /* it notifies, or it found a request */
        _Alignas(64) struct {
                _Alignas(64) unsigned word;
        } line[LINES];
};

/* On the @nth processor that we may use: left to itself a busy system has both threads take turns on one. */
static void go_to_processor(unsigned nth)
{
        cpu_set_t all, one;

        CPU_ZERO(&all);
        CPU_ZERO(&one);
        sched_getaffinity(0, sizeof(all), &all);
        for (int c = 0; c < CPU_SETSIZE; c++)
                if (CPU_ISSET(c, &all) && nth-- == 0)
                        CPU_SET(c, &one);
        if (CPU_COUNT(&one))
                sched_setaffinity(0, sizeof(one), &one);
}

/* Both are here. Where they have one processor, one lets the other run. */
static void meet(struct race *r, unsigned *times)
{
        unsigned spins = 0, all = 2 * ++*times;

        atomic_fetch_add(&r->arrived, 1);
        while (atomic_load(&r->arrived) < all)
                if (++spins > 20000)
                        sched_yield();
}

/* As often for nanoseconds as for many. */
static void dawdle(uint64_t *rng)
{
        *rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
        for (volatile unsigned n = (unsigned)(*rng >> 54) >> (*rng >> 32 & 7); n; n--)
                ;
}

static void take_all(struct race *r, struct chain *c, uint16_t *heads)
{
        for (unsigned i = 0; i < BATCH; i++) {
                assert(vq_pop(&r->vq, r->mt, c) == 1);
                heads[i] = c->head;
        }
}

static void answer_all(struct race *r, struct chain *c, const uint16_t *heads)
{
        for (unsigned i = 0; i < BATCH; i++) {
                c->head = heads[i];
                vq_push(&r->vq, c, 0);
        }
}

/* --- the device --------------------------------------------------------------------------------------------------------- */

static void *device(void *arg)
{
        struct race *r = arg;
        struct chain *c = calloc(1, sizeof(*c));
        uint16_t heads[BATCH];
        unsigned times = 0;

        go_to_processor(1);
        while (c) {
                meet(r, &times);
                if (atomic_load(&r->over))
                        break;
                take_all(r, c, heads);
                meet(r, &times);
                answer_all(r, c, heads);
                for (unsigned i = 0; i < LINES; i++)
                        __atomic_store_n(&r->line[i].word, times, __ATOMIC_RELAXED);
                if (r->wants_kicks) {
                        vq_want_kicks(&r->vq, true);
                        r->device_acts = vq_waiting(&r->vq) > 0;
                } else {
                        r->device_acts = vq_publish(&r->vq);
                }
                meet(r, &times);
                if (r->wants_kicks) {
                        vq_publish(&r->vq);
                        vq_want_kicks(&r->vq, false);
                }
        }
        free(c);
        return NULL;
}

/* --- the driver of a split ring ------------------------------------------------------------------------------------------- */

static void split_lay_out(struct race *r)
{
        r->desc = (void *)guest_at(r->mt, DESC);
        r->avail = (void *)guest_at(r->mt, AVAIL);
        r->used = (void *)guest_at(r->mt, USED);
        r->used_event = &r->avail[2 + NUM];
        r->avail_event = &r->used[2 + 4 * NUM];
        for (unsigned i = 0; i < NUM; i++)
                r->desc[i] = (struct vring_desc){ DATA + 16 * i, 16, 0, 0 };
}

static void split_offer(struct race *r, unsigned n)
{
        uint16_t idx = r->avail[1];

        for (unsigned i = 0; i < n; i++, idx++)
                __atomic_store_n(&r->avail[2 + idx % NUM], (uint16_t)(idx % NUM), __ATOMIC_RELAXED);
        __atomic_store_n(&r->avail[1], idx, __ATOMIC_RELEASE);
}

static void split_want_nothing(struct race *r)
{
        __atomic_store_n(&r->avail[0], VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
}

static void split_want_to_hear(struct race *r)
{
        if (r->event_idx)
                __atomic_store_n(r->used_event, (uint16_t)r->seen, __ATOMIC_RELAXED);
        else
                __atomic_store_n(&r->avail[0], 0, __ATOMIC_RELAXED);
}

static bool split_has_answer(const struct race *r)
{
        return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) != (uint16_t)r->seen;
}

static void split_saw(struct race *r, unsigned n)
{
        r->seen += n;
}

static bool split_may_kick(const struct race *r)
{
        uint16_t idx = r->avail[1];

        if (r->event_idx)
                return vq_event_passed(__atomic_load_n(r->avail_event, __ATOMIC_RELAXED), (uint16_t)(idx - 1), idx);
        return !(__atomic_load_n(&r->used[0], __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

static uint16_t split_answered(const struct race *r)
{
        const uint32_t *elem = (const uint32_t *)(const void *)&r->used[2 + 4 * ((uint16_t)r->seen % NUM)];

        return (uint16_t)__atomic_load_n(elem, __ATOMIC_RELAXED);
}

static const struct driver split_driver = {
        false, split_lay_out, split_offer, split_want_nothing, split_want_to_hear, split_has_answer, split_saw, split_may_kick,
        split_answered,
};

/* --- the driver of a packed ring: places below 2 * NUM, the wrap counter is 1 in the first half ------------------------------ */

#define P_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define P_USED (1u << VRING_PACKED_DESC_F_USED)

static void packed_lay_out(struct race *r)
{
        r->ring = (void *)guest_at(r->mt, DESC);
        r->wish = (void *)guest_at(r->mt, AVAIL);
        r->device = (void *)guest_at(r->mt, USED);
}

static uint16_t packed_event(unsigned place)
{
        return (uint16_t)(place < NUM ? place | 1u << VRING_PACKED_EVENT_F_WRAP_CTR : place - NUM);
}

static void packed_offer(struct race *r, unsigned n)
{
        for (unsigned i = 0; i < n; i++, r->offered = (r->offered + 1) % (2 * NUM)) {
                struct vring_packed_desc *d = &r->ring[r->offered % NUM];

                d->addr = DATA + 16 * (r->offered % NUM);
                d->len = 16;
                d->id = (uint16_t)(r->offered % NUM);
                __atomic_store_n(&d->flags, (uint16_t)(r->offered < NUM ? P_AVAIL : P_USED), __ATOMIC_RELEASE);
        }
}

static void packed_wish(struct race *r, uint16_t flags, uint16_t off_wrap)
{
        __atomic_store_n((uint32_t *)(void *)r->wish, (uint32_t)flags << 16 | off_wrap, __ATOMIC_RELAXED);
}

static void packed_want_nothing(struct race *r)
{
        packed_wish(r, VRING_PACKED_EVENT_FLAG_DISABLE, 0);
}

static void packed_want_to_hear(struct race *r)
{
        if (r->event_idx)
                packed_wish(r, VRING_PACKED_EVENT_FLAG_DESC, packed_event(r->seen));
        else
                packed_wish(r, VRING_PACKED_EVENT_FLAG_ENABLE, 0);
}

static bool packed_has_answer(const struct race *r)
{
        uint16_t flags = __atomic_load_n(&r->ring[r->seen % NUM].flags, __ATOMIC_ACQUIRE) & (P_AVAIL | P_USED);

        return flags == (r->seen < NUM ? P_AVAIL | P_USED : 0);
}

static void packed_saw(struct race *r, unsigned n)
{
        r->seen = (r->seen + n) % (2 * NUM);
}

static bool packed_may_kick(const struct race *r)
{
        uint32_t wish = __atomic_load_n((const uint32_t *)(const void *)r->device, __ATOMIC_RELAXED);
        unsigned flags = wish >> 16;

        if (flags == VRING_PACKED_EVENT_FLAG_DESC)
                return (uint16_t)wish == packed_event((r->offered + 2 * NUM - 1) % (2 * NUM));
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
}

/* Written before the flags that showed it, or shown with others. */
static uint16_t packed_answered(const struct race *r)
{
        return __atomic_load_n(&r->ring[r->seen % NUM].id, __ATOMIC_RELAXED);
}

static const struct driver packed_driver = {
        true, packed_lay_out, packed_offer, packed_want_nothing, packed_want_to_hear, packed_has_answer, packed_saw, packed_may_kick,
        packed_answered,
};

/* --- the driver --------------------------------------------------------------------------------------------------------- */

/* As a driver does: its cache has the lines that answers are written to; and some more. */
static unsigned read_answers(const struct race *r)
{
        const uint16_t *ring = (const void *)(r->driver->packed ? (void *)r->ring : (void *)r->used);
        unsigned sum = 0, n = r->driver->packed ? 8 * NUM : 2 + 4 * NUM;

        for (unsigned i = 0; i < n; i++)
                sum += __atomic_load_n(&ring[i], __ATOMIC_RELAXED);
        for (unsigned i = 0; i < LINES; i++)
                sum += __atomic_load_n(&r->line[i].word, __ATOMIC_RELAXED);
        return sum;
}

/* "Interrupt me" and a look: did answers come? */
static bool wants_to_hear(struct race *r)
{
        r->driver->want_to_hear(r);
        gm_full_barrier();
        return r->driver->has_answer(r);
}

/* A request and a look: is the device to be kicked? */
static bool shows_request(struct race *r)
{
        r->driver->offer(r, 1);
        gm_full_barrier();
        return r->driver->may_kick(r);
}

static void drive(struct race *r)
{
        uint64_t end = clock_ns() + patience, rng = 2, n;
        volatile unsigned sum = 0;
        cpu_set_t before;
        unsigned times = 0;

        sched_getaffinity(0, sizeof(before), &before);
        go_to_processor(0);
        for (n = 0; clock_ns() < end; n++) {
                bool acts;

                r->driver->offer(r, BATCH - (r->wants_kicks && n)); /* the last round's request is there already */
                r->driver->want_nothing(r);
                sum += read_answers(r);
                (void)sum; /* only has to be read */
                meet(r, &times);
                meet(r, &times);
                dawdle(&rng);
                acts = r->wants_kicks ? shows_request(r) : wants_to_hear(r);
                meet(r, &times);
                r->driver->saw(r, BATCH);
                if (!acts && !r->device_acts)
                        fail_msg("meeting %llu: %s", (unsigned long long)n,
                                 r->wants_kicks ? "the device sleeps and the driver does not kick it"
                                                : "the driver sleeps and the device does not notify it");
        }
        sched_setaffinity(0, sizeof(before), &before);
        atomic_store(&r->over, true);
        meet(r, &times);
        print_message("%llu meetings\n", (unsigned long long)n);
}

static struct race *race_new(const struct driver *driver, bool event_idx)
{
        const struct vq_layout layout = { NUM, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED, .packed = driver->packed };
        struct race *r = aligned_alloc(64, (sizeof(*r) + 63) / 64 * 64);

        assert_non_null(r);
        memset(r, 0, sizeof(*r));
        r->driver = driver;
        r->mt = guest_new(NULL);
        r->event_idx = r->vq.event_idx = event_idx;
        driver->lay_out(r);
        assert_int_equal(vq_start(&r->vq, r->mt, &layout, driver->packed ? 0x80008000 : 0), 0);
        vq_want_kicks(&r->vq, false);
        return r;
}

static void race_free(struct race *r)
{
        vq_finish(&r->vq);
        mem_table_put(r->mt);
        free(r);
}

static void race(const struct driver *driver, bool event_idx, bool wants_kicks)
{
        struct race *r = race_new(driver, event_idx);
        pthread_t t;

        r->wants_kicks = wants_kicks;
        assert_int_equal(pthread_create(&t, NULL, device, r), 0);
        drive(r);
        pthread_join(t, NULL);
        race_free(r);
}

static void test_answers_by_flags(void **state)
{
        race(*state, false, false);
}

static void test_answers_by_events(void **state)
{
        race(*state, true, false);
}

static void test_kicks_by_flags(void **state)
{
        race(*state, false, true);
}

static void test_kicks_by_events(void **state)
{
        race(*state, true, true);
}

/* --- round and round: bytes go with requests and answers, and nothing else goes between the two ---------------------------- */

/* Adds one to each request's bytes, and answers a few together. */
static void *adder(void *arg)
{
        struct race *r = arg;
        struct chain *c = calloc(1, sizeof(*c));
        unsigned pushed = 0;

        go_to_processor(1);
        while (c && !atomic_load_explicit(&r->over, memory_order_relaxed)) {
                if (vq_waiting(&r->vq) > 0 && vq_pop(&r->vq, r->mt, c) == 1) {
                        uint64_t *data = (void *)guest_at(r->mt, DATA + 16 * c->head);

                        ++*data;
                        vq_push(&r->vq, c, 8);
                        if (++pushed < BATCH)
                                continue;
                } else if (!pushed) {
                        sched_yield();
                        continue;
                }
                vq_publish(&r->vq);
                pushed = 0;
        }
        free(c);
        return NULL;
}

static void test_bytes_go_with_what_shows_them(void **state)
{
        struct race *r = race_new(*state, false);
        uint64_t expected[NUM] = { 0 };
        pthread_t t;

        r->driver->want_nothing(r);
        for (unsigned i = 0; i < NUM; i++)
                *(uint64_t *)(void *)guest_at(r->mt, DATA + 16 * i) = expected[i] = i;
        assert_int_equal(pthread_create(&t, NULL, adder, r), 0);
        for (unsigned offered = 0, answered = 0; answered < rounds;) {
                if (offered < rounds && offered - answered < 2 * BATCH) {
                        r->driver->offer(r, 1);
                        offered++;
                } else if (r->driver->has_answer(r)) {
                        uint64_t *data = (void *)guest_at(r->mt, DATA + 16 * (answered % NUM));

                        assert_int_equal(r->driver->answered(r), answered % NUM);
                        assert_int_equal(*data, expected[answered % NUM] + 1);
                        *data = expected[answered % NUM] = (uint64_t)answered * answered;
                        r->driver->saw(r, 1);
                        answered++;
                } else {
                        sched_yield();
                }
        }
        atomic_store_explicit(&r->over, true, memory_order_relaxed);
        pthread_join(t, NULL);
        race_free(r);
}

int main(int argc, char **argv)
{
        static struct driver split, packed;
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_prestate(test_answers_by_flags, &split),
                cmocka_unit_test_prestate(test_answers_by_events, &split),
                cmocka_unit_test_prestate(test_kicks_by_flags, &split),
                cmocka_unit_test_prestate(test_kicks_by_events, &split),
                cmocka_unit_test_prestate(test_bytes_go_with_what_shows_them, &split),
                cmocka_unit_test_prestate(test_answers_by_flags, &packed),
                cmocka_unit_test_prestate(test_answers_by_events, &packed),
                cmocka_unit_test_prestate(test_kicks_by_flags, &packed),
                cmocka_unit_test_prestate(test_kicks_by_events, &packed),
                cmocka_unit_test_prestate(test_bytes_go_with_what_shows_them, &packed),
        };

        split = split_driver;
        packed = packed_driver;
        if (argc > 1) {
                patience = (uint64_t)atoi(argv[1]) * NS_PER_MS / 8;
                rounds = ROUNDS * 100;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
