/* SPDX-License-Identifier: BSD-3-Clause */
/* vdi.c - VirtualBox VDI, static and dynamic: one flat block map. Snapshots of VirtualBox (differences) are refused. */
#include <errno.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/foreign.h"
#include "formats/foreign/on_disk.h"

struct vdi {
        struct foreign f;
        uint64_t map, data; /* where they begin in the file */
};

static bool vdi_probe(const void *head, size_t len)
{
        return len >= VDI_HEADER_LENGTH && le32_get((const char *)head + VDI_MAGIC) == VDI_MAGIC_VALUE;
}

static int vdi_block(struct foreign *f, uint64_t no, struct block *ret)
{
        struct vdi *v = (struct vdi *)f;
        uint8_t raw[4];
        uint32_t e;
        int r = pages_get(f->pages, &f->img, v->map + 4 * no, raw, sizeof(raw));

        if (r < 0)
                return r;
        e = le32_get(raw);
        if (e == VDI_ENTRY_UNALLOCATED || e == VDI_ENTRY_ZERO)
                *ret = (struct block){ .kind = EXT_ZERO };
        else
                *ret = (struct block){ .kind = EXT_DATA, .host = v->data + e * f->block_size };
        return 0;
}

static bool is_zero(const uint8_t *p, size_t len)
{
        while (len && *p == 0)
                p++, len--;
        return !len;
}

static int check_kind(const uint8_t *h)
{
        uint32_t version = le32_get(h + VDI_VERSION), type = le32_get(h + VDI_TYPE);

        if (le32_get(h + VDI_MAGIC) != VDI_MAGIC_VALUE)
                return err_note(-EINVAL, "this is no VDI image: the magic number 0xbeda107f is missing");
        if (version != VDI_VERSION_1_1)
                return err_note(-ENOTSUP, "VDI version %u.%u is not supported, only 1.1", version >> 16,
                                version & 0xffff);
        if (type == VDI_UNDO || type == VDI_DIFF || !is_zero(h + VDI_UUID_LINK, 16) ||
            !is_zero(h + VDI_UUID_PARENT, 16))
                return err_note(-ENOTSUP, "this VDI image holds only differences from another one; merge them first, "
                                "for example with 'VBoxManage clonemedium'");
        if (type != VDI_DYNAMIC && type != VDI_STATIC)
                return err_note(-ENOTSUP, "VDI image type %u is not known, only 1 (dynamic) and 2 (static) are", type);
        return 0;
}

static int check_sizes(const uint8_t *h)
{
        uint32_t block = le32_get(h + VDI_BLOCK_SIZE), blocks = le32_get(h + VDI_BLOCKS);
        uint64_t size = le64_get(h + VDI_DISK_SIZE);

        if (le32_get(h + VDI_SECTOR_SIZE) != SECTOR)
                return err_note(-ENOTSUP, "sectors of %u bytes are not supported, only 512",
                                le32_get(h + VDI_SECTOR_SIZE));
        if (block < SECTOR || !is_pow2(block))
                return err_note(-EINVAL, "a block size of %u bytes is not a power of two of at least 512", block);
        if (le32_get(h + VDI_BLOCK_EXTRA))
                return err_note(-ENOTSUP, "blocks with %u extra bytes are not supported",
                                le32_get(h + VDI_BLOCK_EXTRA));
        if (le32_get(h + VDI_MAP_OFFSET) % SECTOR || le32_get(h + VDI_DATA_OFFSET) % SECTOR)
                return err_note(-EINVAL, "block map at %u or data at %u: not a multiple of 512",
                                le32_get(h + VDI_MAP_OFFSET), le32_get(h + VDI_DATA_OFFSET));
        if (size > (uint64_t)blocks * block)
                return err_note(-EINVAL, "the block map has room for %llu bytes, the disk has %llu",
                                (unsigned long long)blocks * block, (unsigned long long)size);
        return 0;
}

static int vdi_parse(struct vdi *v)
{
        struct fmt_image *img = &v->f.img;
        uint8_t h[VDI_HEADER_LENGTH];
        int r = foreign_read(&v->f, h, sizeof(h), 0, "header");

        if (r == 0)
                r = check_kind(h);
        if (r == 0)
                r = check_sizes(h);
        if (r < 0)
                return r;
        v->map = le32_get(h + VDI_MAP_OFFSET);
        v->data = le32_get(h + VDI_DATA_OFFSET);
        v->f.block_size = img->cluster_size = le32_get(h + VDI_BLOCK_SIZE);
        v->f.block = vdi_block;
        img->size = round_up(le64_get(h + VDI_DISK_SIZE), SECTOR); /* VBoxManage convertfromraw makes odd sizes */
        return foreign_check_inside(&v->f, v->map, 4 * div_round_up(img->size, v->f.block_size), "block map");
}

static int vdi_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        int r;
        struct vdi *v = foreign_new(file, opts, &vdi_driver, sizeof(*v), &r);

        return v ? foreign_opened(&v->f, vdi_parse(v), ret) : r;
}

const struct fmt_driver vdi_driver = {
        .name = "vdi",
        .probe = vdi_probe,
        .open = vdi_open,
        .close = foreign_close,
        .map = foreign_map,
        .want = foreign_want,
};
