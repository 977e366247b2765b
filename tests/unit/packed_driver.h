/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * packed_driver.h - the driver's side of a packed ring in the memory of guest_fixture.h, in the plainest words of
 * virtio 1.2, 2.8. For tests only. Data is always at guest address 0x1000 + 16 * buffer id, 16 bytes a descriptor.
 */
#pragma once

#include <linux/virtio_ring.h>

#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/virtqueue.h"

#define PD_RING 0x10000ull
#define PD_DRIVER 0x11000ull
#define PD_DEVICE 0x11100ull
#define PD_MAX 32u

struct packed_driver {
        unsigned num;
        struct vring_packed_desc *ring;
        struct vring_packed_desc_event *driver, *device;
        unsigned avail, used;       /* indexes */
        bool avail_wrap, used_wrap;
        unsigned free;              /* descriptors */
        unsigned ndescs[PD_MAX];    /* by buffer id, 0: not offered */
};

static inline struct vq_layout pd_layout(unsigned num)
{
        return (struct vq_layout){ .num = num, .desc = GUEST_USER + PD_RING, .driver = GUEST_USER + PD_DRIVER,
                                   .device = GUEST_USER + PD_DEVICE, .packed = true };
}

/* @at: where byte PD_RING of the guest is. */
static inline void pd_init(struct packed_driver *d, void *at, unsigned num)
{
        *d = (struct packed_driver){
                .num = num, .free = num, .avail_wrap = true, .used_wrap = true,
                .ring = at, .driver = (void *)((char *)at + PD_DRIVER - PD_RING),
                .device = (void *)((char *)at + PD_DEVICE - PD_RING),
        };
        memset(d->ring, 0, num * sizeof(d->ring[0]));
        memset(d->driver, 0, sizeof(*d->driver));
        memset(d->device, 0, sizeof(*d->device));
}

/* Writes one descriptor at the driver's place and moves on. */
static inline void pd_write(struct packed_driver *d, struct vring_packed_desc desc)
{
        desc.flags = (uint16_t)((desc.flags & ~(1u << 7 | 1u << 15)) | (d->avail_wrap ? 1u << 7 : 1u << 15));
        d->ring[d->avail] = desc;
        if (++d->avail == d->num) {
                d->avail = 0;
                d->avail_wrap = !d->avail_wrap;
        }
        d->free--;
}

/* Offers a chain of @n descriptors, all readable but the last. */
static inline void pd_offer(struct packed_driver *d, uint16_t id, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                pd_write(d, (struct vring_packed_desc){
                                    .addr = 0x1000 + 16u * id, .len = 16, .id = i + 1 == n ? id : 0xdead,
                                    .flags = i + 1 == n ? VRING_DESC_F_WRITE : VRING_DESC_F_NEXT });
        d->ndescs[id] = n;
}

/* The next answer: its buffer id, or -1. */
static inline int pd_reap(struct packed_driver *d, uint32_t *len)
{
        struct vring_packed_desc *e = &d->ring[d->used];
        bool a = e->flags >> 7 & 1, u = e->flags >> 15 & 1;

        if (a != u || u != d->used_wrap)
                return -1;
        if (e->id >= PD_MAX || !d->ndescs[e->id])
                abort();
        *len = e->len;
        d->used += d->ndescs[e->id];
        d->free += d->ndescs[e->id];
        d->ndescs[e->id] = 0;
        if (d->used >= d->num) {
                d->used -= d->num;
                d->used_wrap = !d->used_wrap;
        }
        return e->id;
}
