/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - mv->left counts the parts in flight, plus one while move_start() runs; done() is called where it drops to 0.
 *   - A move is counted in the generation that was current at its start, until just before its done().
 *   - A part has at most one bounce buffer and waits for nothing while it has it, so the pool cannot lock up.
 */
#include "blkq/move.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "blkq/iov.h"
#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/range.h"
#include "formats/luks/crypto.h"

#define PART_IOV 16u
#define SPARE_MAX 64u
#define BOUNCE_CHUNK (1u << 20)
#define BOUNCE_MAX (4u << 20) /* bytes, each mover */
/*
 * Up to this many bytes are ciphered on the queue thread: to wake a worker and be woken costs about as much. Longer
 * ones go to workers in pieces, so that a large request uses several processors and the thread's other requests do not
 * wait.
 */
#define CLEAR_HERE (1u << 20) /* bytes; more are a worker's */
#define CIPHER_HERE (32u << 10)
#define CIPHER_CHUNK (128u << 10)

/* One contiguous piece of a file. */
struct part {
        struct io io;
        struct list link;          /* spare */
        struct move *mv;
        struct iovec *iov;         /* the memory: @few, or an array of its own */
        unsigned niov;
        void *bounce;
        struct bounce_wait wait;
        struct iovec bounce_iov;
        struct sector_cipher *cipher; /* NULL: plain */
        struct work work;             /* ciphering or clearing, when it is long */
        struct qtask back;
        int res;                      /* of it */
        struct iovec few[PART_IOV];
};

void mover_init(struct mover *m, struct qthread *t, struct work_owner *o, const _Atomic uint64_t *most)
{
        *m = (struct mover){ .thread = t, .engine = qthread_engine(t), .owner = o, .flight.most = most };
        list_init(&m->spare);
        list_init(&m->flight.waiting);
}

void mover_finish(struct mover *m)
{
        struct list *n;

        assert(!m->under_way[0] && !m->under_way[1] && list_empty(&m->flight.waiting) && !m->flight.bytes);
        bounce_free(m->bounce);
        while ((n = list_pop(&m->spare)) != NULL)
                free(list_entry(n, struct part, link));
}

