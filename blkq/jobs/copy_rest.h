/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_rest.h - the last rounds of a job that follows what guests write, behind its loop: first while they go on
 * writing, until little is left; then while they wait, until nothing is. As many pieces at a time as the loop has.
 * Home.
 */
#pragma once

#include "blkq/jobs/copy_job.h"

#define COPY_REST_HELD (512u << 10) /* bytes that guests wait for, unless they never rest */

struct copy_rest {
        /* The kind's. Pieces are copied by its copy(), and end here. */
        uint64_t (*left)(struct copy_job *c); /* bytes */
        bool (*take)(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len); /* the next piece of this round */
        void (*rewind)(struct copy_job *c);   /* a round begins */

        void (*done)(struct copy_job *c, int res);
        uint64_t enough;
        unsigned in_flight, rounds;
        bool pumping;
        int res;
};

/* The loop is over. Until at most @enough bytes are left or, when that is not 0, it was tried often enough. @done may
 * come before this returns. */
void copy_rest(struct copy_job *c, struct copy_rest *r, uint64_t enough, void (*done)(struct copy_job *c, int res));
void copy_rest_piece_end(struct copy_chunk *ch, int res); /* from copy_chunk_end() */
