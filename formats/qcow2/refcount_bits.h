/* SPDX-License-Identifier: BSD-3-Clause */
/* refcount_bits.h - one refcount in a refcount block, for all widths of 1 << order bits (order 0..6). Pure, any
 * thread. */
#pragma once

#include <assert.h>
#include <stdint.h>

#include "common/bytes.h"

/* The largest refcount of this width. */
static inline uint64_t refcount_max(unsigned order)
{
        return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}

/* How many refcounts a block of @block_size bytes holds. */
static inline uint64_t refcount_per_block(uint64_t block_size, unsigned order)
{
        return (block_size * 8) >> order;
}

static inline uint64_t refcount_get(const void *block, unsigned order, uint64_t i)
{
        const uint8_t *b = block;

        switch (order) {
        case 3:
                return b[i];
        case 4:
                return be16_get(b + i * 2);
        case 5:
                return be32_get(b + i * 4);
        case 6:
                return be64_get(b + i * 8);
        default: /* 1, 2, 4 bits: the lowest bits of a byte come first */
                return b[(i << order) / 8] >> ((i << order) % 8) & refcount_max(order);
        }
}

/* @value <= refcount_max(order): the caller checked. */
static inline void refcount_set(void *block, unsigned order, uint64_t i, uint64_t value)
{
        uint8_t *b = block;
        unsigned shift;

        assert(value <= refcount_max(order));
        switch (order) {
        case 3:
                b[i] = (uint8_t)value;
                break;
        case 4:
                be16_put(b + i * 2, (uint16_t)value);
                break;
        case 5:
                be32_put(b + i * 4, (uint32_t)value);
                break;
        case 6:
                be64_put(b + i * 8, value);
                break;
        default:
                shift = (i << order) % 8;
                b += (i << order) / 8;
                *b = (uint8_t)((*b & ~(refcount_max(order) << shift)) | value << shift);
        }
}
