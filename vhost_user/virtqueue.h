/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue.h - a split virtqueue as the device sees it (virtio 1.2, 2.7). No I/O, no threads: the ring (ring.h) owns
 * one and uses it on its queue thread.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bitmap.h"
#include "vhost_user/chain.h"
#include "vhost_user/inflight.h"

#define VQ_MAX_SIZE 1024

struct vq_layout {
        unsigned num;               /* entries: a power of two, 1..VQ_MAX_SIZE */
        uint64_t desc, avail, used; /* addresses of the front end's process */
        struct inflight_part record;
};

struct virtqueue {
        unsigned num;
        struct vring_desc *desc;
        struct vring_avail *avail;
        struct vring_used *used;
        uint16_t last_avail; /* entries taken so far (mod 2^16) */
        uint16_t used_idx;   /* entries given back so far */
        uint16_t published;  /* what the guest sees of used_idx */
        uint16_t notified;   /* published when the guest was last asked whether it wants to hear */
        bool notified_valid;
        bool event_idx, indirect;
        unsigned in_flight;
        unsigned long taken[BITMAP_WORDS(VQ_MAX_SIZE)]; /* heads that are in flight */
        struct inflight *record;                        /* NULL: none is kept */
        const char *broken;                             /* why nothing more is taken; NULL: works */
};

/* Sizes that a queue may have. */
bool vq_size_ok(uint32_t num);

/**
 * vq_start - begin at @last_avail. The used index is taken from the ring. With a record that was in use before, we go on
 * where it says, whatever @last_avail is, and vq_pop() first gives again what was in flight then.
 * @vq: zeros, or started before. Returns 0, or with a sentence -EFAULT (a part of the ring is not in guest memory, or is
 * not aligned), -EBADMSG (the in-flight record makes no sense) or -ENOMEM.
 */
int vq_start(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at, uint16_t last_avail);

/* Not used any more, until the next vq_start(). */
void vq_finish(struct virtqueue *vq);

/* The memory table changed under a running queue. Same errors; then the queue is broken. */
int vq_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at);

/* How many entries wait, to be done again or in the avail ring; one look. -EINVAL: the index is nonsense, the queue is broken now. */
int vq_waiting(struct virtqueue *vq);

/* Take the next entry (vq_waiting said there is one). -EINVAL: the queue is broken now, nothing was taken. */
int vq_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c);

/* Give @head back with @written bytes. The guest sees it after vq_publish(). */
void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written);

/* @head will never be given back: the guest broke the rules in a way that cannot be answered. The record keeps it. */
void vq_drop(struct virtqueue *vq, uint16_t head);

/* Show the guest what was pushed. Returns whether it wants to be interrupted for it. */
bool vq_publish(struct virtqueue *vq);

/* Tell the guest whether we need kicks. After turning them on look at vq_waiting() once more. */
void vq_want_kicks(struct virtqueue *vq, bool on);

/* virtio 1.2, 2.7.7.2: did the index pass @event on its way from @from to @to? */
bool vq_event_passed(uint16_t event, uint16_t from, uint16_t to);
