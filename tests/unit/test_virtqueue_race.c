/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtqueue_race [MS] - the barrier between a wish and a look (virtio 1.2, 2.7.7 to 2.7.10), by two processors that meet:
 *
 *   device: shows answers | looks whether the driver wants to hear     driver: wants to hear | looks for answers
 *   device: wants kicks   | looks for requests                         driver: shows requests | looks whether to kick
 *
 * Each may see the other late, but not both: else both sleep, for ever. The device is our virtqueue, the driver is here. Where the
 * bar is no barrier an x86 does it within some hundred meetings: the device's stores before it wait for cache lines that the other
 * processor has, and the load behind it does not. Right code never fails here, however busy the machine is.
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
#include "vhost_user/vq_ops.h"

#define NUM 128u
#define BATCH 4u  /* answers before one look */
#define LINES 48u /* cache lines that the driver has and the device writes to just before */
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull

static uint64_t patience = 150 * NS_PER_MS; /* for each of four */
static const struct vq_layout layout = { NUM, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED };

struct race {
        struct mem_table *mt;
        struct vring_desc *desc;
        uint16_t *avail, *used; /* flags, idx, ring, event */
        uint16_t *used_event, *avail_event;
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

/* --- the driver --------------------------------------------------------------------------------------------------------- */

static void offer(struct race *r, unsigned n)
{
        uint16_t idx = r->avail[1];

        for (unsigned i = 0; i < n; i++, idx++)
                __atomic_store_n(&r->avail[2 + idx % NUM], (uint16_t)(idx % NUM), __ATOMIC_RELAXED);
        __atomic_store_n(&r->avail[1], idx, __ATOMIC_RELEASE);
}

/* As a driver does: its cache has the lines of the used ring; and some more. */
static unsigned read_answers(const struct race *r)
{
        unsigned sum = 0;

        for (unsigned i = 0; i < 2 + 4 * NUM; i++)
                sum += __atomic_load_n(&r->used[i], __ATOMIC_RELAXED);
        for (unsigned i = 0; i < LINES; i++)
                sum += __atomic_load_n(&r->line[i].word, __ATOMIC_RELAXED);
        return sum;
}

/* "Interrupt me" and a look: did answers come? */
static bool wants_to_hear(struct race *r, uint16_t seen)
{
        if (r->event_idx)
                __atomic_store_n(r->used_event, seen, __ATOMIC_RELAXED);
        else
                __atomic_store_n(&r->avail[0], 0, __ATOMIC_RELAXED);
        gm_full_barrier();
        return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) != seen;
}

/* A request and a look: is the device to be kicked? */
static bool shows_request(struct race *r)
{
        uint16_t idx = r->avail[1];

        offer(r, 1);
        gm_full_barrier();
        if (r->event_idx)
                return vq_event_passed(__atomic_load_n(r->avail_event, __ATOMIC_RELAXED), idx, (uint16_t)(idx + 1));
        return !(__atomic_load_n(&r->used[0], __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
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
                uint16_t seen = __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE);
                bool acts;

                offer(r, BATCH - (r->wants_kicks && n)); /* the last round's request is there already */
                __atomic_store_n(&r->avail[0], VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
                sum += read_answers(r);
                (void)sum; /* only has to be read */
                meet(r, &times);
                meet(r, &times);
                dawdle(&rng);
                acts = r->wants_kicks ? shows_request(r) : wants_to_hear(r, seen);
                meet(r, &times);
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

static void race(bool event_idx, bool wants_kicks)
{
        struct race *r = aligned_alloc(64, (sizeof(*r) + 63) / 64 * 64);
        pthread_t t;

        assert_non_null(r);
        memset(r, 0, sizeof(*r));
        r->mt = guest_new(NULL);
        r->desc = (void *)guest_at(r->mt, DESC);
        r->avail = (void *)guest_at(r->mt, AVAIL);
        r->used = (void *)guest_at(r->mt, USED);
        r->used_event = &r->avail[2 + NUM];
        r->avail_event = &r->used[2 + 4 * NUM];
        r->event_idx = r->vq.event_idx = event_idx;
        r->wants_kicks = wants_kicks;
        for (unsigned i = 0; i < NUM; i++)
                r->desc[i] = (struct vring_desc){ 0x1000 + 16 * i, 16, 0, 0 };
        assert_int_equal(vq_start(&r->vq, r->mt, &layout, 0), 0);
        vq_want_kicks(&r->vq, false);
        assert_int_equal(pthread_create(&t, NULL, device, r), 0);
        drive(r);
        pthread_join(t, NULL);
        vq_finish(&r->vq);
        mem_table_put(r->mt);
        free(r);
}

static void test_answers_by_flags(void **state)
{
        (void)state;
        race(false, false);
}

static void test_answers_by_events(void **state)
{
        (void)state;
        race(true, false);
}

static void test_kicks_by_flags(void **state)
{
        (void)state;
        race(false, true);
}

static void test_kicks_by_events(void **state)
{
        (void)state;
        race(true, true);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers_by_flags),
                cmocka_unit_test(test_answers_by_events),
                cmocka_unit_test(test_kicks_by_flags),
                cmocka_unit_test(test_kicks_by_events),
        };

        if (argc > 1)
                patience = (uint64_t)atoi(argv[1]) * NS_PER_MS / 4;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
