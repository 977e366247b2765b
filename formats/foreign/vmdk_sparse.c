/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmdk_sparse.c - an extent of grains: a directory of tables of grains, in one file. Grains may be compressed
 * (streamOptimized): then a marker says how long each is, so it is read with its marker (vmdk_unpack()).
 */
#include <errno.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"
#include "formats/foreign/vmdk.h"
#include "formats/inflate.h"

#define GRAIN_MAX (1u << 30)        /* bytes; programs make 64 KiB */
#define PACKED_GRAIN_MAX (2u << 20) /* what is unpacked is in memory */
#define TABLE_ENTRIES_MAX 512u
#define ZLIB_WINDOW_BITS 15 /* with its header */

static int sparse_block(struct foreign *f, uint64_t no, struct block *ret)
{
        struct vmdk_extent *x = (struct vmdk_extent *)f;
        uint8_t raw[4];
        uint32_t table, grain;
        int r = pages_get(f->pages, &f->img, x->directory + 4 * (no / x->table_entries), raw, sizeof(raw));

        if (r < 0)
                return r;
        *ret = (struct block){ .kind = EXT_ABSENT };
        table = le32_get(raw);
        if (table == VMDK_ENTRY_ABSENT)
                return 0;
        if (!range_fits((uint64_t)table * SECTOR, 4ull * x->table_entries, f->end))
                return err_note(-EIO, "the grain table at %llu lies beyond the end of the file",
                                (unsigned long long)table * SECTOR);
        r = pages_get(f->pages, &f->img, (uint64_t)table * SECTOR + 4 * (no % x->table_entries), raw, sizeof(raw));
        if (r < 0)
                return r;
        grain = le32_get(raw);
        if (grain == VMDK_ENTRY_ZERO && x->zero_grains)
                ret->kind = EXT_ZERO;
        else if (grain != VMDK_ENTRY_ABSENT)
                *ret = (struct block){ x->compressed ? EXT_COMPRESSED : EXT_DATA, (uint64_t)grain * SECTOR };
        return 0;
}

/* --- compressed grains ------------------------------------------------------------------------------------------- */

/* The last grain of an extent may hold only as much as the extent still has. */
int vmdk_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out)
{
        const struct vmdk_extent *x = (const struct vmdk_extent *)img;
        const uint8_t *data = packed;
        size_t want = img->cluster_size, got = 0;
        int r;

        if (x->markers) {
                uint64_t first, len;

                if (packed_len < VMDK_MARKER_LENGTH)
                        return err_note(-EIO, "a compressed grain has no room for its marker");
                first = le64_get(data);
                len = le32_get(data + VMDK_MARKER_SIZE);
                if (first < img->size / SECTOR)
                        want = min_u64(want, img->size - first * SECTOR);
                data += VMDK_MARKER_LENGTH;
                packed_len = min_u64(packed_len - VMDK_MARKER_LENGTH, len);
        }
        r = inflate_bounded(ZLIB_WINDOW_BITS, data, packed_len, out, img->cluster_size, &got);
        if (r == -ENOMEM)
                return r;
        if (r != 1 || got < want)
                return err_note(-EIO, "a compressed grain does not unpack to %zu bytes", want);
        memset((char *)out + got, 0, img->cluster_size - got);
        return 0;
}

/* --- open -------------------------------------------------------------------------------------------------------- */

static int check_kind(const uint8_t *h)
{
        uint32_t version = le32_get(h + VMDK_VERSION), flags = le32_get(h + VMDK_FLAGS);

        if (!memcmp(h, "COWD", 4))
                return err_note(-ENOTSUP, "VMDK extents of ESX (COWD) are not supported");
        if (memcmp(h, "KDMV", 4))
                return err_note(-EINVAL, "this is no sparse VMDK extent: it does not begin with 'KDMV'");
        if (version < 1 || version > 3)
                return err_note(-ENOTSUP, "VMDK version %u is not supported, only 1, 2 and 3", version);
        if (flags & VMDK_FLAG_NEWLINES && memcmp(h + VMDK_NEWLINES, "\n \r\n", 4))
                return err_note(-EINVAL, "the file was damaged by a transfer that changed its line ends");
        if (le16_get(h + VMDK_COMPRESSION) > 1)
                return err_note(-ENOTSUP, "compression %u is not supported, only 1 (deflate)",
                                le16_get(h + VMDK_COMPRESSION));
        return 0;
}

