/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree.h - an L1 table and all that hangs on it, seen by work at rest: which entries cannot be right, counting what a
 * tree refers to, and writing new L2 tables where entries must change. Tables of an image in use are never written in
 * place.
 */
#pragma once

#include "formats/qcow2/at_rest/txn.h"
#include "formats/qcow2/l2e.h"

/**
 * qcow2_l1e_flaw, qcow2_l2e_flaw - what is wrong with an entry? NULL: nothing.
 * @guest: where in the disk; in an external data file, data must lie at the same place.
 * *fixed: the nearest entry that is right; one that points nowhere useful becomes "no table" / "reads as zeros".
 * COPIED is not looked at, except on compressed clusters, which never have it. Needs REF_META in t->refs.
 */
const char *qcow2_l1e_flaw(const struct qcow2_txn *t, uint64_t e, uint64_t *fixed);
const char *qcow2_l2e_flaw(const struct qcow2_txn *t, uint64_t guest, struct l2e e, struct l2e *fixed);

/* The clusters of the image's file an L2 entry refers to: bytes [*off, *off + *len); *len is 0 for none. */
void qcow2_l2e_range(const struct qcow2_txn *t, struct l2e e, uint64_t *off, uint64_t *len);

/**
 * qcow2_tree_ref - add @delta to the count of every L2 table and data cluster under the L1 table @l1 (not of the table
 * itself). -EIO with a sentence when an entry is not right; t->refs is of no use then.
 */
int qcow2_tree_ref(struct qcow2_txn *t, const uint64_t *l1, uint64_t entries, int delta);

/* The same for one entry of it. @l2: room for a table. */
int qcow2_l1e_ref(struct qcow2_txn *t, const uint64_t *l1, uint64_t i, int delta, uint8_t *l2);

/**
 * qcow2_tree_settle - after counting: correct flawed entries and, in the @active tree, all COPIED bits.
 * L2 tables that change are written to free clusters; *changed tells that @l1 is not what it was.
 * @twin: another L1 table (NULL: none) whose tables move along where both share one; it gets no COPIED bits.
 */
int qcow2_tree_settle(struct qcow2_txn *t, uint64_t *l1, uint64_t entries, bool active, uint64_t *twin, bool *changed);

/**
 * qcow2_l2_replace - give L1 entry @i a new, private L2 table with the contents of @l2 (cluster bytes). The old one, if
 * any, loses a reference.
 */
int qcow2_l2_replace(struct qcow2_txn *t, uint64_t *l1, uint64_t i, const uint8_t *l2);

/* Write the active L1 table anew with @entries entries and let go of the old one. */
int qcow2_l1_replace(struct qcow2_txn *t, uint64_t *l1, uint64_t entries);

/* The same for any L1 table: *off is the old one's place (0: none), @old_entries its size; gets the new place. */
int qcow2_l1_move(struct qcow2_txn *t, uint64_t *l1, uint64_t entries, uint64_t *off, uint64_t old_entries);
