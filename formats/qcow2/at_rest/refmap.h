/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refmap.h - a count and some flags for every host cluster, in memory.
 *
 * 4 bytes a cluster, in chunks that exist only where something was set. Indices are host clusters. Work on images at
 * rest keeps the refcounts of the whole image here. One thread.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
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

#define REFMAP_CHUNK 1024u /* entries; one page */

/* A place for cluster @i where none was touched yet; NULL: no memory. */
uint32_t *refmap_make(struct refmap *m, uint64_t i);

/* What follows runs for every cluster of an image, several times: small, and seen by the compiler. */

static inline uint32_t *refmap_seek(const struct refmap *m, uint64_t i)
{
        uint64_t c = i / REFMAP_CHUNK;

        return c < m->nchunks && m->chunk[c] ? &m->chunk[c][i % REFMAP_CHUNK] : NULL;
}

/* The place of cluster @i, made if it was not there; NULL: no memory. */
static inline uint32_t *refmap_place(struct refmap *m, uint64_t i)
{
        uint32_t *p = i < m->end ? refmap_seek(m, i) : NULL;

        return p ? p : refmap_make(m, i);
}

/* Any index; untouched clusters have count 0 and no flags. */
static inline uint32_t refmap_count(const struct refmap *m, uint64_t i)
{
        const uint32_t *p = refmap_seek(m, i);

        return p ? *p & REFMAP_MAX_COUNT : 0;
}

static inline bool refmap_has(const struct refmap *m, uint64_t i, uint32_t flag)
{
        const uint32_t *p = refmap_seek(m, i);

        return p && *p & flag;
}

/* Neither counted nor REF_OLD. */
static inline bool refmap_is_free(const struct refmap *m, uint64_t i)
{
        const uint32_t *p = refmap_seek(m, i);

        return !p || !(*p & (REFMAP_MAX_COUNT | REF_OLD));
}

/* 0, or -ENOMEM. */
static inline int refmap_flag(struct refmap *m, uint64_t i, uint32_t flag)
{
        uint32_t *p = refmap_place(m, i);

        if (!p)
                return -ENOMEM;
        *p |= flag;
        return 0;
}

/* 0, -ENOMEM, or -ERANGE when the count would leave 0 .. REFMAP_MAX_COUNT; nothing has changed then. */
static inline int refmap_add(struct refmap *m, uint64_t i, int64_t delta)
{
        uint32_t *p = refmap_seek(m, i);
        int64_t count = (p ? *p & REFMAP_MAX_COUNT : 0) + delta;

        if (count < 0 || count > (int64_t)REFMAP_MAX_COUNT)
                return -ERANGE;
        p = refmap_place(m, i);
        if (!p)
                return -ENOMEM;
        *p = (*p & ~REFMAP_MAX_COUNT) | (uint32_t)count;
        if (i < m->cursor && refmap_is_free(m, i))
                m->cursor = i;
        return 0;
}

/* The first run of @n free clusters; their counts become 1. 0 and *first, or -ENOMEM. */
int refmap_alloc(struct refmap *m, uint64_t n, uint64_t *first);

/* One past the last cluster with a count. */
uint64_t refmap_used_end(const struct refmap *m);

/* The first cluster at or after @i in a chunk that exists, or m->end. For walks over sparse maps. */
uint64_t refmap_skip(const struct refmap *m, uint64_t i);
