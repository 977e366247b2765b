/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home.c - a request's stay at home: from the message that brings it to the message that takes it back.
 *
 *   taken -> READ ----------------------------------------------------------------> back
 *         -> WRITE, zeroing, discard: range is ours -> done -> range given up -+--> back
 *         -> FLUSH ----------------------------------------> flush <----- FUA -+
 *         -> whichever found no space on the host's disk: waits, and begins again (full.c)
 *
 * The job is freed before the request goes back, and the port counts the request until then, so a port cannot detach
 * while home holds one of its requests.
 */
#include <errno.h>
#include <stdlib.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/home/work.h"
#include "blkq/jobs/cbw.h"
#include "blkq/jobs/twin.h"
#include "blkq/port_impl.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

struct job {
        struct vol *v;
        struct blk_req *req;
        struct waiter wait;
        struct range_lock range;
        struct cbw_wait before; /* a backup copies first what this changes */
        struct full_wait full;
        bool flushing;          /* the rest is done */
        int res;                /* of the change */
        union {
                struct chain_read read;
                struct chain_write write;
                struct chain_pack pack;
                struct chain_zero zero;
                struct twin_op twin; /* a mirror copies then what this has changed */
        };
};

static void job_start(struct job *j);
static void job_flush(struct job *j);

static void job_over(struct job *j, int res)
{
        struct blk_req *req = j->req;
        struct vol *v = j->v;

        free(j);
        req->p.res = res;
        req->p.task.run = request_back;
        if (qthread_is_current(req->p.port->thread))
                request_back(&req->p.task);
        else
                qthread_post(req->p.port->thread, &req->p.task);
        vol_unbusy(v);
}

/* --- no space: see full.h ------------------------------------------------------------------------------------------ */

static void job_retry(struct full_wait *w)
{
        struct job *j = container_of(w, struct job, full);

        vol_use_files(j->v);
        home_stage(j->v, &j->req->p.clock, STAGE_MAP);
        if (j->flushing)
                job_flush(j);
        else
                job_start(j);
}

static void job_give_up(struct full_wait *w, int err)
{
        struct job *j = container_of(w, struct job, full);
        struct blk_req *req = j->req;
        struct vol *v = j->v;

        if (err != -EAGAIN) {
                job_over(j, err);
                return;
        }
        free(j);
        req->p.task.run = request_again;
        qthread_post(req->p.port->thread, &req->p.task);
        vol_unbusy(v);
}

static void job_end(struct job *j, int res)
{
        j->full.port = j->req->p.port;
        j->full.retry = job_retry;
        j->full.give_up = job_give_up;
        if (full_is(res))
                home_stage(j->v, &j->req->p.clock, STAGE_QUEUE);
        if ((j->full.again || full_is(res)) && full_waits(j->v, &j->full, res))
                return;
        job_over(j, res);
}

static void on_flushed(struct waiter *w, int err)
{
        job_end(container_of(w, struct job, wait), err);
}

