/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checker.h - the rooms of the image check among themselves: check.c counts, check_own.c counts the image's own tables,
 * repair.c makes right.
 *
 * Every reference that the tables make is counted in t.refs (4 bytes a cluster); REF_OLD says that a cluster was
 * counted on disk or found in use, REF_ONE that its refcount on disk is 1. Repair changes nothing in place: it writes
 * what must change, and the whole refcount structure, into free space and commits (txn.h).
 */
#pragma once

#include "formats/format.h"
#include "formats/qcow2/at_rest/snapshot_table.h"
#include "formats/qcow2/at_rest/tree.h"

struct checker {
        struct qcow2_txn t;
        struct fmt_check *chk;
        struct qcow2_snapshots snaps;
        bool only_refcounts; /* repair refcounts and COPIED bits, refuse anything else (dirty images) */

        bool rewrite_snapshots; /* what is left of a damaged table, or fields that were missing */
        bool only_look;         /* count nothing: is all of it sane? Flaws are counted in looked_bad */
        uint64_t looked_bad;
        bool blind;         /* something could not be read, so what is counted is not all: repair nothing */
        bool bad_structure; /* refcount table or blocks cannot be used as they are */
        uint64_t flaws;     /* entries that point nowhere or carry wrong bits */
        uint64_t low;       /* refcounts that are too small */
        uint64_t copied;    /* COPIED bits that are wrong */
        uint64_t leaks;
        const char *whose;  /* tree being walked, for sentences */
};

/* One finding, counted and told. */
void check_report(struct checker *c, enum fmt_finding_kind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Something cannot be read or believed at all: a corruption that keeps us from repairing. */
void check_blind(struct checker *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Count every cluster that [off, off + len) touches once more. In the file: the caller looked. 0 or -ENOMEM. */
int check_ref(struct checker *c, uint64_t off, uint64_t len, uint32_t flags);

/* Header, L1 tables, snapshot table, bitmaps, refcount structure: counted and marked REF_META. */
int check_own_tables(struct checker *c);

/* Bring a checked image into order as chk asks. 0, or -errno when it could not. */
int check_repair(struct checker *c);
