/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home_write.c - a guest range from memory, plan by plan.
 *
 *   plan -> page missing: its batch, plan again
 *        -> in place: write, next plan
 *        -> allocate: read head and tail at once (copy-up), ONE write of head + data + tail, commit (or abort), next plan
 *
 * The caller holds the range_lock of the clusters, so between plan and commit nobody else plans for them; copy-up reads
 * see the old mapping, which cannot be written by anybody: clusters that need copy-up are not writable in place.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/home/work.h"
#include "blkq/iov.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

#define COPY_UP_MAX (8u << 20) /* bytes of a volume's buffers; one plan takes less than two clusters, 4 MiB */

static void write_step(struct chain_write *wr);

static void on_woken(struct waiter *w, int err)
{
        struct chain_write *wr = container_of(w, struct chain_write, wait);

        if (err < 0)
                wr->done(wr, err);
        else
                write_step(wr);
}

static void advance(struct chain_write *wr, int res)
{
        home_stage(wr->w->v, wr->clock, STAGE_MAP);
        wr->off += wr->plan.len;
        if (res < 0 || wr->off == wr->end)
                wr->done(wr, res);
        else
                write_step(wr);
}

static void on_in_place(struct move *mv, int res)
{
        advance(container_of(mv, struct chain_write, move), res);
}

/* --- new clusters ------------------------------------------------------------------------------------------------- */

static void allocate_end(struct chain_write *wr, int res)
{
        struct img_writer *w = wr->w;
        struct vol *v = w->v;

        if (wr->buf)
                bounce_put(v->copy_up, TAKE(wr->buf, NULL), wr->buf_len);
        free(TAKE(wr->merged, NULL));
        if (res < 0) {
                fmt_abort(w->img, &wr->plan);
        } else {
                fmt_commit(w->img, &wr->plan);
                writer_dirty(w);
        }
        grace_kick(v);
        housekeep_kick(v);
        advance(wr, res);
}

static void on_allocated(struct move *mv, int res)
{
        allocate_end(container_of(mv, struct chain_write, move), res);
}

static bool is_zero(const char *buf, size_t len)
{
        return len == 0 || (buf[0] == 0 && !memcmp(buf, buf + 1, len - 1));
}

/* In clusters that read as zeros already, sides that are all zeros stay unwritten (the file stays thin). */
static void trim_sides(struct chain_write *wr)
{
        struct fmt_plan *p = &wr->plan;

        if (!p->fresh)
                return;
        if (p->head && is_zero(wr->side_iov[0].iov_base, p->head))
                p->head = 0;
        if (p->tail && is_zero(wr->side_iov[1].iov_base, p->tail))
                p->tail = 0;
}

static void write_merged(struct chain_write *wr)
{
        struct fmt_plan *p = &wr->plan;
        uint64_t skip = p->off - wr->base, len = p->head + p->len + p->tail;
        struct extent e = { .kind = EXT_DATA, .len = len, .host = p->host - p->head,
                            .file = fmt_data_file(wr->w->img), .img = wr->w->img, .cipher = wr->w->img->cipher };
        struct iovec *iov;
        unsigned n = 0;

        wr->merged = iov = calloc(iov_count(wr->iov, skip, p->len) + 2, sizeof(*iov));
        if (!iov) {
                allocate_end(wr, -ENOMEM);
                return;
        }
        if (p->head)
                iov[n++] = wr->side_iov[0];
        n += iov_cut(wr->iov, skip, p->len, iov + n);
        if (p->tail)
                iov[n++] = wr->side_iov[1];
        wr->move.done = on_allocated;
        wr->move.clock = wr->clock;
        stats_count(&wr->w->v->copied_up, p->head + p->tail);
        home_stage(wr->w->v, wr->clock, STAGE_DISK);
        vol_writes_to(wr->w->v, e.img, e.host + e.len);
        move_start(&wr->w->v->mover, &wr->move, IO_WRITE, &e, 1, iov, n, 0, len);
}

/* The guest's data is written from where it is, without a list of our own. */
static void write_plain(struct chain_write *wr, void (*done)(struct move *mv, int res))
{
        struct fmt_plan *p = &wr->plan;
        struct extent e = { .kind = EXT_DATA, .off = p->off, .len = p->len, .host = p->host,
                            .file = fmt_data_file(wr->w->img), .img = wr->w->img, .cipher = wr->w->img->cipher };

        wr->move.done = done;
        wr->move.clock = wr->clock;
        home_stage(wr->w->v, wr->clock, STAGE_DISK);
        vol_writes_to(wr->w->v, e.img, e.host + e.len);
        move_start(&wr->w->v->mover, &wr->move, IO_WRITE, &e, 1, wr->iov, wr->niov, wr->base, wr->len);
}

