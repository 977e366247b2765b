/* SPDX-License-Identifier: BSD-3-Clause */
/* blk_device.h - a virtio block device (virtio 1.2, 5.2) on top of a volume. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/vol.h"
#include "vhost_user/device.h"

#define SECTOR_SIZE 512u        /* of all sector numbers, whatever the block size */
#define BLK_ID_LEN 20           /* VIRTIO_BLK_ID_BYTES */
#define BLK_SEG_MAX 126u        /* data descriptors of a request */
#define BLK_SIZE_MAX (1u << 20) /* bytes of one */
#define BLK_MAX_DATA ((uint64_t)BLK_SEG_MAX * BLK_SIZE_MAX)
#define BLK_MAX_RANGES 32u      /* of one DISCARD or WRITE_ZEROES request */
#define BLK_MAX_RANGE_SECTORS (1u << 22) /* 2 GiB: one request cannot keep the tables busy for long */

struct blk_device {
        struct vu_device vu;
        struct vol *vol;     /* control writes; queue threads read, by RCU */
        /* sectors; what the guest may address: whole blocks. Control writes, queue threads read */
        _Atomic uint64_t capacity;
        uint32_t block_size; /* logical, bytes */
        uint32_t cluster_size;
        bool read_only;
        char serial[BLK_ID_LEN];
        atomic_bool wce;     /* control writes, queue threads read */
        char *wce_mark;      /* export.h */
        struct vol_port **port; /* one for each of vu.threads, NULL until the first ring starts there; that thread's */
};

/* blk_config.c: config space and features. Control thread. */
uint64_t blk_features(const struct blk_device *d);
int blk_get_config(struct vu_device *vu, uint32_t off, void *buf, uint32_t len);
int blk_set_config(struct vu_device *vu, uint32_t off, const void *buf, uint32_t len);

/* blk_request.c: see vhost_user/device.h. Queue threads. */
int blk_ring_start(struct vu_device *vu, struct ring *r);
void blk_ring_stop(struct vu_device *vu, struct ring *r);
void blk_leave(struct vu_device *vu, unsigned thread);
void blk_ring_hurry(struct vu_device *vu, struct ring *r);
struct ring_req *blk_get(struct ring *r);
void blk_put(struct ring *r, struct ring_req *q);
void blk_take(struct ring *r, struct ring_req *q);
