/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign_images.h - small VDI, VHD, VHDX and VMDK images made by hand, byte by byte as their specifications say, so
 * that tests can put into them what no program writes.
 *
 * All are the same disk: four blocks, of which 0 and 2 are data (foreign_byte()) and 1 and 3 read as zeros; the last
 * sector of block 3 is missing.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum foreign_kind {
        FOREIGN_VDI,
        FOREIGN_VPC,         /* dynamic */
        FOREIGN_VHDX,
        FOREIGN_VHDX_LOG,    /* block 0 is only in the log */
        FOREIGN_VMDK,        /* monolithicSparse */
        FOREIGN_VMDK_STREAM, /* streamOptimized: compressed, directory at the end */
        FOREIGN_KINDS,
};
extern const char *const foreign_format[FOREIGN_KINDS], *const foreign_name[FOREIGN_KINDS];

struct foreign_image {
        uint8_t *bytes; /* free() it */
        size_t len;
        uint32_t block;
        uint64_t size; /* of the disk */
};
void foreign_make(enum foreign_kind kind, struct foreign_image *ret);

uint8_t foreign_byte(const struct foreign_image *m, uint64_t off); /* what the guest reads there */

/* After a change: the checksums fit again. Survives any bytes. */
void foreign_fix_checksums(enum foreign_kind kind, uint8_t *bytes, size_t len);
