/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * move.h - bytes between scatter lists and the places where extents lie, on one thread's engine.
 *
 * A *mover* is a thread's view of a volume: its engine, spare parts, and how many moves are under way. A move begins
 * right after the lookup that found its extents, on the same thread, so a mover also knows which lookups may still be
 * in use: it counts its moves in two generations, and when home asks (grace.c) it lets the older one run dry.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "blkq/bounce.h"
#include "blkq/engine/engine.h"
#include "blkq/in_flight.h"
#include "blkq/qthread.h"
#include "blkq/stats.h"
#include "common/list.h"
#include "formats/format.h"

#define MOVE_EXTENTS 8u /* of one move; a request in more pieces goes through home, piece by piece */

struct mover {
        struct qthread *thread; /* whose engine it is */
        struct engine *engine;
        unsigned under_way[2]; /* moves of each generation */
        uint8_t gen;           /* new moves count here */
        bool draining;         /* drained() is owed when the other generation has none left */
        void (*drained)(struct mover *m);
        struct list spare;     /* struct part */
        unsigned nspare;
        struct work_owner *owner; /* of what workers do for it; NULL: nobody's */
        struct bounce *bounce; /* for memory that a file does not take; made when first needed */
        struct in_flight flight;
};

/* One move; its owner's memory until done(). One io is inside, since nearly all moves need just one. */
struct move {
        struct mover *m;
        void (*done)(struct move *mv, int res); /* 0 or -errno. From engine_wait(), or from move_start() */
        struct stage_clock *clock; /* of a guest's request; NULL: nobody's, and it need not wait until there is room (in_flight.h) */
        unsigned left, waiting;    /* operations; those that wait for room */
        int res;
        uint8_t gen;
        struct io io;
};

/* @o, @most (in_flight.h): stay as long, NULL is fine. */
void mover_init(struct mover *m, struct qthread *t, struct work_owner *o, const _Atomic uint64_t *most);
void mover_finish(struct mover *m); /* nothing under way */

static inline bool mover_is_idle(const struct mover *m)
{
        return !m->under_way[0] && !m->under_way[1];
}

/* From now on moves count in the other generation. drained() follows when the old one is empty: perhaps at once. */
void mover_drain(struct mover *m, void (*drained)(struct mover *m));

/**
 * move_start - read or write extents. Set @mv's done and clock before.
 * @op: IO_READ or IO_WRITE. @ext: DATA, ZERO and NOWHERE (for writes only DATA and NOWHERE do anything); read before
 * this returns. @iov: the memory of guest bytes [@base, @base + @len), in which the extents lie; the caller's until
 * done(). Memory that the file does not take (O_DIRECT) goes through bounce buffers, and so do encrypted extents: what
 * is written is copied out of the caller's memory once and encrypted in the copy, what is read is deciphered before it
 * is copied into the caller's memory. So a guest never sees ciphertext there, and what it changes meanwhile changes
 * nothing that we do.
 */
void move_start(struct mover *m, struct move *mv, enum io_op op, const struct extent *ext, unsigned n,
                const struct iovec *iov, unsigned niov, uint64_t base, uint64_t len);
