/* SPDX-License-Identifier: BSD-3-Clause */
/* vol_bitmaps.h - the named bitmaps of the disk's image: loaded when it is opened, stored when it is let go. */
#pragma once

#include "blkq/vol_impl.h"

/* Worker or opener: the bitmaps of an image that was just opened; in one for reading only those that cannot be read are
 * left out. */
int bitmaps_load(struct fmt_image *img, struct bitmap_set *s);
int bitmaps_join(struct vol *v, struct bitmap_set *s); /* @s is empty then. -ENOMEM */
/* Home, v->lock, all quiet: another image is the top now, whose bitmaps are @s; it gets those of the one before. Without memory
 * the new ones are forgotten, and so inconsistent in their image. */
void bitmaps_swap(struct vol *v, struct bitmap_set *s);
/* Worker, held: the persistent ones into the image, and forgotten here. -EBUSY: a job has one. */
int bitmaps_leave(struct vol *v);
void bitmaps_forget(struct vol *v); /* the same, but what the image says of them stays */
/* Home, held: into the image, if there are any to store. @done: home, perhaps at once; they are inconsistent on
 * failure. */
void bitmaps_store(struct vol *v, void (*done)(struct vol *v, int res));
