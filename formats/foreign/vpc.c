/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vpc.c - Microsoft VHD (QEMU's name is vpc), fixed and dynamic. Differencing images are refused.
 *
 * A block of a dynamic image has a bitmap of its written sectors in front. As for QEMU a block that is there is all
 * data: sectors that were never written are zeros in it.
 */
#include <errno.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/foreign.h"
#include "formats/foreign/on_disk.h"

#define COOKIE "conectix"
#define DYN_COOKIE "cxsparse"
#define COOKIE_LEN 8u
#define GEOMETRY_MAX (65535ull * 16 * 255) /* sectors; what larger disks have as well */
#define SECTORS_MAX 0xff000000ull          /* 2040 GiB */

struct vpc {
        struct foreign f;
        uint64_t table;       /* where it begins in the file */
        uint32_t bitmap_size; /* in front of each block */
};

static bool vpc_probe(const void *head, size_t len)
{
        return len >= COOKIE_LEN && !memcmp(head, COOKIE, COOKIE_LEN);
}

static int vpc_block(struct foreign *f, uint64_t no, struct block *ret)
{
        struct vpc *v = (struct vpc *)f;
        uint8_t raw[4];
        uint32_t e;
        int r = pages_get(f->pages, &f->img, v->table + 4 * no, raw, sizeof(raw));

        if (r < 0)
                return r;
        e = be32_get(raw);
        if (e == VHD_ENTRY_UNALLOCATED)
                *ret = (struct block){ .kind = EXT_ZERO };
        else
                *ret = (struct block){ .kind = EXT_DATA, .host = (uint64_t)e * SECTOR + v->bitmap_size };
        return 0;
}

/* A fixed image: one block that is the disk, and the footer behind it. */
static int whole_block(struct foreign *f, uint64_t no, struct block *ret)
{
        (void)f;
        (void)no;
        *ret = (struct block){ .kind = EXT_DATA };
        return 0;
}

/* The ones' complement of the sum of all bytes but the checksum's own. */
static bool checksum_ok(const uint8_t *p, size_t len, size_t at)
{
        uint32_t sum = 0;

        for (size_t i = 0; i < len; i++)
                sum += i >= at && i < at + 4 ? 0 : p[i];
        return ~sum == be32_get(p + at);
}

/* The footer, or its copy at the begin of the file (dynamic images have one) when it is damaged. */
static int read_footer(struct vpc *v, uint8_t *footer)
{
        uint64_t end = v->f.img.file->size, at[] = { end - VHD_FOOTER_LENGTH, 0 };
        bool cookie = false;
        int r;

        if (end < VHD_FOOTER_LENGTH)
                return err_note(-EINVAL, "a file of %llu bytes is too small for a VHD footer", (unsigned long long)end);
        for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
                r = file_pread(v->f.img.file, footer, VHD_FOOTER_LENGTH, at[i]);
                if (r < 0)
                        return r;
                if (memcmp(footer + VHD_COOKIE, COOKIE, COOKIE_LEN))
                        continue;
                if (checksum_ok(footer, VHD_FOOTER_LENGTH, VHD_CHECKSUM))
                        return 0;
                cookie = true;
        }
        return err_note(-EINVAL, cookie ? "the checksum of the VHD footer is wrong"
                                        : "this is no VHD image: it has no footer that begins with 'conectix'");
}

/*
 * Two programs count in cylinders, all others in the footer's bytes, and what fills the largest geometry is larger than
 * that can say. These are QEMU's rules, so that both find the same disk.
 */
static uint64_t disk_size(const uint8_t *footer)
{
        const uint8_t *app = footer + VHD_CREATOR_APP;
        uint64_t geometry = (uint64_t)be16_get(footer + VHD_CYLINDERS) * footer[VHD_HEADS] * footer[VHD_SECTORS];

        if ((!memcmp(app, "vpc ", 4) || !memcmp(app, "qemu", 4)) && geometry != GEOMETRY_MAX)
                return geometry * SECTOR;
        return round_down(be64_get(footer + VHD_CURRENT_SIZE), SECTOR);
}

