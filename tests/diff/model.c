/* SPDX-License-Identifier: BSD-3-Clause */
#include "model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m, uint64_t size)
{
        m->size = size;
        m->value = calloc(size / SECTOR, sizeof(*m->value));
        m->maybe_zero = calloc(size / SECTOR, sizeof(*m->maybe_zero));
        m->changed = calloc(size / SECTOR, sizeof(*m->changed));
        assert(m->value && m->maybe_zero && m->changed);
}

void model_finish(struct model *m)
{
        free(m->value);
        free(m->maybe_zero);
        free(m->changed);
        *m = (struct model){ 0 };
}

void model_copy(struct model *to, const struct model *from)
{
        model_init(to, from->size);
        memcpy(to->value, from->value, from->size / SECTOR);
        memcpy(to->maybe_zero, from->maybe_zero, from->size / SECTOR * sizeof(bool));
}

void model_resize(struct model *m, uint64_t size)
{
        struct model grown;
        uint64_t keep = (size < m->size ? size : m->size) / SECTOR;

        model_init(&grown, size);
        memcpy(grown.value, m->value, keep);
        memcpy(grown.maybe_zero, m->maybe_zero, keep * sizeof(bool));
        memcpy(grown.changed, m->changed, keep * sizeof(bool));
        model_finish(m);
        *m = grown;
}

void model_write(struct model *m, uint64_t off, uint64_t len, uint8_t value)
{
        memset(m->value + off / SECTOR, value, len / SECTOR);
        memset(m->maybe_zero + off / SECTOR, 0, len / SECTOR * sizeof(bool));
        memset(m->changed + off / SECTOR, true, len / SECTOR * sizeof(bool));
}

void model_discard(struct model *m, uint64_t off, uint64_t len)
{
        memset(m->maybe_zero + off / SECTOR, true, len / SECTOR * sizeof(bool));
        memset(m->changed + off / SECTOR, true, len / SECTOR * sizeof(bool));
}

void model_unchanged(struct model *m)
{
        memset(m->changed, false, m->size / SECTOR * sizeof(bool));
}

static bool sector_is(const uint8_t *bytes, uint8_t value)
{
        return bytes[0] == value && !memcmp(bytes, bytes + 1, SECTOR - 1);
}

bool model_agrees(const struct model *m, uint64_t off, const uint8_t *bytes, uint64_t len, uint64_t *bad)
{
        for (uint64_t at = 0; at < len; at += SECTOR) {
                uint64_t s = (off + at) / SECTOR;

                if (sector_is(bytes + at, m->value[s]) || (m->maybe_zero[s] && sector_is(bytes + at, 0)))
                        continue;
                *bad = off + at;
                return false;
        }
        return true;
}
