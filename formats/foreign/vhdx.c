/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhdx.c - Microsoft VHDX ([MS-VHDX]), fixed and dynamic. Differencing images are refused.
 *
 * Two headers, of which the newer one that is whole counts; a log to be replayed (vhdx_log.c); a table of regions,
 * which leads to the metadata (sizes) and to the block allocation table. Regions are looked for in the replayed file.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/foreign.h"
#include "formats/foreign/on_disk.h"
#include "formats/foreign/vhdx_log.h"

#define GUID_LEN 16u
#define BLOCK_MIN (1u << 20)
#define BLOCK_MAX (256u << 20)

struct region {
        uint64_t off, len; /* len 0: not found */
};
struct vhdx {
        struct foreign f;
        struct vhdx_log log;
        struct region bat, metadata;
        uint64_t chunk; /* so many payload entries of the table stand between two of sector bitmaps */
};

static bool vhdx_probe(const void *head, size_t len)
{
        return len >= 8 && !memcmp(head, "vhdxfile", 8);
}

static int vhdx_block(struct foreign *f, uint64_t no, struct block *ret)
{
        struct vhdx *v = (struct vhdx *)f;
        uint8_t raw[8];
        uint64_t e;
        int r = pages_get(f->pages, &f->img, v->bat.off + 8 * (no + no / v->chunk), raw, sizeof(raw));

        if (r < 0)
                return r;
        e = le64_get(raw);
        switch (e & VHDX_ENTRY_STATE) {
        case VHDX_NOT_PRESENT:
        case VHDX_UNDEFINED:
        case VHDX_ZERO:
        case VHDX_UNMAPPED:
        case VHDX_UNMAPPED_OLD:
                *ret = (struct block){ .kind = EXT_ZERO };
                return 0;
        case VHDX_PRESENT:
                *ret = (struct block){ .kind = EXT_DATA, .host = e & VHDX_ENTRY_OFFSET };
                if (ret->host >= VHDX_HEADERS_END)
                        return 0;
                return err_note(-EIO, "block %llu lies at %llu, inside the headers", (unsigned long long)no,
                                (unsigned long long)ret->host);
        default:
                return err_note(-EIO, "block %llu has the state %u, which only images with a parent may have",
                                (unsigned long long)no, (unsigned)(e & VHDX_ENTRY_STATE));
        }
}

static void on_table_loaded(struct fmt_image *img, uint64_t off, void *bytes)
{
        vhdx_log_apply(&((struct vhdx *)img)->log, off, bytes, 4096);
}

/* From the replayed file. */
static int read_replayed(const struct vhdx *v, void *buf, size_t len, uint64_t off, const char *what)
{
        int r = foreign_read(&v->f, buf, len, off, what);

        if (r == 0)
                vhdx_log_apply(&v->log, off, buf, len);
        return r;
}

static bool checksum_ok(const uint8_t *p, size_t len)
{
        static const uint8_t zeros[4];
        uint32_t crc = crc32c(0, p, VHDX_CHECKSUM);

        crc = crc32c(crc, zeros, sizeof(zeros));
        crc = crc32c(crc, p + VHDX_CHECKSUM + sizeof(zeros), len - VHDX_CHECKSUM - sizeof(zeros));
        return crc == le32_get(p + VHDX_CHECKSUM);
}

/* --- headers ----------------------------------------------------------------------------------------------------- */

static int read_header(struct vhdx *v, uint64_t off, uint8_t *h)
{
        int r = foreign_read(&v->f, h, VHDX_H_LENGTH, off, "header");

        if (r < 0)
                return r;
        return !memcmp(h, "head", 4) && checksum_ok(h, VHDX_H_LENGTH);
}

