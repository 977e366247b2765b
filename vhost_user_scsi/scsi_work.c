/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A command becomes block requests, one after the other; queue thread of its ring:
 *
 *   READ, WRITE, FLUSH    one, with the guest's own memory (a READ with FUA: a flush before it)
 *   RANGES                one a range
 *   VERIFY, SCSI_SAME     one a piece of scratch memory: what is read is thrown away, what is written is the same block
 *                         over and over. One command a seat has scratch memory; others wait in line
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "common/fault.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_request.h"

#define SCRATCH_BYTES (256u << 10)
#define SCRATCH_ALIGN 4096u

static void end(struct scsi_request *q);
static void go(struct scsi_request *q);

/* --- ports ------------------------------------------------------------------------------------------------------- */

static int sit_down(struct scsi_request *q)
{
        struct scsi_seat *s = q->seat;
        int r;

        if (s->port)
                return 0;
        rcu_read_lock();
        r = port_attach(rcu_dereference(q->unit->vol), q->rq.ring->thread, &s->port);
        rcu_read_unlock();
        if (r == 0)
                scsi_seat_hurry(scsi_ring_of(q)->desk, s);
        return r;
}

/* --- scratch memory ---------------------------------------------------------------------------------------------- */

static bool needs_scratch(const struct scsi_request *q)
{
        return q->verdict == SCSI_VERIFY || (q->verdict == SCSI_RANGES && q->cmd.space == SCSI_SAME);
}

static int scratch_get(struct scsi_request *q)
{
        uint32_t block = q->unit->lu.block_size;

        q->scratch = FAULT("scsi.scratch") ? NULL : aligned_alloc(SCRATCH_ALIGN, SCRATCH_BYTES);
        if (!q->scratch)
                return -ENOMEM;
        for (uint32_t at = 0; q->verdict == SCSI_RANGES && at < SCRATCH_BYTES; at += block)
                memcpy((char *)q->scratch + at, q->cmd.data, block);
        return 0;
}

static void begin(struct qtask *t)
{
        struct scsi_request *q = container_of(t, struct scsi_request, turn);

        q->res = scratch_get(q);
        if (q->res < 0)
                end(q);
        else
                go(q);
}

/* By a message: many that wait, and end at once, would pile up on the stack. */
static void scratch_put(struct scsi_request *q)
{
        struct list *next = list_pop(&q->seat->scratch_waits);

        free(q->scratch);
        q->scratch = NULL;
        q->seat->scratch_busy = next;
        if (next)
                qthread_post(q->rq.ring->thread, &list_entry(next, struct scsi_request, scratch_link)->turn);
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

static void submit(struct scsi_request *q, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
        q->req.op = op;
        q->req.flags = flags;
        q->req.off = off;
        q->req.len = len;
        port_submit(q->seat->port, &q->req);
}

static void set_iov(struct scsi_request *q, const struct iovec *iov, unsigned n)
{
        q->req.iov = iov;
        q->req.niov = n;
}

/* The guest's buffer may be longer than the transfer. */
static unsigned trim(struct iovec *iov, uint64_t len)
{
        unsigned n = 0;

        while (len) {
                iov[n].iov_len = (size_t)min_u64(iov[n].iov_len, len);
                len -= iov[n++].iov_len;
        }
        return n;
}

static void transfer(struct scsi_request *q)
{
        const struct scsi_cmd *c = &q->cmd;
        bool write = q->verdict == SCSI_WRITE;
        struct iovec *iov = write ? q->out : q->in;

        if (!write && c->fua && !q->flushed) {
                q->flushed = true;
                set_iov(q, NULL, 0);
                submit(q, BLK_FLUSH, 0, 0, 0);
                return;
        }
        set_iov(q, iov, trim(iov, c->len));
        submit(q, write ? BLK_WRITE : BLK_READ, write && c->fua ? BLK_FUA : 0, c->off, c->len);
}

static void piece(struct scsi_request *q, enum blk_op op, unsigned flags, uint64_t off, uint64_t len)
{
        uint64_t now = min_u64(len - q->done, SCRATCH_BYTES);

        off += q->done;
        q->done += now;
        q->scratch_iov = (struct iovec){ q->scratch, (size_t)now };
        set_iov(q, &q->scratch_iov, 1);
        submit(q, op, flags, off, now);
}

static void range(struct scsi_request *q)
{
        const struct scsi_cmd *c = &q->cmd;
        const struct scsi_range *g = &c->range[q->at];
        unsigned flags = c->fua ? BLK_FUA : 0;

        if (c->space == SCSI_SAME) {
                piece(q, BLK_WRITE, flags, g->off, g->len);
                return;
        }
        q->done = g->len;
        set_iov(q, NULL, 0);
        if (c->space == SCSI_DISCARD)
                submit(q, BLK_DISCARD, flags, g->off, g->len);
        else
                submit(q, BLK_WRITE_ZEROES, flags | (c->space == SCSI_ZERO_UNMAP ? BLK_UNMAP : 0u), g->off, g->len);
}

static void step(struct scsi_request *q)
{
        switch (q->verdict) {
        case SCSI_READ:
        case SCSI_WRITE:
                transfer(q);
                break;
        case SCSI_VERIFY:
                piece(q, BLK_READ, 0, q->cmd.off, q->cmd.len);
                break;
        case SCSI_RANGES:
                range(q);
                break;
        default: /* FLUSH */
                set_iov(q, NULL, 0);
                submit(q, BLK_FLUSH, 0, 0, 0);
        }
}

/* What ended was not the last of it. */
static bool goes_on(struct scsi_request *q)
{
        const struct scsi_cmd *c = &q->cmd;

        switch (q->verdict) {
        case SCSI_READ:
                return q->req.op == BLK_FLUSH;
        case SCSI_VERIFY:
                return q->done < c->len;
        case SCSI_RANGES:
                if (q->done < c->range[q->at].len)
                        return true;
                q->done = 0;
                return ++q->at < c->nranges;
        default:
                return false;
        }
}

static void end(struct scsi_request *q)
{
        if (q->res < 0)
                scsi_failed(&q->cmd, q->res);
        else
                scsi_succeeded(&q->cmd);
        if (needs_scratch(q))
                scratch_put(q);
        scsi_request_worked(q);
}

/* Requests that end at once are a loop, not a pile: a SCSI_SAME may be thousands. */
static void go(struct scsi_request *q)
{
        do {
                q->in_step = true;
                q->ended = false;
                step(q);
                q->in_step = false;
        } while (q->ended && q->res == 0 && goes_on(q));
        if (q->ended)
                end(q);
}

void scsi_work_done(struct blk_req *req, int res)
{
        struct scsi_request *q = container_of(req, struct scsi_request, req);

        q->res = res;
        q->ended = true;
        if (q->in_step)
                return;
        if (res == 0 && goes_on(q))
                go(q);
        else
                end(q);
}

void scsi_work(struct scsi_request *q)
{
        q->flushed = false;
        q->at = 0;
        q->done = 0;
        q->res = sit_down(q);
        if (q->res < 0) {
                scsi_failed(&q->cmd, q->res);
                scsi_request_worked(q);
        } else if (!needs_scratch(q)) {
                go(q);
        } else if (q->seat->scratch_busy) {
                q->turn.run = begin;
                list_add_tail(&q->seat->scratch_waits, &q->scratch_link);
        } else {
                q->seat->scratch_busy = true;
                begin(&q->turn);
        }
}
