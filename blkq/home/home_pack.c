/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home_pack.c - one guest cluster, compressed.
 *
 *   packed on a worker -> smaller: plan (page missing: its batch, plan again), write the packed bytes, commit or abort
 *                      -> not smaller: the road of a plain write
 *
 * Places are planned when a cluster is packed, so they follow each other in the file in the order in which workers
 * finish. How many clusters are under way is bounded by who asks: each request holds two clusters of memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "blkq/home/work.h"
#include "blkq/iov.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

struct pack {
        struct chain_pack *cp;
        struct vol *v;
        uint64_t off, len;
        const struct iovec *iov;
        unsigned niov;
        void *flat, *out;   /* flat: a copy, when the request is not one piece of a whole cluster */
        const void *in;
        int res;            /* of fmt_pack() */
        struct iovec packed;
        struct fmt_plan plan;
        struct move move;
        struct waiter wait;
        struct work work;
        struct qtask back;
};

static void pack_free(struct pack *p)
{
        if (!p)
                return;
        free(p->flat);
        free(p->out);
        free(p);
}
static void pack_freep(struct pack **p)
{
        pack_free(*p);
}

static void pack_end(struct pack *p, int res)
{
        struct chain_pack *cp = p->cp;

        pack_free(p);
        cp->done(cp, res);
}

/* --- placing what is packed --------------------------------------------------------------------------------------- */

static void on_moved(struct move *mv, int res)
{
        struct pack *p = container_of(mv, struct pack, move);

        home_stage(p->v, p->cp->clock, STAGE_MAP);
        if (res < 0) {
                fmt_abort(p->v->top, &p->plan);
        } else {
                fmt_commit(p->v->top, &p->plan);
                writer_dirty(p->v->writer);
        }
        grace_kick(p->v);
        housekeep_kick(p->v);
        pack_end(p, res);
}

static void place(struct pack *p)
{
        struct vol *v = p->v;
        struct extent e = { .kind = EXT_DATA, .len = p->packed.iov_len, .file = v->top->file, .img = v->top };
        int r = vol_may_write(v);

        if (r == 0)
                r = fmt_plan_packed(v->top, p->off, (uint32_t)p->packed.iov_len, &p->plan);
        if (r == -EAGAIN) {
                batch_want(v, v->top, &p->wait);
        } else if (r < 0) {
                pack_end(p, r);
        } else {
                e.host = p->plan.host;
                home_stage(v, p->cp->clock, STAGE_DISK);
                p->move.done = on_moved;
                p->move.clock = p->cp->clock;
                vol_writes_to(v, e.img, e.host + e.len);
                move_start(&v->mover, &p->move, IO_WRITE, &e, 1, &p->packed, 1, 0, e.len);
        }
}

static void on_woken(struct waiter *w, int err)
{
        struct pack *p = container_of(w, struct pack, wait);

        if (err < 0)
                pack_end(p, err);
        else
                place(p);
}

static void on_written_plain(struct chain_write *wr, int res)
{
        struct chain_pack *cp = container_of(wr, struct chain_pack, write);

        cp->done(cp, res);
}

static void on_packed(struct qtask *task)
{
        AUTO(pack_freep) struct pack *p = container_of(task, struct pack, back);

        if (p->res > 0) {
                p->packed = (struct iovec){ p->out, (size_t)p->res };
                place(TAKE(p, NULL));
        } else if (p->res == 0) {
                p->cp->write.clock = p->cp->clock;
                chain_write_start(p->v->writer, &p->cp->write, p->off, p->len, p->iov, p->niov, on_written_plain);
        } else {
                p->cp->done(p->cp, p->res);
        }
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

static void pack_on_worker(struct work *work)
{
        struct pack *p = container_of(work, struct pack, work);

        p->res = fmt_pack(p->v->top, p->in, p->out);
        qthread_post(p->v->home, &p->back);
}

static struct pack *pack_new(struct vol *v, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov)
{
        AUTO(pack_freep) struct pack *p = calloc(1, sizeof(*p));
        uint32_t cluster = v->top->cluster_size;

        if (!p)
                return NULL;
        p->v = v;
        p->off = off;
        p->len = len;
        p->iov = iov;
        p->niov = niov;
        p->in = iov->iov_base;
        p->out = malloc(cluster);
        if (!p->out)
                return NULL;
        if (niov > 1 || len < cluster) {
                p->in = p->flat = calloc(1, cluster);
                if (!p->flat)
                        return NULL;
                iov_copy(IOV_GATHER, iov, 0, p->flat, len);
        }
        p->work.run = pack_on_worker;
        p->back.run = on_packed;
        p->wait.wake = on_woken;
        list_init(&p->wait.link);
        return TAKE(p, NULL);
}

static bool may_pack(const struct vol *v, uint64_t off, uint64_t len)
{
        uint64_t cluster = v->top->cluster_size;

        return fmt_can_pack(v->top) && !v->top->file->direct && is_aligned(off, cluster) &&
               len == min_u64(cluster, v->top->size - off);
}

void chain_pack_start(struct vol *v, struct chain_pack *cp, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_pack *cp, int res))
{
        struct pack *p = NULL;
        int r = may_pack(v, off, len) ? 0 : -EINVAL;

        cp->done = done;
        if (r == 0) {
                p = pack_new(v, off, len, iov, niov);
                r = p ? 0 : -ENOMEM;
        }
        if (r == 0) {
                p->cp = cp;
                r = workers_run_for(v->owner, &p->work);
        }
        if (r < 0) {
                pack_free(p);
                done(cp, r);
        }
}
