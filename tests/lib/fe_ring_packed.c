/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of a packed ring (virtio 1.2, 2.8). Of a batch the flags of the first descriptor are written last. */
#include <endian.h>
#include <stdatomic.h>

#include "fe_ring.h"

#define WRAP 0x8000u
enum { AVAIL = 1 << 7, USED = 1 << 15 };
enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_DESC = 2 };

static uint16_t place(uint16_t idx, bool wrap)
{
        return (uint16_t)(idx | (wrap ? WRAP : 0));
}

static void step(const struct fe_queue *q, uint16_t *idx, bool *wrap, unsigned n)
{
        unsigned to = *idx + n;

        if (to >= q->ring.size) {
                to -= q->ring.size;
                *wrap = !*wrap;
        }
        *idx = (uint16_t)to;
}

static void tell(struct fe_queue *q, uint16_t off_wrap, uint16_t flags)
{
        atomic_store_explicit((_Atomic uint32_t *)(void *)q->ring.driver, htole32(off_wrap | (uint32_t)flags << 16),
                              memory_order_relaxed);
}

static void calls_off(struct fe_queue *q)
{
        tell(q, 0, EVENT_DISABLE);
}

static void calls_on(struct fe_queue *q)
{
        tell(q, place(q->last_used, q->used_wrap), q->event_idx ? EVENT_DESC : EVENT_ENABLE);
        /* pairs with the back end's fence between its answer and its look at what we want */
        atomic_thread_fence(memory_order_seq_cst);
}

static void packed_reset(struct fe_queue *q)
{
        q->avail_idx = q->last_used = q->nhidden = 0;
        q->avail_wrap = q->used_wrap = true;
}

/* The last two fields have changed their places. */
static struct fe_ring_desc packed_desc(uint64_t gpa, uint32_t len, uint16_t flags, uint16_t id)
{
        return (struct fe_ring_desc){ htole64(gpa), htole32(len), htole16(id), htole16(flags) };
}

static unsigned packed_links(unsigned descs)
{
        (void)descs;
        return 1;
}

static void packed_offer(struct fe_queue *q, unsigned id, const struct fe_piece *p, unsigned n, uint16_t flags)
{
        for (unsigned i = 0; i < n; i++) {
                struct fe_packed_desc *d = &q->ring.packed[q->avail_idx];
                uint16_t f = (uint16_t)(flags | (p[i].write ? FE_DESC_WRITE : 0) | (i + 1 < n ? FE_DESC_NEXT : 0) |
                                        (q->avail_wrap ? AVAIL : USED));

                d->gpa = htole64(p[i].gpa);
                d->len = htole32(p[i].len);
                d->id = htole16((uint16_t)(i + 1 < n ? 0xffff : id)); /* only the last one counts */
                if (q->nhidden++ == 0) {
                        q->hidden_at = q->avail_idx;
                        q->hidden_flags = f;
                } else {
                        atomic_store_explicit((_Atomic uint16_t *)&d->flags, htole16(f), memory_order_relaxed);
                }
                step(q, &q->avail_idx, &q->avail_wrap, 1);
        }
}

static bool packed_show(struct fe_queue *q)
{
        uint16_t n = q->nhidden, event;
        uint32_t wish;

        if (!n)
                return false;
        /* pairs with the back end's acquire of the flags */
        atomic_store_explicit((_Atomic uint16_t *)&q->ring.packed[q->hidden_at].flags, htole16(q->hidden_flags),
                              memory_order_release);
        q->nhidden = 0;
        /* pairs with the back end's fence between what it wants and its last look at the ring */
        atomic_thread_fence(memory_order_seq_cst);
        wish = le32toh(atomic_load_explicit((_Atomic uint32_t *)(void *)q->ring.device, memory_order_relaxed));
        if (wish >> 16 != EVENT_DESC || !q->event_idx)
                return wish >> 16 != EVENT_DISABLE;
        event = wish & (WRAP - 1);
        if (!!(wish & WRAP) != q->avail_wrap)
                event = (uint16_t)(event - q->ring.size); /* of the round before */
        return event_passed(event, q->avail_idx, (uint16_t)(q->avail_idx - n));
}

static bool packed_answered(struct fe_queue *q)
{
        /* pairs with the back end's release of the flags: id, length, data and later answers of the batch are visible */
        uint16_t flags = le16toh(atomic_load_explicit((_Atomic uint16_t *)&q->ring.packed[q->last_used].flags,
                                                      memory_order_acquire));

        return (flags & (AVAIL | USED)) == (q->used_wrap ? AVAIL | USED : 0);
}

static int packed_answer(struct fe_queue *q, uint32_t *id, uint32_t *len)
{
        if (!packed_answered(q))
                return 0;
        *id = le16toh(q->ring.packed[q->last_used].id);
        *len = le32toh(q->ring.packed[q->last_used].len);
        return 1;
}

static void packed_next_answer(struct fe_queue *q, unsigned descs)
{
        step(q, &q->last_used, &q->used_wrap, descs);
}

static uint32_t packed_base(const struct fe_queue *q)
{
        uint32_t at = place(q->avail_idx, q->avail_wrap);

        return at | at << 16;
}

/* As QEMU does: nothing in the ring says it, so the front end sends what it last heard of, and the record knows better. */
static uint32_t packed_resume_base(const struct fe_queue *q)
{
        (void)q;
        return WRAP | WRAP << 16;
}

const struct fe_ring_ops fe_packed_ops = {
        .reset = packed_reset,
        .desc = packed_desc,
        .links = packed_links,
        .offer = packed_offer,
        .show = packed_show,
        .answer = packed_answer,
        .next_answer = packed_next_answer,
        .answered = packed_answered,
        .calls_off = calls_off,
        .calls_on = calls_on,
        .base = packed_base,
        .resume_base = packed_resume_base,
};
