/* SPDX-License-Identifier: BSD-3-Clause */
/* Limits, on a clock of our own: what goes through in a simulated minute, and who gets how much of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "blkq/throttle/throttle.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

#define MINUTE (60 * NS_PER_SEC)

/* Somebody who always wants the next one, looks every @grain_ns, and takes what is due. */
struct client {
        bool write;
        uint64_t len, grain_ns;
        uint64_t pause_ns; /* between one and the next: nothing waits meanwhile */
        struct throttle_flow flow;
        uint64_t due, next_look;
        bool has;
        unsigned epoch;
        uint64_t ops, bytes;
};

static void take(struct throttle *t, struct client *c, uint64_t now)
{
        c->due = throttle_take(t, &c->flow, c->write, c->len, now);
        c->epoch = t->epoch;
        c->has = true;
        throttle_wait(t, &c->flow, c->write, c->due > now);
}

static void look(struct throttle *t, struct client *c, uint64_t now)
{
        c->next_look = now + c->grain_ns;
        for (;;) {
                if (!c->has || c->epoch != t->epoch)
                        take(t, c, now);
                if (c->due > now)
                        return;
                c->ops++;
                c->bytes += c->len;
                c->has = false;
                if (c->pause_ns) {
                        throttle_wait(t, &c->flow, c->write, false);
                        c->next_look = now + c->pause_ns;
                        return;
                }
        }
}

/* In the order of their wakings. */
static void run(struct throttle *t, struct client *c, unsigned n, uint64_t from, uint64_t ns)
{
        for (;;) {
                struct client *first = &c[0];

                for (unsigned i = 1; i < n; i++)
                        if (c[i].next_look < first->next_look)
                                first = &c[i];
                if (first->next_look >= from + ns)
                        return;
                look(t, first, max_u64(first->next_look, from));
        }
}

static void assert_near(const char *what, double got, double want, double off)
{
        if (got < want * (1 - off) || got > want * (1 + off))
                fail_msg("%s: %.0f, expected %.0f within %g %%", what, got, want, off * 100);
}

static struct throttle_limits limit(enum throttle_kind k, uint64_t avg)
{
        struct throttle_limits l = THROTTLE_NO_LIMITS;

        l.kind[k].avg = avg;
        return l;
}

/* --- rates -------------------------------------------------------------------------------------------------------- */

static const struct {
        const char *what;
        enum throttle_kind kind;
        uint64_t avg, len, grain_ns;
        bool write, other_too; /* does the other direction count? */
} rates[] = {
        { "iops-total",            THROTTLE_IOPS_TOTAL, 1000,      4096,    NS_PER_MS,      false, true },
        { "iops-read",             THROTTLE_IOPS_READ,  1000,      4096,    NS_PER_MS,      false, false },
        { "iops-write",            THROTTLE_IOPS_WRITE, 1000,      4096,    NS_PER_MS,      true,  false },
        { "bps-total",             THROTTLE_BPS_TOTAL,  50000000,  65536,   NS_PER_MS,      true,  true },
        { "bps-read",              THROTTLE_BPS_READ,   50000000,  4096,    NS_PER_MS,      false, false },
        { "bps-write",             THROTTLE_BPS_WRITE,  50000000,  1 << 20, NS_PER_MS,      true,  false },
        { "fast, a coarse clock",  THROTTLE_IOPS_TOTAL, 200000,    4096,    10 * NS_PER_MS, false, true },
        { "slow",                  THROTTLE_IOPS_TOTAL, 10,        4096,    NS_PER_MS,      false, true },
        { "larger than a second",  THROTTLE_BPS_WRITE,  1000000,   4000000, NS_PER_MS,      true,  false },
};

static void test_rates(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
                struct throttle_limits l = limit(rates[i].kind, rates[i].avg);
                bool bytes = rates[i].kind <= THROTTLE_BPS_WRITE;
                struct client c = { .write = rates[i].write, .len = rates[i].len, .grain_ns = rates[i].grain_ns };
                struct throttle t;

                assert_int_equal(throttle_limits_check(&l), 0);
                throttle_init(&t, 0);
                throttle_set(&t, &l, 0);
                run(&t, &c, 1, 0, MINUTE);
                assert_near(rates[i].what, (double)(bytes ? c.bytes : c.ops), (double)rates[i].avg * 60,
                            rates[i].len > rates[i].avg && bytes ? 0.08 : 0.01);
                /* The other direction goes on as if nothing were, or has to share. */
                c.due = 0;
                for (int n = 0; n < 50000; n++)
                        c.due = throttle_take(&t, &(struct throttle_flow){ 0 }, !c.write, c.len, MINUTE);
                assert_int_equal(rates[i].other_too, c.due > MINUTE);
        }
}

