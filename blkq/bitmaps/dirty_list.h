/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_list.h - the bitmaps that record what changes on a volume: found by every thread that completes a change (RCU),
 * changed under v->lock.
 */
#pragma once

#include "blkq/vol_impl.h"

struct dirty_list;
void dirty_record_slow(struct vol *v, const struct blk_req *req, const struct dirty_bitmap *but);
/* Port's thread, or home, when @req has completed and before anybody hears of it. @but: not this one; NULL: all. */
static inline void dirty_record(struct vol *v, const struct blk_req *req, const struct dirty_bitmap *but)
{
        if (__builtin_expect(__atomic_load_n(&v->dirty, __ATOMIC_RELAXED) != NULL, 0))
                dirty_record_slow(v, req, but);
}
/* v->lock, or nobody else has @v yet. All: those of @s, none of which is attached. -ENOMEM. */
int dirty_attach(struct vol *v, struct dirty_bitmap *b);
void dirty_detach(struct vol *v, struct dirty_bitmap *b);
int dirty_attach_all(struct vol *v, const struct bitmap_set *s);
/* The disk is about to get, or has got, this size: while it is held. -ENOMEM only when it grows. */
int dirty_resize(struct vol *v, uint64_t size);
void dirty_set_all(struct vol *v);
void dirty_finish(struct vol *v); /* nothing is in flight any more */
