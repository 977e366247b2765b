/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.h - what commands do to the bitmaps of an image at rest. Errors are -errno with a sentence. */
#pragma once

#include "blkq/bitmaps/bitmap_set.h"
#include "formats/format.h"

bool tool_has_bitmaps(struct fmt_image *img);

/* The driver's resize, after which bitmaps fit the new size. As there, the image's tables are stale. */
int tool_resize(struct fmt_image *img, uint64_t size, bool shrink);

/* The bits of @name, to be read. @what: whose image, for sentences. */
int tool_bitmap_bits(const struct bitmap_set *s, const char *name, struct dirty_bitmap **ret);
/* More bits for one that is there; the sizes of the disks must be the same. */
int tool_bitmap_merge(const struct named_bitmap *to, struct dirty_bitmap *from, const char *from_name);

/**
 * tool_copy_bitmaps - all persistent bitmaps of @source, which is open for reading, as new ones into @target.
 * @skip_broken: leave inconsistent ones away, and say so; else they are an error.
 */
int tool_copy_bitmaps(struct fmt_image *source, struct fmt_image *target, bool skip_broken);
/* Can they be copied? Before anything is made. */
int tool_may_copy_bitmaps(struct fmt_image *source, const struct fmt_driver *target, bool skip_broken);
