/* SPDX-License-Identifier: BSD-3-Clause */
/* crc32c.c - half a byte at a time: a table of 64 bytes, and fast enough for headers and logs. */
#include "common/crc32c.h"

static const uint32_t half[16] = { /* the polynomial 0x82f63b78 applied to four bits */
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
        0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
        const uint8_t *p = bytes;

        crc = ~crc;
        for (; len; len--) {
                crc ^= *p++;
                crc = crc >> 4 ^ half[crc & 15];
                crc = crc >> 4 ^ half[crc & 15];
        }
        return ~crc;
}