/* Into @h. Equal sequence numbers are no answer, unless both say the same (disk2vhd writes such). */
static int choose_header(struct vhdx *v, uint8_t *h)
{
        uint8_t other[VHDX_H_LENGTH];
        int first = read_header(v, VHDX_HEADER_1, h), second = first < 0 ? first : read_header(v, VHDX_HEADER_2, other);

        if (second < 0)
                return second;
        if (!first && !second)
                return err_note(-EINVAL, "both VHDX headers are damaged");
        if (first && second && le64_get(h + VHDX_H_SEQUENCE) == le64_get(other + VHDX_H_SEQUENCE) &&
            memcmp(h, other, VHDX_H_LENGTH))
                return err_note(-EINVAL, "both VHDX headers have sequence number %llu, but differ",
                                (unsigned long long)le64_get(h + VHDX_H_SEQUENCE));
        if (!first || (second && le64_get(other + VHDX_H_SEQUENCE) > le64_get(h + VHDX_H_SEQUENCE)))
                memcpy(h, other, VHDX_H_LENGTH);
        if (le16_get(h + VHDX_H_VERSION) != 1)
                return err_note(-ENOTSUP, "VHDX version %u is not supported, only 1", le16_get(h + VHDX_H_VERSION));
        return 0;
}

/* --- regions ----------------------------------------------------------------------------------------------------- */

static int take_region(struct vhdx *v, const uint8_t *e, struct region *ret, const char *what)
{
        if (ret->len)
                return err_note(-EINVAL, "the region table has two entries for the %s", what);
        *ret = (struct region){ le64_get(e + VHDX_RE_OFFSET), le32_get(e + VHDX_RE_LEN) };
        if (ret->off < VHDX_HEADERS_END || !is_aligned(ret->off, VHDX_HEADERS_END) || !ret->len)
                return err_note(-EINVAL, "the %s (%llu bytes at %llu) does not begin at a multiple of 1 MiB", what,
                                (unsigned long long)ret->len, (unsigned long long)ret->off);
        return foreign_check_inside(&v->f, ret->off, ret->len, what);
}

static int parse_regions(struct vhdx *v, const uint8_t *table)
{
        uint32_t n = le32_get(table + VHDX_R_COUNT);
        int r = 0;

        if (n > VHDX_R_MAX)
                return err_note(-EINVAL, "the region table has %u entries, more than 2047", n);
        for (uint32_t i = 0; r == 0 && i < n; i++) {
                const uint8_t *e = table + VHDX_R_ENTRIES + (size_t)VHDX_RE_SIZE * i;

                if (!memcmp(e, VHDX_GUID_BAT, GUID_LEN))
                        r = take_region(v, e, &v->bat, "block allocation table");
                else if (!memcmp(e, VHDX_GUID_METADATA, GUID_LEN))
                        r = take_region(v, e, &v->metadata, "metadata region");
                else if (le32_get(e + VHDX_RE_REQUIRED) & 1)
                        r = err_note(-ENOTSUP, "the image requires a region that is not known here");
        }
        if (r == 0 && (!v->bat.len || !v->metadata.len))
                r = err_note(-EINVAL, "the region table does not name the %s", v->bat.len ? "metadata region"
                                                                                          : "block allocation table");
        return r;
}

static int read_regions(struct vhdx *v)
{
        AUTO(freep) uint8_t *table = malloc(VHDX_R_LENGTH);
        static const uint64_t at[] = { VHDX_REGIONS_1, VHDX_REGIONS_2 };

        for (unsigned i = 0; table && i < ARRAY_SIZE(at); i++) {
                int r = read_replayed(v, table, VHDX_R_LENGTH, at[i], "region table");

                if (r < 0)
                        return r;
                if (!memcmp(table, "regi", 4) && checksum_ok(table, VHDX_R_LENGTH))
                        return parse_regions(v, table);
        }
        return table ? err_note(-EINVAL, "both region tables are damaged") : -ENOMEM;
}

static bool is_inside(const struct vhdx_patch *p, uint64_t off, uint64_t len)
{
        return p->off >= off && range_fits(p->off - off, p->len, len);
}

