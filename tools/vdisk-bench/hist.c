/* SPDX-License-Identifier: BSD-3-Clause */
#include "hist.h"

#include "common/range.h"

#define SUB (1u << HIST_SUB_BITS)

/* Below SUB each value has a bucket of its own; from there on each power of two has SUB of them. */
static unsigned bucket_of(uint64_t ns)
{
        unsigned shift;

        if (ns < SUB)
                return (unsigned)ns;
        shift = 63 - (unsigned)__builtin_clzll(ns) - HIST_SUB_BITS;
        return ((shift + 1) << HIST_SUB_BITS) + (unsigned)((ns >> shift) - SUB);
}

static uint64_t bucket_end(unsigned b)
{
        unsigned shift = b >> HIST_SUB_BITS;

        if (shift == 0)
                return b;
        shift--;
        return (((uint64_t)(b & (SUB - 1)) + SUB + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
        ns = min_u64(ns, (1ull << 40) - 1);
        if (h->count == 0 || ns < h->min)
                h->min = ns;
        h->max = max_u64(h->max, ns);
        h->count++;
        h->sum += ns;
        h->bucket[bucket_of(ns)]++;
}

void hist_merge(struct hist *to, const struct hist *from)
{
        if (from->count == 0)
                return;
        to->min = to->count ? min_u64(to->min, from->min) : from->min;
        to->max = max_u64(to->max, from->max);
        to->count += from->count;
        to->sum += from->sum;
        for (unsigned b = 0; b < HIST_BUCKETS; b++)
                to->bucket[b] += from->bucket[b];
}

uint64_t hist_quantile(const struct hist *h, double fraction)
{
        uint64_t want = (uint64_t)(fraction * (double)h->count), seen = 0;

        if (h->count == 0)
                return 0;
        if ((double)want < fraction * (double)h->count || want == 0)
                want++; /* round up: "at least that many" */
        for (unsigned b = 0; b < HIST_BUCKETS; b++) {
                seen += h->bucket[b];
                if (seen >= want)
                        return min_u64(bucket_end(b), h->max);
        }
        return h->max;
}
