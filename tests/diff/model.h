/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.h - what a disk must hold, in plain memory: one byte value a sector, and whether a discard has made it
 * doubtful.
 *
 * A discarded sector may read as its old value or as zero until it is written again; anything else is somebody else's
 * data. All offsets and lengths are multiples of SECTOR.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SECTOR 512u

struct model {
        uint64_t size; /* bytes */
        uint8_t *value;
        bool *maybe_zero;
        bool *changed; /* written, zeroed or discarded since model_unchanged() */
};

void model_init(struct model *m, uint64_t size);
void model_finish(struct model *m);
void model_copy(struct model *to, const struct model *from);
void model_resize(struct model *m, uint64_t size); /* new sectors are zero */

void model_write(struct model *m, uint64_t off, uint64_t len, uint8_t value);
void model_discard(struct model *m, uint64_t off, uint64_t len);

void model_unchanged(struct model *m);

/* Does @bytes hold what [off, off + len) may hold? Else *bad gets the offset of the first wrong sector. */
bool model_agrees(const struct model *m, uint64_t off, const uint8_t *bytes, uint64_t len, uint64_t *bad);
