/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats.h"

#include "common/range.h"

#define UNIT_SHIFT 8 /* 256 ns: bucket 0 */
#define SUB_SHIFT 2  /* four buckets a power of two */

const char *const stats_op_names[STATS_OPS] = { "read", "write", "flush", "discard", "write_zeroes" };
const char *const stats_stage_names[STAGES] = { "queue", "map", "turn", "disk", "notify", "total" };

static uint64_t load(const _Atomic uint64_t *counter)
{
        return atomic_load_explicit(counter, memory_order_relaxed);
}

/* --- buckets ------------------------------------------------------------------------------------------------------ */

/* With v in units: below 4 each has its own; then the two bits below the highest one choose among four. */
unsigned stats_bucket(uint64_t ns)
{
        uint64_t v = ns >> UNIT_SHIFT;
        unsigned e, b;

        if (v < 1u << SUB_SHIFT)
                return (unsigned)v;
        e = 63u - (unsigned)__builtin_clzll(v);
        b = ((e - SUB_SHIFT + 1) << SUB_SHIFT) + ((v >> (e - SUB_SHIFT)) & ((1u << SUB_SHIFT) - 1));
        return b < STATS_BUCKETS ? b : STATS_BUCKETS - 1;
}

uint64_t stats_bucket_end(unsigned b)
{
        unsigned octave = b >> SUB_SHIFT, sub = b & ((1u << SUB_SHIFT) - 1);

        if (!octave)
                return (uint64_t)(sub + 1) << UNIT_SHIFT;
        return (uint64_t)((1u << SUB_SHIFT) + sub + 1) << (octave - 1 + UNIT_SHIFT);
}

/* --- sums --------------------------------------------------------------------------------------------------------- */

static void add_stage(struct stage_totals *to, const struct stage_stats *from)
{
        to->total_ns += load(&from->total_ns);
        for (unsigned b = 0; b < STATS_BUCKETS; b++)
                to->bucket[b] += load(&from->bucket[b]);
}

void stats_add(struct blk_totals *sum, const struct blk_stats *s)
{
        for (unsigned i = 0; i < STATS_OPS; i++) {
                struct op_totals *to = &sum->op[i];
                const struct op_stats *from = &s->op[i];
                uint64_t count = load(&from->count);

                to->invalid += load(&from->invalid);
                if (!count) /* most disks are never asked for most of it; their pages stay untouched */
                        continue;
                to->count += count;
                to->bytes += load(&from->bytes);
                to->errors += load(&from->errors);
                for (unsigned stage = 0; stage < STAGES; stage++)
                        add_stage(&to->stage[stage], &from->stage[stage]);
        }
        sum->fast += load(&s->fast);
        sum->flushes_joined += load(&s->flushes_joined);
        sum->lookups += load(&s->lookups);
        sum->table_misses += load(&s->table_misses);
        sum->highest_write = max_u64(sum->highest_write, load(&s->highest_write));
}

void stats_gauge(struct blk_gauges *sum, const struct blk_stats *s)
{
        uint64_t oldest = load(&s->oldest_ns);

        sum->in_flight += load(&s->in_flight);
        if (oldest && (!sum->oldest_ns || oldest < sum->oldest_ns))
                sum->oldest_ns = oldest;
        sum->throttled |= load(&s->throttled) != 0;
        sum->last_ns = max_u64(sum->last_ns, load(&s->last_ns));
}

/* --- the writer --------------------------------------------------------------------------------------------------- */

void stats_account(struct op_stats *s, uint64_t bytes, const struct stage_clock *c, int res)
{
        stats_count(&s->count, 1);
        if (res < 0)
                stats_count(&s->errors, 1);
        else
                stats_count(&s->bytes, bytes);
        for (unsigned stage = STAGE_QUEUE; stage < STAGE_NOTIFY; stage++)
                stats_time(s, stage, c->spent[stage]);
}

/* --- quantiles ---------------------------------------------------------------------------------------------------- */

uint64_t stats_samples(const struct stage_totals *t)
{
        uint64_t all = 0;

        for (unsigned b = 0; b < STATS_BUCKETS; b++)
                all += t->bucket[b];
        return all;
}

uint64_t stats_quantile(const struct stage_totals *t, double fraction)
{
        uint64_t all = stats_samples(t), seen = 0;

        for (unsigned b = 0; b < STATS_BUCKETS && all; b++) {
                seen += t->bucket[b];
                if (t->bucket[b] && (double)seen >= fraction * (double)all)
                        return stats_bucket_end(b);
        }
        return 0;
}
