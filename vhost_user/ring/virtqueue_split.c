/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split virtqueue (virtio 1.2, 2.7).
 *
 * Invariant: last_avail and used_idx are ours; the guest's copies are only shown or compared.
 */
#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/ring/vq_ops.h"

/* Sizes of the parts: virtio 1.2, 2.7. Both index rings end with the event field. */
static size_t avail_size(unsigned num)
{
        return sizeof(struct vring_avail) + (num + 1) * sizeof(uint16_t);
}

static size_t used_size(unsigned num)
{
        return sizeof(struct vring_used) + num * sizeof(struct vring_used_elem) + sizeof(uint16_t);
}

static uint16_t *used_event(struct virtqueue *vq) /* the guest's: interrupt me when you pass this */
{
        return &vq->split.avail->ring[vq->num];
}

static uint16_t *avail_event(struct virtqueue *vq) /* ours: kick me when you pass this */
{
        return (uint16_t *)&vq->split.used->ring[vq->num];
}

static int split_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at)
{
        void *desc = gm_ring_part(mt, at->desc, at->num * sizeof(struct vring_desc), false, VRING_DESC_ALIGN_SIZE);
        void *avail = gm_ring_part(mt, at->driver, avail_size(at->num), false, VRING_AVAIL_ALIGN_SIZE);
        void *used = gm_ring_part(mt, at->device, used_size(at->num), true, VRING_USED_ALIGN_SIZE);

        if ((!desc || !avail || !used) && errno == EAGAIN)
                return -EAGAIN;
        if (!desc || !avail || !used)
                return err_note(-EFAULT, "ring of %u entries (desc 0x%llx, avail 0x%llx, used 0x%llx) does not lie "
                                "aligned in guest memory", at->num, (unsigned long long)at->desc,
                                (unsigned long long)at->driver, (unsigned long long)at->device);
        vq->split.desc = desc;
        vq->split.avail = avail;
        vq->split.used = used;
        return 0;
}

/* Go on where the record says: what it has in flight was taken, what it has not was given back. */
static int take_up_record(struct virtqueue *vq, const struct vq_layout *at)
{
        struct vq_split *s = &vq->split;
        uint16_t offered;
        bool fresh;
        int r = inflight_split_load(at->record, vq->num, s->used_idx, &fresh, &s->record);

        if (r < 0 || fresh)
                return r;
        offered = (uint16_t)(gm_load16_acquire(&s->avail->idx) - s->used_idx);
        if (offered > vq->num || offered < s->record->nresubmit)
                return err_note(-EBADMSG, "the in-flight record is damaged: %u requests in flight, but the ring shows %u",
                                s->record->nresubmit, offered);
        s->last_avail = (uint16_t)(s->used_idx + s->record->nresubmit);
        return 0;
}

static int split_start(struct virtqueue *vq, const struct vq_layout *at, uint32_t base)
{
        struct vq_split *s = &vq->split;

        if (base > UINT16_MAX)
                return err_note(-EINVAL, "base %u is no 16-bit index", base);
        s->last_avail = (uint16_t)base;
        s->used_idx = s->published = gm_load16(&s->used->idx);
        return at->record.at ? take_up_record(vq, at) : 0;
}

static void split_finish(struct virtqueue *vq)
{
        inflight_split_free(TAKE(vq->split.record, NULL));
}

static uint32_t split_base(const struct virtqueue *vq)
{
        return vq->split.last_avail;
}

static unsigned split_again(const struct virtqueue *vq)
{
        const struct inflight_split *f = vq->split.record;

        return f ? f->nresubmit - f->resubmitted : 0;
}

static int split_waiting(struct virtqueue *vq)
{
        struct vq_split *s = &vq->split;
        uint16_t waiting = (uint16_t)(gm_load16_acquire(&s->avail->idx) - s->last_avail);

        /* The acquire pairs with the guest's barrier between filling the ring and moving the index. */
        if (waiting > vq->num)
                return vq_break(vq, "the avail index jumped");
        return (int)(waiting + split_again(vq));
}

static int split_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c)
{
        struct vq_split *s = &vq->split;
        const char *why;
        uint16_t head;
        bool again = s->record && inflight_split_next(s->record, &head);

        if (!again)
                head = gm_load16(&s->avail->ring[s->last_avail & (vq->num - 1)]);
        if (chain_read(c, mt, s->desc, vq->num, head, &why) < 0)
                return vq_break(vq, why);
        if (c->missing && again)
                inflight_split_not_yet(s->record);
        if (c->missing)
                return -EAGAIN;
        if (vq_take(vq, c) < 0)
                return -EINVAL;
        if (again)
                return 1;
        s->last_avail++;
        if (s->record)
                inflight_split_take(s->record, head);
        return 1;
}

static void split_push(struct virtqueue *vq, const struct chain *c, uint32_t written)
{
        struct vq_split *s = &vq->split;
        struct vring_used_elem *e = &s->used->ring[s->used_idx & (vq->num - 1)];

        gm_store32(&e->id, c->head);
        gm_store32(&e->len, written);
        s->used_idx++;
        if (s->record)
                inflight_split_give_back(s->record, c->head);
}

static bool split_publish(struct virtqueue *vq)
{
        struct vq_split *s = &vq->split;
        uint16_t from = s->published;

        if (s->published == s->used_idx)
                return false;
        /* [A] the elements (and the data) before the index: pairs with the guest's read barrier behind used->idx. */
        gm_store16_release(&s->used->idx, s->used_idx);
        if (s->record)
                inflight_split_published(s->record, s->used_idx);
        s->published = s->used_idx;
        /* [B] the index before the look at the guest's wish: pairs with its barrier between wish and look at the
         * index. */
        gm_full_barrier();
        if (!vq->event_idx)
                return !(gm_load16(&s->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
        return !TAKE(vq->notified_valid, true) || vq_event_passed(gm_load16(used_event(vq)), from, s->used_idx);
}

static void split_want_kicks(struct virtqueue *vq, bool on)
{
        if (vq->event_idx) {
                /* Off: leave the old value behind. The guest passes it again only after 65536 requests. */
                if (on)
                        gm_store16(avail_event(vq), vq->split.last_avail);
        } else {
                gm_store16(&vq->split.used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY);
        }
        if (on)
                gm_full_barrier(); /* our wish before our next look at avail->idx: pairs with the guest's [B] */
}

static unsigned split_written(const struct virtqueue *vq, struct iovec part[VQ_WRITTEN_MAX])
{
        part[0] = (struct iovec){ vq->split.used, used_size(vq->num) };
        return 1;
}

const struct vq_ops vq_split_ops = {
        .remap = split_remap,
        .start = split_start,
        .finish = split_finish,
        .base = split_base,
        .waiting = split_waiting,
        .again = split_again,
        .pop = split_pop,
        .push = split_push,
        .publish = split_publish,
        .want_kicks = split_want_kicks,
        .written = split_written,
};