static int take_sizes(struct vmdk_extent *x, const uint8_t *h)
{
        uint64_t grain = le64_get(h + VMDK_GRAIN), max = x->compressed ? PACKED_GRAIN_MAX : GRAIN_MAX, tables;
        uint64_t capacity = le64_get(h + VMDK_CAPACITY), directory = le64_get(h + VMDK_GD_OFFSET);

        x->table_entries = le32_get(h + VMDK_GT_ENTRIES);
        if (grain > max / SECTOR || !is_pow2(grain))
                return err_note(-EINVAL, "a grain of %llu sectors is not a power of two up to %llu",
                                (unsigned long long)grain, (unsigned long long)max / SECTOR);
        if (x->table_entries < 1 || x->table_entries > TABLE_ENTRIES_MAX)
                return err_note(-EINVAL, "a grain table has %u entries, not 1 to %u", x->table_entries,
                                TABLE_ENTRIES_MAX);
        if (capacity == 0 || capacity > INT64_MAX / SECTOR)
                return err_note(-EINVAL, "an extent cannot have %llu sectors", (unsigned long long)capacity);
        if (directory > INT64_MAX / SECTOR)
                return err_note(-EINVAL, "there is no grain directory at sector %llu", (unsigned long long)directory);
        x->directory = directory * SECTOR;
        x->f.block_size = grain * SECTOR;
        x->f.packed_max = (uint32_t)min_u64(2 * x->f.block_size, UINT32_MAX); /* as for QEMU */
        x->f.img.cluster_size = (uint32_t)x->f.block_size;
        x->f.img.size = capacity * SECTOR;
        tables = div_round_up(capacity, grain * x->table_entries);
        return foreign_check_inside(&x->f, x->directory, 4 * tables, "grain directory");
}

/* What is written in one go has its directory at the end, and a second header behind it that says where. */
static int read_footer(struct vmdk_extent *x, uint8_t *h)
{
        int r = x->f.end < VMDK_FOOTER ? -EINVAL : foreign_read(&x->f, h, VMDK_HEADER_LENGTH, x->f.end - VMDK_FOOTER,
                                                               "footer");

        if (r == 0 && (memcmp(h, "KDMV", 4) || le64_get(h + VMDK_GD_OFFSET) == VMDK_GD_AT_END))
                r = -EINVAL;
        return r == -EINVAL ? err_note(r, "the footer at the end of the file is missing: the file is not complete") : r;
}

int vmdk_sparse_open(struct vmdk_extent *x, const uint8_t *header)
{
        uint8_t h[VMDK_HEADER_LENGTH];
        uint64_t desc = le64_get(header + VMDK_DESC_OFFSET), desc_len = le64_get(header + VMDK_DESC_SIZE);
        uint32_t flags;
        int r = check_kind(header);

        memcpy(h, header, sizeof(h));
        if (r == 0 && le64_get(h + VMDK_GD_OFFSET) == VMDK_GD_AT_END) {
                r = read_footer(x, h);
                if (r == 0)
                        r = check_kind(h);
        }
        if (r < 0)
                return r;
        flags = le32_get(h + VMDK_FLAGS);
        x->sparse = true;
        x->compressed = le16_get(h + VMDK_COMPRESSION) == 1;
        x->markers = flags & VMDK_FLAG_MARKERS;
        x->zero_grains = flags & VMDK_FLAG_ZERO_GRAINS;
        x->f.block = sparse_block;
        if (desc && desc_len && range_fits(desc, desc_len, x->f.end / SECTOR)) {
                x->desc = desc * SECTOR;
                x->desc_len = desc_len * SECTOR;
        }
        return take_sizes(x, h);
}
