/* SPDX-License-Identifier: BSD-3-Clause */
/* node_bitmaps.h - bitmaps by the names of node and bitmap, for commands. Control thread. Errors are QEMU's
 * sentences. */
#pragma once

#include <jansson.h>

#include "blkq/vol.h"
#include "vdiskd/disks/disks.h"

struct node;

/* A node whose image is here; NULL with a sentence. */
struct node *node_of_bitmaps(struct disks *d, const char *name);

/* A reference to the bits of one that may be used so. -ENODEV, -ENOENT, -EBUSY, -EROFS, -EINVAL. */
int node_bitmap_bits(struct disks *d, const char *node, const char *name, enum bitmap_use use, struct dirty_bitmap **ret);

/* QEMU's list of them, for query-named-block-nodes; NULL: there is none. */
json_t *node_bitmaps_json(struct node *n);

/* Not in the image: would they be lost with this process? */
bool node_has_volatile_bitmaps(const struct node *n);

/* What is dirty in others becomes dirty in one, at once. Prepare may fail, apply cannot. Finish in any case. */
struct bitmap_merge {
        struct dirty_bitmap *to, **from; /* references */
        size_t n;
};
/* @sources: a list of names, of bitmaps of the same node, or of objects with node and name. */
int bitmap_merge_prepare(struct bitmap_merge *m, struct disks *d, const char *node, const char *target, const json_t *sources);
void bitmap_merge_apply(const struct bitmap_merge *m);
void bitmap_merge_finish(struct bitmap_merge *m);
