/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * writer.h - an image of a volume's chain that home may write to: what is to be flushed, tidied and settled there. Home
 * only.
 *
 * The top image has one, unless the volume is read-only. An image that has just become a backing image keeps its own
 * until it is settled (retire.c); the image that a job writes to has one while the job lasts. The writers of a volume
 * flush by themselves; a guest's flush is one of all that hold what guests wrote (vol_impl.h: flush_wait).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "common/list.h"
#include "formats/format.h"

struct vol;
struct retire;

/* Somebody at home who waits for something. On one list at a time. Zero-initialise. */
struct waiter {
        struct list link;
        unsigned dry; /* batch.c: how often there was no room for what was wanted, though nothing made any meanwhile */
        void (*wake)(struct waiter *w, int err);
};

struct img_writer {
        struct vol *v;
        struct fmt_image *img; /* NULL: it could not be opened again */
        struct list link;      /* v->writers */
        /* holds what guests wrote: their flushes wait for it, and when it fails the volume does */
        bool guests;
        int failed;            /* 0, or why nothing can be written to it any more (-errno) */
        unsigned batches;      /* of its own image, under way */
        struct flush_state {
                bool running;
                struct list now, next; /* waiters of the running flush; of the one after it */
                struct waiter batch;
                struct qtimer timer;
                bool timer_set;
                bool gated; /* none begins; see writer_gate() */
        } flush;
        bool housekeeping;
        struct waiter housekept;
        struct list tidied;    /* waiters for the end of this piece of housekeeping */
        struct retire *retire; /* wants to know when no batch is under way */
        struct retire *paused; /* comes back later */
        uint64_t ticket;       /* grace.c: the clusters that the running round covers */
};

/* Any thread; it does nothing before writer_join(). NULL: no memory. */
struct img_writer *writer_new(struct vol *v, struct fmt_image *img, bool guests);
void writer_join(struct img_writer *w);       /* the volume's list */
void writer_free(struct img_writer *w);       /* no batch and no flush under way. NULL is fine */
struct img_writer *writer_of(struct vol *v, const struct fmt_image *img); /* NULL: nobody may write to it */

/* 0, or the errno that a write meets before it is tried. */
int writer_may_write(const struct img_writer *w);
/* Its tables or its durability failed for good. */
void writer_fail(struct img_writer *w, int err, const char *what);

/* Wakes @waiter when all that was committed and written to this image before this call is durable; true: it shares a
 * flush with others. */
bool writer_flush(struct img_writer *w, struct waiter *waiter);
void writer_dirty(struct img_writer *w);      /* tables have changed: arm the write-back timer */
void writer_stop_timer(struct img_writer *w);
/*
 * For who writes the image's header beside us: after a flush of his own has woken him, before anything else runs. No
 * flush begins until the gate is opened again; all else goes on. So the header is the file's, and his.
 */
void writer_gate(struct img_writer *w);
void writer_ungate(struct img_writer *w);

/* The next piece of work that waits for no guest, if there is one and none is under way. */
void writer_housekeep(struct img_writer *w);

/* Nothing is left that only a flush makes durable, and nothing waits for others to let go of it. */
bool writer_is_clean(const struct img_writer *w);
