/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fe_ring.h - inside a driver's queue: what fe_queue.c and the two layouts of a ring share.
 *
 * Invariants:
 * - The back end writes only answers and what chains allow; everything else that we need to know is kept in our own
 *   memory: next_free[] links free ids, chain_len[] and inflight[] belong to the id of a chain in flight. In a split
 *   ring ids are descriptors, and the same list links the descriptors of a direct chain.
 * - num_free + the lengths of all chains in flight == size.
 * - Slot i (header, range, status, indirect table) belongs to the chain with the id i.
 */
#pragma once

#include "fe_queue.h"

/* What a request needs besides its data; one cache line in guest memory. */
struct slot {
        struct { uint32_t type, ioprio; uint64_t sector; } hdr;           /* virtio 5.2.6 */
        struct { uint64_t sector; uint32_t nsectors, flags; } range;      /* DISCARD, WRITE_ZEROES */
        uint8_t status;
        uint8_t pad[31];
};
_Static_assert(sizeof(struct slot) == 64, "one cache line");

struct fe_ring_ops {
        void (*reset)(struct fe_queue *q); /* the memory is zeros */

        /* A descriptor as it lies in the ring. Links: how many ids does a chain of @descs descriptors take? */
        struct fe_ring_desc (*desc)(uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next_or_id);
        unsigned (*links)(unsigned descs);

        /* A chain goes into the ring, @flags on its descriptors; the back end does not see it before show(). */
        void (*offer)(struct fe_queue *q, unsigned id, const struct fe_piece *p, unsigned n, uint16_t flags);
        bool (*show)(struct fe_queue *q); /* does the back end want a kick for it? */

        /* The oldest answer that was not yet passed: 1; 0: there is none; -EPROTO with a sentence. */
        int (*answer)(struct fe_queue *q, uint32_t *id, uint32_t *len);
        void (*next_answer)(struct fe_queue *q, unsigned descs);
        bool (*answered)(struct fe_queue *q);

        /* Off: no call, please, we are awake. On: before the last look at answered(). */
        void (*calls_off)(struct fe_queue *q);
        void (*calls_on)(struct fe_queue *q);

        uint32_t (*base)(const struct fe_queue *q);
        uint32_t (*resume_base)(const struct fe_queue *q);
};
extern const struct fe_ring_ops fe_split_ops, fe_packed_ops;

struct fe_queue {
        const struct fe_ring_ops *ops;
        struct fe_ring ring;
        unsigned index, table_len; /* table_len: descriptors in an indirect table */
        uint32_t seg_len;
        bool packed, indirect, event_idx;
        uint64_t slots_gpa, tables_gpa;
        struct slot *slots;
        struct fe_ring_desc *tables;

        uint16_t avail_idx;  /* what we count; packed: below the size */
        uint16_t last_used;
        uint16_t shown_idx;  /* split: what the ring shows */
        bool avail_wrap, used_wrap; /* packed: wrap counters */
        /* packed: the first descriptor that is not shown, and how many are not */
        uint16_t hidden_at, hidden_flags, nhidden;
        unsigned free_head, num_free, in_flight;
        uint16_t *next_free;
        uint16_t *chain_len;
        struct fe_io **inflight;
        bool *framed; /* made by fe_submit(): the status is in the slot */
};

/* Did the move from @old to @now pass @event? virtio 2.7.10 */
static inline bool event_passed(uint16_t event, uint16_t now, uint16_t old)
{
        return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}
