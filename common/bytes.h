/* SPDX-License-Identifier: BSD-3-Clause */
/* bytes.h - fixed-endian numbers at any address. Unaligned pointers are fine. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_ACCESSORS(bits, order)                                            \
        static inline uint##bits##_t order##bits##_get(const void *p)           \
        {                                                                       \
                uint##bits##_t v;                                               \
                memcpy(&v, p, sizeof(v));                                       \
                return order##bits##toh(v);                                     \
        }                                                                       \
        static inline void order##bits##_put(void *p, uint##bits##_t v)         \
        {                                                                       \
                v = hto##order##bits(v);                                        \
                memcpy(p, &v, sizeof(v));                                       \
        }

BYTES_ACCESSORS(16, be)
BYTES_ACCESSORS(32, be)
BYTES_ACCESSORS(64, be)
BYTES_ACCESSORS(16, le)
BYTES_ACCESSORS(32, le)
BYTES_ACCESSORS(64, le)
#undef BYTES_ACCESSORS

static inline bool bytes_are_zero(const void *p, size_t len) /* len > 0 */
{
        const char *b = p;

        return b[0] == 0 && memcmp(b, b + 1, len - 1) == 0;
}
