/* SPDX-License-Identifier: BSD-3-Clause */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mark.h"
#include "common/range.h"
#include "vhost_user_blk/blk_device.h"

#define CONFIG_BYTES 256u
#define PHYSICAL_BLOCK 4096u /* what host file systems and disks really write */
#define WCE_OFFSET offsetof(struct virtio_blk_config, wce)

_Static_assert(sizeof(struct virtio_blk_config) <= CONFIG_BYTES, "the config space fits");

uint64_t blk_features(const struct blk_device *d)
{
        uint64_t f = 1ull << VIRTIO_F_VERSION_1 |
                     1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_F_RING_PACKED |
                     1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                     1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_CONFIG_WCE |
                     1ull << VIRTIO_BLK_F_MQ;

        if (d->read_only)
                return f | 1ull << VIRTIO_BLK_F_RO;
        return f | 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
}

static uint8_t log2_of(uint64_t pow2)
{
        return (uint8_t)__builtin_ctzll(pow2);
}

static void build(const struct blk_device *d, struct virtio_blk_config *c)
{
        uint32_t physical = d->block_size > PHYSICAL_BLOCK ? d->block_size : PHYSICAL_BLOCK;
        uint32_t unit = d->cluster_size > physical ? d->cluster_size : physical; /* freed as a whole */

        memset(c, 0, sizeof(*c));
        c->capacity = htole64(d->capacity);
        c->size_max = htole32(BLK_SIZE_MAX);
        c->seg_max = htole32(BLK_SEG_MAX);
        c->blk_size = htole32(d->block_size);
        c->physical_block_exp = log2_of(physical / d->block_size);
        c->min_io_size = htole16((uint16_t)(physical / d->block_size));
        c->opt_io_size = htole32(d->cluster_size > physical ? d->cluster_size / d->block_size : 0);
        c->wce = atomic_load(&d->wce);
        c->num_queues = htole16((uint16_t)d->vu.num_queues);
        if (d->read_only)
                return;
        c->max_discard_sectors = htole32(BLK_MAX_RANGE_SECTORS);
        c->max_discard_seg = htole32(BLK_MAX_RANGES);
        c->discard_sector_alignment = htole32(unit / SECTOR_SIZE);
        c->max_write_zeroes_sectors = htole32(BLK_MAX_RANGE_SECTORS);
        c->max_write_zeroes_seg = htole32(BLK_MAX_RANGES);
        c->write_zeroes_may_unmap = 1;
}

/* Some versions of cloud-hypervisor count from 0x100, where virtio-mmio has its config space. */
static uint32_t real_offset(uint32_t off)
{
        return off >= CONFIG_BYTES ? off - CONFIG_BYTES : off;
}

/* Bytes that no field has are zeros. */
int blk_get_config(struct vu_device *vu, uint32_t off, void *buf, uint32_t len)
{
        uint8_t all[CONFIG_BYTES] = { 0 };
        struct virtio_blk_config c;

        off = real_offset(off);
        memset(buf, 0, len);
        build(container_of(vu, struct blk_device, vu), &c);
        memcpy(all, &c, sizeof(c));
        if (off < CONFIG_BYTES)
                memcpy(buf, all + off, min_u64(len, CONFIG_BYTES - off));
        return 0;
}

/*
 * The guest may write one byte: whether the disk has a write cache. Once it is off only the guest turns it on again:
 * not a reset and not a new daemon, since QEMU goes on showing the guest what it last wrote, and a guest that was told
 * "no cache" sends no flushes.
 */
int blk_set_config(struct vu_device *vu, uint32_t off, const void *buf, uint32_t len)
{
        struct blk_device *d = container_of(vu, struct blk_device, vu);
        bool on;

        if (real_offset(off) != WCE_OFFSET || len != 1)
                return err_note(-EINVAL, "config bytes [%u, +%u) cannot be written; only the cache mode, [%zu, +1)",
                                off, len, WCE_OFFSET);
        on = *(const uint8_t *)buf != 0;
        if (d->wce_mark && mark_set(d->wce_mark, !on) < 0) {
                log_warn("%s: a restart of the daemon will forget the write cache mode: %s", vu->name, err_text(-EIO));
                err_clear();
        }
        return atomic_exchange(&d->wce, on) != on;
}
