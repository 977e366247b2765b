/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * header.h - the qcow2 header: read it believing nothing, change it, write it back without losing what others put
 * there.
 *
 * Offsets and sizes are bytes unless a name says entries, clusters or bits. Errors are negative errno with a sentence
 * that names the field, its value and what would be right (without the path: the caller knows it). Any thread, no
 * locks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/file.h"
#include "on_disk.h"

struct qcow2_header {
        uint32_t version; /* 2 or 3 */
        uint32_t cluster_bits;
        uint32_t cluster_size;
        uint64_t size;
        uint32_t crypt_method;
        uint32_t l1_entries; /* covers size; entries beyond hold VM state */
        uint64_t l1_offset;
        uint64_t reftable_offset;
        uint32_t reftable_clusters;
        uint32_t nb_snapshots;
        uint64_t snapshots_offset;
        uint64_t incompatible, compatible, autoclear; /* version 2: 0 */
        uint32_t refcount_order;                      /* version 2: 4 */
        uint32_t length;
        uint8_t compression;

        char *backing_name;   /* owned; NULL: none */
        char *backing_format; /* owned; NULL: not named */
        char *data_name;      /* owned; of the external data file; NULL: not named, or there is none */

        uint32_t nb_bitmaps; /* 0 unless QCOW2_AUTOCLEAR_BITMAPS says that they are valid */
        uint64_t bitmap_dir_offset, bitmap_dir_size;

        uint64_t luks_offset, luks_length; /* where the LUKS header lies; 0 unless crypt_method says LUKS */

        uint8_t *raw;     /* owned: the header's bytes as read; what we do not know is written back from here */
        uint8_t *ext;     /* owned: the extensions as read, without the end mark; NULL: none */
        uint32_t ext_len; /* bytes */
};

enum qcow2_header_flags {
        /* accept a missing refcount table, a snapshot table anywhere, bitmaps that contradict themselves */
        QCOW2_REPAIRING = 1 << 0,
};

/**
 * qcow2_header_read - read and check the header of @file.
 * Tables are checked for size, alignment and place (inside the file), not for contents. Memory is at most about
 * 2 clusters, and not more than the file has bytes. Refuses feature bits that are unknown, by name.
 *
 * Returns 0 and fills *h (qcow2_header_finish() it), -EINVAL (not qcow2, or contradicts the format), -ENOTSUP (newer or
 * other than we know), or the error of reading. *h needs no finish after an error.
 */
int qcow2_header_read(struct file *file, unsigned flags, struct qcow2_header *h);

/**
 * qcow2_header_usable - can we work with the guest data of this image? Asked by everybody but info.
 * Returns 0, -ENOTSUP (legacy AES encryption, encrypted external data file), or -EROFS (@write, and marked corrupt).
 */
int qcow2_header_usable(const struct qcow2_header *h, bool write);

/* A new image's header: version 3 (or 2) with our defaults; the caller fills in the rest. Cannot fail. */
void qcow2_header_init(struct qcow2_header *h, uint32_t version, uint32_t cluster_bits);

/* Frees what the header owns; zeroed and finished headers are fine. */
void qcow2_header_finish(struct qcow2_header *h);

/**
 * qcow2_header_encode - the numbers of the header as they belong at byte 0 of the file.
 * Returns how many bytes of @buf are to be written: at most QH_V3_LENGTH, so they are one sector and change all at
 * once.
 */
size_t qcow2_header_encode(const struct qcow2_header *h, uint8_t buf[QH_V3_LENGTH]);

/**
 * qcow2_header_switch - write the numbers of the header (one write within one sector; does not sync).
 * This is how a new L1 table, refcount table or snapshot table comes into force.
 */
int qcow2_header_switch(struct file *file, const struct qcow2_header *h);

/**
 * qcow2_header_build - cluster 0 made anew: numbers, unknown tail, extensions (unknown ones as they were), backing
 * name.
 * @buf: h->cluster_size bytes. -ENOSPC when it does not fit into a cluster. Bitmaps that are not valid are left out.
 */
int qcow2_header_build(const struct qcow2_header *h, uint8_t *buf);

/**
 * qcow2_header_replace - give an image that is there another header: numbers, extensions, backing file's name. Syncs.
 * A crash leaves the old header or the new one (perhaps without the names of features).
 */
int qcow2_header_replace(struct file *file, const struct qcow2_header *h);

/**
 * qcow2_feature_name - what a feature bit is called: by the image's own table, by us, or "bit N".
 * @type: 0 incompatible, 1 compatible, 2 autoclear. Returns @buf (unprintable bytes replaced).
 */
const char *qcow2_feature_name(const struct qcow2_header *h, unsigned type, unsigned bit, char *buf, size_t buflen);

static inline bool qcow2_has_data_file(const struct qcow2_header *h)
{
        return h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

static inline bool qcow2_data_is_raw(const struct qcow2_header *h)
{
        return qcow2_has_data_file(h) && h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA_FILE;
}

/* Autoclear bits whose meaning we keep when we change an image at rest; the others are cleared. */
static inline uint64_t qcow2_kept_autoclear(const struct qcow2_header *h)
{
        return h->autoclear & (QCOW2_AUTOCLEAR_BITMAPS | (qcow2_has_data_file(h) ? QCOW2_AUTOCLEAR_RAW_DATA_FILE : 0));
}

/* Bytes of guest disk that one L2 table covers. Its entries have 8 bytes, or 16 with sub-clusters. */
static inline uint64_t qcow2_l2_covers(const struct qcow2_header *h)
{
        return (uint64_t)h->cluster_size << (h->cluster_bits - (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 4 : 3));
}

/* L1 entries that a disk of @size bytes needs. */
static inline uint64_t qcow2_l1_needs(const struct qcow2_header *h, uint64_t size)
{
        uint64_t covers = qcow2_l2_covers(h);

        return size / covers + (size % covers != 0);
}

static inline uint64_t qcow2_reftable_entries(const struct qcow2_header *h)
{
        return (uint64_t)h->reftable_clusters << (h->cluster_bits - 3);
}
