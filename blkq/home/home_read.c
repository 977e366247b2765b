/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * home_read.c - any guest range to memory, through the whole chain. In steps, each of which begins with a lookup:
 *
 *   page missing -> its batch -> look again
 *   data, zeros, nowhere -> one move of up to MOVE_EXTENTS extents
 *   compressed -> a turn (UNPACK_MAX at a time, they take memory) -> packed bytes read -> unpacked on a worker -> copied
 *
 * Guest bytes past the end of the image (its size is no multiple of 512) read as zeros.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <urcu.h>

#include "blkq/home/work.h"
#include "blkq/iov.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

#define UNPACK_MAX 4u /* clusters of a volume under way */
#define BUF_ALIGN 4096u

/* One compressed cluster: read, unpack, copy. */
struct unpack {
        struct chain_read *rd;
        struct fmt_image *img;
        uint32_t lead, packed_len, skip, len; /* packed bytes begin at packed + lead; wanted: [skip, skip + len) */
        void *packed, *out;
        struct iovec iov;
        struct work work;
        struct qtask back;
        int res;
};

static void read_step(struct chain_read *rd);

static void read_end(struct chain_read *rd, int res)
{
        rd->done(rd, res);
}

static void on_woken(struct waiter *w, int err)
{
        struct chain_read *rd = container_of(w, struct chain_read, wait);

        if (err < 0)
                read_end(rd, err);
        else
                read_step(rd);
}

static void advance(struct chain_read *rd, uint64_t len, int res)
{
        rd->off += len;
        if (res < 0 || rd->off == rd->end)
                read_end(rd, res);
        else
                read_step(rd);
}

static void on_moved(struct move *mv, int res)
{
        struct chain_read *rd = container_of(mv, struct chain_read, move);

        home_stage(rd->v, rd->clock, STAGE_MAP);
        advance(rd, rd->step, res);
}

/* --- compressed clusters ------------------------------------------------------------------------------------------ */

/* Whoever is woken looks again and may find that it needs no turn any more, so this goes on while there are turns. */
static void unpack_free(struct vol *v, struct unpack *u)
{
        struct list *n;

        free(u->packed);
        free(u->out);
        free(u);
        v->unpacking--;
        while (v->unpacking < UNPACK_MAX && (n = list_pop(&v->unpack_waiters)) != NULL) {
                struct waiter *w = list_entry(n, struct waiter, link);

                w->wake(w, 0);
        }
}

static void unpack_end(struct unpack *u, int res)
{
        struct chain_read *rd = u->rd;
        uint32_t len = u->len;

        if (res == 0)
                iov_copy(IOV_SCATTER, rd->iov, rd->off - rd->base, (char *)u->out + u->skip, len);
        unpack_free(rd->v, u);
        advance(rd, len, res);
}

static void on_unpacked(struct qtask *task)
{
        struct unpack *u = container_of(task, struct unpack, back);

        unpack_end(u, u->res);
}

static void unpack_on_worker(struct work *work)
{
        struct unpack *u = container_of(work, struct unpack, work);

        u->res = fmt_unpack(u->img, (char *)u->packed + u->lead, u->packed_len, u->out);
        qthread_post(u->rd->v->home, &u->back);
}

static void on_packed_read(struct move *mv, int res)
{
        struct unpack *u = container_of(mv, struct chain_read, move)->unpack;

        home_stage(u->rd->v, u->rd->clock, STAGE_MAP);
        if (res == 0) {
                u->work.run = unpack_on_worker;
                res = workers_run_for(u->rd->v->owner, &u->work);
        }
        if (res < 0)
                unpack_end(u, res);
}

static struct unpack *unpack_new(struct chain_read *rd, const struct extent *e)
{
        uint64_t align = max_u64(e->file->off_align, 1);
        uint64_t from = round_down(e->host, align), to = round_up(e->host + e->packed_len, align);
        struct unpack *u = calloc(1, sizeof(*u));

        if (!u)
                return NULL;
        if (posix_memalign(&u->packed, BUF_ALIGN, to - from) != 0)
                u->packed = NULL;
        u->out = malloc(e->img->cluster_size);
        if (!u->packed || !u->out) {
                free(u->packed);
                free(u->out);
                free(u);
                return NULL;
        }
        u->rd = rd;
        u->img = e->img;
        u->lead = e->host - from;
        u->packed_len = e->packed_len;
        u->skip = e->skip;
        u->len = e->len;
        u->iov = (struct iovec){ u->packed, to - from };
        u->back.run = on_unpacked;
        return u;
}

