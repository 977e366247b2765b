/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/at_rest/refmap.h"

#include <stdlib.h>
#include <string.h>

#include "common/range.h"

void refmap_finish(struct refmap *m)
{
        for (uint64_t c = 0; c < m->nchunks; c++)
                free(m->chunk[c]);
        free(m->chunk);
        memset(m, 0, sizeof(*m));
}

uint32_t *refmap_make(struct refmap *m, uint64_t i)
{
        uint64_t c = i / REFMAP_CHUNK;

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
                m->chunk[c] = calloc(REFMAP_CHUNK, sizeof(uint32_t));
        if (!m->chunk[c])
                return NULL;
        m->end = max_u64(m->end, i + 1);
        return &m->chunk[c][i % REFMAP_CHUNK];
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
        while (i < m->end && !m->chunk[i / REFMAP_CHUNK])
                i = (i / REFMAP_CHUNK + 1) * REFMAP_CHUNK;
        return min_u64(i, m->end);
}
