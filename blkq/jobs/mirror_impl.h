/* SPDX-License-Identifier: BSD-3-Clause */
/* mirror_impl.h - between mirror.c, the loop, and mirror_end.c, what comes after it. */
#pragma once

#include "blkq/bitmaps/dirty_bitmap.h"
#include "blkq/change/exchange.h"
#include "blkq/jobs/copy_range.h"
#include "blkq/jobs/copy_rest.h"
#include "blkq/jobs/mirror.h"
#include "blkq/jobs/twin.h"

#define MIRROR_REST (4u << 20) /* bytes; less than that counts as the same */

struct mirror {
        struct copy_job job;
        struct vol *target;
        struct vol_port *to;   /* NULL: not attached */
        enum mirror_sync sync;
        struct dirty_bitmap *dirty; /* what the target does not have; owned */
        uint64_t unit;         /* bytes that are copied at least */
        uint64_t size, at;     /* the loop has looked up to here, in this round */
        uint64_t high;         /* what lies behind was never copied */
        bool ready;
        unsigned passes;       /* that the loop has begun */
        bool blocking;         /* with a twin */
        struct twin twin;
        struct waiter twin_gone;

        /* mirror_end.c */
        enum mirror_how how;
        void (*done)(void *opaque, int res, const char *why, uint64_t pause_ns);
        void *opaque;
        struct qtask step;
        struct copy_rest rest;
        struct vol_hold hold;
        struct ports_move move;
        struct blk_req flush;
        unsigned rounds;
        bool held;
        uint64_t held_at_ns, pause_ns;
        int res;
        char why[256];
};

static inline struct mirror *mirror_of(struct copy_job *c)
{
        return container_of(c, struct mirror, job);
}

int mirror_attach(struct mirror *m); /* home */