static void test_no_limits(void **state)
{
        struct throttle_flow f = { 0 };
        struct throttle t;

        (void)state;
        throttle_init(&t, NS_PER_SEC);
        for (int i = 0; i < 1000000; i++)
                assert_true(throttle_take(&t, &f, i % 2, 1 << 20, NS_PER_SEC) <= NS_PER_SEC);
}

static void test_iops_size(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_TOTAL, 1000);
        struct client c = { .len = 12288, .grain_ns = NS_PER_MS };
        struct throttle t;

        (void)state;
        l.iops_size = 4096; /* each counts as three */
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, &c, 1, 0, MINUTE);
        assert_near("thirds", (double)c.ops, 20000, 0.01);
        l.iops_size = 65536; /* and less than that as one */
        throttle_set(&t, &l, MINUTE);
        c.ops = 0;
        run(&t, &c, 1, MINUTE, MINUTE);
        assert_near("whole ones", (double)c.ops, 60000, 0.01);
}

/* --- bursts ------------------------------------------------------------------------------------------------------- */

static void test_burst(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_TOTAL, 100);
        struct client c = { .len = 512, .grain_ns = NS_PER_MS };
        struct throttle t;

        (void)state;
        l.kind[THROTTLE_IOPS_TOTAL].max = 1000; /* all of it at once */
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, &c, 1, 0, NS_PER_MS);
        assert_near("at once", (double)c.ops, 1000, 0.01);
        run(&t, &c, 1, NS_PER_MS, MINUTE);
        assert_near("then", (double)c.ops, 1000 + 6000, 0.01);
        c.ops = 0; /* a pause fills it up again: 100 a second leak */
        c.next_look = 3 * MINUTE;
        c.has = false;
        throttle_wait(&t, &c.flow, false, false);
        run(&t, &c, 1, 3 * MINUTE, NS_PER_MS);
        assert_near("again", (double)c.ops, 1000, 0.01);
}

static void test_long_burst(void **state)
{
        struct throttle_limits l = limit(THROTTLE_BPS_TOTAL, 1000000);
        struct client c = { .len = 10000, .grain_ns = NS_PER_MS };
        struct throttle t;

        (void)state;
        l.kind[THROTTLE_BPS_TOTAL].max = 5000000;
        l.kind[THROTTLE_BPS_TOTAL].length = 10; /* 5 M a second, until 50 M are in the bucket: 12.5 s */
        assert_int_equal(throttle_limits_check(&l), 0);
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, &c, 1, 0, 12 * NS_PER_SEC);
        assert_near("burst", (double)c.bytes, 60e6, 0.02);
        run(&t, &c, 1, 12 * NS_PER_SEC, 28 * NS_PER_SEC);
        assert_near("after", (double)c.bytes, 50e6 + 40e6, 0.02);
}

/* --- several ------------------------------------------------------------------------------------------------------ */

/* One clock of theirs is finer than the other: that must not pay. */
static void test_fair(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_TOTAL, 20000);
        struct client c[4] = {
                { .len = 4096, .grain_ns = NS_PER_MS }, { .len = 65536, .grain_ns = NS_PER_MS, .next_look = 10 },
                { .len = 4096, .grain_ns = 3 * NS_PER_MS, .write = true }, { .len = 4096, .grain_ns = NS_PER_MS / 10 },
        };
        uint64_t ops = 0;
        struct throttle t;

        (void)state;
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, c, 4, 0, MINUTE);
        for (int i = 0; i < 4; i++) {
                assert_near("each", (double)c[i].ops, 300000, 0.02);
                ops += c[i].ops;
        }
        assert_near("all", (double)ops, 1200000, 0.01);
}

/* Bytes are shared as bytes, whatever pieces they come in. */
static void test_fair_bytes(void **state)
{
        struct throttle_limits l = limit(THROTTLE_BPS_TOTAL, 100000000);
        struct client c[2] = { { .len = 4096, .grain_ns = NS_PER_MS }, { .len = 1 << 20, .grain_ns = NS_PER_MS } };
        struct throttle t;

        (void)state;
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, c, 2, 0, MINUTE);
        assert_near("small ones", (double)c[0].bytes, 3e9, 0.02);
        assert_near("large ones", (double)c[1].bytes, 3e9, 0.02);
}

/* Who asks for one at a time does not get more than who has many waiting, and what he leaves the other one takes. */
static void test_one_at_a_time(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_TOTAL, 20000);
        struct client c[2] = { { .len = 4096, .grain_ns = NS_PER_MS },
                               { .len = 4096, .grain_ns = NS_PER_US * 20, .pause_ns = NS_PER_US * 20 } };
        struct throttle t;

        (void)state;
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, c, 2, 0, MINUTE);
        assert_true(c[1].ops <= 620000);
        assert_near("all", (double)(c[0].ops + c[1].ops), 1200000, 0.01);
}

