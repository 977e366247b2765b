/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats.h"

#include "common/clock.h"

/* One writer, so a plain load and store does: no locked instruction on the way of a request. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
        uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

        atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

void stats_add(struct blk_totals *sum, const struct blk_stats *s)
{
        for (unsigned i = 0; i < STATS_OPS; i++) {
                struct op_totals *to = &sum->op[i];
                const struct op_stats *from = &s->op[i];

                to->count += atomic_load_explicit(&from->count, memory_order_relaxed);
                to->bytes += atomic_load_explicit(&from->bytes, memory_order_relaxed);
                to->errors += atomic_load_explicit(&from->errors, memory_order_relaxed);
                to->total_ns += atomic_load_explicit(&from->total_ns, memory_order_relaxed);
                for (unsigned b = 0; b < STATS_BUCKETS; b++)
                        to->bucket[b] += atomic_load_explicit(&from->bucket[b], memory_order_relaxed);
        }
}

static unsigned bucket_of(uint64_t ns)
{
        uint64_t us = ns / NS_PER_US;
        unsigned b = us ? 63u - (unsigned)__builtin_clzll(us) : 0;

        return b < STATS_BUCKETS ? b : STATS_BUCKETS - 1;
}

void stats_account(struct op_stats *s, uint64_t bytes, uint64_t ns, int res)
{
        add(&s->count, 1);
        if (res < 0)
                add(&s->errors, 1);
        else
                add(&s->bytes, bytes);
        add(&s->total_ns, ns);
        add(&s->bucket[bucket_of(ns)], 1);
}

uint64_t stats_quantile(const struct op_stats *s, double fraction)
{
        uint64_t in[STATS_BUCKETS], all = 0, seen = 0;

        /* Count the buckets, not s->count: the two may be a request apart. */
        for (unsigned b = 0; b < STATS_BUCKETS; b++)
                all += in[b] = atomic_load_explicit(&s->bucket[b], memory_order_relaxed);
        for (unsigned b = 0; b < STATS_BUCKETS && all; b++) {
                seen += in[b];
                if (in[b] && (double)seen >= fraction * (double)all)
                        return (2ull << b) * NS_PER_US;
        }
        return 0;
}
