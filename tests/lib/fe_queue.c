/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests and waiting, whatever the layout of the ring: fe_ring_split.c, fe_ring_packed.c. Invariants: fe_ring.h. */
#include "fe_ring.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

#define WRITE_ZEROES_UNMAP 1u
static void queue_freep(struct fe_queue **q)
{
        fe_queue_free(*q);
}

static int queue_alloc_ring(struct fe_queue *q, struct fe_mem *mem)
{
        struct fe_ring *r = &q->ring;
        size_t n = r->size;

        r->desc = fe_mem_alloc(mem, 0, n * sizeof(*r->desc), 64);
        r->avail = fe_mem_alloc(mem, 0, sizeof(*r->avail) + 2 * n + 2, 64);
        r->used = fe_mem_alloc(mem, 0, sizeof(*r->used) + 8 * n + 2, 4096);
        q->slots = fe_mem_alloc(mem, 0, n * sizeof(struct slot), 4096);
        q->tables = fe_mem_alloc(mem, 0, n * q->table_len * sizeof(*r->desc), 64);
        r->packed = (void *)r->desc;
        r->driver = (void *)r->avail;
        r->device = (void *)r->used;
        if (!r->desc || !r->avail || !r->used || !q->slots || !q->tables)
                return err_note(-ENOMEM, "guest memory of %llu bytes is too small for queue %u with %zu entries",
                                (unsigned long long)mem->regions[0].len, q->index, n);
        q->slots_gpa = fe_mem_gpa(mem, q->slots);
        q->tables_gpa = fe_mem_gpa(mem, q->tables);
        return 0;
}

