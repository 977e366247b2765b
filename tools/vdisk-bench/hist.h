/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist.h - a log-linear latency histogram: 32 buckets to each power of two, so every answer is within 3.2 %.
 * Nanoseconds; above 2^40 ns (18 minutes) counts as that. One thread writes. Zero-initialised is empty.
 */
#pragma once

#include <stdint.h>

#define HIST_SUB_BITS 5
#define HIST_BUCKETS ((40 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
        uint64_t count, sum, min, max;
        uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);

/* The smallest latency that at least @fraction (0..1) of all do not exceed (the end of its bucket, at most max). */
uint64_t hist_quantile(const struct hist *h, double fraction);
