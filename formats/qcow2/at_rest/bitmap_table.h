/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmap_table.h - the directory of an image's bitmaps, as numbers and back as bytes, and the tables that it leads to.
 * Memory is bounded by the file and by the format's limits. One thread; errors carry a sentence.
 */
#pragma once

#include "formats/qcow2/at_rest/txn.h"

struct qcow2_bitmap {
        uint64_t table_offset;
        uint32_t table_entries;
        uint32_t flags;        /* QCOW2_BITMAP_IN_USE, AUTO, EXTRA_COMPATIBLE */
        uint8_t granularity_bits;
        char *name;            /* owned */
        uint8_t *extra;        /* owned: as read; NULL: none */
        uint32_t extra_len;
};
struct qcow2_bitmaps {
        struct qcow2_bitmap *v; /* owned */
        uint32_t n;
        uint64_t bytes;         /* of the directory in the file */
};

/**
 * qcow2_bitmaps_read - the directory, each entry checked: limits, places in the file, names unique, tables of the size
 * that the disk needs (but for bitmaps in use, which mean nothing). None when the image has no valid bitmaps.
 * 0 (finish it), -EIO with a sentence, -ENOTSUP for what is not known here. Needs no finish after an error.
 */
int qcow2_bitmaps_read(struct file *file, const struct qcow2_header *h, struct qcow2_bitmaps *s);
void qcow2_bitmaps_finish(struct qcow2_bitmaps *s); /* zeroed is fine */
struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2_bitmaps *s, const char *name); /* NULL: none */

/* The directory as bytes, *ret: free() it. -EFBIG beyond the format's limits. */
int qcow2_bitmaps_encode(const struct qcow2_bitmaps *s, uint8_t **ret, uint64_t *len);

/* The table of one, every entry checked. *ret: numbers in CPU order, free() it. */
int qcow2_bitmap_table_read(struct file *file, const struct qcow2_header *h, const struct qcow2_bitmap *b, uint64_t **ret);

/* Bytes of its bits, and entries of its table, for the image's disk. */
uint64_t qcow2_bitmap_bytes(const struct qcow2_header *h, unsigned granularity_bits);
uint64_t qcow2_bitmap_entries(const struct qcow2_header *h, unsigned granularity_bits);
