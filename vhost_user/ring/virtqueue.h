/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue.h - a virtqueue as the device sees it, whatever its layout in memory. No I/O, no threads: the ring (ring.h)
 * owns one and uses it on its queue thread.
 *
 * A layout (virtqueue_split.c, virtqueue_packed.c) is a table of functions behind the calls below; who calls them need
 * not know which.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bitmap.h"
#include "vhost_user/ring/chain.h"
#include "vhost_user/ring/inflight_packed.h"
#include "vhost_user/ring/inflight_split.h"

#define VQ_MAX_SIZE INFLIGHT_MAX_SIZE

struct vq_layout {
        unsigned num;                  /* entries: see vq_size_ok() */
        uint64_t desc, driver, device; /* the three areas (virtio 1.2, 2.6), addresses of the front end's process */
        struct inflight_part record;
        bool packed;                   /* split otherwise */
};

/* virtqueue_split.c (virtio 1.2, 2.7) */
struct vq_split {
        struct vring_desc *desc;
        struct vring_avail *avail;
        struct vring_used *used;
        uint16_t last_avail; /* entries taken so far (mod 2^16) */
        uint16_t used_idx;   /* entries given back so far */
        uint16_t published;  /* what the guest sees of used_idx */
        struct inflight_split *record; /* NULL: none is kept */
};

/* virtqueue_packed.c (virtio 1.2, 2.8). Places: see there. */
struct vq_packed {
        struct vring_packed_desc *desc;
        struct vring_packed_desc_event *driver, *device;
        unsigned avail;       /* the next offer */
        unsigned used;        /* the next answer */
        unsigned published;   /* the first answer that the guest does not see */
        uint16_t first_flags; /* what will show it */
        struct inflight_packed *record; /* NULL: none is kept */
};

struct virtqueue {
        const struct vq_ops *ops; /* NULL: never started */
        unsigned num;
        bool event_idx, indirect; /* negotiated; set before vq_start() */
        bool notified_valid;      /* false: we cannot know what the guest was told, so it is told */
        unsigned in_flight;       /* chains */
        unsigned long taken[BITMAP_WORDS(VQ_MAX_SIZE)]; /* their heads (packed: buffer ids) */
        const char *broken;       /* why nothing more is taken; NULL: works */
        union {
                struct vq_split split;
                struct vq_packed packed;
        };
};

/* Sizes that a queue may have: up to VQ_MAX_SIZE; powers of two unless it is packed. */
bool vq_size_ok(uint32_t num, bool packed);

/**
 * vq_start - begin at @base, which is what vq_base() said or the front end thinks. With a record that was in use
 * before, we go on where it says, whatever @base is, and vq_pop() first gives again what was in flight then.
 * @vq: zeros, or started before. Returns 0, or with a sentence -EFAULT (a part of the ring is not in guest memory, or
 * is not aligned), -EAGAIN (its translation is missing: nothing was done), -EBADMSG (the in-flight record makes no
 * sense), -EINVAL (@base makes none) or -ENOMEM.
 */
int vq_start(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at, uint32_t base);

/* Not used any more, until the next vq_start(). */
void vq_finish(struct virtqueue *vq);

/* Where another back end, or we, would go on: the number of SET_VRING_BASE. Nothing is in flight. */
uint32_t vq_base(const struct virtqueue *vq);

/* The memory table changed under a running queue. Same errors; then the queue is broken, but not by -EAGAIN. */
int vq_remap(struct virtqueue *vq, const struct mem_table *mt, const struct vq_layout *at);

/*
 * How many chains wait, at most, to be done again or for the first time; one look. 0: none does.
 * -EINVAL: the ring is nonsense, the queue is broken now.
 */
int vq_waiting(struct virtqueue *vq);

/* How many of these are to be done again: they were in flight when the process before us died. */
unsigned vq_again(const struct virtqueue *vq);

/* Take the next chain: 1; 0: there is none (any more). Nothing was taken: -EINVAL, the queue is broken now; -EAGAIN,
 * translations are missing (guest_mem.h), ask again when some have come. */
int vq_pop(struct virtqueue *vq, const struct mem_table *mt, struct chain *c);

/* Give @c back with @written bytes. The guest sees it after vq_publish(). */
void vq_push(struct virtqueue *vq, const struct chain *c, uint32_t written);

/* @c will never be given back: the guest broke the rules in a way that cannot be answered. The record keeps it. */
void vq_drop(struct virtqueue *vq, const struct chain *c);

/* Show the guest what was pushed. Returns whether it wants to be interrupted for it. */
bool vq_publish(struct virtqueue *vq);

/* What of the ring's memory we write to: how many of @part were filled. For the dirty log. */
#define VQ_WRITTEN_MAX 2
unsigned vq_written(const struct virtqueue *vq, struct iovec part[VQ_WRITTEN_MAX]);

/* Tell the guest whether we need kicks. After turning them on look at vq_waiting() once more. */
void vq_want_kicks(struct virtqueue *vq, bool on);
