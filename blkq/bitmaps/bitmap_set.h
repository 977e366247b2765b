/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmap_set.h - the named bitmaps of one image: those that are stored in it, and those that are only in memory.
 * No lock of its own: a tool's, or under the volume's (vol_bitmaps_get()). Errors are -errno with a sentence, as QEMU
 * puts it where it has the same command.
 */
#pragma once

#include "blkq/bitmaps/dirty_bitmap.h"
#include "common/list.h"
#include "formats/format.h"

struct named_bitmap {
        struct list link;
        char *name;
        struct dirty_bitmap *bits; /* a reference; NULL: inconsistent, its bits are lost and it can only be removed */
        uint32_t granularity;
        bool persistent;           /* stored in the image */
        bool recording;            /* as it was found, while there are no bits; else bits tell */
        const char *busy;          /* a constant: what uses it. NULL: nobody */
};
struct bitmap_set {
        struct list all; /* in the order in which they came */
        bool stored;     /* the image has bitmaps, or had some: store even when none is left */
        bool read_only;  /* nothing may change */
};

void bitmap_set_init(struct bitmap_set *s);
void bitmap_set_finish(struct bitmap_set *s); /* zeroed is fine */

void bitmap_set_move(struct bitmap_set *to, struct bitmap_set *from); /* @from is empty then */
void bitmap_set_exchange(struct bitmap_set *a, struct bitmap_set *b);

/**
 * bitmap_set_load - all that @img has, which is at rest and not yet changed. In one that is open for writing
 * (FMT_KEEP_BITMAPS) they are marked as in use, durably: until bitmap_set_store() a crash makes them inconsistent.
 * Waits for the disk. On failure the set is empty.
 */
int bitmap_set_load(struct bitmap_set *s, struct fmt_image *img);

/* The persistent ones into @img, which is at rest; what others it has is removed. Its tables are stale afterwards. */
int bitmap_set_store(const struct bitmap_set *s, struct fmt_image *img);

/* Is there anything to store? */
bool bitmap_set_is_stored(const struct bitmap_set *s);

struct named_bitmap *bitmap_set_find(const struct bitmap_set *s, const char *name); /* NULL: none */

enum bitmap_use { BITMAP_USE_ANY, BITMAP_USE_REMOVE, BITMAP_USE_CHANGE, BITMAP_USE_READ };
/* May it be used in this way? ANY: only if nobody else does. -EBUSY, -EROFS, -EINVAL (inconsistent). */
int bitmap_set_check(const struct bitmap_set *s, const struct named_bitmap *b, enum bitmap_use use);

/**
 * bitmap_set_add - a new one, clean and recording, for a disk of @size bytes.
 * @bits: those it shall have, for the disk's size; NULL: new ones. @granularity: bytes, valid or not. -EEXIST, -EINVAL,
 * -ENOTSUP (@persistent, and @img cannot store it), -EROFS.
 */
int bitmap_set_add(struct bitmap_set *s, const struct fmt_image *img, uint64_t size, const char *name, uint64_t granularity,
                   bool persistent, struct dirty_bitmap *bits, struct named_bitmap **ret);
void bitmap_set_remove(struct bitmap_set *s, struct named_bitmap *b);
