/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 * - The back end writes only to the used ring and to what chains allow; everything else that we need to know is kept
 *   in our own memory: next_free[] links free descriptors and the descriptors of a direct chain, chain_len[] and
 *   inflight[] belong to the head.
 * - num_free + the lengths of all chains in flight == size.
 * - Slot h (header, range, status, indirect table) belongs to the chain whose head is descriptor h.
 */
#include "fe_queue.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

/* What a request needs besides its data; one cache line in guest memory. */
struct slot {
        struct { uint32_t type, ioprio; uint64_t sector; } hdr;           /* virtio 5.2.6 */
        struct { uint64_t sector; uint32_t nsectors, flags; } range;      /* DISCARD, WRITE_ZEROES */
        uint8_t status;
        uint8_t pad[31];
};
_Static_assert(sizeof(struct slot) == 64, "one cache line");

#define WRITE_ZEROES_UNMAP 1u
#define USED_NO_NOTIFY 1u
#define AVAIL_NO_INTERRUPT 1u

struct fe_queue {
        struct fe_ring ring;
        unsigned index, table_len; /* table_len: descriptors in an indirect table */
        uint32_t seg_len;
        bool indirect, event_idx;
        uint64_t slots_gpa, tables_gpa;
        struct slot *slots;
        struct fe_ring_desc *tables;

        uint16_t avail_idx;  /* what we count; the ring shows shown_idx */
        uint16_t shown_idx;
        uint16_t last_used;
        unsigned free_head, num_free, in_flight;
        uint16_t *next_free;
        uint16_t *chain_len;
        struct fe_io **inflight;
        bool *framed; /* made by fe_submit(): the status is in the slot */
};

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
        if (!is_pow2(opts->size) || opts->size > FE_QUEUE_SIZE_MAX)
                return err_note(-EINVAL, "a queue of %u entries: give a power of two up to %u", opts->size,
                                FE_QUEUE_SIZE_MAX);
        q->index = opts->index;
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

static _Atomic uint16_t *used_event(struct fe_queue *q)
{
        return (_Atomic uint16_t *)&q->ring.avail->ring[q->ring.size];
}

static uint16_t avail_event(struct fe_queue *q)
{
        return le16toh(atomic_load_explicit((_Atomic uint16_t *)&q->ring.used->ring[q->ring.size],
                                            memory_order_relaxed));
}

static uint16_t used_idx(struct fe_queue *q)
{
        /* pairs with the back end's release of used->idx: entries and data before it are visible */
        return le16toh(atomic_load_explicit((_Atomic uint16_t *)&q->ring.used->idx, memory_order_acquire));
}

/* No call, please: we are awake. With EVENT_IDX one call in 65536 answers still comes; it costs one wakeup. */
static void calls_off(struct fe_queue *q)
{
        if (q->event_idx)
                atomic_store_explicit(used_event(q), htole16((uint16_t)(q->last_used - 1)), memory_order_relaxed);
        else
                atomic_store_explicit((_Atomic uint16_t *)&q->ring.avail->flags, htole16(AVAIL_NO_INTERRUPT),
                                      memory_order_relaxed);
}

static void calls_on(struct fe_queue *q)
{
        if (q->event_idx)
                atomic_store_explicit(used_event(q), htole16(q->last_used), memory_order_relaxed);
        else
                atomic_store_explicit((_Atomic uint16_t *)&q->ring.avail->flags, 0, memory_order_relaxed);
        /* pairs with the back end's fence between used->idx and its look at used_event or the flags */
        atomic_thread_fence(memory_order_seq_cst);
}

int fe_queue_reset(struct fe_queue *q, bool indirect, bool event_idx)
{
        struct fe_ring *ring = &q->ring;
        int r;

        if (q->in_flight)
                return -EBUSY;
        q->indirect = indirect;
        q->event_idx = event_idx;
        q->avail_idx = q->shown_idx = q->last_used = 0;
        memset(ring->desc, 0, ring->size * sizeof(*ring->desc));
        memset(ring->avail, 0, sizeof(*ring->avail) + 2 * ring->size + 2);
        memset(ring->used, 0, sizeof(*ring->used) + 8 * ring->size + 2);
        for (unsigned i = 0; i < ring->size; i++)
                q->next_free[i] = (uint16_t)(i + 1);
        q->free_head = 0;
        q->num_free = ring->size;
        calls_off(q);
        r = renew_eventfd(&ring->kick_fd, EFD_NONBLOCK);
        if (r == 0)
                r = renew_eventfd(&ring->call_fd, EFD_NONBLOCK);
        if (r == 0)
                r = renew_eventfd(&ring->err_fd, EFD_NONBLOCK);
        return r;
}

static struct fe_ring_desc make_desc(const struct fe_piece *p, bool more, unsigned next)
{
        return (struct fe_ring_desc){
                .gpa = htole64(p->gpa),
                .len = htole32(p->len),
                .flags = htole16((uint16_t)((p->write ? FE_DESC_WRITE : 0) | (more ? FE_DESC_NEXT : 0))),
                .next = htole16(more ? (uint16_t)next : 0),
        };
}

