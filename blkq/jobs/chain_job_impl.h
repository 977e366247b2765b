/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_job_impl.h - inside chain_job.c (the copying), chain_begin.c and chain_cut.c (the end).
 */
#pragma once

#include "blkq/jobs/chain_job.h"
#include "blkq/jobs/copy_rest.h"
#include "blkq/vol_impl.h"

#define CHAIN_REST (4u << 20)      /* bytes that are left when a job counts as ready, at most */

struct retire;

struct chain_job {
        struct copy_job job;
        bool stream, active;
        unsigned top, base;            /* depths */
        struct img_writer *to;         /* commit: the base's. NULL: not begun */
        bool begun;
        struct dirty_bitmap *todo;
        uint64_t size, unit, at;
        unsigned passes, rounds;
        bool ready;

        struct vol_change change;
        struct waiter wait;
        struct work work;
        struct qtask back;
        struct fmt_image *over;        /* chain_begin.c, chain_cut.c: the image in front of what changes, */
        struct fmt_image *old, *opened; /* the base as it was, and as it is written to */
        uint64_t over_size;            /* bytes that the base must have */
        struct fmt_image *out;         /* and what is of the chain no more: to be closed */

        /* chain_cut.c */
        struct chain_end end;
        char *path, *format;           /* end's, for the volume */
        struct old_path *keep;
        struct retire *retire;
        struct file header_file;       /* a copy: see fmt_driver.rename */
        /* of the image behind j->over, and its format; of what was there when they are changed */
        char *names[2];
        int named;
        bool gated;                    /* the top image's flushes wait */
        char why[256];

        struct copy_rest rest;
};

static inline struct chain_job *chain_job_of(struct copy_job *c)
{
        return container_of(c, struct chain_job, job);
}

/* The image at that depth; NULL: there is none. */
static inline struct fmt_image *chain_at(struct fmt_image *img, unsigned depth)
{
        while (img && depth--)
                img = img->backing;
        return img;
}

/* --- chain_begin.c --------------------------------------------------------------------------------------------------- */

/* How the image at @depth is opened for writing, without what is behind it. */
struct fmt_open_opts chain_how_at(const struct vol *v, unsigned depth, const struct fmt_image *img);
/* Our own lock for reading is in the way of a lock for writing. */
void chain_unlock_files(const struct fmt_image *img);
void chain_lock_files(const struct fmt_image *img);
/* Home, the volume is held: what is behind @over from now on. */
void chain_set_backing(struct vol *v, struct fmt_image *over, struct fmt_image *below);
/* Home: @run on a worker that is registered with RCU; else the step fails, or with @must it is run here. */
void chain_on_worker(struct chain_job *j, void (*run)(struct work *w), bool must);
/* Home, requests go on: j->out is closed, and the step is done. */
void chain_close_out(struct vol_change *c);

static inline struct chain_job *chain_job_of_change(struct vol_change *c)
{
        return container_of(c, struct chain_job, change);
}