static void test_who_leaves(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_READ, 10000);
        struct client c[2] = { { .len = 4096, .grain_ns = NS_PER_MS }, { .len = 4096, .grain_ns = NS_PER_MS } };
        struct throttle t;

        (void)state;
        throttle_init(&t, 0);
        throttle_set(&t, &l, 0);
        run(&t, c, 2, 0, MINUTE);
        assert_near("half", (double)c[0].ops, 300000, 0.01);
        throttle_wait(&t, &c[1].flow, false, false);
        throttle_wait(&t, &c[1].flow, false, false);
        assert_int_equal(t.waiting[0], 1);
        run(&t, c, 1, MINUTE, MINUTE);
        assert_near("the rest", (double)c[0].ops, 900000, 0.01);
}

/* --- other limits meanwhile --------------------------------------------------------------------------------------- */

static void test_live_change(void **state)
{
        struct throttle_limits slow = limit(THROTTLE_IOPS_TOTAL, 1), fast = limit(THROTTLE_IOPS_TOTAL, 5000);
        struct client c = { .len = 4096, .grain_ns = NS_PER_MS };
        struct throttle t;

        (void)state;
        throttle_init(&t, 0);
        throttle_set(&t, &slow, 0);
        run(&t, &c, 1, 0, MINUTE);
        assert_in_range(c.ops, 59, 62);
        c.ops = 0; /* whoever waits for his second hears of it at once */
        throttle_set(&t, &fast, MINUTE);
        run(&t, &c, 1, MINUTE, MINUTE);
        assert_near("fast", (double)c.ops, 300000, 0.01);
        c.ops = 0;
        throttle_set(&t, &slow, 2 * MINUTE);
        run(&t, &c, 1, 2 * MINUTE, MINUTE);
        assert_in_range(c.ops, 59, 62);
}

/* A clock that another thread read a little later does not turn time back. */
static void test_clocks_apart(void **state)
{
        struct throttle_limits l = limit(THROTTLE_IOPS_TOTAL, 1000);
        struct throttle_flow f = { 0 };
        struct throttle t;
        uint64_t now = NS_PER_SEC;

        (void)state;
        throttle_init(&t, now);
        throttle_set(&t, &l, now);
        for (int i = 0; i < 2000; i++)
                throttle_take(&t, &f, false, 512, now - (unsigned)(i % 2) * 1000);
        assert_near("due", (double)(throttle_take(&t, &f, false, 512, now) - now), 1.9e9, 0.01);
}

/* --- what makes no sense ------------------------------------------------------------------------------------------ */

static void refused(const struct throttle_limits *l, const char *sentence)
{
        err_clear();
        assert_int_equal(throttle_limits_check(l), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), sentence));
        err_clear();
}

static void test_check(void **state)
{
        struct throttle_limits l = limit(THROTTLE_BPS_TOTAL, 1000);

        (void)state;
        assert_false(throttle_limits_any(&THROTTLE_NO_LIMITS));
        assert_true(throttle_limits_any(&l));
        l.kind[THROTTLE_BPS_READ].avg = 1;
        refused(&l, "cannot be used at the same time");
        l = limit(THROTTLE_BPS_TOTAL, 1000);
        l.iops_size = 1;
        refused(&l, "iops size requires");
        l = limit(THROTTLE_BPS_TOTAL, THROTTLE_VALUE_MAX + 1);
        refused(&l, "must be within");
        l = limit(THROTTLE_BPS_TOTAL, 1000);
        l.kind[THROTTLE_BPS_TOTAL].length = 0;
        refused(&l, "cannot be 0");
        l.kind[THROTTLE_BPS_TOTAL].length = 2;
        refused(&l, "without burst rate");
        l.kind[THROTTLE_BPS_TOTAL].max = 999;
        refused(&l, "cannot be lower");
        l.kind[THROTTLE_BPS_TOTAL].max = THROTTLE_VALUE_MAX;
        refused(&l, "too high");
        l = THROTTLE_NO_LIMITS;
        l.kind[THROTTLE_IOPS_READ].max = 5;
        refused(&l, "require corresponding");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rates),
                cmocka_unit_test(test_no_limits),
                cmocka_unit_test(test_iops_size),
                cmocka_unit_test(test_burst),
                cmocka_unit_test(test_long_burst),
                cmocka_unit_test(test_fair),
                cmocka_unit_test(test_fair_bytes),
                cmocka_unit_test(test_one_at_a_time),
                cmocka_unit_test(test_who_leaves),
                cmocka_unit_test(test_live_change),
                cmocka_unit_test(test_clocks_apart),
                cmocka_unit_test(test_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
