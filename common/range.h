/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * range.h - arithmetic on [off, off + len) that cannot wrap. Everything a stranger names passes here first.
 * All values in bytes unless a caller says otherwise. Pure functions, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Is [off, off + len) inside [0, size)? An empty range fits anywhere up to @size. */
static inline bool range_fits(uint64_t off, uint64_t len, uint64_t size)
{
        return len <= size && off <= size - len;
}

/* Do the two ranges share a byte? Empty ranges share none. Ends may not wrap (range_fits was asked). */
static inline bool range_overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
        return alen && blen && a < b + blen && b < a + alen;
}

static inline bool is_pow2(uint64_t n)
{
        return n && !(n & (n - 1));
}

/* @align: a power of two. */
static inline uint64_t round_down(uint64_t n, uint64_t align)
{
        return n & ~(align - 1);
}

/* @align: a power of two. Wraps to 0 above 2^64 - align: ask range_fits first for a stranger's number. */
static inline uint64_t round_up(uint64_t n, uint64_t align)
{
        return (n + align - 1) & ~(align - 1);
}

static inline bool is_aligned(uint64_t n, uint64_t align)
{
        return !(n & (align - 1));
}

static inline uint64_t div_round_up(uint64_t n, uint64_t d)
{
        return n / d + (n % d != 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}
