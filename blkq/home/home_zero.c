/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home_zero.c - discard and write-zeroes, plan by plan.
 *
 * Tables change in memory at once; the answer waits for one round of grace at the end, so that a write that looked the
 * old place up before cannot land in it after a later write to the same clusters (which waits for our range_lock).
 */
#include <assert.h>
#include <errno.h>

#include "blkq/home/work.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

static char zero_page[ZERO_PAGE] __attribute__((aligned(4096)));

static void zero_step(struct chain_zero *z);

static void on_grace(struct waiter *w, int err)
{
        struct chain_zero *z = container_of(w, struct chain_zero, wait);

        (void)err;
        z->done(z, z->res);
}

/* Also when it failed half way: what was unlinked was unlinked. */
static void zero_end(struct chain_zero *z, int res)
{
        z->res = res;
        if (!z->unlinked) {
                z->done(z, res);
                return;
        }
        z->wait.wake = on_grace;
        grace_wait(z->w->v, &z->wait);
}

static void on_woken(struct waiter *w, int err)
{
        struct chain_zero *z = container_of(w, struct chain_zero, wait);

        if (err < 0)
                zero_end(z, err);
        else
                zero_step(z);
}

static void plan_done(struct chain_zero *z, int res)
{
        home_stage(z->w->v, z->clock, STAGE_MAP);
        if (res < 0)
                zero_end(z, res);
        else
                zero_step(z);
}

static void on_punched(struct io *io, int res)
{
        plan_done(container_of(io, struct chain_zero, io), res);
}

static void punch(struct chain_zero *z)
{
        home_stage(z->w->v, z->clock, STAGE_DISK);
        z->io = (struct io){
                .op = z->plan.keep ? IO_ZERO_KEEP : IO_ZERO, .file = fmt_data_file(z->w->img), .off = z->plan.host,
                .len = z->plan.len, .done = on_punched,
        };
        engine_submit(z->w->v->mover.engine, &z->io);
}

/* --- zeros as data, a chunk at a time ----------------------------------------------------------------------------- */

static void write_zeros(struct chain_zero *z);

static void on_zeros_written(struct chain_write *wr, int res)
{
        struct chain_zero *z = container_of(wr, struct chain_zero, write);

        if (res < 0 || z->at == z->plan.off + z->plan.len)
                plan_done(z, res);
        else
                write_zeros(z);
}

static void write_zeros(struct chain_zero *z)
{
        uint64_t from = z->at, len = min_u64(z->plan.off + z->plan.len - from, ZERO_CHUNK), left = len;
        unsigned n = 0;

        for (; left; left -= z->zeros[n++].iov_len)
                z->zeros[n] = (struct iovec){ zero_page, min_u64(left, ZERO_PAGE) };
        z->at += len;
        chain_write_start(z->w, &z->write, from, len, z->zeros, n, on_zeros_written);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static int plan_next(struct chain_zero *z)
{
        int r = writer_may_write(z->w);

        z->plan = (struct fmt_plan){ 0 };
        return r < 0 ? r : fmt_plan_zero(z->w->img, z->off, z->end - z->off, z->flags, &z->plan);
}

/* So many in one go: with small clusters a long range has a hundred thousand, and other disks have their turn
 * meanwhile. */
#define PLANS_A_TURN 256u

static void zero_again(struct qtask *task)
{
        zero_step(container_of(task, struct chain_zero, again));
}

/* Plans that are settled at once are a loop here; the others come back through plan_done(). */
static void zero_step(struct chain_zero *z)
{
        struct img_writer *w = z->w;

        for (unsigned n = 0; z->off < z->end; n++) {
                int r;

                if (n == PLANS_A_TURN) {
                        z->again.run = zero_again;
                        qthread_post(w->v->home, &z->again);
                        return;
                }
                r = plan_next(z);

                if (r == -EAGAIN) {
                        batch_want(w->v, w->img, &z->wait);
                        return;
                }
                if (r < 0) {
                        zero_end(z, r);
                        return;
                }
                z->wait.dry = 0; /* it goes on: a long discard may need many flushes */
                z->off += z->plan.len;
                if (z->plan.kind == PLAN_TABLES) {
                        fmt_commit(w->img, &z->plan);
                        z->unlinked = true;
                        writer_dirty(w);
                } else if (z->plan.kind == PLAN_PUNCH) {
                        punch(z);
                        return;
                } else if (z->plan.kind == PLAN_WRITE_ZEROES) {
                        z->at = z->plan.off;
                        z->write.clock = z->clock;
                        write_zeros(z);
                        return;
                } else if (z->plan.kind != PLAN_NOTHING) {
                        zero_end(z, -EIO); /* no driver answers that */
                        return;
                }
        }
        zero_end(z, 0);
}

void chain_zero_start(struct img_writer *w, struct chain_zero *z, uint64_t off, uint64_t len, unsigned flags,
                      void (*done)(struct chain_zero *z, int res))
{
        assert(len);
        z->w = w;
        z->off = off;
        z->end = off + len;
        z->flags = flags;
        z->done = done;
        z->unlinked = false;
        z->wait = (struct waiter){ .wake = on_woken };
        list_init(&z->wait.link);
        zero_step(z);
}
