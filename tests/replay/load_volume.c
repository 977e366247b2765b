/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load_volume.c - many requests at once, through blkq as a guest's: flushes that share a sync, writes that run while tables
 * are written, FUA. The engine completes in an order that follows from the seed.
 */
#include <stdlib.h>
#include <string.h>

#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/range.h"
#include "world.h"

#define DEPTH 8u

struct slot {
        struct blk_req req;
        struct volume *v;
        struct iovec iov;
        unsigned char *buf;
        uint32_t first, n, version;
        size_t flush;
        bool busy, looks; /* looks: reads what a discard has left */
};
struct volume {
        struct world *w;
        struct qthread *home;
        struct vol *vol;
        struct vol_port *port;
        struct slot slot[DEPTH];
        unsigned busy;
        bool progress;
};

/* --- answers --------------------------------------------------------------------------------------------------------------------- */

static void on_done(struct blk_req *req, int res);

static void answer(struct slot *s, bool durable)
{
        struct world *w = s->v->w;
        uint64_t now = world_tick(w);

        for (uint32_t i = 0; i < s->n; i++)
                promise_answer(&w->promise, s->first + i, s->version, durable, now);
}

/* Nobody else has these sectors before it is known what they hold. */
static void look(struct slot *s)
{
        s->looks = true;
        s->iov = (struct iovec){ s->buf, (size_t)s->n * SECTOR };
        s->req = (struct blk_req){ .op = BLK_READ, .off = (uint64_t)s->first * SECTOR, .len = (uint64_t)s->n * SECTOR,
                                   .iov = &s->iov, .niov = 1, .done = on_done };
        port_submit(s->v->port, &s->req);
}

static void on_looked(struct slot *s)
{
        struct world *w = s->v->w;
        uint64_t now = world_tick(w);

        for (uint32_t i = 0; i < s->n; i++) {
                uint32_t version = stamp_version(s->buf + (size_t)i * SECTOR, s->first + i);

                if (version && version != promise_now(&w->promise, s->first + i))
                        fail(w, "sector %u holds version %u after it was discarded", s->first + i, version);
                promise_answer(&w->promise, s->first + i, version, false, now);
        }
}

/* Its sectors were nobody else's meanwhile; their clusters may have come, gone and changed hands. */
static void on_read(const struct slot *s)
{
        struct world *w = s->v->w;

        for (uint32_t i = 0; i < s->n; i++) {
                uint32_t got = stamp_version(s->buf + (size_t)i * SECTOR, s->first + i);

                if (got != promise_now(&w->promise, s->first + i))
                        fail(w, "sector %u reads as version %u, not %u", s->first + i, got, promise_now(&w->promise, s->first + i));
        }
}

static void on_done(struct blk_req *req, int res)
{
        struct slot *s = container_of(req, struct slot, req);
        struct world *w = s->v->w;

        must(w, res, "request");
        if (req->op == BLK_DISCARD) {
                look(s);
                return;
        }
        if (s->looks)
                on_looked(s);
        else if (req->op == BLK_READ)
                on_read(s);
        else if (req->op == BLK_FLUSH)
                promise_answer_flush(&w->promise, s->flush, world_tick(w));
        else
                answer(s, req->flags & BLK_FUA);
        free(TAKE(s->buf, NULL));
        s->busy = s->looks = false;
        s->v->busy--;
        s->v->progress = true;
}

/* --- questions ------------------------------------------------------------------------------------------------------------------- */

/* No two requests share a sector; clusters they may share. */
static bool is_taken(const struct volume *v, uint32_t first, uint32_t n)
{
        for (unsigned i = 0; i < DEPTH; i++)
                if (v->slot[i].busy && v->slot[i].n && range_overlaps(first, n, v->slot[i].first, v->slot[i].n))
                        return true;
        return false;
}

static bool choose_range(struct slot *s, bool packed)
{
        struct world *w = s->v->w;
        uint32_t per = w->kind->cluster / SECTOR, size = (uint32_t)promise_size(&w->promise);

        for (unsigned tries = 0; tries < 20; tries++) {
                uint32_t first = (uint32_t)rnd_below(&w->rnd, size);
                uint32_t n = 1 + (uint32_t)rnd_below(&w->rnd, rnd_below(&w->rnd, 3) ? 2 * per : 4);

                if (packed) {
                        first = first / per * per;
                        n = per;
                }
                n = (uint32_t)min_u64(n, size - first);
                if (is_taken(s->v, first, n))
                        continue;
                s->first = first;
                s->n = n;
                return true;
        }
        return false;
}

