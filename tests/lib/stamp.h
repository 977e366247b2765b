/* SPDX-License-Identifier: BSD-3-Clause */
/* stamp.h - sectors that say which one they are and which version, so that a foreign, torn or old one is known by
 * sight. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "common/bytes.h"

#define STAMP_SECTOR 512u
#define STAMP_FOREIGN UINT32_MAX

/* Version 0 is zeros. */
static inline void stamp_put(unsigned char *to, uint32_t sector, uint32_t version)
{
        memset(to, 0, STAMP_SECTOR);
        for (unsigned i = 0; version && i < STAMP_SECTOR; i += 8) {
                be32_put(to + i, sector ^ 0xa5000000u);
                be32_put(to + i + 4, version);
        }
}

/* STAMP_FOREIGN: no sector that was ever put there. */
static inline uint32_t stamp_version(const unsigned char *b, uint32_t sector)
{
        uint32_t version = be32_get(b + 4);
        uint64_t first, word;

        memcpy(&first, b, 8);
        for (unsigned i = 8; i < STAMP_SECTOR; i += 8) {
                memcpy(&word, b + i, 8);
                if (word != first)
                        return STAMP_FOREIGN;
        }
        if (first == 0)
                return 0;
        return be32_get(b) == (sector ^ 0xa5000000u) && version ? version : STAMP_FOREIGN;
}