static void job_flush(struct job *j)
{
        j->wait.wake = on_flushed;
        j->flushing = true;
        home_stage(j->v, &j->req->p.clock, STAGE_DISK);
        if (flush_wait(j->v, &j->wait) && j->req->op == BLK_FLUSH)
                atomic_fetch_add_explicit(&j->req->p.port->stats.flushes_joined, 1, memory_order_relaxed);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

/* It has read or written what it is about; a flush is a matter of writers, not of the chain as it is now. */
static void job_off_the_chain(struct job *j)
{
        if (--j->v->changing == 0)
                hold_home_idle(j->v);
}

static void change_over(struct job *j)
{
        int res = j->res;

        range_unlock(&j->v->ranges, &j->range);
        job_off_the_chain(j);
        if (res == 0 && j->req->op != BLK_WRITE)
                full_freed(j->v);
        if (res == 0 && j->req->flags & BLK_FUA)
                job_flush(j);
        else
                job_end(j, res);
}

static void on_twin_same(struct twin_op *op)
{
        change_over(container_of(op, struct job, twin));
}

/* What was changed in part only is dirty for a mirror, too. */
static void change_done(struct job *j, int res)
{
        struct twin *t = atomic_load_explicit(&j->v->twin, memory_order_relaxed); /* set and taken away here, at home */
        bool copy = res == 0 && t && twin_wants(t);

        dirty_record(j->v, j->req, copy ? t->dirty : NULL);
        j->res = res;
        if (copy)
                home_stage(j->v, &j->req->p.clock, STAGE_DISK);
        if (!copy || twin_copy(t, &j->twin, j->req, on_twin_same))
                change_over(j);
}

static void on_written(struct chain_write *wr, int res)
{
        change_done(container_of(wr, struct job, write), res);
}

static void on_packed(struct chain_pack *cp, int res)
{
        change_done(container_of(cp, struct job, pack), res);
}

static void on_zeroed(struct chain_zero *z, int res)
{
        change_done(container_of(z, struct job, zero), res);
}

static void change_start(struct job *j)
{
        struct blk_req *req = j->req;
        uint64_t size = j->v->top->size, len;
        unsigned flags;

        /* Past the end of the image, in the sector that rounds it up, there is nothing to keep bytes in. */
        len = req->off < size ? min_u64(req->len, size - req->off) : 0;
        if (!len) {
                change_done(j, 0);
                return;
        }
        if (req->op == BLK_WRITE && req->flags & BLK_PACK) {
                j->pack.clock = &req->p.clock;
                chain_pack_start(j->v, &j->pack, req->off, len, req->iov, req->niov, on_packed);
                return;
        }
        if (req->op == BLK_WRITE) {
                j->write.clock = &req->p.clock;
                chain_write_start(j->v->writer, &j->write, req->off, len, req->iov, req->niov, on_written);
                return;
        }
        j->zero.clock = &req->p.clock;
        flags = req->op == BLK_DISCARD ? ZERO_DISCARD : req->flags & BLK_UNMAP ? ZERO_MAY_UNMAP : 0;
        chain_zero_start(j->v->writer, &j->zero, req->off, len, flags, on_zeroed);
}

static void on_copied_before(struct cbw_wait *w)
{
        struct job *j = container_of(w, struct job, before);

        home_stage(j->v, &j->req->p.clock, STAGE_MAP);
        change_start(j);
}

/* The range is ours. */
static void change_ready(struct job *j)
{
        struct cbw *cbw = atomic_load_explicit(&j->v->cbw, memory_order_acquire);

        j->before.go = on_copied_before;
        if (!cbw || cbw_before(cbw, &j->before, j->req->off, j->req->len))
                change_start(j);
        else
                home_stage(j->v, &j->req->p.clock, STAGE_QUEUE);
}

static void on_range(struct waiter *w, int err)
{
        struct job *j = container_of(w, struct job, wait);

        (void)err;
        home_stage(j->v, &j->req->p.clock, STAGE_MAP);
        change_ready(j);
}

static void job_change(struct job *j)
{
        const struct blk_req *req = j->req;
        uint64_t unit = j->v->top->cluster_size;
        uint64_t from = round_down(req->off, unit), to = round_up(req->off + req->len, unit);

        j->wait.wake = on_range;
        if (range_lock(&j->v->ranges, &j->range, from, to - from, &j->wait))
                change_ready(j);
        else
                home_stage(j->v, &j->req->p.clock, STAGE_QUEUE);
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

static void on_read(struct chain_read *rd, int res)
{
        struct job *j = container_of(rd, struct job, read);

        job_off_the_chain(j);
        job_end(j, res);
}

static void job_start(struct job *j)
{
        struct blk_req *req = j->req;

        switch (req->op) {
        case BLK_READ:
                j->read.clock = &req->p.clock;
                j->v->changing++;
                chain_read_start(j->v, &j->read, req->off, req->len, req->iov, req->niov, on_read);
                return;
        case BLK_WRITE:
        case BLK_DISCARD:
        case BLK_WRITE_ZEROES:
                j->v->changing++;
                job_change(j);
                return;
        case BLK_FLUSH:
                job_flush(j);
                return;
        }
        job_end(j, -EINVAL);
}

void home_take(struct qtask *task)
{
        struct blk_req *req = container_of(task, struct blk_req, p.task);
        struct vol *v = req->p.port->v;
        struct job *j = calloc(1, sizeof(*j));

        if (!j) {
                req->p.res = -ENOMEM;
                req->p.task.run = request_back;
                qthread_post(req->p.port->thread, &req->p.task);
                return;
        }
        vol_use_files(v);
        vol_busy(v);
        j->v = v;
        j->req = req;
        list_init(&j->wait.link);
        job_start(j);
}
