/* SPDX-License-Identifier: BSD-3-Clause */
/* vq_ops.h - what virtqueue.c and the layouts share. The calls are those of virtqueue.h, without what is common to
 * all. */
#pragma once

#include "vhost_user/ring/virtqueue.h"

struct vq_ops {
        int (*remap)(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at);
        int (*start)(struct virtqueue *vq, const struct vq_layout *at, uint32_t base); /* behind remap */
        void (*finish)(struct virtqueue *vq);
        uint32_t (*base)(const struct virtqueue *vq);
        int (*waiting)(struct virtqueue *vq);
        unsigned (*again)(const struct virtqueue *vq);
        int (*pop)(struct virtqueue *vq, const struct mem_table *mt, struct chain *c);
        void (*push)(struct virtqueue *vq, const struct chain *c, uint32_t written);
        bool (*publish)(struct virtqueue *vq);
        void (*want_kicks)(struct virtqueue *vq, bool on);
        unsigned (*written)(const struct virtqueue *vq, struct iovec part[VQ_WRITTEN_MAX]);
};
extern const struct vq_ops vq_split_ops, vq_packed_ops;

/* Nothing more is taken, because of @why. Returns -EINVAL. */
int vq_break(struct virtqueue *vq, const char *why);

/* @c was read, its head is below num: 0, it is in flight now; -EINVAL: it was already, the queue is broken. */
int vq_take(struct virtqueue *vq, const struct chain *c);

/* virtio 1.2, 2.7.7.2: did the index pass @event on its way from @from to @to? */
bool vq_event_passed(uint16_t event, uint16_t from, uint16_t to);
