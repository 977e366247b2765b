/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap.h - one bit each, in an array of words the caller owns (BITMAP_WORDS(n) of them, zeroed). Not thread safe. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define BITMAP_WORD_BITS (sizeof(unsigned long) * CHAR_BIT)
#define BITMAP_WORDS(nbits) (((nbits) + BITMAP_WORD_BITS - 1) / BITMAP_WORD_BITS)

static inline bool bitmap_test(const unsigned long *map, size_t bit)
{
        return map[bit / BITMAP_WORD_BITS] >> (bit % BITMAP_WORD_BITS) & 1;
}

static inline void bitmap_set(unsigned long *map, size_t bit)
{
        map[bit / BITMAP_WORD_BITS] |= 1ul << (bit % BITMAP_WORD_BITS);
}

static inline void bitmap_clear(unsigned long *map, size_t bit)
{
        map[bit / BITMAP_WORD_BITS] &= ~(1ul << (bit % BITMAP_WORD_BITS));
}

/* Sets the bit; was it set before? */
static inline bool bitmap_test_and_set(unsigned long *map, size_t bit)
{
        bool was = bitmap_test(map, bit);

        bitmap_set(map, bit);
        return was;
}
