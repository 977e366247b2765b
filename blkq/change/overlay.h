/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overlay.h - a new top image for a volume in use, in front of the one it has: a snapshot.
 *
 *   opened by a worker -> part of a group of changes (change.h): the volume goes on with it, and the old top is its backing image
 *   -> the old top retires in the background (retire.c): made durable, then only read
 */
#pragma once

#include "blkq/change/change.h"
#include "blkq/vol.h"

struct img_writer;
struct retire;
struct old_path;

struct vol_overlay {
        struct vol_change change; /* ready for a group */
        struct fmt_image *img;    /* NULL when it has been applied */
        char *path, *format;      /* of the overlay; the volume's after apply() */
        const struct fmt_layer *layer;
        struct img_writer *writer;
        struct retire *retire;
        struct old_path *keep;
        struct bitmap_set bitmaps; /* of the overlay; after apply(): of the old top, until they go with it */
};

/**
 * vol_overlay_open - @path, an image of @format without anything behind it, is to become the top of @v.
 * @layer: what the operator says about the chain as it will be (layer->backing: the old top); kept by its maker while it is in
 * use. It must be as large as the disk, open for writing, and fit what guests send.
 * Any thread that may wait and is registered with RCU, while nobody else changes @v's chain. 0, or -errno with a sentence.
 */
int vol_overlay_open(struct vol *v, const char *path, const char *format, const struct fmt_layer *layer,
                     struct vol_overlay **ret);

/* The same with an image that is open (taken, also on failure), as vol_open_image() would have opened it. */
int vol_overlay_take(struct vol *v, struct fmt_image *img, const char *path, const struct fmt_layer *layer,
                     struct vol_overlay **ret);

/* Closes the image if it did not become the top. NULL is fine. */
void vol_overlay_free(struct vol_overlay *o);
