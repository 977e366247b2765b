/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_range.h - a piece of one disk into the same place of another: from a volume, at its home, through a port of the
 * other that is attached there. What is zeros is not read, and written as zeros that need no space, so a thin target
 * stays thin; that goes for zeros found in the data, too. Home of the source only.
 *
 * Nothing here keeps guests from writing meanwhile: who needs that the source stands still sees to it.
 */
#pragma once

#include "blkq/home/work.h"
#include "blkq/vol.h"
#include "blkq/vol_impl.h"

#define COPY_UNIT (64u << 10) /* zeros are looked for in pieces of this */

enum copy_flags {
        COPY_TOP = 1 << 0,  /* only what the top image itself has */
        COPY_PACK = 1 << 1, /* compressed, a cluster of the target at a time */
};

struct copy_range {
        /* The caller's; *buf: aligned to 4096, as long as the range, or as @piece if that is not 0; kept until
         * done() */
        struct vol *v;
        struct vol_port *to;
        void *buf;
        uint64_t off, end, piece;
        unsigned flags;
        /* @read: which side failed. Perhaps before copy_range_start() returns. */
        void (*done)(struct copy_range *r, int res, bool read);
        uint64_t moved;     /* bytes that were not just zeros */

        struct waiter wait;
        struct chain_read read;
        struct blk_req req;
        struct iovec iov;
        uint64_t at, upto;  /* the piece under way; in @buf it begins at @base */
        uint64_t base;
};

/* Fill in the caller's part of a zeroed struct. */
void copy_range_start(struct copy_range *r);
