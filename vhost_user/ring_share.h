/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_share.h - what a device may take of its thread's time, and of the disk below. Queue thread.
 *
 * So much of each round, all its rings on the thread together, in bytes and by a request's cost: what takes the thread, and the kernel
 * as it is handed over, some 100 us. Then other disks have their turn. Whoever has work left is asked again in the next round, which
 * begins at once. The last request may be longer than what was left.
 *
 * And so many bytes unanswered: a guest with a ring full of long reads would put seconds of work in front of all others who use the same
 * host disk. What is left is more than a disk needs to be busy, and waits in the ring; an answer lets the next ones in.
 */
#pragma once

#include "common/range.h"
#include "vhost_user/ring.h"

#define SHARE_BYTES (1u << 20)
#define SHARE_REQUEST (16u << 10) /* on top of its bytes */
#define SHARE_RUNNING (8u << 20)

static inline bool share_left(const struct ring *r)
{
        struct vu_share *s = r->share;
        unsigned round = qthread_round(r->thread);

        if (s && s->round != round) {
                s->round = round;
                s->left = SHARE_BYTES;
        }
        return !s || s->left;
}

/* Only an answer makes room: there is nothing to ask before. */
static inline bool share_full(const struct ring *r)
{
        return r->share && r->share->running >= SHARE_RUNNING;
}

static inline void share_pay(const struct ring *r, const struct chain *c)
{
        if (!r->share)
                return;
        r->share->left -= min_u64(r->share->left, SHARE_REQUEST + c->read_len + c->write_len);
        r->share->running += c->read_len + c->write_len;
}

/* It has its answer, or will get none. */
static inline void share_give_back(const struct ring *r, const struct chain *c)
{
        if (r->share)
                r->share->running -= c->read_len + c->write_len;
}
