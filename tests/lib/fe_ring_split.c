/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of a split ring (virtio 1.2, 2.7). */
#include <endian.h>
#include <errno.h>
#include <stdatomic.h>

#include "common/err.h"
#include "fe_ring.h"

#define USED_NO_NOTIFY 1u
#define AVAIL_NO_INTERRUPT 1u

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

/* With EVENT_IDX one call in 65536 answers still comes; it costs one wakeup. */
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

static void split_reset(struct fe_queue *q)
{
        q->avail_idx = q->shown_idx = q->last_used = 0;
}

static struct fe_ring_desc split_desc(uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
        return (struct fe_ring_desc){ htole64(gpa), htole32(len), htole16(flags), htole16(next) };
}

static unsigned split_links(unsigned descs)
{
        return descs;
}

static void split_offer(struct fe_queue *q, unsigned id, const struct fe_piece *p, unsigned n, uint16_t flags)
{
        for (unsigned i = 0, d = id; i < n; i++, d = q->next_free[d]) {
                bool more = i + 1 < n;

                q->ring.desc[d] = split_desc(p[i].gpa, p[i].len,
                                             (uint16_t)(flags | (p[i].write ? FE_DESC_WRITE : 0) | (more ? FE_DESC_NEXT : 0)),
                                             more ? q->next_free[d] : 0);
        }
        q->ring.avail->ring[q->avail_idx & (q->ring.size - 1)] = htole16((uint16_t)id);
        q->avail_idx++;
}

static bool split_show(struct fe_queue *q)
{
        uint16_t old = q->shown_idx;

        if (old == q->avail_idx)
                return false;
        /* pairs with the back end's acquire of avail->idx */
        atomic_store_explicit((_Atomic uint16_t *)&q->ring.avail->idx, htole16(q->avail_idx), memory_order_release);
        q->shown_idx = q->avail_idx;
        /* pairs with the back end's fence between avail_event (or flags) and its last look at avail->idx */
        atomic_thread_fence(memory_order_seq_cst);
        if (q->event_idx)
                return event_passed(avail_event(q), q->shown_idx, old);
        return !(le16toh(*(volatile uint16_t *)&q->ring.used->flags) & USED_NO_NOTIFY);
}

static int split_answer(struct fe_queue *q, uint32_t *id, uint32_t *len)
{
        uint16_t idx = used_idx(q);
        unsigned at = q->last_used & (q->ring.size - 1);

        if ((uint16_t)(idx - q->last_used) > q->in_flight)
                return err_note(-EPROTO, "queue %u: the back end moved the used index from %u to %u with %u requests "
                                "in flight", q->index, q->last_used, idx, q->in_flight);
        if (idx == q->last_used)
                return 0;
        *id = le32toh(q->ring.used->ring[at].id);
        *len = le32toh(q->ring.used->ring[at].len);
        return 1;
}

static void split_next_answer(struct fe_queue *q, unsigned descs)
{
        (void)descs;
        q->last_used++;
}

static bool split_answered(struct fe_queue *q)
{
        return used_idx(q) != q->last_used;
}

static uint32_t split_base(const struct fe_queue *q)
{
        return q->shown_idx;
}

/* As QEMU does: what was taken after the used index is for the record to say. */
static uint32_t split_resume_base(const struct fe_queue *q)
{
        return le16toh(q->ring.used->idx);
}

const struct fe_ring_ops fe_split_ops = {
        .reset = split_reset,
        .desc = split_desc,
        .links = split_links,
        .offer = split_offer,
        .show = split_show,
        .answer = split_answer,
        .next_answer = split_next_answer,
        .answered = split_answered,
        .calls_off = calls_off,
        .calls_on = calls_on,
        .base = split_base,
        .resume_base = split_resume_base,
};
