/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * meta_map.c - which clusters of the file are tables, so that no entry may lead a guest's write into one.
 * A handful of ranges (header, L1, refcount table, snapshots) and a hash set of single clusters (L2 tables, refcount
 * blocks): as large as the tables that are really there. Home only.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "qcow2.h"

enum { SLOT_EMPTY = 0, SLOT_GONE = 1, SLOT_BIAS = 2 };

static size_t slot_of(const struct meta_map *m, uint64_t key)
{
        return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & (m->nslots - 1);
}

/* The slot that holds @key, or the empty one where a search for it ends. */
static uint64_t *find(const struct meta_map *m, uint64_t key)
{
        size_t i = slot_of(m, key);

        while (m->slot[i] != SLOT_EMPTY && m->slot[i] != key)
                i = (i + 1) & (m->nslots - 1);
        return &m->slot[i];
}

int meta_reserve(struct meta_map *m, size_t more)
{
        struct meta_map bigger = *m;

        if (m->nslots && (m->nused + more) * 2 <= m->nslots)
                return 0;
        for (bigger.nslots = 64; bigger.nslots < (m->nused + more) * 4;)
                bigger.nslots *= 2;
        bigger.slot = calloc(bigger.nslots, sizeof(*bigger.slot));
        if (!bigger.slot)
                return -ENOMEM;
        bigger.nused = 0;
        for (size_t i = 0; i < m->nslots; i++)
                if (m->slot[i] >= SLOT_BIAS) {
                        *find(&bigger, m->slot[i]) = m->slot[i];
                        bigger.nused++;
                }
        free(m->slot);
        *m = bigger;
        return 0;
}

bool meta_add(struct meta_map *m, uint64_t cluster)
{
        uint64_t *slot;

        if (meta_has(m, cluster))
                return false;
        slot = find(m, cluster + SLOT_BIAS);
        assert(m->nused * 2 <= m->nslots);
        *slot = cluster + SLOT_BIAS;
        m->nused++;
        return true;
}

void meta_remove(struct meta_map *m, uint64_t cluster)
{
        uint64_t *slot = find(m, cluster + SLOT_BIAS);

        if (*slot != SLOT_EMPTY)
                *slot = SLOT_GONE; /* counts as used until the next meta_reserve() that grows */
}

bool meta_has(const struct meta_map *m, uint64_t cluster)
{
        for (unsigned i = 0; i < META_RANGES; i++)
                if (cluster - m->range[i].first < m->range[i].n) /* wraps to large below first */
                        return true;
        return m->nslots && *find(m, cluster + SLOT_BIAS) != SLOT_EMPTY;
}

void meta_finish(struct meta_map *m)
{
        free(m->slot);
        *m = (struct meta_map){ 0 };
}
