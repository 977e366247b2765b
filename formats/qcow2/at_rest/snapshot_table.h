/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot_table.h - the list of internal snapshots, as numbers and back as bytes. What others put into the extra data
 * of an entry is kept. Memory is bounded by QCOW2_MAX_SNAPSHOT_BYTES and by the file. One thread.
 */
#pragma once

#include "formats/qcow2/at_rest/txn.h"

struct qcow2_snapshot {
        uint64_t l1_offset;
        uint32_t l1_entries;
        uint32_t date_sec, date_nsec;
        uint64_t vm_clock_ns, vm_state_size;
        uint64_t disk_size;
        uint64_t icount;    /* UINT64_MAX: none */
        char *id, *name;    /* owned */
        uint8_t *extra;     /* owned: as read; NULL: none */
        uint32_t extra_len;
};
struct qcow2_snapshots {
        struct qcow2_snapshot *v; /* owned */
        uint32_t n;
        uint64_t bytes; /* of the table in the file */
};

/**
 * qcow2_snapshots_read - the snapshot table of an image, each entry checked: sizes, alignment, L1 table in the file,
 * ids unique. 0 (finish it), -EIO with a sentence for a damaged table, or the error of reading. Needs no finish after
 * an error.
 */
int qcow2_snapshots_read(struct file *file, const struct qcow2_header *h, struct qcow2_snapshots *s);
/**
 * qcow2_snapshots_salvage - what can be read of a damaged table: snapshots that cannot be are left out, and @lost is
 * told. Where an entry does not tell how long it is, all behind it are lost with it. 0 or the error of reading.
 */
int qcow2_snapshots_salvage(struct file *file, const struct qcow2_header *h, struct qcow2_snapshots *s,
                            void (*lost)(void *opaque, const char *why), void *opaque);
/* Version 3 wants two fields of its extra data; without them qemu-img finds the table corrupt. */
bool qcow2_snapshot_is_short(const struct qcow2_header *h, const struct qcow2_snapshot *e);

void qcow2_snapshots_finish(struct qcow2_snapshots *s); /* zeroed is fine */

/* The table as bytes, *ret: free() it. -EFBIG beyond the format's limits. */
int qcow2_snapshots_encode(const struct qcow2_snapshots *s, uint8_t **ret, uint64_t *len);

/* By id, else by name; NULL: none. */
struct qcow2_snapshot *qcow2_snapshot_find(const struct qcow2_snapshots *s, const char *id_or_name);

/* Takes what *entry owns, also on failure (-ENOMEM). */
int qcow2_snapshots_append(struct qcow2_snapshots *s, struct qcow2_snapshot *entry);
void qcow2_snapshots_remove(struct qcow2_snapshots *s, struct qcow2_snapshot *entry);

/* In a transaction: write the table to a new place, let go of the old one. */
int qcow2_snapshots_replace(struct qcow2_txn *t, struct qcow2_snapshots *s);
