/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c - the common road: a request that is done where it is, on its port's own thread and engine.
 *
 *   submit -> look up -> everything is mapped (and ours to overwrite): move -> finish
 *                 +----> anything else: to home by message ------------> back -> finish
 *
 * The lookup and the start of the move happen in one go, in which the thread reads no message: that is what grace.c
 * builds on. A write that is under way in a cluster that home unlinks meanwhile lands in a cluster that is dying, not
 * in somebody else's; it ran at the same time as the discard, so the guest cannot tell.
 */
#include <errno.h>
#include <urcu.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/home/work.h"
#include "blkq/jobs/cbw.h"
#include "blkq/port_impl.h"
#include "blkq/throttle/port_throttle.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/probes.h"
#include "common/range.h"

/* The caller may free @req in done(), or submit again. */
void request_finish(struct blk_req *req, int res)
{
        struct vol_port *p = req->p.port;

        if (!req->p.home)
                dirty_record(p->v, req, NULL);
        if (res < 0 && res != -EINVAL)
                vol_tell_error(p->v, req->op, res);
        account_end(p, req, res);
        p->in_flight--;
        if (p->held)
                hold_port_idle(p);
        req->done(req, res);
}

static void to_home(struct blk_req *req)
{
        req->p.home = true;
        PROBE1(request__home, req);
        req->p.task.run = home_take;
        qthread_post(req->p.port->v->home, &req->p.task);
}

void request_back(struct qtask *task)
{
        struct blk_req *req = container_of(task, struct blk_req, p.task);

        request_finish(req, req->p.res);
}

/* Home gives it back: not started. */
void request_again(struct qtask *task)
{
        struct blk_req *req = container_of(task, struct blk_req, p.task);
        struct vol_port *p = req->p.port;

        p->in_flight--;
        req->p.home = false;
        req_stage(req, STAGE_QUEUE);
        if (!p->held) {
                request_start(p, req);
                return;
        }
        hold_park(p, req);
        hold_port_idle(p);
}

/* A hole of the file has no space yet: home knows how to wait for it. */
static void on_moved(struct move *mv, int res)
{
        struct blk_req *req = container_of(mv, struct blk_req, p.move);

        if (full_is(res) && req->p.port->v->full.hold && !req->p.port->impatient)
                to_home(req);
        else
                request_finish(req, res);
}

static bool is_ours(const struct extent *e, bool write)
{
        if (e->kind == EXT_DATA || e->kind == EXT_NOWHERE)
                return !write || e->writable;
        return e->kind == EXT_ZERO && !write;
}

/* Appends @e to @ext[0..n), or makes the last one longer; returns the new count. */
static unsigned append(struct extent *ext, unsigned n, const struct extent *e)
{
        struct extent *last = &ext[n ? n - 1 : 0];

        if (n && last->kind == e->kind && last->file == e->file && last->img == e->img &&
            (e->kind != EXT_DATA || last->host + last->len == e->host)) {
                last->len += e->len;
                return n;
        }
        if (e != &ext[n])
                ext[n] = *e;
        return n + 1;
}

/* All of the request in at most MOVE_EXTENTS extents that this thread may use. Returns how many, or 0: ask home. */
static unsigned look_up(struct vol_port *p, const struct blk_req *req, struct extent *ext)
{
        struct vol *v = p->v;
        uint64_t at = req->off, end = req->off + req->len;
        struct fmt_image *missing;
        unsigned n = 0;

        stats_count(&p->stats.lookups, 1);
        while (at < end) {
                int got = n < MOVE_EXTENTS ? chain_map(v->top, at, end - at, ext + n, MOVE_EXTENTS - n, &missing) : 0;
                unsigned from = n;

                if (got == -EAGAIN)
                        stats_count(&p->stats.table_misses, 1);
                if (got <= 0)
                        return 0;
                for (int i = 0; i < got; i++) {
                        if (!is_ours(&ext[from + i], req->op == BLK_WRITE))
                                return 0;
                        at += ext[from + i].len;
                        n = append(ext, n, &ext[from + i]);
                }
        }
        return n;
}

/* A backup wants to copy first what this write changes, or a mirror afterwards. */
static bool must_be_copied(struct vol *v, const struct blk_req *req)
{
        const struct cbw *cbw = atomic_load_explicit(&v->cbw, memory_order_acquire);

        if (req->op != BLK_WRITE)
                return false;
        return (cbw && !cbw_is_copied(cbw, req->off, req->len)) || atomic_load_explicit(&v->twin, memory_order_acquire) != NULL;
}

static void try_here(struct vol_port *p, struct blk_req *req)
{
        struct extent ext[MOVE_EXTENTS];
        unsigned n = 0;

        if (range_fits(req->off, req->len, p->v->top->size)) { /* not in the sector that rounds the size up */
                rcu_read_lock();
                n = req->flags & BLK_PACK || must_be_copied(p->v, req) ? 0 : look_up(p, req, ext);
                rcu_read_unlock();
        }
        if (!n) {
                to_home(req);
                return;
        }
        PROBE2(request__mapped, req, n);
        for (unsigned i = 0; req->op == BLK_WRITE && i < n; i++)
                vol_writes_to(p->v, ext[i].img, ext[i].host + ext[i].len);
        account_moves(p, req);
        req->p.move.done = on_moved;
        req->p.move.clock = &req->p.clock;
        move_start(&p->mover, &req->p.move, req->op == BLK_WRITE ? IO_WRITE : IO_READ, ext, n, req->iov, req->niov,
                   req->off, req->len);
}

void request_start(struct vol_port *p, struct blk_req *req)
{
        int r = p->v->top ? 0 : -EIO;

        p->in_flight++;
        req_stage(req, STAGE_MAP);
        if (r == 0 && req->op != BLK_READ && req->op != BLK_FLUSH)
                r = vol_may_write(p->v);
        if (r == 0 && req->op != BLK_FLUSH && !range_fits(req->off, req->len, p->v->size))
                r = -EINVAL;
        if (r < 0 || (req->op != BLK_FLUSH && req->len == 0))
                request_finish(req, r);
        else if (req->op == BLK_READ || (req->op == BLK_WRITE && !(req->flags & BLK_FUA)))
                try_here(p, req);
        else
                to_home(req);
}

/* Not while the volume is held, nor before its turn comes under limits. */
void port_enter(struct vol_port *p, struct blk_req *req)
{
        if (p->held)
                hold_park(p, req);
        else if (!p->throttle || !port_throttle_waits(p, req))
                request_start(p, req);
}

void port_submit(struct vol_port *p, struct blk_req *req)
{
        req->p.port = p;
        req->p.home = false;
        account_begin(p, req);
        PROBE5(request__start, req, vol_label(p->v), req->op, req->off, req->len);
        port_enter(p, req);
}
