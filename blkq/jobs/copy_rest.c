/* SPDX-License-Identifier: BSD-3-Clause */
#include "blkq/jobs/copy_rest.h"
#include "blkq/port_impl.h"

#include "blkq/vol_impl.h"

#define ROUNDS_MAX 16u

static bool is_enough(struct copy_job *c)
{
        const struct copy_rest *r = c->rest;
        uint64_t left = r->left(c);

        return left == 0 || (r->enough && (left <= r->enough || r->rounds > ROUNDS_MAX));
}

static bool next(struct copy_job *c, struct copy_chunk *ch)
{
        struct copy_rest *r = c->rest;

        if (r->take(c, c->chunk, &ch->off, &ch->len))
                return true;
        if (r->in_flight) /* so that a round has an end */
                return false;
        r->rewind(c);
        r->rounds++;
        return !is_enough(c) && r->take(c, c->chunk, &ch->off, &ch->len);
}

static void go_on(struct copy_job *c)
{
        struct copy_rest *r = c->rest;

        if (r->pumping)
                return;
        r->pumping = true;
        for (unsigned i = 0; i < c->depth && r->res == 0;) {
                struct copy_chunk *ch = c->chunks[i];

                if (!ch->busy && !next(c, ch))
                        break;
                if (!ch->busy) {
                        ch->busy = true;
                        r->in_flight++;
                        c->kind->copy(ch);
                }
                i += ch->busy; /* it may be done already */
        }
        r->pumping = false;
        if (r->in_flight)
                return;
        c->rest = NULL;
        r->done(c, r->res);
}

void copy_rest_piece_end(struct copy_chunk *ch, int res)
{
        struct copy_rest *r = ch->c->rest;

        ch->busy = false;
        r->in_flight--;
        if (res < 0 && r->res == 0)
                r->res = res;
        go_on(ch->c);
}

void copy_rest(struct copy_job *c, struct copy_rest *r, uint64_t enough, void (*done)(struct copy_job *c, int res))
{
        r->done = done;
        r->enough = enough;
        r->rounds = 0;
        r->res = 0;
        r->rewind(c);
        vol_use_files(c->v);
        c->rest = r;
        if (!is_enough(c)) {
                go_on(c);
                return;
        }
        c->rest = NULL;
        done(c, 0);
}
