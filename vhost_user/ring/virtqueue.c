/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariant: in_flight is the number of bits in taken[]; a head is in flight at most once, so in_flight <= num, and
 * what is given back cannot overrun what the guest has not read.
 */
#include "virtqueue.h"

#include <errno.h>

#include "common/err.h"
#include "common/range.h"
#include "vhost_user/ring/vq_ops.h"

bool vq_size_ok(uint32_t num, bool packed)
{
        return num && num <= VQ_MAX_SIZE && (packed || is_pow2(num));
}

int vq_break(struct virtqueue *vq, const char *why)
{
        vq->broken = why;
        return -EINVAL;
}

int vq_start(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at, uint32_t base)
{
        int r;

        if (!vq_size_ok(at->num, at->packed))
                return err_note(-EINVAL, "a ring of %u entries: a size for packed rings only", at->num);
        vq_finish(vq);
        *vq = (struct virtqueue){
                .ops = at->packed ? &vq_packed_ops : &vq_split_ops, .num = at->num,
                .event_idx = vq->event_idx, .indirect = vq->indirect,
        };
        r = vq->ops->remap(vq, mt, at);
        return r < 0 ? r : vq->ops->start(vq, at, base);
}

void vq_finish(struct virtqueue *vq)
{
        if (vq->ops)
                vq->ops->finish(vq);
}

uint32_t vq_base(const struct virtqueue *vq)
{
        return vq->ops->base(vq);
}

int vq_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at)
{
        int r = vq->ops->remap(vq, mt, at);

        if (r < 0 && r != -EAGAIN)
                vq->broken = "its rings are not in guest memory";
        return r;
}

int vq_waiting(struct virtqueue *vq)
{
        return vq->ops->waiting(vq);
}

unsigned vq_again(const struct virtqueue *vq)
{
        return vq->ops->again(vq);
}

int vq_take(struct virtqueue *vq, const struct chain *c)
{
        if (bitmap_test(vq->taken, c->head))
                return vq_break(vq, "a head or buffer id that is in flight already");
        bitmap_set(vq->taken, c->head);
        vq->in_flight++;
        return 0;
}

int vq_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c)
{
        c->indirect_ok = vq->indirect;
        return vq->ops->pop(vq, mt, c);
}

void vq_drop(struct virtqueue *vq, const struct chain *c)
{
        bitmap_clear(vq->taken, c->head);
        vq->in_flight--;
}

void vq_push(struct virtqueue *vq, const struct chain *c, uint32_t written)
{
        vq->ops->push(vq, c, written);
        vq_drop(vq, c);
}

bool vq_publish(struct virtqueue *vq)
{
        return vq->ops->publish(vq);
}

void vq_want_kicks(struct virtqueue *vq, bool on)
{
        vq->ops->want_kicks(vq, on);
}

unsigned vq_written(const struct virtqueue *vq, struct iovec part[VQ_WRITTEN_MAX])
{
        return vq->ops->written(vq, part);
}

bool vq_event_passed(uint16_t event, uint16_t from, uint16_t to)
{
        return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}