/* Payload is read as it is in the file, so the log may only be about tables (as the specification has it). */
static int check_log(const struct vhdx *v)
{
        for (unsigned i = 0; i < v->log.n; i++) {
                const struct vhdx_patch *p = &v->log.patch[i];

                if (!is_inside(p, v->bat.off, v->bat.len) && !is_inside(p, v->metadata.off, v->metadata.len) &&
                    !is_inside(p, VHDX_REGIONS_1, VHDX_HEADERS_END - VHDX_REGIONS_1))
                        return err_note(-ENOTSUP, "the log changes %llu bytes at %llu, which is in no table; let "
                                        "'qemu-img check -r all' replay it", (unsigned long long)p->len,
                                        (unsigned long long)p->off);
        }
        return 0;
}

/* --- metadata ---------------------------------------------------------------------------------------------------- */

enum item { FILE_PARAMETERS, DISK_SIZE, LOGICAL_SECTOR, PHYSICAL_SECTOR, PAGE_83, PARENT_LOCATOR, ITEMS };
static const struct {
        const char *guid, *name;
        uint32_t len; /* bytes to read; 0: it is only known */
} items[ITEMS] = {
        [FILE_PARAMETERS] = { VHDX_GUID_FILE_PARAMETERS, "file parameters", 8 },
        [DISK_SIZE] = { VHDX_GUID_DISK_SIZE, "disk size", 8 },
        [LOGICAL_SECTOR] = { VHDX_GUID_LOGICAL_SECTOR, "logical sector size", 4 },
        [PHYSICAL_SECTOR] = { VHDX_GUID_PHYSICAL_SECTOR, "physical sector size", 0 },
        [PAGE_83] = { VHDX_GUID_PAGE_83, "page 83", 0 },
        [PARENT_LOCATOR] = { VHDX_GUID_PARENT_LOCATOR, "parent locator", 0 },
};
struct metadata {
        bool seen[ITEMS];
        uint8_t value[ITEMS][8];
};

static int take_item(struct vhdx *v, const uint8_t *e, enum item k, struct metadata *m)
{
        uint64_t off = le32_get(e + VHDX_ME_OFFSET), len = le32_get(e + VHDX_ME_LEN);

        if (m->seen[k])
                return err_note(-EINVAL, "the metadata have two items '%s'", items[k].name);
        m->seen[k] = true;
        if (!items[k].len)
                return 0;
        if (len < items[k].len || off < VHDX_M_LENGTH || !range_fits(off, len, v->metadata.len))
                return err_note(-EINVAL, "the metadata item '%s' (%llu bytes at %llu) is not where it can be",
                                items[k].name, (unsigned long long)len, (unsigned long long)off);
        return read_replayed(v, m->value[k], items[k].len, v->metadata.off + off, items[k].name);
}

static int take_items(struct vhdx *v, const uint8_t *table, struct metadata *m)
{
        uint16_t n = le16_get(table + VHDX_M_COUNT);
        int r = 0;

        if (memcmp(table, "metadata", 8) || n > VHDX_M_MAX)
                return err_note(-EINVAL, "the metadata table is damaged");
        for (unsigned i = 0; r == 0 && i < n; i++) {
                const uint8_t *e = table + VHDX_M_ENTRIES + (size_t)VHDX_ME_SIZE * i;
                unsigned k = 0;

                while (k < ITEMS && memcmp(e, items[k].guid, GUID_LEN))
                        k++;
                if (k < ITEMS)
                        r = take_item(v, e, k, m);
                else if (le32_get(e + VHDX_ME_FLAGS) & VHDX_ME_REQUIRED)
                        r = err_note(-ENOTSUP, "the image requires a metadata item that is not known here");
        }
        for (unsigned k = 0; r == 0 && k < ITEMS; k++)
                if (items[k].len && !m->seen[k])
                        r = err_note(-EINVAL, "the metadata have no item '%s'", items[k].name);
        return r;
}