int fe_queue_new(struct fe_mem *mem, const struct fe_queue_opts *opts, struct fe_queue **ret)
{
        AUTO(queue_freep) struct fe_queue *q = calloc(1, sizeof(*q));
        int r;

        if (!q)
                return -ENOMEM;
        q->ring = (struct fe_ring){ .size = opts->size, .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
        if (!opts->size || opts->size > FE_QUEUE_SIZE_MAX || (!opts->packed && !is_pow2(opts->size)))
                return err_note(-EINVAL, "a queue of %u entries: give %s up to %u", opts->size,
                                opts->packed ? "one" : "a power of two", FE_QUEUE_SIZE_MAX);
        q->index = opts->index;
        q->packed = opts->packed;
        q->table_len = (opts->max_segs ? opts->max_segs : 4) + 2;
        q->seg_len = opts->seg_len ? opts->seg_len : UINT32_MAX;
        if (q->table_len > FE_PIECES_MAX)
                return err_note(-EINVAL, "%u segments: at most %u", opts->max_segs, FE_PIECES_MAX - 2);
        q->next_free = calloc(opts->size, sizeof(*q->next_free));
        q->chain_len = calloc(opts->size, sizeof(*q->chain_len));
        q->inflight = calloc(opts->size, sizeof(struct fe_io *));
        q->framed = calloc(opts->size, sizeof(bool));
        if (!q->next_free || !q->chain_len || !q->inflight || !q->framed)
                return -ENOMEM;
        r = queue_alloc_ring(q, mem);
        if (r < 0)
                return r;
        *ret = TAKE(q, NULL);
        return 0;
}

void fe_queue_free(struct fe_queue *q)
{
        if (!q)
                return;
        closep(&q->ring.kick_fd);
        closep(&q->ring.call_fd);
        closep(&q->ring.err_fd);
        free(q->next_free);
        free(q->chain_len);
        free(q->inflight);
        free(q->framed);
        free(q);
}

static int renew_eventfd(int *fd, int flags)
{
        int n = eventfd(0, EFD_CLOEXEC | flags);

        if (n < 0)
                return -errno;
        closep(fd);
        *fd = n;
        return 0;
}

int fe_queue_reset(struct fe_queue *q, bool indirect, bool event_idx)
{
        struct fe_ring *ring = &q->ring;
        int r;

        if (q->in_flight)
                return -EBUSY;
        q->indirect = indirect;
        q->event_idx = event_idx;
        q->ops = q->packed ? &fe_packed_ops : &fe_split_ops;
        memset(ring->desc, 0, ring->size * sizeof(*ring->desc));
        memset(ring->avail, 0, sizeof(*ring->avail) + 2 * ring->size + 2);
        memset(ring->used, 0, sizeof(*ring->used) + 8 * ring->size + 2);
        q->ops->reset(q);
        for (unsigned i = 0; i < ring->size; i++)
                q->next_free[i] = (uint16_t)(i + 1);
        q->free_head = 0;
        q->num_free = ring->size;
        q->ops->calls_off(q);
        r = renew_eventfd(&ring->kick_fd, EFD_NONBLOCK);
        if (r == 0)
                r = renew_eventfd(&ring->call_fd, EFD_NONBLOCK);
        if (r == 0)
                r = renew_eventfd(&ring->err_fd, EFD_NONBLOCK);
        return r;
}

/* A table of a packed ring needs no links. */
static struct fe_ring_desc table_desc(const struct fe_queue *q, const struct fe_piece *p, bool last, unsigned next)
{
        uint16_t flags = p->write ? FE_DESC_WRITE : 0;

        if (last || q->packed)
                return q->ops->desc(p->gpa, p->len, flags, 0);
        return q->ops->desc(p->gpa, p->len, flags | FE_DESC_NEXT, (uint16_t)next);
}

static void offer_indirect(struct fe_queue *q, unsigned id, const struct fe_piece *p, unsigned n)
{
        size_t at = (size_t)id * q->table_len;
        struct fe_piece table = { q->tables_gpa + at * sizeof(struct fe_ring_desc),
                                  (uint32_t)(n * sizeof(struct fe_ring_desc)), false };

        for (unsigned i = 0; i < n; i++)
                q->tables[at + i] = table_desc(q, &p[i], i + 1 == n, i + 1);
        q->ops->offer(q, id, &table, 1, FE_DESC_INDIRECT);
}

int fe_submit_chain(struct fe_queue *q, const struct fe_piece *p, unsigned n, bool indirect, struct fe_io *io)
{
        unsigned need = indirect ? 1 : n, id = q->free_head, last = id;

        if (n == 0 || n > (indirect ? q->table_len : FE_PIECES_MAX))
                return -EINVAL;
        if (q->num_free < need)
                return -EAGAIN;
        if (indirect)
                offer_indirect(q, id, p, n);
        else
                q->ops->offer(q, id, p, n, 0);
        for (unsigned i = 1; i < q->ops->links(need); i++)
                last = q->next_free[last];
        q->free_head = q->next_free[last];
        q->num_free -= need;
        q->chain_len[id] = (uint16_t)need;
        q->inflight[id] = io;
        q->framed[id] = false;
        q->in_flight++;
        return 0;
}

/* The data of @io as pieces; how many, or -EINVAL above what a table holds. */
static int data_pieces(const struct fe_queue *q, const struct fe_io *io, struct fe_piece *p)
{
        uint32_t done = 0;
        unsigned n = 0;

        while (done < io->len) {
                uint32_t len = io->len - done < q->seg_len ? io->len - done : q->seg_len;

                if (n == q->table_len - 2)
                        return -EINVAL;
                p[n++] = (struct fe_piece){ io->gpa + done, len, io->type != FE_WRITE };
                done += len;
        }
        return (int)n;
}

static int range_piece(struct slot *s, uint64_t slot_gpa, const struct fe_io *io, struct fe_piece *p)
{
        s->range.sector = htole64(io->sector);
        s->range.nsectors = htole32(io->len / 512);
        s->range.flags = htole32(io->unmap ? WRITE_ZEROES_UNMAP : 0);
        *p = (struct fe_piece){ slot_gpa + offsetof(struct slot, range), sizeof(s->range), false };
        return 1;
}

int fe_submit(struct fe_queue *q, struct fe_io *io)
{
        struct fe_piece p[FE_PIECES_MAX];
        unsigned head = q->free_head;
        uint64_t slot_gpa = q->slots_gpa + head * sizeof(struct slot);
        struct slot *s;
        int n = 0, r;

        if (q->num_free == 0)
                return -EAGAIN;
        s = &q->slots[head];
        if (io->type == FE_DISCARD || io->type == FE_WRITE_ZEROES)
                n = range_piece(s, slot_gpa, io, &p[1]);
        else if (io->type != FE_FLUSH)
                n = data_pieces(q, io, &p[1]);
        if (n < 0)
                return n;
        s->hdr.type = htole32(io->type);
        s->hdr.ioprio = 0;
        s->hdr.sector = htole64(io->type == FE_READ || io->type == FE_WRITE ? io->sector : 0);
        s->status = FE_NOT_ANSWERED;
        p[0] = (struct fe_piece){ slot_gpa, sizeof(s->hdr), false };
        p[n + 1] = (struct fe_piece){ slot_gpa + offsetof(struct slot, status), 1, true };
        r = fe_submit_chain(q, p, (unsigned)n + 2, q->indirect, io);
        if (r == 0)
                q->framed[head] = true;
        return r;
}

void fe_kick(struct fe_queue *q)
{
        uint64_t one = 1;

        if (q->ops->show(q) && write(q->ring.kick_fd, &one, sizeof(one)) < 0)
                assert(errno == EAGAIN); /* the counter is full: the back end has been told */
}

/* The chain of @id goes back to the free descriptors; its request, or NULL if there is no such chain. */
static struct fe_io *chain_finish(struct fe_queue *q, uint32_t id)
{
        struct fe_io *io;
        unsigned last = id;

        if (id >= q->ring.size || !q->inflight[id])
                return NULL;
        for (unsigned i = 1; i < q->ops->links(q->chain_len[id]); i++)
                last = q->next_free[last];
        q->next_free[last] = (uint16_t)q->free_head;
        q->free_head = id;
        q->num_free += q->chain_len[id];
        io = TAKE(q->inflight[id], NULL);
        q->in_flight--;
        return io;
}

int fe_reap(struct fe_queue *q, struct fe_io **done, unsigned max)
{
        uint32_t id, len;
        unsigned n = 0;
        int r = 0;

        while (n < max && (r = q->ops->answer(q, &id, &len)) > 0) {
                struct fe_io *io = chain_finish(q, id);

                if (!io)
                        return err_note(-EPROTO, "queue %u: the back end answered chain %u, which is not in flight",
                                        q->index, id);
                q->ops->next_answer(q, q->chain_len[id]);
                io->used_len = len;
                if (q->framed[id])
                        io->status = q->slots[id].status;
                done[n++] = io;
        }
        return r < 0 ? r : (int)n;
}

int fe_wait(struct fe_queue *q, int timeout_ms)
{
        struct pollfd p = { .fd = q->ring.call_fd, .events = POLLIN };
        uint64_t count;
        int r = 1;

        q->ops->calls_on(q);
        if (!q->ops->answered(q)) {
                r = poll(&p, 1, timeout_ms);
                if (r > 0 && read(q->ring.call_fd, &count, sizeof(count)) < 0)
                        assert(errno == EAGAIN); /* the back end has emptied it: then there is something to see */
        }
        q->ops->calls_off(q);
        return r != 0;
}

void fe_wake(struct fe_queue *q)
{
        uint64_t one = 1;

        if (write(q->ring.call_fd, &one, sizeof(one)) < 0)
                assert(errno == EAGAIN); /* full: it is awake */
}

int fe_do(struct fe_queue *q, struct fe_io *io, int timeout_ms)
{
        uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS, now;
        struct fe_io *done;
        int r;

        if (q->in_flight)
                return -EBUSY;
        r = fe_submit(q, io);
        if (r < 0)
                return r;
        fe_kick(q);
        while ((r = fe_reap(q, &done, 1)) == 0) {
                now = clock_ns();
                if (now >= deadline)
                        return err_note(-ETIMEDOUT, "queue %u: no answer to request type %u at sector %llu within %d ms",
                                        q->index, io->type, (unsigned long long)io->sector, timeout_ms);
                fe_wait(q, (int)((deadline - now) / NS_PER_MS) + 1);
        }
        return r < 0 ? r : 0;
}

unsigned fe_in_flight(const struct fe_queue *q)
{
        return q->in_flight;
}

unsigned fe_free_descs(const struct fe_queue *q)
{
        return q->num_free;
}

struct fe_io *fe_queue_unanswered(struct fe_queue *q)
{
        for (unsigned i = 0; q->in_flight && i < q->ring.size; i++)
                if (q->inflight[i])
                        return chain_finish(q, i);
        return NULL;
}

struct fe_ring *fe_queue_ring(struct fe_queue *q)
{
        return &q->ring;
}

unsigned fe_queue_index(const struct fe_queue *q)
{
        return q->index;
}

uint32_t fe_queue_base(const struct fe_queue *q)
{
        return q->ops->base(q);
}

uint32_t fe_queue_resume_base(const struct fe_queue *q)
{
        return q->ops->resume_base(q);
}
