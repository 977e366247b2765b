/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - in_flight is the number of bits in taken[]; a head is in flight at most once, so in_flight <= num and used[]
 *     cannot overrun what the guest has not read.
 *   - last_avail and used_idx are ours; the guest's copies are only shown or compared.
 */
#include "virtqueue.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

bool vq_size_ok(uint32_t num)
{
        return num <= VQ_MAX_SIZE && is_pow2(num);
}

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
        return &vq->avail->ring[vq->num];
}

static uint16_t *avail_event(struct virtqueue *vq) /* ours: kick me when you pass this */
{
        return (uint16_t *)&vq->used->ring[vq->num];
}

int vq_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at)
{
        void *desc = gm_ring_part(mt, at->desc, at->num * sizeof(struct vring_desc), VRING_DESC_ALIGN_SIZE);
        void *avail = gm_ring_part(mt, at->avail, avail_size(at->num), VRING_AVAIL_ALIGN_SIZE);
        void *used = gm_ring_part(mt, at->used, used_size(at->num), VRING_USED_ALIGN_SIZE);

        if (!desc || !avail || !used) {
                vq->broken = "its rings are not in guest memory";
                return err_note(-EFAULT, "ring of %u entries (desc 0x%llx, avail 0x%llx, used 0x%llx) does not lie "
                                "aligned in guest memory", at->num, (unsigned long long)at->desc,
                                (unsigned long long)at->avail, (unsigned long long)at->used);
        }
        vq->desc = desc;
        vq->avail = avail;
        vq->used = used;
        return 0;
}

/* Go on where the record says: what it has in flight was taken, what it has not was given back. */
static int take_up_record(struct virtqueue *vq, const struct vq_layout *at)
{
        uint16_t offered;
        bool fresh;
        int r = inflight_load(at->record, vq->num, vq->used_idx, &fresh, &vq->record);

        if (r < 0 || fresh)
                return r;
        offered = (uint16_t)(gm_load16_acquire(&vq->avail->idx) - vq->used_idx);
        if (offered > vq->num || offered < vq->record->nresubmit)
                return err_note(-EBADMSG, "the in-flight record is damaged: %u requests in flight, but the ring shows %u",
                                vq->record->nresubmit, offered);
        vq->last_avail = (uint16_t)(vq->used_idx + vq->record->nresubmit);
        return 0;
}

int vq_start(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at, uint16_t last_avail)
{
        int r;

        vq_finish(vq);
        vq->broken = NULL;
        vq->num = at->num;
        vq->in_flight = 0;
        memset(vq->taken, 0, sizeof(vq->taken));
        vq->last_avail = last_avail;
        vq->notified_valid = false;
        r = vq_remap(vq, mt, at);
        if (r < 0)
                return r;
        vq->used_idx = vq->published = vq->notified = gm_load16(&vq->used->idx);
        return at->record.at ? take_up_record(vq, at) : 0;
}

void vq_finish(struct virtqueue *vq)
{
        inflight_free(TAKE(vq->record, NULL));
}

static int vq_break(struct virtqueue *vq, const char *why)
{
        vq->broken = why;
        return -EINVAL;
}

int vq_waiting(struct virtqueue *vq)
{
        uint16_t waiting = (uint16_t)(gm_load16_acquire(&vq->avail->idx) - vq->last_avail);

        /* The acquire pairs with the guest's barrier between filling the ring and moving the index. */
        if (waiting > vq->num)
                return vq_break(vq, "the avail index jumped");
        return vq->record ? (int)(waiting + vq->record->nresubmit - vq->record->resubmitted) : waiting;
}

int vq_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c)
{
        const char *why;
        uint16_t head;
        bool again = vq->record && inflight_next(vq->record, &head);

        if (!again)
                head = gm_load16(&vq->avail->ring[vq->last_avail & (vq->num - 1)]);
        if (head >= vq->num)
                return vq_break(vq, "a head beyond the descriptor table");
        if (bitmap_test(vq->taken, head))
                return vq_break(vq, "a head that is in flight already");
        c->indirect_ok = vq->indirect;
        if (chain_read(c, mt, vq->desc, vq->num, head, &why) < 0)
                return vq_break(vq, why);
        bitmap_set(vq->taken, head);
        vq->in_flight++;
        if (again)
                return 0;
        vq->last_avail++;
        if (vq->record)
                inflight_take(vq->record, head);
        return 0;
}

void vq_drop(struct virtqueue *vq, uint16_t head)
{
        bitmap_clear(vq->taken, head);
        vq->in_flight--;
}

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
        struct vring_used_elem *e = &vq->used->ring[vq->used_idx & (vq->num - 1)];

        gm_store32(&e->id, head);
        gm_store32(&e->len, written);
        vq->used_idx++;
        if (vq->record)
                inflight_give_back(vq->record, head);
        vq_drop(vq, head);
}

bool vq_event_passed(uint16_t event, uint16_t from, uint16_t to)
{
        return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

bool vq_publish(struct virtqueue *vq)
{
        uint16_t from = vq->notified;
        bool sure = !vq->notified_valid;

        if (vq->published == vq->used_idx)
                return false;
        /* [A] the elements (and the data) before the index: pairs with the guest's read barrier behind used->idx. */
        gm_store16_release(&vq->used->idx, vq->used_idx);
        if (vq->record)
                inflight_published(vq->record, vq->used_idx);
        vq->published = vq->notified = vq->used_idx;
        vq->notified_valid = true;
        /* [B] the index before the look at the guest's wish: pairs with its barrier between wish and look at the
         * index. */
        gm_full_barrier();
        if (!vq->event_idx)
                return !(gm_load16(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
        return sure || vq_event_passed(gm_load16(used_event(vq)), from, vq->used_idx);
}

void vq_want_kicks(struct virtqueue *vq, bool on)
{
        if (vq->event_idx) {
                /* Off: leave the old value behind. The guest passes it again only after 65536 requests. */
                if (on)
                        gm_store16(avail_event(vq), vq->last_avail);
        } else {
                gm_store16(&vq->used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY);
        }
        if (on)
                gm_full_barrier(); /* our wish before our next look at avail->idx: pairs with the guest's [B] */
}