void mover_drain(struct mover *m, void (*drained)(struct mover *m))
{
        assert(!m->draining && !m->under_way[!m->gen]); /* the last one was waited for */
        m->drained = drained;
        m->gen = !m->gen;
        if (!m->under_way[!m->gen])
                drained(m);
        else
                m->draining = true;
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

static void part_free(struct mover *m, struct part *p)
{
        if (p->iov != p->few)
                free(p->iov);
        if (p->bounce)
                bounce_put(m->bounce, p->bounce, p->io.len);
        if (m->nspare >= SPARE_MAX) {
                free(p);
                return;
        }
        m->nspare++;
        list_add_head(&m->spare, &p->link);
}

static struct part *part_new(struct mover *m, struct move *mv, const struct iovec *iov, uint64_t skip, uint64_t len)
{
        unsigned n = iov_count(iov, skip, len);
        struct list *spare = list_pop(&m->spare);
        struct part *p;

        if (spare)
                m->nspare--;
        p = spare ? list_entry(spare, struct part, link) : malloc(sizeof(*p));
        if (!p)
                return NULL;
        *p = (struct part){ .mv = mv };
        list_init(&p->link);
        p->iov = n <= PART_IOV ? p->few : malloc(n * sizeof(*p->iov));
        if (!p->iov) {
                free(p);
                return NULL;
        }
        p->niov = iov_cut(iov, skip, len, p->iov);
        return p;
}

/* --- one move ----------------------------------------------------------------------------------------------------- */

static void move_drop(struct move *mv, int res)
{
        struct mover *m = mv->m;

        if (res < 0 && mv->res == 0)
                mv->res = res;
        if (--mv->left)
                return;
        if (--m->under_way[mv->gen] == 0 && m->draining && mv->gen != m->gen) {
                m->draining = false;
                m->drained(m);
        }
        mv->done(mv, mv->res);
}

/* --- to the engine, when there is room ---------------------------------------------------------------------------- */

static void take_off(struct move *mv, struct io *io)
{
        if (mv->clock)
                mv->m->flight.bytes += in_flight_cost(io->len);
        engine_submit(mv->m->engine, io);
}

static void submit(struct move *mv, struct io *io)
{
        struct mover *m = mv->m;

        if (__builtin_expect(!mv->clock || in_flight_goes(&m->flight, io->len), 1)) {
                take_off(mv, io);
                return;
        }
        if (mv->waiting++ == 0)
                stage_to(mv->clock, STAGE_TURN, engine_now(m->engine));
        io->priv = mv; /* the engine's as soon as it has it */
        list_add_tail(&m->flight.waiting, &io->link);
}

static void let_waiting_go(struct mover *m)
{
        struct list *waiting = &m->flight.waiting;

        while (!list_empty(waiting)) {
                struct io *io = list_entry(waiting->next, struct io, link);
                struct move *mv = io->priv;

                if (!in_flight_has_room(&m->flight, io->len))
                        return;
                list_del(&io->link);
                if (--mv->waiting == 0)
                        stage_to(mv->clock, STAGE_DISK, engine_now(m->engine));
                take_off(mv, io);
        }
}

static void landed(struct move *mv, const struct io *io)
{
        struct mover *m = mv->m;

        if (!mv->clock)
                return;
        m->flight.bytes -= in_flight_cost(io->len);
        if (__builtin_expect(!list_empty(&m->flight.waiting), 0))
                let_waiting_go(m);
}

static void on_io(struct io *io, int res)
{
        struct move *mv = container_of(io, struct move, io);

        landed(mv, io);
        move_drop(mv, res);
}

static void part_end(struct part *p, int res)
{
        struct move *mv = p->mv;

        part_free(mv->m, p);
        move_drop(mv, res);
}

/* --- encrypted parts: only ever in the bounce buffer ---------------------------------------------------------------- */

static void run_cipher(struct part *p)
{
        enum cipher_way way = p->io.op == IO_WRITE ? CIPHER_ENCRYPT : CIPHER_DECRYPT;

        p->res = sector_cipher_run(p->cipher, way, p->io.off / CIPHER_SECTOR, p->bounce, p->io.len);
}

/* Encrypted: to the file. Deciphered: to the memory it is for. */
static void after_cipher(struct part *p)
{
        if (p->res == 0 && p->io.op == IO_WRITE) {
                submit(p->mv, &p->io);
                return;
        }
        if (p->res == 0)
                iov_copy(IOV_SCATTER, p->iov, 0, p->bounce, p->io.len);
        part_end(p, p->res);
}

static void on_ciphered(struct qtask *task)
{
        after_cipher(container_of(task, struct part, back));
}

static void cipher_on_worker(struct work *w)
{
        struct part *p = container_of(w, struct part, work);

        run_cipher(p);
        qthread_post(p->mv->m->thread, &p->back);
}

static void part_cipher(struct part *p)
{
        p->work.run = cipher_on_worker;
        p->back.run = on_ciphered;
        list_init(&p->work.link);
        if (p->io.len > CIPHER_HERE && workers_run_for(p->mv->m->owner, &p->work) == 0)
                return;
        run_cipher(p);
        after_cipher(p);
}

/* --- parts in bounce buffers ------------------------------------------------------------------------------------------ */

static void on_part(struct io *io, int res)
{
        struct part *p = container_of(io, struct part, io);

        landed(p->mv, io);
        if (p->cipher && res == 0 && io->op == IO_READ) {
                part_cipher(p);
                return;
        }
        if (p->bounce && res == 0 && io->op == IO_READ)
                iov_copy(IOV_SCATTER, p->iov, 0, p->bounce, io->len);
        part_end(p, res);
}

static void on_buffer(struct bounce_wait *w, void *buf)
{
        struct part *p = container_of(w, struct part, wait);

        if (!buf) {
                part_end(p, -ENOMEM);
                return;
        }
        p->bounce = buf;
        if (p->io.op == IO_WRITE)
                iov_copy(IOV_GATHER, p->iov, 0, buf, p->io.len);
        p->bounce_iov = (struct iovec){ buf, p->io.len };
        p->io.iov = &p->bounce_iov;
        p->io.niov = 1;
        if (p->cipher && p->io.op == IO_WRITE)
                part_cipher(p);
        else
                submit(p->mv, &p->io);
}

static void part_bounce(struct mover *m, struct part *p)
{
        void *buf = NULL;
        int r = m->bounce ? 0 : bounce_new(BOUNCE_MAX, &m->bounce);

        if (r == 0)
                r = bounce_get(m->bounce, &p->wait, p->io.len, on_buffer, &buf);
        if (r != -EAGAIN)
                on_buffer(&p->wait, r == 0 ? buf : NULL);
}

/* [skip, skip + len) of the list to or from [at, at + len) of @e, as a part of its own. */
static void move_part(struct move *mv, enum io_op op, const struct extent *e, uint64_t at, const struct iovec *iov,
                      uint64_t skip, uint64_t len, bool bounce)
{
        struct mover *m = mv->m;
        struct part *p = part_new(m, mv, iov, skip, len);

        mv->left++;
        if (!p) {
                move_drop(mv, -ENOMEM);
                return;
        }
        p->io = (struct io){
                .op = op, .file = e->file, .off = e->host + at, .len = len, .iov = p->iov, .niov = p->niov,
                .done = on_part,
        };
        p->cipher = e->cipher;
        if (!bounce)
                submit(mv, &p->io);
        else
                part_bounce(m, p);
}

/* --- zeros ------------------------------------------------------------------------------------------------------------- */

static void on_cleared(struct qtask *task)
{
        part_end(container_of(task, struct part, back), 0);
}

static void clear_on_worker(struct work *w)
{
        struct part *p = container_of(w, struct part, work);

        iov_copy(IOV_CLEAR, p->iov, 0, NULL, p->io.len);
        qthread_post(p->mv->m->thread, &p->back);
}

/* Many of them take milliseconds, in which this thread has other disks to serve. */
static void move_zeros(struct move *mv, const struct extent *e, const struct iovec *iov, uint64_t skip)
{
        struct part *p = e->len > CLEAR_HERE ? part_new(mv->m, mv, iov, skip, e->len) : NULL;

        if (p) {
                p->io = (struct io){ .op = IO_READ, .len = e->len };
                p->work.run = clear_on_worker;
                p->back.run = on_cleared;
                list_init(&p->work.link);
                mv->left++;
                if (workers_run_for(p->mv->m->owner, &p->work) == 0)
                        return;
                part_end(p, 0); /* not the last: move_start() holds one */
        }
        iov_copy(IOV_CLEAR, iov, skip, NULL, e->len);
}

static uint64_t piece_of(const struct move *mv, uint64_t len)
{
        return mv->clock ? in_flight_piece(&mv->m->flight, len) : 0;
}

static void move_data(struct move *mv, enum io_op op, const struct extent *e, const struct iovec *iov, unsigned niov,
                      uint64_t skip)
{
        struct file *f = e->file;
        uint64_t chunk = e->cipher ? CIPHER_CHUNK : BOUNCE_CHUNK;
        bool bounce = e->cipher || (f->mem_align > 1 && !iov_is_aligned(iov, niov, f->mem_align));

        if (!bounce)
                chunk = piece_of(mv, e->len) ?: e->len;
        for (uint64_t at = 0; at < e->len; at += chunk)
                move_part(mv, op, e, at, iov, skip + at, min_u64(e->len - at, chunk), bounce);
}

void move_start(struct mover *m, struct move *mv, enum io_op op, const struct extent *ext, unsigned n,
                const struct iovec *iov, unsigned niov, uint64_t base, uint64_t len)
{
        mv->m = m;
        mv->left = 1;
        mv->waiting = 0;
        mv->res = 0;
        mv->gen = m->gen;
        m->under_way[m->gen]++;
        if (n == 1 && ext->kind == EXT_DATA && ext->len == len && !ext->cipher && !piece_of(mv, len)) { /* the common road: the list as it is */
                struct file *f = ext->file;

                if (f->mem_align <= 1 || iov_is_aligned(iov, niov, f->mem_align)) {
                        mv->io = (struct io){
                                .op = op, .file = f, .off = ext->host, .len = ext->len, .iov = iov, .niov = niov,
                                .done = on_io,
                        };
                        submit(mv, &mv->io);
                        return;
                }
        }
        for (unsigned i = 0; i < n; i++) {
                const struct extent *e = &ext[i];

                if (e->kind == EXT_DATA)
                        move_data(mv, op, e, iov, niov, e->off - base);
                else if (e->kind == EXT_ZERO && op == IO_READ)
                        move_zeros(mv, e, iov, e->off - base);
        }
        move_drop(mv, 0);
}
