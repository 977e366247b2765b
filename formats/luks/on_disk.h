/* SPDX-License-Identifier: BSD-3-Clause */
/* on_disk.h - byte offsets of the LUKS1 header (LUKS On-Disk Format Specification 1.2.3, section 2). Big-endian. */
#pragma once

#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS_SECTOR 512u
#define LUKS_SLOTS 8u
#define LUKS_STRIPES 4000u
#define LUKS_DIGEST 20u
#define LUKS_SALT 32u
#define LUKS_WORD 32u /* cipher, mode, hash: NUL-terminated inside */
#define LUKS_ALIGN 4096u /* where key material begins: multiples of this */

enum {
        LH_MAGIC = 0,            /* 6 bytes */
        LH_VERSION = 6,          /* u16: 1 */
        LH_CIPHER = 8,
        LH_MODE = 40,
        LH_HASH = 72,
        LH_PAYLOAD = 104,        /* u32, sectors: the header and its key material end there */
        LH_KEY_BYTES = 108,      /* u32 */
        LH_DIGEST = 112,         /* 20 bytes: PBKDF2 of the master key */
        LH_DIGEST_SALT = 132,    /* 32 bytes */
        LH_DIGEST_ITERATIONS = 164, /* u32 */
        LH_UUID = 168,           /* 40 bytes, text */
        LH_SLOTS = 208,          /* 8 of LS_LENGTH */
        LH_LENGTH = 592,

        LS_STATE = 0,      /* u32 */
        LS_ITERATIONS = 4, /* u32 */
        LS_SALT = 8,       /* 32 bytes */
        LS_MATERIAL = 40,  /* u32, sectors from the header's first byte */
        LS_STRIPES = 44,   /* u32 */
        LS_LENGTH = 48,
};
#define LUKS_ACTIVE 0x00ac71f3u
#define LUKS_INACTIVE 0x0000deadu