static int take_sizes(struct vhdx *v, const struct metadata *m)
{
        uint32_t block = le32_get(m->value[FILE_PARAMETERS] + VHDX_FP_BLOCK_SIZE);
        uint32_t sector = le32_get(m->value[LOGICAL_SECTOR]);
        uint64_t size = le64_get(m->value[DISK_SIZE]), blocks, entries;

        if (le32_get(m->value[FILE_PARAMETERS] + VHDX_FP_FLAGS) & VHDX_FP_HAS_PARENT)
                return err_note(-ENOTSUP, "this VHDX image holds only differences from another one; merge them first, "
                                "for example with Hyper-V's Merge-VHD");
        if (block < BLOCK_MIN || block > BLOCK_MAX || !is_pow2(block))
                return err_note(-EINVAL, "a block size of %u bytes is not a power of two from 1 MiB to 256 MiB", block);
        if (sector != 512 && sector != 4096)
                return err_note(-EINVAL, "logical sectors of %u bytes are neither 512 nor 4096", sector);
        if (size > VHDX_MAX_SIZE || !is_aligned(size, sector))
                return err_note(-EINVAL, "a disk size of %llu bytes is not a multiple of %u up to 64 TiB",
                                (unsigned long long)size, sector);
        v->chunk = VHDX_CHUNK_SECTORS * sector / block;
        blocks = div_round_up(size, block);
        entries = blocks ? blocks + (blocks - 1) / v->chunk : 0;
        if (8 * entries > v->bat.len)
                return err_note(-EINVAL, "the block allocation table has %llu bytes, too few for %llu blocks",
                                (unsigned long long)v->bat.len, (unsigned long long)blocks);
        v->f.img.size = size;
        v->f.block_size = v->f.img.cluster_size = block;
        v->f.block = vhdx_block;
        return 0;
}

static int read_metadata(struct vhdx *v)
{
        AUTO(freep) uint8_t *table = malloc(VHDX_M_LENGTH);
        struct metadata m = { 0 };
        int r = table ? read_replayed(v, table, VHDX_M_LENGTH, v->metadata.off, "metadata table") : -ENOMEM;

        if (r == 0)
                r = take_items(v, table, &m);
        return r < 0 ? r : take_sizes(v, &m);
}

/* --- open -------------------------------------------------------------------------------------------------------- */

static int vhdx_parse(struct vhdx *v)
{
        uint8_t magic[8], h[VHDX_H_LENGTH];
        int r = foreign_read(&v->f, magic, sizeof(magic), 0, "file identifier");

        if (r == 0 && !vhdx_probe(magic, sizeof(magic)))
                r = err_note(-EINVAL, "this is no VHDX image: it does not begin with 'vhdxfile'");
        if (r == 0)
                r = choose_header(v, h);
        if (r == 0)
                r = vhdx_log_read(&v->f, h, &v->log);
        v->f.end = max_u64(v->f.end, v->log.last_size);
        if (r == 0)
                r = read_regions(v);
        if (r == 0)
                r = check_log(v);
        return r < 0 ? r : read_metadata(v);
}

static int vhdx_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        int r;
        struct vhdx *v = foreign_new(file, opts, &vhdx_driver, sizeof(*v), &r);

        if (!v)
                return r;
        pages_on_load(v->f.pages, on_table_loaded);
        return foreign_opened(&v->f, vhdx_parse(v), ret);
}

static void vhdx_close(struct fmt_image *img)
{
        vhdx_log_finish(&((struct vhdx *)img)->log);
        foreign_close(img);
}

const struct fmt_driver vhdx_driver = {
        .name = "vhdx",
        .probe = vhdx_probe,
        .open = vhdx_open,
        .close = vhdx_close,
        .map = foreign_map,
        .want = foreign_want,
};
