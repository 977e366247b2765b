/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.h - what the disk must hold, block by block, so that lost, stale, torn and misplaced data is found.
 *
 * Each sector that is written carries its own byte offset on the disk, a generation (which write of this block it was)
 * and words that follow from both and the seed. A table knows for each block (unit) which generations a read may show:
 * usually one; several after a write that failed or after the back end died with writes not yet flushed.
 * Units are numbered from the start of the tested part of the disk. Every unit belongs to one job's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct verify;

enum verify_change { VERIFY_WRITE, VERIFY_ZEROES, VERIFY_TRIM };

struct verify_opts {
        uint64_t offset;    /* of unit 0 on the disk, bytes */
        uint64_t nunits;
        uint32_t unit_len;  /* bytes, a multiple of 512 */
        uint64_t seed;
        bool fresh;         /* what was never written reads as zeros */
        const char *state;  /* file to load if it is there; NULL: none */
};

/* -EINVAL with a sentence when the state file is of another disk part. */
int verify_new(const struct verify_opts *o, struct verify **ret);
void verify_free(struct verify *v);

/* Write the table to the state file. 0 or -errno with a sentence. */
int verify_save(const struct verify *v);

/* Takes the units for a read or a change; false: somebody in flight is in the way. */
bool verify_claim(struct verify *v, uint64_t unit, unsigned n, bool change);
void verify_release(struct verify *v, uint64_t unit, unsigned n, bool change);

/* A change of claimed units is about to be sent. Before verify_fill(). */
void verify_change_begin(struct verify *v, enum verify_change kind, uint64_t unit, unsigned n);

/* The bytes of the newest write of these units, into @buf. Also to send a lost write once more. */
void verify_fill(const struct verify *v, uint64_t unit, unsigned n, void *buf);

/* It was answered. After a failure the units may hold old or new. */
void verify_change_done(struct verify *v, enum verify_change kind, uint64_t unit, unsigned n, bool ok);

/* May a read of claimed units show @buf? How many sectors are wrong; the first few of the process go to stderr. */
unsigned verify_compare(const struct verify *v, uint64_t unit, unsigned n, const void *buf);

/* Was the unit ever written, or is it known to be zeros? */
bool verify_known(const struct verify *v, uint64_t unit);

/*
 * What is on stable storage: one log a job. A flush covers the changes answered before it was sent. One flush of a job
 * is in flight at a time. verify_crash(): the back end died; of the units [unit, unit + n) only flushed changes are
 * certain.
 */
struct verify_log {
        struct { uint64_t unit; uint32_t gen; bool write; } *e;
        uint64_t len, cap, covered; /* covered: entries that the flush in flight makes durable */
};
int verify_log_add(struct verify *v, struct verify_log *l, enum verify_change kind, uint64_t unit, unsigned n);
void verify_flush_begin(struct verify_log *l);
void verify_flush_done(struct verify *v, struct verify_log *l, bool ok);
void verify_crash(struct verify *v, struct verify_log *l, uint64_t unit, uint64_t n);
