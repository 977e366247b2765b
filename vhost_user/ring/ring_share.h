/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_share.h - what a device may take of its thread's time. Queue thread.
 *
 * So much of each round, all its rings on the thread together, in bytes and by a request's cost: what takes the thread, and the kernel
 * as it is handed over, some 100 us. Then other disks have their turn. Whoever has work left is asked again in the next round, which
 * begins at once. The last request may be longer than what was left.
 */
#pragma once

#include "common/range.h"
#include "vhost_user/ring/ring.h"

#define SHARE_BYTES (1u << 20)
#define SHARE_REQUEST (16u << 10) /* on top of its bytes */

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

static inline void share_pay(const struct ring *r, const struct chain *c)
{
        if (r->share)
                r->share->left -= min_u64(r->share->left, SHARE_REQUEST + c->read_len + c->write_len);
}