static int parse_dynamic(struct vpc *v, uint64_t at)
{
        uint8_t h[VHD_DYN_LENGTH];
        uint32_t block, entries;
        int r = foreign_read(&v->f, h, sizeof(h), at, "dynamic header");

        if (r < 0)
                return r;
        block = be32_get(h + VHD_DYN_BLOCK);
        entries = be32_get(h + VHD_DYN_ENTRIES);
        v->table = be64_get(h + VHD_DYN_TABLE);
        if (memcmp(h + VHD_DYN_COOKIE, DYN_COOKIE, COOKIE_LEN))
                return err_note(-EINVAL, "the dynamic header at %llu does not begin with 'cxsparse'",
                                (unsigned long long)at);
        if (!checksum_ok(h, sizeof(h), VHD_DYN_CHECKSUM))
                return err_note(-EINVAL, "the checksum of the dynamic header is wrong");
        if (block < SECTOR || !is_pow2(block))
                return err_note(-EINVAL, "a block size of %u bytes is not a power of two of at least 512", block);
        if ((uint64_t)entries * block < v->f.img.size)
                return err_note(-EINVAL, "the block table has room for %llu bytes, the disk has %llu",
                                (unsigned long long)entries * block, (unsigned long long)v->f.img.size);
        if (!is_aligned(v->table, SECTOR))
                return err_note(-EINVAL, "the block table at %llu does not begin at a multiple of 512",
                                (unsigned long long)v->table);
        v->f.block_size = v->f.img.cluster_size = block;
        v->f.block = vpc_block;
        v->bitmap_size = (uint32_t)round_up(div_round_up(block / SECTOR, 8), SECTOR);
        return foreign_check_inside(&v->f, v->table, 4 * div_round_up(v->f.img.size, block), "block table");
}

static int parse_fixed(struct vpc *v)
{
        uint64_t room = v->f.img.file->size - VHD_FOOTER_LENGTH;

        if (v->f.img.size > room)
                return err_note(-EINVAL, "the disk has %llu bytes, but the file only %llu before its footer",
                                (unsigned long long)v->f.img.size, (unsigned long long)room);
        v->f.block_size = max_u64(v->f.img.size, SECTOR);
        v->f.img.cluster_size = 1;
        v->f.block = whole_block;
        return 0;
}

static int vpc_parse(struct vpc *v)
{
        uint8_t footer[VHD_FOOTER_LENGTH];
        uint32_t type;
        int r = read_footer(v, footer);

        if (r < 0)
                return r;
        v->f.img.size = disk_size(footer);
        if (v->f.img.size / SECTOR > SECTORS_MAX)
                return err_note(-EFBIG, "a VHD disk has at most 2040 GiB, not %llu bytes",
                                (unsigned long long)v->f.img.size);
        type = be32_get(footer + VHD_TYPE);
        if (type == VHD_DIFFERENCING)
                return err_note(-ENOTSUP, "this VHD image holds only differences from another one; merge them first, "
                                "for example with Hyper-V's Merge-VHD");
        if (type == VHD_DYNAMIC)
                return parse_dynamic(v, be64_get(footer + VHD_DATA_OFFSET));
        if (type == VHD_FIXED)
                return parse_fixed(v);
        return err_note(-ENOTSUP, "VHD disk type %u is not known, only 2 (fixed) and 3 (dynamic) are", type);
}

static int vpc_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        int r;
        struct vpc *v = foreign_new(file, opts, &vpc_driver, sizeof(*v), &r);

        return v ? foreign_opened(&v->f, vpc_parse(v), ret) : r;
}

const struct fmt_driver vpc_driver = {
        .name = "vpc",
        .probe = vpc_probe,
        .open = vpc_open,
        .close = foreign_close,
        .map = foreign_map,
        .want = foreign_want,
};
