/* SPDX-License-Identifier: BSD-3-Clause */
/* zeros.h - finding zeros in a buffer. */
#pragma once

#include <stddef.h>
#include <string.h>

/* How many bytes at the start of @buf are zero. */
static inline size_t zeros_prefix(const char *buf, size_t len)
{
        size_t i = 0;

        while (i + 4096 <= len && buf[i] == 0 && !memcmp(buf + i, buf + i + 1, 4095))
                i += 4096;
        while (i < len && buf[i] == 0)
                i++;
        return i;
}

/* How many bytes at the start of @buf, in whole blocks of @block bytes (the last may be short), hold data (or only
 * zeros: *zero tells which). @len > 0. */
static inline size_t zeros_run(const char *buf, size_t len, size_t block, int *zero)
{
        size_t n = 0;

        while (n < len) {
                size_t one = len - n < block ? len - n : block;
                int z = zeros_prefix(buf + n, one) == one;

                if (n == 0)
                        *zero = z;
                else if (z != *zero)
                        break;
                n += one;
        }
        return n;
}