static void read_packed(struct chain_read *rd, const struct extent *e)
{
        struct vol *v = rd->v;
        struct extent packed = { .kind = EXT_DATA, .file = e->file, .img = e->img };
        struct unpack *u;

        if (!range_fits(e->skip, e->len, e->img->cluster_size)) {
                read_end(rd, -EIO);
                return;
        }
        if (v->unpacking >= UNPACK_MAX) {
                list_add_tail(&v->unpack_waiters, &rd->wait.link); /* looks again when it is its turn */
                return;
        }
        u = unpack_new(rd, e);
        if (!u) {
                read_end(rd, -ENOMEM);
                return;
        }
        v->unpacking++;
        rd->unpack = u;
        packed.host = e->host - u->lead;
        packed.len = u->iov.iov_len;
        rd->move.done = on_packed_read;
        rd->move.clock = rd->clock;
        home_stage(v, rd->clock, STAGE_DISK);
        move_start(&v->mover, &rd->move, IO_READ, &packed, 1, &u->iov, 1, 0, packed.len);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

/* What can be moved at once: what stands before the first compressed extent. */
static unsigned plain_extents(const struct extent *ext, unsigned n, uint64_t *len)
{
        unsigned i;

        for (i = 0, *len = 0; i < n && ext[i].kind != EXT_COMPRESSED; i++)
                *len += ext[i].len;
        return i;
}

static int look_up(struct chain_read *rd, struct extent *ext, struct fmt_image **missing)
{
        struct fmt_image *from = rd->from ? rd->from : rd->v->top;
        int n;

        if (rd->off >= from->size) {
                *ext = (struct extent){ .kind = EXT_ZERO, .off = rd->off, .len = rd->end - rd->off, .img = from };
                return 1;
        }
        rcu_read_lock();
        n = chain_map(from, rd->off, min_u64(rd->end, from->size) - rd->off, ext, MOVE_EXTENTS, missing);
        rcu_read_unlock();
        return n;
}

/* A loop, because a sparse disk can be zeros in very many pieces; whatever else there is waits for some I/O. */
static void read_step(struct chain_read *rd)
{
        struct extent ext[MOVE_EXTENTS];
        struct fmt_image *missing;
        unsigned plain;
        int n;

        while ((n = look_up(rd, ext, &missing)) > 0 && ext[0].kind == EXT_ZERO) {
                iov_copy(IOV_CLEAR, rd->iov, ext[0].off - rd->base, NULL, ext[0].len);
                rd->off += ext[0].len;
                if (rd->off == rd->end) {
                        read_end(rd, 0);
                        return;
                }
        }
        if (n == -EAGAIN) {
                batch_want(rd->v, missing, &rd->wait);
        } else if (n < 0) {
                read_end(rd, n);
        } else if (ext[0].kind == EXT_COMPRESSED) {
                read_packed(rd, &ext[0]);
        } else {
                plain = plain_extents(ext, n, &rd->step);
                rd->move.done = on_moved;
                rd->move.clock = rd->clock;
                home_stage(rd->v, rd->clock, STAGE_DISK);
                move_start(&rd->v->mover, &rd->move, IO_READ, ext, plain, rd->iov, rd->niov, rd->base, rd->len);
        }
}

void chain_read_from(struct vol *v, struct fmt_image *from, struct chain_read *rd, uint64_t off, uint64_t len,
                     const struct iovec *iov, unsigned niov, void (*done)(struct chain_read *rd, int res))
{
        assert(len);
        *rd = (struct chain_read){
                .v = v, .from = from, .off = off, .end = off + len, .base = off, .len = len, .iov = iov, .niov = niov, .done = done,
                .clock = rd->clock,
                .wait.wake = on_woken,
        };
        list_init(&rd->wait.link);
        read_step(rd);
}

void chain_read_start(struct vol *v, struct chain_read *rd, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov, void (*done)(struct chain_read *rd, int res))
{
        chain_read_from(v, NULL, rd, off, len, iov, niov, done);
}
