/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refmap.h - a count and some flags for every host cluster, in memory.
 *
 * 4 bytes a cluster, in chunks that exist only where something was set. Indices are host clusters. Work on images at
 * rest keeps the refcounts of the whole image here. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum refmap_flags {
        REF_OLD = 1u << 31,  /* in use before the change that is being made: not free until that is durable */
        REF_ONE = 1u << 30,  /* the refcount in the file is exactly 1 */
        REF_META = 1u << 29, /* header, refcount structure, L1 table, snapshot table, bitmaps */
};
#define REFMAP_MAX_COUNT (REF_META - 1u)

struct refmap {
        uint32_t **chunk; /* owned */
        uint64_t nchunks;
        uint64_t end;    /* no cluster at or above it was ever touched */
        uint64_t cursor; /* no cluster below it is free */
};

void refmap_finish(struct refmap *m); /* zeroed is fine */

/* Any index; untouched clusters have count 0 and no flags. */
uint32_t refmap_count(const struct refmap *m, uint64_t i);
bool refmap_has(const struct refmap *m, uint64_t i, uint32_t flag);

/* Neither counted nor REF_OLD. */
bool refmap_is_free(const struct refmap *m, uint64_t i);

/* 0, or -ENOMEM. */
int refmap_flag(struct refmap *m, uint64_t i, uint32_t flag);

/* 0, -ENOMEM, or -ERANGE when the count would leave 0 .. REFMAP_MAX_COUNT; nothing has changed then. */
int refmap_add(struct refmap *m, uint64_t i, int64_t delta);

/* The first run of @n free clusters; their counts become 1. 0 and *first, or -ENOMEM. */
int refmap_alloc(struct refmap *m, uint64_t n, uint64_t *first);

/* One past the last cluster with a count. */
uint64_t refmap_used_end(const struct refmap *m);

/* The first cluster at or after @i in a chunk that exists, or m->end. For walks over sparse maps. */
uint64_t refmap_skip(const struct refmap *m, uint64_t i);
