/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats.h - what a port counts: requests, bytes, errors and a latency histogram per operation.
 * Written by one thread with relaxed atomics, read by any; a reader may see counters that are a request apart.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* Bucket b counts latencies in [2^b, 2^(b+1)) microseconds; 0 holds everything below 2 us, the last all above. */
#define STATS_BUCKETS 24
enum { STATS_READ, STATS_WRITE, STATS_FLUSH, STATS_DISCARD, STATS_WRITE_ZEROES, STATS_OPS };

struct op_stats {
        _Atomic uint64_t count, bytes, errors, total_ns;
        _Atomic uint64_t bucket[STATS_BUCKETS];
};
struct blk_stats {
        struct op_stats op[STATS_OPS];
        _Atomic uint64_t fast;          /* served on their own thread, never through home */
        _Atomic uint64_t flushes_joined; /* flushes that another flush already did */
};

/* What several ports counted, as plain numbers. */
struct op_totals {
        uint64_t count, bytes, errors, total_ns;
        uint64_t bucket[STATS_BUCKETS];
};
struct blk_totals {
        struct op_totals op[STATS_OPS];
};
void stats_add(struct blk_totals *sum, const struct blk_stats *s); /* any thread */

void stats_account(struct op_stats *s, uint64_t bytes, uint64_t ns, int res);
/* The latency that @fraction (0..1) of all requests stayed below, in ns: the upper bound of its bucket. 0: none. */
uint64_t stats_quantile(const struct op_stats *s, double fraction);
