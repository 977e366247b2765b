/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cbw.h - copy before write: a disk as it was at one instant goes to another disk while guests go on writing. What was
 * not copied yet is copied before a guest may change it.
 *
 * Which granules are copied is a bitmap that any thread reads: a guest's write to copied ones takes the common road;
 * all others come home, wait here for their granules, and go on. Each granule is copied once, by who comes first: the
 * backup's own loop (backup.c) or a guest.
 *
 * A guest is never made to fail, or to wait for somebody: when a copy on his behalf fails, the backup is broken and he
 * goes on.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/jobs/copy_range.h"

#define CBW_SLOTS 4u /* copies on behalf of guests at the same time */

struct cbw;

/* A request that waits before it changes anything. */
struct cbw_wait {
        struct list link;
        uint64_t off, end;
        void (*go)(struct cbw_wait *w);
};

struct cbw_slot {
        struct copy_range range;
        struct cbw *c;
        void *buf;
        bool busy;
};

struct cbw {
        struct vol *v;
        struct vol_port *to;
        unsigned flags;        /* of copy_range */
        uint32_t granule;      /* bytes, a power of two */
        uint32_t chunk;        /* bytes that are copied at once at most */
        uint64_t size;
        void (*copied_some)(struct cbw *c); /* home: a guest's copy has ended */
        void (*broke)(struct cbw *c, int err, bool read);

        _Atomic uint64_t *copied; /* a bit for each granule */
        uint64_t *busy;        /* being copied */
        uint64_t ncopied;      /* home; bytes */
        int broken;            /* -errno: guests went on without a copy */
        unsigned nbusy;        /* slots in use */
        struct list waiting;   /* cbw_wait */
        struct cbw_slot slot[CBW_SLOTS];
};

int cbw_init(struct cbw *c);    /* the first part is filled in. 0 or -ENOMEM */
void cbw_finish(struct cbw *c); /* NULL-safe inside; it is not armed */

/* All granules count as copied, but for those of cbw_want(). Before it is armed. */
void cbw_want_nothing(struct cbw *c);
void cbw_want(struct cbw *c, uint64_t off, uint64_t len);

/* Home, the volume held: from now on nothing is written that was not copied. disarm, any time: @w is woken when no
 * thread is looking at @c any more. */
void cbw_arm(struct cbw *c);
void cbw_disarm(struct cbw *c, struct waiter *w);

/* Any thread: need nobody wait for anything? */
bool cbw_is_copied(const struct cbw *c, uint64_t off, uint64_t len);

/* Home: true: go on. Else w->go() comes. */
bool cbw_before(struct cbw *c, struct cbw_wait *w, uint64_t off, uint64_t len);

/* Home, for the loop: the next granules at or after @from that somebody has to copy, at most @max bytes; they are busy
 * then until cbw_done(). False: none behind @from. */
bool cbw_take(struct cbw *c, uint64_t from, uint64_t max, uint64_t *off, uint64_t *len);
void cbw_done(struct cbw *c, uint64_t off, uint64_t len, bool copied);
/* Nothing will be copied any more: who waits goes on. */
void cbw_break(struct cbw *c, int err);
