/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fe_queue.h - the driver's side of one virtqueue, split or packed, and virtio-blk requests through it.
 *
 *     io = (struct fe_io){ .type = FE_READ, .sector = 8, .gpa = gpa_of_buffer, .len = 4096 };
 *     fe_submit(q, &io);            // any number of them
 *     fe_kick(q);                   // one notification for the batch, if the back end wants one
 *     n = fe_wait(q, -1);           // or poll fe_reap() alone
 *     n = fe_reap(q, done, 32);
 *
 * One thread at a time a queue; different queues may be used by different threads. Submitting and reaping allocate
 * nothing. Lengths in bytes, sectors of 512 bytes, little-endian where the specification says so.
 * Errors: -EAGAIN no room now; -EPROTO with a sentence: the back end broke a rule of the used ring.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fe_mem.h"

enum fe_type { FE_READ = 0, FE_WRITE = 1, FE_FLUSH = 4, FE_GET_ID = 8, FE_DISCARD = 11, FE_WRITE_ZEROES = 13 };
enum fe_status { FE_OK = 0, FE_IOERR = 1, FE_UNSUPP = 2, FE_NOT_ANSWERED = 0xff };

#define FE_QUEUE_SIZE_MAX 32768
#define FE_PIECES_MAX 256 /* descriptors in one chain made by fe_submit() or fe_submit_chain() */

/* One request. The caller's; must stay in place from fe_submit() until fe_reap() hands it back. */
struct fe_io {
        uint32_t type;     /* enum fe_type, or any number: unknown types are framed like FE_READ */
        uint32_t len;      /* READ, WRITE, GET_ID: bytes of data; DISCARD, WRITE_ZEROES: bytes of the range */
        uint64_t sector;
        uint64_t gpa;      /* the data, guest contiguous; unused by FLUSH, DISCARD, WRITE_ZEROES */
        bool unmap;        /* WRITE_ZEROES */
        uint8_t status;    /* out: enum fe_status. Not set for chains of fe_submit_chain() */
        uint32_t used_len; /* out: what the back end says it wrote, in bytes */
        uint64_t user;     /* the caller's */
};

/* One descriptor as a test wants it. */
struct fe_piece {
        uint64_t gpa;
        uint32_t len;
        bool write; /* the back end writes here */
};

struct fe_queue;

struct fe_queue_opts {
        unsigned index;
        unsigned size;      /* entries; a power of two unless it is packed */
        bool packed;
        unsigned max_segs;  /* data segments in an indirect table; 0: 4 */
        uint32_t seg_len;   /* data is cut into segments of at most that many bytes; 0: never cut */
};

/* Ring and tables are allocated in region 0 of @mem, which outlives the queue. */
int fe_queue_new(struct fe_mem *mem, const struct fe_queue_opts *opts, struct fe_queue **ret);
void fe_queue_free(struct fe_queue *q);

/* Empty ring from its beginning, new eventfds; nothing may be in flight (-EBUSY: see fe_queue_unanswered()). */
int fe_queue_reset(struct fe_queue *q, bool indirect, bool event_idx);

/* Puts @io on the ring, without a kick. -EAGAIN: no free descriptor; -EINVAL: more segments than max_segs. */
int fe_submit(struct fe_queue *q, struct fe_io *io);

/**
 * fe_submit_chain - a chain of exactly these descriptors, in one indirect table or directly in the ring.
 * The caller makes header, data and status in guest memory, in pieces as it likes; @n: 1..FE_PIECES_MAX, and at most
 * max_segs + 2 when indirect. @io only identifies the chain in fe_reap().
 */
int fe_submit_chain(struct fe_queue *q, const struct fe_piece *p, unsigned n, bool indirect, struct fe_io *io);

/* Shows the back end what was submitted, and notifies it if it asks for that. */
void fe_kick(struct fe_queue *q);

/* Answered requests, oldest first, at most @max; 0 when there are none. Never blocks, makes no system call. */
int fe_reap(struct fe_queue *q, struct fe_io **done, unsigned max);

/**
 * fe_wait - sleep on the call eventfd until something was answered.
 * @timeout_ms: -1: for ever. Returns 1 when there may be something to reap (or fe_wake() was called),
 * 0 on a timeout. At most two system calls.
 */
int fe_wait(struct fe_queue *q, int timeout_ms);

/* Make fe_wait() of another thread return. Any thread. */
void fe_wake(struct fe_queue *q);

/* Submit, kick, wait. Nothing else may be in flight (-EBUSY). Returns 0, a status in @io; -ETIMEDOUT. */
int fe_do(struct fe_queue *q, struct fe_io *io, int timeout_ms);

/* How many chains are in flight; how many descriptors are free. */
unsigned fe_in_flight(const struct fe_queue *q);
unsigned fe_free_descs(const struct fe_queue *q);

/* Takes back a request that was not answered (after a disconnect), in no order; NULL: none left. */
struct fe_io *fe_queue_unanswered(struct fe_queue *q);

/*
 * The raw level: the ring itself. Everything may be poked at any time; the queue's own bookkeeping is not in it, so
 * after hostile writes throw the queue away (fe_queue_reset()).
 */
struct fe_ring {
        struct fe_ring_desc { uint64_t gpa; uint32_t len; uint16_t flags, next; } *desc;
        struct fe_ring_avail { uint16_t flags, idx, ring[]; } *avail; /* ring[size] is used_event */
        struct fe_ring_used {
                uint16_t flags, idx;
                struct { uint32_t id, len; } ring[];
        } *used; /* behind ring[size] comes avail_event */

        /* The same three areas in a packed ring. */
        struct fe_packed_desc { uint64_t gpa; uint32_t len; uint16_t id, flags; } *packed;
        struct fe_packed_event { uint16_t off_wrap, flags; } *driver, *device;

        unsigned size;
        int kick_fd, call_fd, err_fd; /* eventfds */
};
enum { FE_DESC_NEXT = 1, FE_DESC_WRITE = 2, FE_DESC_INDIRECT = 4 };
struct fe_ring *fe_queue_ring(struct fe_queue *q);
unsigned fe_queue_index(const struct fe_queue *q);

/* As the driver counts: the base to go on from when all that was shown was answered. */
uint32_t fe_queue_base(const struct fe_queue *q);

/* The base that a front end can give when the back end did not say one before it went away. */
uint32_t fe_queue_resume_base(const struct fe_queue *q);
