/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * batch.c - runs the batches of format drivers on home's engine: all steps up to the next FMT_SYNC at once, the sync
 * alone, and so on. The first error lets what is in flight finish and starts nothing more.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/change/retire.h"
#include "blkq/home/work.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"

#define DRY_MAX 64u /* flushes that one wait may ask for, while nothing else makes room, before it is said that there is no memory */

struct batch_run {
        struct vol *v;
        struct fmt_batch *b;
        unsigned next;  /* step */
        unsigned left;  /* in flight, plus one while steps are being started */
        int err;
        enum fmt_op failed_op;
        struct batch_io {
                struct io io;
                struct iovec iov;
                struct batch_run *run;
        } io[];
};

static void batch_end(struct batch_run *run);
static void batch_go_on(struct batch_run *run);

static void batch_drop(struct batch_run *run)
{
        if (--run->left)
                return;
        if (run->err || run->next == run->b->nsteps)
                batch_end(run);
        else
                batch_go_on(run);
}

static void on_step(struct io *io, int res)
{
        struct batch_io *bi = container_of(io, struct batch_io, io);
        struct batch_run *run = bi->run;

        if (res < 0 && !run->err) {
                run->err = res;
                run->failed_op = run->b->step[bi - run->io].op;
        }
        batch_drop(run);
}

static const enum io_op op_of[] = {
        [FMT_READ] = IO_READ, [FMT_WRITE] = IO_WRITE, [FMT_ZERO] = IO_ZERO,
        [FMT_TRUNCATE] = IO_TRUNCATE, [FMT_SYNC] = IO_SYNC,
};

static void start_step(struct batch_run *run, unsigned i)
{
        const struct fmt_step *s = &run->b->step[i];
        struct batch_io *bi = &run->io[i];

        bi->run = run;
        bi->iov = (struct iovec){ s->buf, s->len };
        bi->io = (struct io){
                .op = op_of[s->op], .file = fmt_step_file(run->b->img, s), .off = s->off, .len = s->len, .iov = &bi->iov,
                .niov = s->op == FMT_READ || s->op == FMT_WRITE, .done = on_step,
        };
        run->left++;
        if (s->op == FMT_WRITE && bi->io.file == fmt_data_file(run->b->img))
                vol_writes_to(run->v, run->b->img, s->off + s->len);
        engine_submit(run->v->mover.engine, &bi->io);
}

static void batch_go_on(struct batch_run *run)
{
        struct fmt_batch *b = run->b;

        run->left = 1;
        if (run->next < b->nsteps && b->step[run->next].op == FMT_SYNC && run->v->no_sync)
                run->next++; /* what came before is in the file at least */
        else if (run->next < b->nsteps && b->step[run->next].op == FMT_SYNC)
                start_step(run, run->next++);
        else
                while (run->next < b->nsteps && b->step[run->next].op != FMT_SYNC)
                        start_step(run, run->next++);
        batch_drop(run);
}

/*
 * Out of space is a matter of time; so is memory. Everything else that happens to a write or a sync is for good. A file
 * that does not grow and a hole that is not punched leave all tables as they were: whoever wanted the space hears of
 * it.
 */
static bool may_pass(enum fmt_op op, int err)
{
        if (op == FMT_SYNC)
                return false;
        return op != FMT_WRITE || err == -ENOSPC || err == -EDQUOT || err == -ENOMEM;
}

/* done() frees the batch, and the waiters are listed in it. */
static void tell_all(struct vol *v, struct fmt_batch *b, int err)
{
        struct img_writer *w = writer_of(v, b->img);
        struct list waiters, *n;

        list_init(&waiters);
        list_splice_tail(&waiters, &b->waiters);
        b->done(b, err);
        while ((n = list_pop(&waiters)) != NULL) {
                struct waiter *waiter = list_entry(n, struct waiter, link);

                waiter->wake(waiter, err);
        }
        if (w)
                w->batches--;
        if (err == 0) /* else housekeeping would try the same again at once, for ever; the next flush asks again */
                housekeep_kick(v);
        if (w && w->retire && !w->batches)
                retire_writer_idle(w->retire);
        vol_unbusy(v);
}

static void batch_end(struct batch_run *run)
{
        struct fmt_batch *b = run->b;
        struct vol *v = run->v;
        struct img_writer *w = writer_of(v, b->img);
        int err = run->err;

        if (w && err && !may_pass(run->failed_op, err))
                writer_fail(w, err, run->failed_op == FMT_SYNC ? "the disk cannot be flushed" : "tables cannot be written");
        free(run);
        tell_all(v, b, err);
}

void batch_start(struct vol *v, struct fmt_batch *b)
{
        struct batch_run *run = calloc(1, sizeof(*run) + b->nsteps * sizeof(run->io[0]));
        struct img_writer *w = writer_of(v, b->img);

        assert(!b->started);
        b->started = true;
        vol_busy(v);
        if (w)
                w->batches++;
        if (!run) {
                tell_all(v, b, -ENOMEM);
                return;
        }
        run->v = v;
        run->b = b;
        run->left = 1; /* for the drop below: a batch without steps ends there */
        batch_drop(run);
}

/* --- what -EAGAIN waits for --------------------------------------------------------------------------------------- */

/*
 * There was no room, and a flush alone made none: pages may be pinned by writes under way, clusters that leave may wait
 * for requests in them or for their punches. All that takes as long as the disk does, and a flush may take no time at
 * all: wait for that, then.
 */
static bool waits_for_others(struct vol *v, struct img_writer *writer, struct waiter *w)
{
        if (!w->dry)
                return false;
        if (writer->housekeeping) {
                list_add_tail(&writer->tidied, &w->link);
                return true;
        }
        if (!fmt_dying(writer->img) && mover_is_idle(&v->mover))
                return false;
        w->dry = 1;
        grace_wait(v, w);
        return true;
}

void batch_want(struct vol *v, struct fmt_image *img, struct waiter *w)
{
        struct img_writer *writer = writer_of(v, img);
        struct fmt_batch *b = fmt_want(img);

        if (!b && writer && waits_for_others(v, writer, w))
                return;
        if (!b && writer && w->dry++ < DRY_MAX) { /* the cache is full of dirty pages, or too much is leaving */
                writer_flush(writer, w);
                return;
        }
        if (!b) {
                w->wake(w, -ENOMEM);
                return;
        }
        list_add_tail(&b->waiters, &w->link);
        if (!b->started)
                batch_start(v, b);
}

/* --- work that waits for no guest --------------------------------------------------------------------------------- */

void housekeep_kick(struct vol *v)
{
        list_for_each(n, &v->writers)
                writer_housekeep(list_entry(n, struct img_writer, link));
}
