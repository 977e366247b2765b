/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * in_flight.h - how much of a disk is with the kernel at once, so that a guest with a ring full of long requests does not put seconds of
 * work in front of all others who use the same host disk.
 *
 * Counted is what the engine has of a mover's guests, from engine_submit() to the end; the rest waits here, in the order in which it
 * came, and an end lets it on. So what waits elsewhere (limits, a full disk, overlapping changes, home's messages) counts for nothing,
 * and what waits here waits for nothing but I/O that the kernel has: it behaves as if the disk were slower. Tables, syncs, zeroing and
 * jobs go past it. One mover's, its thread's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/engine/engine.h"
#include "common/list.h"
#include "common/range.h"

/* A short operation counts so many bytes: it takes a place in the queues of engine and disk, too. */
#define IN_FLIGHT_LEAST (32u << 10)

struct in_flight {
        const _Atomic uint64_t *most; /* bytes, 0: no bound; its owner may change it */
        uint64_t bytes;               /* with the engine */
        struct list waiting;          /* struct io */
};

static inline uint64_t in_flight_most(const struct in_flight *f)
{
        return f->most ? atomic_load_explicit(f->most, memory_order_relaxed) : 0;
}

static inline uint64_t in_flight_cost(uint64_t len)
{
        return max_u64(len, IN_FLIGHT_LEAST);
}

/* Nobody is before it, and there is room; what is longer than all the room there is goes alone. */
static inline bool in_flight_has_room(const struct in_flight *f, uint64_t len)
{
        uint64_t most = in_flight_most(f);

        return !most || !f->bytes || f->bytes + in_flight_cost(len) <= most;
}
static inline bool in_flight_goes(const struct in_flight *f, uint64_t len)
{
        return list_empty(&f->waiting) && in_flight_has_room(f, len);
}

/* In such pieces goes a request that would fill most of the room alone; 0: it is none. Multiples of any alignment. */
static inline uint64_t in_flight_piece(const struct in_flight *f, uint64_t len)
{
        uint64_t most = in_flight_most(f);

        return most && len > most / 2 ? max_u64(round_down(most / 4, 64u << 10), 64u << 10) : 0;
}
