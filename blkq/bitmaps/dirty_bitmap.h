/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_bitmap.h - which parts of a disk have changed: one bit for each granule of the guest's bytes.
 *
 * A change sets its bits when it has completed and before its done(), so who clears bits first and reads the disk then
 * misses nothing: what is written later sets them again. A bitmap never forgets a change: where memory is short, more
 * than was changed is dirty.
 *
 * Memory follows what was written: pages of 4 KiB for each 32,768 granules, made by the first change there, and a
 * pointer for each of those. Whole pages of ones cost nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRTY_GRANULARITY_MIN 512u
#define DIRTY_GRANULARITY_MAX (1u << 31)

struct dirty_bitmap;

/* What QEMU takes when nobody says: the clusters of the image, at least 4 KiB; 64 KiB where there are none (@cluster
 * 1). */
uint32_t dirty_granularity_default(uint32_t cluster_size);
static inline bool dirty_granularity_valid(uint64_t g)
{
        return g >= DIRTY_GRANULARITY_MIN && g <= DIRTY_GRANULARITY_MAX && !(g & (g - 1));
}

/**
 * dirty_bitmap_new - all clean, and recording.
 * @size: bytes of the disk; @granularity: bytes, valid.
 * Returns 0 or -ENOMEM. It belongs to its references: *ret is one.
 */
int dirty_bitmap_new(uint64_t size, uint32_t granularity, struct dirty_bitmap **ret);
struct dirty_bitmap *dirty_bitmap_ref(struct dirty_bitmap *b);
void dirty_bitmap_unref(struct dirty_bitmap *b); /* NULL is fine. Any thread */
void dirty_bitmap_unrefp(struct dirty_bitmap **b);

/* All below: any thread, also at the same time, unless it says otherwise. Ranges are bytes of the disk; what lies
 * beyond its end is cut off. */

uint64_t dirty_bitmap_size(const struct dirty_bitmap *b);
uint32_t dirty_bitmap_granularity(const struct dirty_bitmap *b);
uint64_t dirty_bitmap_granules(const struct dirty_bitmap *b); /* how many bits it has */
uint64_t dirty_bitmap_count(const struct dirty_bitmap *b);    /* how many of them are set */

/* Does a volume that it is attached to set bits in it? */
bool dirty_bitmap_recording(const struct dirty_bitmap *b);
void dirty_bitmap_record(struct dirty_bitmap *b, bool on);

/* Every granule that the range touches. No lock, no waiting; for changes of the volume that it is attached to. */
void dirty_bitmap_set(struct dirty_bitmap *b, uint64_t off, uint64_t len);
/* Every granule that the range touches: narrow it first. Without memory they stay dirty. What was written before a bit
 * was set that goes away here, reads begun afterwards see. */
void dirty_bitmap_clear(struct dirty_bitmap *b, uint64_t off, uint64_t len);

/**
 * dirty_bitmap_next - the next dirty part in [@from, @end).
 * *off: at least @from; *len: up to @end, cut at the end of the disk. False: there is none.
 */
bool dirty_bitmap_next(struct dirty_bitmap *b, uint64_t from, uint64_t end, uint64_t *off, uint64_t *len);

/* What is dirty in @from becomes dirty in @to, whatever their granularities. -EINVAL: they are for disks of other
 * sizes. */
int dirty_bitmap_merge(struct dirty_bitmap *to, struct dirty_bitmap *from);

/**
 * dirty_bitmap_split - all that is dirty moves into a new bitmap *ret (not recording), and no change under way is lost.
 * A job works on *ret; if it fails, merge that back. -ENOMEM: nothing has changed.
 */
int dirty_bitmap_split(struct dirty_bitmap *b, struct dirty_bitmap **ret);

/* What is new is clean, what is gone is forgotten. Nobody sets bits meanwhile (the volume is held). -ENOMEM when it
 * grows: as it was. */
int dirty_bitmap_resize(struct dirty_bitmap *b, uint64_t size);

/* Its bits as a string: granule n is bit n % 8 of byte n / 8. @at: first byte, a multiple of 8; beyond the end:
 * zeros. */
void dirty_bitmap_get_bytes(struct dirty_bitmap *b, uint64_t at, void *bytes, size_t len);
void dirty_bitmap_or_bytes(struct dirty_bitmap *b, uint64_t at, const void *bytes, size_t len);