static void ask(struct slot *s, enum blk_op op, unsigned flags)
{
        struct world *w = s->v->w;
        uint64_t now = world_tick(w);

        s->version = op == BLK_WRITE ? w->promise.next_version++ : 0;
        s->buf = calloc(s->n, SECTOR);
        s->iov = (struct iovec){ s->buf, (size_t)s->n * SECTOR };
        for (uint32_t i = 0; i < s->n; i++) {
                stamp_put(s->buf + (size_t)i * SECTOR, s->first + i, s->version);
                promise_ask(&w->promise, s->first + i, s->version, now);
        }
        s->req = (struct blk_req){ .op = op, .flags = flags, .off = (uint64_t)s->first * SECTOR, .len = (uint64_t)s->n * SECTOR,
                                   .iov = &s->iov, .niov = op == BLK_WRITE, .done = on_done };
}

static void ask_read(struct slot *s)
{
        s->buf = malloc((size_t)s->n * SECTOR);
        s->iov = (struct iovec){ s->buf, (size_t)s->n * SECTOR };
        s->req = (struct blk_req){ .op = BLK_READ, .off = (uint64_t)s->first * SECTOR, .len = (uint64_t)s->n * SECTOR,
                                   .iov = &s->iov, .niov = 1, .done = on_done };
}

static void ask_flush(struct slot *s)
{
        s->n = 0;
        s->flush = promise_ask_flush(&s->v->w->promise, world_tick(s->v->w));
        s->req = (struct blk_req){ .op = BLK_FLUSH, .done = on_done };
}

static void submit_one(struct slot *s)
{
        struct world *w = s->v->w;
        uint64_t what = rnd_below(&w->rnd, 24);
        bool packed = w->kind->packs && rnd_below(&w->rnd, 4) == 0;

        if (what < 3) {
                ask_flush(s);
        } else {
                if (!choose_range(s, packed))
                        return;
                if (packed || what < 13)
                        ask(s, BLK_WRITE, packed ? BLK_PACK : what == 3 ? BLK_FUA : 0);
                else if (what >= 20)
                        ask_read(s);
                else if (what < 16)
                        ask(s, BLK_WRITE_ZEROES, rnd_below(&w->rnd, 2) ? BLK_UNMAP : 0);
                else
                        ask(s, BLK_DISCARD, 0);
        }
        s->busy = true;
        s->v->busy++;
        port_submit(s->v->port, &s->req);
}

/* --- a run ------------------------------------------------------------------------------------------------------------------------ */

static void run_requests(struct volume *v, unsigned ops)
{
        struct world *w = v->w;

        while (ops || v->busy) {
                for (unsigned i = 0; i < DEPTH && ops; i++)
                        if (!v->slot[i].busy && rnd_below(&w->rnd, 2)) {
                                submit_one(&v->slot[i]);
                                ops--;
                        }
                v->progress = !v->busy;
                if (v->busy)
                        qthread_run(v->home, &v->progress);
        }
}

struct closing {
        bool closed;
        int res;
};

static void on_closed(void *opaque, int res)
{
        *(struct closing *)opaque = (struct closing){ true, res };
}

void load_volume(struct world *w, unsigned ops)
{
        struct qthread_opts qo = { .name = "replay", .inline_loop = true,
                                   .engine = { .kind = ENGINE_SYNC, .seed = rnd(&w->rnd), .slow_steps = true } };
        struct vol_opts vo = { .format = w->kind->format, .writeback = true, .entry_with_data = w->kind->entry_with_data };
        struct volume v = { .w = w };
        struct closing closing = { 0 };

        for (unsigned i = 0; i < DEPTH; i++)
                v.slot[i].v = &v;
        world_open(w);
        must(w, qthread_new(&qo, &v.home), "queue thread");
        must(w, vol_open_chain(w->img, &vo, v.home, &v.vol), "volume");
        must(w, port_attach(v.vol, v.home, &v.port), "port");
        run_requests(&v, ops);
        port_detach(v.port);
        w->img->backing = NULL; /* ours; it was read for the last time */
        w->img = NULL;
        vol_close(v.vol, on_closed, &closing);
        qthread_run(v.home, &closing.closed);
        qthread_free(v.home);
        must(w, closing.res, "close");
}
