/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   change done -> narrowed -> nothing left of it ---------------------------------------------------------> guest hears
 *                           -> the loop, or another change, copies there: waits -> runs: clean, read, written -> guest hears
 *
 * Invariants:
 *   - A change that runs has no piece of the loop, and no other change, under way in its bytes: the older ones could come last. A piece that
 *     begins while it runs reads and writes the same bytes as it does, for nobody changes them until it has ended.
 *   - A bit is cleared before the bytes are read, as the loop does; and only where all bytes of a unit are copied.
 *   - A unit that is dirty is the loop's: a change that touches only a part of it leaves it at that. So nobody keeps the loop from it,
 *     and what is clean stays clean: the loop comes to an end, whatever guests do.
 */
#include "blkq/jobs/twin.h"

#include "blkq/bitmaps/dirty_bitmap.h"
#include "common/cleanup.h"
#include "common/range.h"

#define BUF_MAX (256u << 10) /* bytes a change */
#define POOL (4u << 20)

static void look_again(struct twin *t);

static bool is_dirty(const struct twin *t, uint64_t unit)
{
        uint64_t off, len;

        return dirty_bitmap_next(t->dirty, unit, min_u64(unit + t->unit, t->size), &off, &len);
}

/* What of it is the loop's is not ours. */
static void narrow(const struct twin *t, struct twin_op *op)
{
        uint64_t first = round_down(op->off, t->unit), last = round_down(op->end, t->unit);

        if (last != op->end && op->end != t->size && is_dirty(t, last))
                op->end = last;
        if (first != op->off && first < op->end && is_dirty(t, first))
                op->off = first + t->unit;
}

static bool another_is_in_the_way(const struct twin *t, const struct twin_op *op)
{
        list_for_each(n, &t->running) {
                const struct twin_op *o = list_entry(n, struct twin_op, link);

                if (range_overlaps(o->off, o->end - o->off, op->off, op->end - op->off))
                        return true;
        }
        return t->in_the_way(t, op->off, op->end - op->off);
}

static void make_clean(struct twin *t, const struct twin_op *op)
{
        uint64_t from = round_up(op->off, t->unit), to = op->end == t->size ? op->end : round_down(op->end, t->unit);

        if (from < to)
                dirty_bitmap_clear(t->dirty, from, to - from);
}

/* --- copying --------------------------------------------------------------------------------------------------------- */

static void op_end(struct twin_op *op, int res, bool read)
{
        struct twin *t = op->t;
        uint64_t len = op->end - op->off;
        struct waiter *disarmed;

        if (op->buf)
                bounce_put(t->bufs, TAKE(op->buf, NULL), op->buf_len);
        list_del(&op->link);
        if (res < 0)
                dirty_bitmap_set(t->dirty, op->off, len);
        op->done(op); /* the guest first: an error is the mirror's */
        if (res < 0)
                t->failed(t, res, read);
        else
                t->copied(t, len);
        look_again(t);
        disarmed = list_empty(&t->running) ? TAKE(t->disarmed, NULL) : NULL;
        if (disarmed)
                disarmed->wake(disarmed, 0);
}

static void on_copied(struct copy_range *r, int res, bool read)
{
        op_end(container_of(r, struct twin_op, range), res, read);
}

static void on_buffer(struct bounce_wait *w, void *buf)
{
        struct twin_op *op = container_of(w, struct twin_op, wait);
        struct twin *t = op->t;

        op->buf = buf;
        if (!buf) {
                op_end(op, -ENOMEM, true);
                return;
        }
        op->range = (struct copy_range){
                .v = t->v, .to = t->to, .buf = buf, .piece = op->buf_len, .off = op->off, .end = op->end, .done = on_copied,
        };
        copy_range_start(&op->range);
}

static void start(struct twin *t, struct twin_op *op)
{
        void *buf = NULL;
        int r;

        list_add_tail(&t->running, &op->link);
        make_clean(t, op);
        op->buf = NULL;
        op->buf_len = min_u64(round_up(op->end - op->off, BOUNCE_ALIGN), BUF_MAX);
        r = bounce_get(t->bufs, &op->wait, op->buf_len, on_buffer, &buf);
        if (r != -EAGAIN)
                on_buffer(&op->wait, buf);
}

/* --- waiting --------------------------------------------------------------------------------------------------------- */

enum outcome { GOES_ON, WAITS, RUNS };

static enum outcome look_at(struct twin *t, struct twin_op *op)
{
        if (!twin_wants(t)) {
                dirty_bitmap_set(t->dirty, op->off, op->end - op->off);
                return GOES_ON;
        }
        narrow(t, op);
        if (op->off >= op->end)
                return GOES_ON;
        return another_is_in_the_way(t, op) ? WAITS : RUNS;
}

/* Who goes on may come back with the next change: a list of its own for this round. */
static void look_again(struct twin *t)
{
        struct list mine, *n;

        list_init(&mine);
        list_splice_tail(&mine, &t->waiting);
        while ((n = list_pop(&mine)) != NULL) {
                struct twin_op *op = list_entry(n, struct twin_op, link);
                enum outcome o = look_at(t, op);

                if (o == GOES_ON)
                        op->done(op);
                else if (o == WAITS)
                        list_add_tail(&t->waiting, &op->link);
                else
                        start(t, op);
        }
}

void twin_look_again(struct twin *t)
{
        look_again(t);
}

bool twin_wants(const struct twin *t)
{
        return t->armed && t->wanted(t);
}

bool twin_copy(struct twin *t, struct twin_op *op, const struct blk_req *req, void (*done)(struct twin_op *op))
{
        enum outcome o;

        op->t = t;
        op->off = req->off;
        op->end = req->off + req->len;
        op->done = done;
        list_init(&op->link);
        o = look_at(t, op);
        if (o == WAITS)
                list_add_tail(&t->waiting, &op->link);
        else if (o == RUNS)
                start(t, op);
        return o == GOES_ON;
}

/* --- beginning and end ----------------------------------------------------------------------------------------------- */

/* Writes that a port has under way on the common road set their bits themselves when they are done, as before. */
void twin_arm(struct twin *t)
{
        t->armed = true;
        atomic_store_explicit(&t->v->twin, t, memory_order_release);
}

/* Ports look at the pointer, never behind it. */
bool twin_disarm(struct twin *t, struct waiter *w)
{
        if (!t->armed)
                return true;
        t->armed = false;
        atomic_store_explicit(&t->v->twin, NULL, memory_order_release);
        look_again(t);
        if (list_empty(&t->running))
                return true;
        t->disarmed = w;
        return false;
}

int twin_init(struct twin *t)
{
        list_init(&t->running);
        list_init(&t->waiting);
        return bounce_new(POOL, &t->bufs);
}

void twin_finish(struct twin *t)
{
        bounce_free(t->bufs);
}