static void fill_indirect(struct fe_queue *q, unsigned head, const struct fe_piece *p, unsigned n)
{
        size_t at = (size_t)head * q->table_len;

        for (unsigned i = 0; i < n; i++)
                q->tables[at + i] = make_desc(&p[i], i + 1 < n, i + 1);
        q->ring.desc[head] = (struct fe_ring_desc){
                .gpa = htole64(q->tables_gpa + at * sizeof(struct fe_ring_desc)),
                .len = htole32((uint32_t)(n * sizeof(struct fe_ring_desc))),
                .flags = htole16(FE_DESC_INDIRECT),
        };
}

static void fill_direct(struct fe_queue *q, unsigned head, const struct fe_piece *p, unsigned n)
{
        for (unsigned i = 0, d = head; i < n; i++, d = q->next_free[d])
                q->ring.desc[d] = make_desc(&p[i], i + 1 < n, q->next_free[d]);
}

int fe_submit_chain(struct fe_queue *q, const struct fe_piece *p, unsigned n, bool indirect, struct fe_io *io)
{
        unsigned need = indirect ? 1 : n, head = q->free_head, last = head;

        if (n == 0 || n > (indirect ? q->table_len : FE_PIECES_MAX))
                return -EINVAL;
        if (q->num_free < need)
                return -EAGAIN;
        if (indirect)
                fill_indirect(q, head, p, n);
        else
                fill_direct(q, head, p, n);
        for (unsigned i = 1; i < need; i++)
                last = q->next_free[last];
        q->free_head = q->next_free[last];
        q->num_free -= need;
        q->chain_len[head] = (uint16_t)need;
        q->inflight[head] = io;
        q->framed[head] = false;
        q->in_flight++;
        q->ring.avail->ring[q->avail_idx & (q->ring.size - 1)] = htole16((uint16_t)head);
        q->avail_idx++;
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

/* Did the move from @old to @now pass @event? virtio 2.7.10 */
static bool event_passed(uint16_t event, uint16_t now, uint16_t old)
{
        return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

void fe_kick(struct fe_queue *q)
{
        uint16_t old = q->shown_idx;
        uint64_t one = 1;
        bool wanted;

        if (old == q->avail_idx)
                return;
        /* pairs with the back end's acquire of avail->idx */
        atomic_store_explicit((_Atomic uint16_t *)&q->ring.avail->idx, htole16(q->avail_idx), memory_order_release);
        q->shown_idx = q->avail_idx;
        /* pairs with the back end's fence between avail_event (or flags) and its last look at avail->idx */
        atomic_thread_fence(memory_order_seq_cst);
        if (q->event_idx)
                wanted = event_passed(avail_event(q), q->shown_idx, old);
        else
                wanted = !(le16toh(*(volatile uint16_t *)&q->ring.used->flags) & USED_NO_NOTIFY);
        if (wanted && write(q->ring.kick_fd, &one, sizeof(one)) < 0)
                assert(errno == EAGAIN); /* the counter is full: the back end has been told */
}

/* The chain of @head goes back to the free descriptors; its request, or NULL if there is no such chain. */
static struct fe_io *chain_finish(struct fe_queue *q, uint32_t head)
{
        struct fe_io *io;
        unsigned last = head;

        if (head >= q->ring.size || !q->inflight[head])
                return NULL;
        for (unsigned i = 1; i < q->chain_len[head]; i++)
                last = q->next_free[last];
        q->next_free[last] = (uint16_t)q->free_head;
        q->free_head = head;
        q->num_free += q->chain_len[head];
        io = TAKE(q->inflight[head], NULL);
        q->in_flight--;
        return io;
}

int fe_reap(struct fe_queue *q, struct fe_io **done, unsigned max)
{
        uint16_t idx = used_idx(q);
        unsigned n = 0;

        if ((uint16_t)(idx - q->last_used) > q->in_flight)
                return err_note(-EPROTO, "queue %u: the back end moved the used index from %u to %u with %u requests "
                                "in flight", q->index, q->last_used, idx, q->in_flight);
        while (n < max && q->last_used != idx) {
                unsigned at = q->last_used & (q->ring.size - 1);
                uint32_t id = le32toh(q->ring.used->ring[at].id);
                struct fe_io *io = chain_finish(q, id);

                if (!io)
                        return err_note(-EPROTO, "queue %u: the back end answered chain %u, which is not in flight",
                                        q->index, id);
                io->used_len = le32toh(q->ring.used->ring[at].len);
                if (q->framed[id])
                        io->status = q->slots[id].status;
                q->last_used++;
                done[n++] = io;
        }
        return (int)n;
}

int fe_wait(struct fe_queue *q, int timeout_ms)
{
        struct pollfd p = { .fd = q->ring.call_fd, .events = POLLIN };
        uint64_t count;
        int r = 1;

        calls_on(q);
        if (used_idx(q) == q->last_used) {
                r = poll(&p, 1, timeout_ms);
                if (r > 0 && read(q->ring.call_fd, &count, sizeof(count)) < 0)
                        assert(errno == EAGAIN); /* the back end has emptied it: then there is something to see */
        }
        calls_off(q);
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

uint16_t fe_queue_avail_idx(const struct fe_queue *q)
{
        return q->shown_idx;
}
