/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * twin.h - what guests change on a disk is changed on another disk, too, before they hear that it is done.
 *
 * While it is armed all changes come home. When one is done there its bytes are copied from the disk, not from the
 * guest's memory, which he may change between one write and the other; and so zeros and discards go the same way.
 * Somebody else, the loop of a mirror, copies what is dirty, and nothing else.
 *
 * A guest is never made to fail: what could not be copied on his behalf is dirty.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/bounce.h"
#include "blkq/jobs/copy_range.h"

struct dirty_bitmap;
struct twin;

/* A change that is done on the disk. */
struct twin_op {
        struct list link;
        struct twin *t;
        uint64_t off, end;
        void (*done)(struct twin_op *op);
        struct bounce_wait wait;
        void *buf;
        size_t buf_len;
        struct copy_range range;
};

/* All home, but for twin_init() and twin_finish(). */
struct twin {
        struct vol *v;
        struct vol_port *to; /* before it is armed */
        struct dirty_bitmap *dirty; /* what the other disk does not have. Attached to the volume, recording; borrowed */
        uint64_t unit;       /* bytes, a power of two: what the loop copies at least */
        uint64_t size;
        bool (*wanted)(const struct twin *t); /* false: what changes is dirty, and that is all */
        bool (*in_the_way)(const struct twin *t, uint64_t off, uint64_t len); /* does the loop copy some of it now? */
        void (*copied)(struct twin *t, uint64_t len);
        void (*failed)(struct twin *t, int err, bool read); /* it is dirty again */

        struct list running, waiting; /* twin_op */
        bool armed;
        struct waiter *disarmed;
        struct bounce *bufs;
};

int twin_init(struct twin *t);    /* the first part is filled in. 0 or -ENOMEM */
void twin_finish(struct twin *t); /* zeroed memory is fine */

void twin_arm(struct twin *t);
/* True: nothing is under way. Else @w is woken then. */
bool twin_disarm(struct twin *t, struct waiter *w);

/* A change is about to be told as done: shall it be copied? If so the caller does not record it in t->dirty. */
bool twin_wants(const struct twin *t);
/* True: nothing to wait for. Else op->done() comes. Nobody changes the range on the disk meanwhile. */
bool twin_copy(struct twin *t, struct twin_op *op, const struct blk_req *req, void (*done)(struct twin_op *op));

void twin_look_again(struct twin *t); /* a piece of the loop has ended */
