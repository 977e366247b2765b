/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_rest.c - the last rounds of an active commit, behind the loop: first while guests go on writing, until little is left; then
 * while they wait, until nothing is. As many pieces at a time as the loop has.
 */
#include <errno.h>

#include "blkq/jobs/chain_job_impl.h"

#define ROUNDS_MAX 16u

static bool is_enough(struct chain_job *j)
{
        uint64_t left = chain_left(j);

        return left == 0 || (j->rest_enough && (left <= j->rest_enough || j->rest_rounds > ROUNDS_MAX));
}

static bool next(struct chain_job *j, struct copy_chunk *ch)
{
        if (chain_take(j, j->job.chunk, &ch->off, &ch->len))
                return true;
        if (j->rest_in_flight) /* so that a round has an end */
                return false;
        j->at = 0;
        j->rest_rounds++;
        return !is_enough(j) && chain_take(j, j->job.chunk, &ch->off, &ch->len);
}

static void go_on(struct chain_job *j)
{
        void (*done)(struct chain_job *j, int res) = j->rest_done;

        if (j->rest_pumping)
                return;
        j->rest_pumping = true;
        for (unsigned i = 0; i < j->job.depth && j->rest_res == 0; i++) {
                struct copy_chunk *ch = j->job.chunks[i];

                if (ch->busy)
                        continue;
                if (!next(j, ch))
                        break;
                ch->busy = true;
                j->rest_in_flight++;
                chain_copy(ch);
                if (!ch->busy)
                        i--; /* it is done already: its place is free */
        }
        j->rest_pumping = false;
        if (j->rest_in_flight)
                return;
        j->rest_done = NULL;
        chain_show_progress(j);
        done(j, j->rest_res);
}

void chain_rest_piece_end(struct copy_chunk *ch, int res)
{
        struct chain_job *j = chain_job_of(ch->c);

        ch->busy = false;
        j->rest_in_flight--;
        if (res < 0 && j->rest_res == 0)
                j->rest_res = res;
        go_on(j);
}

void chain_rest(struct chain_job *j, uint64_t enough, void (*done)(struct chain_job *j, int res))
{
        j->rest_done = done;
        j->rest_enough = enough;
        j->rest_rounds = 0;
        j->rest_res = 0;
        j->at = 0;
        vol_use_files(j->job.v);
        if (is_enough(j)) {
                j->rest_done = NULL;
                done(j, 0);
        } else {
                go_on(j);
        }
}
