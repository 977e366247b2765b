/* SPDX-License-Identifier: BSD-3-Clause */
#include "refmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/range.h"

#define CHUNK 1024u /* entries; one page */
#define FLAGS ((uint32_t)~REFMAP_MAX_COUNT)

void refmap_finish(struct refmap *m)
{
        for (uint64_t c = 0; c < m->nchunks; c++)
                free(m->chunk[c]);
        free(m->chunk);
        memset(m, 0, sizeof(*m));
}

static uint32_t value(const struct refmap *m, uint64_t i)
{
        uint64_t c = i / CHUNK;

        return c < m->nchunks && m->chunk[c] ? m->chunk[c][i % CHUNK] : 0;
}

/* The place of cluster @i, made if it was not there; NULL: no memory. */
static uint32_t *place(struct refmap *m, uint64_t i)
{
        uint64_t c = i / CHUNK;

        if (c >= m->nchunks) {
                uint64_t n = max_u64(c + 1, m->nchunks + m->nchunks / 2);
                uint32_t **more = reallocarray(m->chunk, n, sizeof(*more));

                if (!more)
                        return NULL;
                memset(more + m->nchunks, 0, (n - m->nchunks) * sizeof(*more));
                m->chunk = more;
                m->nchunks = n;
        }
        if (!m->chunk[c])
                m->chunk[c] = calloc(CHUNK, sizeof(uint32_t));
        if (!m->chunk[c])
                return NULL;
        m->end = max_u64(m->end, i + 1);
        return &m->chunk[c][i % CHUNK];
}

uint32_t refmap_count(const struct refmap *m, uint64_t i)
{
        return value(m, i) & ~FLAGS;
}

bool refmap_has(const struct refmap *m, uint64_t i, uint32_t flag)
{
        return value(m, i) & flag;
}

bool refmap_is_free(const struct refmap *m, uint64_t i)
{
        return !(value(m, i) & (~FLAGS | REF_OLD));
}

int refmap_flag(struct refmap *m, uint64_t i, uint32_t flag)
{
        uint32_t *p = place(m, i);

        if (!p)
                return -ENOMEM;
        *p |= flag;
        return 0;
}

int refmap_add(struct refmap *m, uint64_t i, int64_t delta)
{
        int64_t count = (int64_t)refmap_count(m, i) + delta;
        uint32_t *p;

        if (count < 0 || count > (int64_t)REFMAP_MAX_COUNT)
                return -ERANGE;
        p = place(m, i);
        if (!p)
                return -ENOMEM;
        *p = (*p & FLAGS) | (uint32_t)count;
        if (count == 0 && !(*p & REF_OLD))
                m->cursor = min_u64(m->cursor, i);
        return 0;
}

int refmap_alloc(struct refmap *m, uint64_t n, uint64_t *first)
{
        uint64_t start, run = 0;

        while (m->cursor < m->end && !refmap_is_free(m, m->cursor))
                m->cursor++;
        for (start = m->cursor; start + run < m->end && run < n;) {
                if (refmap_is_free(m, start + run)) {
                        run++;
                } else {
                        start += run + 1;
                        run = 0;
                }
        }
        for (uint64_t i = 0; i < n; i++) {
                int r = refmap_add(m, start + i, 1);

                if (r < 0)
                        return r;
        }
        *first = start;
        return 0;
}

uint64_t refmap_used_end(const struct refmap *m)
{
        uint64_t end = m->end;

        while (end && refmap_count(m, end - 1) == 0)
                end--;
        return end;
}

uint64_t refmap_skip(const struct refmap *m, uint64_t i)
{
        while (i < m->end && !m->chunk[i / CHUNK])
                i = (i / CHUNK + 1) * CHUNK;
        return min_u64(i, m->end);
}
