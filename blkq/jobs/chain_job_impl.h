/* SPDX-License-Identifier: BSD-3-Clause */
/* chain_job_impl.h - inside chain_job.c (the copying) and chain_cut.c (the beginning and the end). */
#pragma once

#include "blkq/jobs/chain_job.h"
#include "blkq/vol_impl.h"

#define CHAIN_REST (4u << 20) /* bytes that are left for guests to wait for, at most, unless they never rest */

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
        struct chain_end end;
        char *path, *format;           /* end's, for the volume */
        struct old_path *keep;
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