static void copy_up_drop(struct chain_write *wr, int res)
{
        if (res < 0 && !wr->read_err)
                wr->read_err = res;
        if (--wr->nreads)
                return;
        if (wr->read_err) {
                allocate_end(wr, wr->read_err);
                return;
        }
        trim_sides(wr);
        if (wr->plan.head || wr->plan.tail)
                write_merged(wr);
        else
                write_plain(wr, on_allocated);
}

static void on_head_read(struct chain_read *rd, int res)
{
        copy_up_drop(container_of(rd, struct chain_write, side[0]), res);
}

static void on_tail_read(struct chain_read *rd, int res)
{
        copy_up_drop(container_of(rd, struct chain_write, side[1]), res);
}

/* The buffer is there: read both sides into it at once. */
static void on_buffer(struct bounce_wait *wait, void *buf)
{
        struct chain_write *wr = container_of(wait, struct chain_write, buffer);
        struct img_writer *w = wr->w;
        const struct fmt_plan *p = &wr->plan;

        if (!buf) {
                allocate_end(wr, -ENOMEM);
                return;
        }
        wr->buf = buf;
        wr->nreads = 1;
        home_stage(wr->w->v, wr->clock, STAGE_DISK);
        wr->read_err = 0;
        wr->side_iov[0] = (struct iovec){ buf, p->head };
        wr->side_iov[1] = (struct iovec){ (char *)buf + p->head, p->tail };
        if (p->head) {
                wr->nreads++;
                chain_read_from(w->v, w->img, &wr->side[0], p->off - p->head, p->head, &wr->side_iov[0], 1, on_head_read);
        }
        if (p->tail) {
                wr->nreads++;
                chain_read_from(w->v, w->img, &wr->side[1], p->off + p->len, p->tail, &wr->side_iov[1], 1, on_tail_read);
        }
        copy_up_drop(wr, 0);
}

static void copy_up(struct chain_write *wr)
{
        struct vol *v = wr->w->v;
        void *buf = NULL;
        int r = v->copy_up ? 0 : bounce_new(COPY_UP_MAX, &v->copy_up);

        wr->buf_len = wr->plan.head + wr->plan.tail;
        if (r == 0)
                r = bounce_get(v->copy_up, &wr->buffer, wr->buf_len, on_buffer, &buf);
        if (r != -EAGAIN)
                on_buffer(&wr->buffer, r == 0 ? buf : NULL);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static void write_planned(struct chain_write *wr)
{
        switch (wr->plan.kind) {
        case PLAN_IN_PLACE:
                write_plain(wr, on_in_place);
                return;
        case PLAN_ALLOCATE:
                if (wr->plan.head || wr->plan.tail)
                        copy_up(wr);
                else
                        write_plain(wr, on_allocated);
                return;
        case PLAN_NOTHING:
                advance(wr, 0);
                return;
        case PLAN_PACKED:
        case PLAN_TABLES:
        case PLAN_PUNCH:
        case PLAN_WRITE_ZEROES:
                break;
        }
        wr->done(wr, -EIO); /* no driver answers that to a write */
}

static void write_step(struct chain_write *wr)
{
        struct img_writer *w = wr->w;
        int r = writer_may_write(w);

        if (r == 0) {
                wr->plan = (struct fmt_plan){ 0 };
                r = fmt_plan_write(w->img, wr->off, wr->end - wr->off, &wr->plan);
        }
        if (r == -EAGAIN)
                batch_want(w->v, w->img, &wr->wait);
        else if (r < 0)
                wr->done(wr, r);
        else {
                wr->wait.dry = 0; /* it goes on: a long write may need many flushes */
                write_planned(wr);
        }
}

void chain_write_start(struct img_writer *w, struct chain_write *wr, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov, void (*done)(struct chain_write *wr, int res))
{
        assert(len);
        *wr = (struct chain_write){
                .w = w, .off = off, .end = off + len, .base = off, .len = len, .iov = iov, .niov = niov, .done = done,
                .clock = wr->clock,
                .wait.wake = on_woken,
        };
        list_init(&wr->wait.link);
        write_step(wr);
}
