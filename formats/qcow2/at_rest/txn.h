/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * txn.h - change an image at rest in one step.
 *
 * All offsets that lead to an image's tables (L1, refcount table, snapshot table) and its size lie in one sector of the
 * header. So whoever changes an image at rest writes everything that changes into clusters that are free, and one write
 * of the header brings it into force. A crash leaves the old image or the new one, nothing between, not even leaks.
 *
 * Begin; count references up and down in memory; allocate and write new tables; commit. Before commit nothing that the
 * old image uses is touched, so giving up needs no cleaning. Sizes are bytes; one thread; errors carry a sentence.
 */
#pragma once

#include "formats/qcow2/at_rest/refmap.h"
#include "formats/qcow2/header.h"

struct qcow2_txn {
        struct file *file;     /* borrowed */
        struct qcow2_header h; /* as it shall become */
        struct refmap refs;    /* refcounts as they shall become */
        uint64_t clusters;     /* of the file when it was begun: no old entry may point beyond */

        /* The refcount structure that the file has now, as far as it is counted in refs; commit replaces it. */
        uint64_t *blocks; /* owned: offsets of the blocks; 0: none there */
        uint64_t nblocks;
        uint64_t table_clusters; /* at h.reftable_offset */
};

/**
 * qcow2_txn_begin - read header and refcounts of an image that is to be changed.
 * A dirty image has its refcounts repaired first. Refuses images that qcow2_header_usable() refuses for writing, and
 * those whose refcount structure is damaged (-EIO). qcow2_txn_finish() it, also after an error.
 */
int qcow2_txn_begin(struct qcow2_txn *t, struct file *file);
void qcow2_txn_finish(struct qcow2_txn *t); /* zeroed is fine */

/* The same to look only: nothing may be allocated or committed, the file may be open for reading. -ENOTSUP: dirty. */
int qcow2_txn_look(struct qcow2_txn *t, struct file *file);

/* @n clusters in one run that are free before and after, counted once. *off: bytes. */
int qcow2_txn_alloc(struct qcow2_txn *t, uint64_t n, uint64_t *off);

/**
 * qcow2_txn_ref - add @delta to the count of every cluster that [off, off + len) touches.
 * Only clusters in use can be referenced: -EIO (the image is damaged) for a count of 0, or outside the file.
 */
int qcow2_txn_ref(struct qcow2_txn *t, uint64_t off, uint64_t len, int delta);

/* [off, off + len) holds tables of the image (REF_META): no entry may point there. -EIO when it is not counted. */
int qcow2_txn_mark(struct qcow2_txn *t, uint64_t off, uint64_t len);

/* Write a new table at @off (from qcow2_txn_alloc()); the last cluster's rest becomes zeros. */
int qcow2_txn_write(struct qcow2_txn *t, uint64_t off, const void *buf, uint64_t len);

/* Allocate a run and write a table of @len bytes there. */
int qcow2_txn_put(struct qcow2_txn *t, const void *buf, uint64_t len, uint64_t *off);

/**
 * qcow2_txn_commit - write the refcounts into free space, sync, switch the header, sync, give free space back.
 * -EOVERFLOW: a count does not fit into the image's refcount width.
 */
enum qcow2_commit {
        QCOW2_COMMIT_NUMBERS,    /* of the header: one sector */
        QCOW2_COMMIT_EXTENSIONS, /* and its extensions, see qcow2_header_replace() */
        QCOW2_COMMIT_NEW_IMAGE,  /* all of cluster 0 at once */
};
int qcow2_txn_commit(struct qcow2_txn *t, enum qcow2_commit how);

/**
 * qcow2_table_read - read a refcount table or L1 table.
 * @entries: checked by the caller against the format's limit. *ret: numbers in CPU order, free() it.
 */
int qcow2_table_read(struct file *file, uint64_t off, uint64_t entries, uint64_t **ret);

/* Clusters that the file has; the last one may be partial. */
static inline uint64_t qcow2_file_clusters(const struct file *file, uint32_t cluster_bits)
{
        return (file->size >> cluster_bits) + (file->size % (1ull << cluster_bits) != 0);
}
