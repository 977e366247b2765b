/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * work.h - home's work on the chain: its kinds, and what they wait for. Home's thread only; memory is the caller's
 * until done() or until the waiter is woken. Nothing here recurses without bound: a request always enters home from the
 * inbox.
 */
#pragma once

#include "blkq/vol_impl.h"

void home_take(struct qtask *task); /* home.c: a blk_req's task arrives */

/* Home's; @c may be NULL. */
static inline void home_stage(struct vol *v, struct stage_clock *c, enum stats_stage stage)
{
        if (c)
                stage_to(c, stage, engine_now(v->mover.engine));
}

/* --- overlap.c: ranges of clusters that somebody is changing ------------------------------------------------------ */

struct range_lock {
        struct list link;
        uint64_t off, len;  /* bytes, whole clusters */
        unsigned blockers;  /* earlier entries that overlap; 0: ours */
        struct waiter *who; /* NULL once it is ours */
};
/* True: ours now. Else @who is woken (err 0) when it is. */
bool range_lock(struct list *ranges, struct range_lock *l, uint64_t off, uint64_t len, struct waiter *who);
void range_unlock(struct list *ranges, struct range_lock *l); /* wakes those who waited only for this one */

/* --- batch.c ------------------------------------------------------------------------------------------------------ */

/* Runs @b on home's engine. @b->waiters are woken after b->done(). */
void batch_start(struct vol *v, struct fmt_batch *b);
/* After an -EAGAIN about @img: wait for what is missing. Wakes with 0 (try again) or -errno. */
void batch_want(struct vol *v, struct fmt_image *img, struct waiter *w);
void housekeep_kick(struct vol *v); /* all writers */

/* --- flush.c ------------------------------------------------------------------------------------------------------ */

void flush_init(struct img_writer *w);
/* Wakes @w when everything that guests wrote before this call is durable; true: it shares a flush with others. */
bool flush_wait(struct vol *v, struct waiter *w);
/* The same, and what jobs write to other images of the chain. */
void flush_all(struct vol *v, struct waiter *w);

/* --- grace.c ------------------------------------------------------------------------------------------------------ */

/* Wakes @w when all moves of all threads that are under way now are done. */
void grace_wait(struct vol *v, struct waiter *w);
void grace_kick(struct vol *v); /* after a commit: if clusters are dying, see to it that they die */
void grace_port_init(struct vol_port *p);
void grace_port_ask(struct qtask *task);

/* --- home_read.c: any guest range to memory ----------------------------------------------------------------------- */

struct unpack;
struct chain_read {
        struct vol *v;
        struct fmt_image *from; /* the chain's image to begin with; NULL: the top one, whichever that is */
        uint64_t off, end;  /* guest bytes still to read */
        uint64_t base, len; /* guest bytes that @iov is for */
        const struct iovec *iov;
        unsigned niov;
        void (*done)(struct chain_read *rd, int res);
        struct stage_clock *clock; /* given before the start, in memory that is zero else; NULL: nobody wants to know */
        struct waiter wait;
        struct move move;
        uint64_t step;      /* bytes of the move under way */
        struct unpack *unpack;
};
/* done() may come before this returns. */
void chain_read_start(struct vol *v, struct chain_read *rd, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_read *rd, int res));
/* What the disk looks like from @from down, zeros behind its end: an image of the chain that stays open until
 * done(). */
void chain_read_from(struct vol *v, struct fmt_image *from, struct chain_read *rd, uint64_t off, uint64_t len,
                     const struct iovec *iov, unsigned niov, void (*done)(struct chain_read *rd, int res));

/* --- home_write.c: plans and copy-up ------------------------------------------------------------------------------ */

struct chain_write {
        struct img_writer *w;
        uint64_t off, end;
        uint64_t base, len;
        const struct iovec *iov;
        unsigned niov;
        void (*done)(struct chain_write *wr, int res);
        struct stage_clock *clock; /* as chain_read's */
        struct waiter wait;
        struct move move;
        struct fmt_plan plan;
        /* Copy-up: */
        struct bounce_wait buffer;
        size_t buf_len;
        void *buf;                 /* head, then tail */
        struct chain_read side[2]; /* head and tail */
        struct iovec side_iov[2];
        unsigned nreads;
        int read_err;
        struct iovec *merged;
};
/* The caller holds the clusters' range_lock, or is the only one who writes to this image. done() may come before this
 * returns. */
void chain_write_start(struct img_writer *w, struct chain_write *wr, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov, void (*done)(struct chain_write *wr, int res));

/* --- home_pack.c: one cluster, compressed ------------------------------------------------------------------------- */

struct pack;
struct chain_pack {
        struct chain_write write; /* for a cluster that does not get smaller */
        struct stage_clock *clock; /* as chain_read's */
        struct pack *pack;
        void (*done)(struct chain_pack *cp, int res);
};
/* The caller holds the cluster's range_lock. done() may come before this returns. */
void chain_pack_start(struct vol *v, struct chain_pack *cp, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_pack *cp, int res));

/* --- home_zero.c: discard and zeroes ------------------------------------------------------------------------------ */

#define ZERO_CHUNK (1u << 20)  /* bytes of zeros written at once */
#define ZERO_PAGE (64u << 10)
struct chain_zero {
        struct img_writer *w;
        uint64_t off, end;
        unsigned flags;    /* ZERO_MAY_UNMAP, ZERO_DISCARD */
        void (*done)(struct chain_zero *z, int res);
        struct stage_clock *clock; /* as chain_read's */
        struct waiter wait;
        struct qtask again;
        struct fmt_plan plan;
        bool unlinked;     /* a commit was made: grace before the end */
        int res;
        struct io io;
        uint64_t at;       /* WRITE_ZEROES: how far */
        struct chain_write write;
        struct iovec zeros[ZERO_CHUNK / ZERO_PAGE];
};
/* As chain_write_start(). */
void chain_zero_start(struct img_writer *w, struct chain_zero *z, uint64_t off, uint64_t len, unsigned flags,
                      void (*done)(struct chain_zero *z, int res));
