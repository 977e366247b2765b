/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * img_io.h - a small synchronous executor on an open image, for tests: what blkq does with an engine, one step after
 * another on this thread. It follows the contracts of format.h and nothing else, so it can be stopped after any step of
 * I/O: from then on every call fails with -ECANCELED and the file stays as it is, as after a kill.
 *
 * All calls: 0 or -errno. Offsets and lengths are bytes, any alignment.
 */
#pragma once

#include "formats/format.h"

struct img_io {
        struct fmt_image *img; /* borrowed */
        unsigned long steps;   /* I/O steps so far */
        unsigned long stop_at; /* stop before this step; 0: never */
        unsigned long fail_at; /* this step fails with -EIO; 0: none */
        bool hold_dying;       /* the test releases dying clusters itself */
        bool no_housekeep;     /* the test asks for housekeeping itself */
        /* Called before every step of a batch, so that other requests come in between; they may not need a flush. */
        void (*between)(struct img_io *io);
        bool in_between;
        void (*flush_begins)(struct img_io *io); /* the snapshot is taken */
        unsigned long flushes, syncs;
};

int img_read(struct img_io *io, void *buf, size_t len, uint64_t off);
int img_write(struct img_io *io, const void *buf, size_t len, uint64_t off);
/* all that the disk has of the cluster at @off */
int img_write_packed(struct img_io *io, const void *buf, uint64_t off);
int img_zero(struct img_io *io, uint64_t off, uint64_t len, unsigned flags); /* flags as fmt_plan_zero() */
int img_flush(struct img_io *io);
int img_housekeep(struct img_io *io); /* until there is nothing to do */
int img_settle(struct img_io *io);    /* wind down, flush and housekeep until clean */

/* The parts, for tests that interleave: */
int img_run(struct img_io *io, struct fmt_batch *b);               /* steps, then done() */
int img_retry(struct img_io *io, struct fmt_image *missing);       /* after -EAGAIN: what is wanted, or a flush */
int img_plan_write(struct img_io *io, uint64_t off, uint64_t len, struct fmt_plan *plan); /* with the wants */
int img_plan_packed(struct img_io *io, uint64_t off, uint32_t packed_len, struct fmt_plan *plan);
int img_put(struct img_io *io, const struct fmt_plan *plan, const void *data); /* IN_PLACE, ALLOCATE: the data write */
