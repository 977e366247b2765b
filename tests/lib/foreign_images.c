/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/lib/foreign_images.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"

#define BLOCKS 4u
#define MIB (1u << 20)

const char *const foreign_format[FOREIGN_KINDS] = { "vdi", "vpc", "vhdx", "vhdx", "vmdk", "vmdk" };
const char *const foreign_name[FOREIGN_KINDS] = { "vdi", "vpc", "vhdx", "vhdx with a log", "vmdk", "vmdk stream" };

static uint8_t pattern(uint64_t off)
{
        return (uint8_t)(0x5a + off * 7 + (off >> 9));
}

uint8_t foreign_byte(const struct foreign_image *m, uint64_t off)
{
        return off / m->block % 2 ? 0 : pattern(off);
}

static void put_block(const struct foreign_image *m, unsigned no, uint8_t *at)
{
        for (uint64_t i = 0; i < m->block; i++)
                at[i] = pattern(no * (uint64_t)m->block + i);
}

static void start(struct foreign_image *m, size_t len, uint32_t block)
{
        m->bytes = calloc(1, len);
        m->len = len;
        m->block = block;
        m->size = (uint64_t)BLOCKS * block - SECTOR;
        assert(m->bytes);
}

/* --- VDI --------------------------------------------------------------------------------------------------------- */

static void make_vdi(struct foreign_image *m)
{
        static const uint32_t map[BLOCKS] = { 1, VDI_ENTRY_UNALLOCATED, 0, VDI_ENTRY_ZERO };
        uint8_t *h;

        start(m, 1024 + 2 * 4096, 4096);
        h = m->bytes;
        le32_put(h + VDI_MAGIC, VDI_MAGIC_VALUE);
        le32_put(h + VDI_VERSION, VDI_VERSION_1_1);
        le32_put(h + VDI_TYPE, VDI_DYNAMIC);
        le32_put(h + VDI_MAP_OFFSET, 512);
        le32_put(h + VDI_DATA_OFFSET, 1024);
        le32_put(h + VDI_SECTOR_SIZE, SECTOR);
        le64_put(h + VDI_DISK_SIZE, m->size);
        le32_put(h + VDI_BLOCK_SIZE, m->block);
        le32_put(h + VDI_BLOCKS, BLOCKS);
        for (unsigned i = 0; i < BLOCKS; i++)
                le32_put(h + 512 + 4 * i, map[i]);
        put_block(m, 2, h + 1024);
        put_block(m, 0, h + 1024 + m->block);
}

/* --- VHD --------------------------------------------------------------------------------------------------------- */

static void vhd_checksum(uint8_t *p, size_t len, size_t at)
{
        uint32_t sum = 0;

        be32_put(p + at, 0);
        for (size_t i = 0; i < len; i++)
                sum += p[i];
        be32_put(p + at, ~sum);
}

static void fix_vpc(uint8_t *bytes, size_t len)
{
        uint64_t dyn = len >= VHD_FOOTER_LENGTH ? be64_get(bytes + len - VHD_FOOTER_LENGTH + VHD_DATA_OFFSET) : 0;

        if (len < VHD_FOOTER_LENGTH)
                return;
        if (range_fits(dyn, VHD_DYN_LENGTH, len))
                vhd_checksum(bytes + dyn, VHD_DYN_LENGTH, VHD_DYN_CHECKSUM);
        vhd_checksum(bytes, VHD_FOOTER_LENGTH, VHD_CHECKSUM);
        vhd_checksum(bytes + len - VHD_FOOTER_LENGTH, VHD_FOOTER_LENGTH, VHD_CHECKSUM);
}

static void make_vpc(struct foreign_image *m)
{
        const uint32_t table = 512 + VHD_DYN_LENGTH, blocks = table + 512, step = 512 + 4096;
        uint8_t *h, *d;

        start(m, blocks + 2 * step + VHD_FOOTER_LENGTH, 4096);
        h = m->bytes;
        memcpy(h + VHD_COOKIE, "conectix", 8);
        be64_put(h + VHD_DATA_OFFSET, 512);
        memcpy(h + VHD_CREATOR_APP, "win ", 4);
        be64_put(h + VHD_CURRENT_SIZE, m->size);
        be16_put(h + VHD_CYLINDERS, 1);
        h[VHD_HEADS] = 1;
        h[VHD_SECTORS] = 17;
        be32_put(h + VHD_TYPE, VHD_DYNAMIC);
        memcpy(h + m->len - VHD_FOOTER_LENGTH, h, VHD_FOOTER_LENGTH);
        d = h + 512;
        memcpy(d + VHD_DYN_COOKIE, "cxsparse", 8);
        be64_put(d + VHD_DYN_TABLE, table);
        be32_put(d + VHD_DYN_ENTRIES, BLOCKS);
        be32_put(d + VHD_DYN_BLOCK, m->block);
        for (unsigned i = 0; i < BLOCKS; i++)
                be32_put(h + table + 4 * i, i % 2 ? VHD_ENTRY_UNALLOCATED : (blocks + (i == 0) * step) / SECTOR);
        put_block(m, 2, h + blocks + 512);
        put_block(m, 0, h + blocks + step + 512);
        fix_vpc(m->bytes, m->len);
}

/* --- VHDX -------------------------------------------------------------------------------------------------------- */

enum {
        VHDX_LOG_AT = MIB,
        VHDX_METADATA_AT = 2 * MIB,
        VHDX_BAT_AT = 3 * MIB,
        VHDX_DATA_AT = 4 * MIB,
        LOG_ENTRY = 2 * 4096
};

static void crc_put(uint8_t *p, size_t len)
{
        le32_put(p + VHDX_CHECKSUM, 0);
        le32_put(p + VHDX_CHECKSUM, crc32c(0, p, len));
}

static void fix_vhdx(uint8_t *bytes, size_t len)
{
        if (len < VHDX_REGIONS_2)
                return;
        crc_put(bytes + VHDX_HEADER_1, VHDX_H_LENGTH);
        crc_put(bytes + VHDX_HEADER_2, VHDX_H_LENGTH);
        crc_put(bytes + VHDX_REGIONS_1, VHDX_R_LENGTH);
        if (len >= VHDX_LOG_AT + LOG_ENTRY)
                crc_put(bytes + VHDX_LOG_AT, LOG_ENTRY);
}

static void vhdx_region(uint8_t *e, const char *guid, uint64_t at)
{
        memcpy(e, guid, 16);
        le64_put(e + VHDX_RE_OFFSET, at);
        le32_put(e + VHDX_RE_LEN, MIB);
        le32_put(e + VHDX_RE_REQUIRED, 1);
}

static void vhdx_item(uint8_t *region, unsigned no, const char *guid, unsigned len, uint64_t value)
{
        uint8_t *e = region + VHDX_M_ENTRIES + VHDX_ME_SIZE * no;
        uint32_t at = VHDX_M_LENGTH + 16 * no;

        memcpy(e, guid, 16);
        le32_put(e + VHDX_ME_OFFSET, at);
        le32_put(e + VHDX_ME_LEN, len);
        le32_put(e + VHDX_ME_FLAGS, VHDX_ME_REQUIRED);
        le64_put(region + at, value);
}

/* One entry that writes the first sector of the block table; the sector is taken out of the file. */
static void vhdx_into_log(uint8_t *bytes)
{
        static const uint8_t guid[16] = "a log of my own";
        uint8_t *e = bytes + VHDX_LOG_AT, *d = e + VHDX_L_HEADER, *s = e + VHDX_LOG_SECTOR,
                *table = bytes + VHDX_BAT_AT;

        memcpy(bytes + VHDX_HEADER_1 + VHDX_H_LOG_GUID, guid, 16);
        memcpy(e, "loge", 4);
        le32_put(e + VHDX_L_LENGTH, LOG_ENTRY);
        le64_put(e + VHDX_L_SEQUENCE, 7);
        le32_put(e + VHDX_L_DESCRIPTORS, 1);
        memcpy(e + VHDX_L_GUID, guid, 16);
        memcpy(d, "desc", 4);
        memcpy(d + VHDX_LD_TRAILING, table + 4092, 4);
        memcpy(d + VHDX_LD_LEADING, table, 8);
        le64_put(d + VHDX_LD_OFFSET, VHDX_BAT_AT);
        le64_put(d + VHDX_LD_SEQUENCE, 7);
        memcpy(s, "data", 4);
        memcpy(s + VHDX_LS_DATA, table + 8, 4084);
        le32_put(s + VHDX_LS_SEQUENCE_LOW, 7);
        memset(table, 0, 4096);
}

static void make_vhdx(struct foreign_image *m, bool with_log)
{
        uint8_t *h, *b;

        start(m, VHDX_DATA_AT + 2 * MIB, MIB);
        b = m->bytes;
        memcpy(b, "vhdxfile", 8);
        h = b + VHDX_HEADER_1;
        memcpy(h, "head", 4);
        le64_put(h + VHDX_H_SEQUENCE, 5);
        le16_put(h + VHDX_H_VERSION, 1);
        le32_put(h + VHDX_H_LOG_LENGTH, MIB);
        le64_put(h + VHDX_H_LOG_OFFSET, VHDX_LOG_AT);
        memcpy(b + VHDX_HEADER_2, h, VHDX_H_LENGTH);
        le64_put(b + VHDX_HEADER_2 + VHDX_H_SEQUENCE, 4);
        memcpy(b + VHDX_REGIONS_1, "regi", 4);
        le32_put(b + VHDX_REGIONS_1 + VHDX_R_COUNT, 2);
        vhdx_region(b + VHDX_REGIONS_1 + VHDX_R_ENTRIES, VHDX_GUID_BAT, VHDX_BAT_AT);
        vhdx_region(b + VHDX_REGIONS_1 + VHDX_R_ENTRIES + VHDX_RE_SIZE, VHDX_GUID_METADATA, VHDX_METADATA_AT);
        memcpy(b + VHDX_METADATA_AT, "metadata", 8);
        le16_put(b + VHDX_METADATA_AT + VHDX_M_COUNT, 5);
        vhdx_item(b + VHDX_METADATA_AT, 0, VHDX_GUID_FILE_PARAMETERS, 8, m->block);
        vhdx_item(b + VHDX_METADATA_AT, 1, VHDX_GUID_DISK_SIZE, 8, m->size);
        vhdx_item(b + VHDX_METADATA_AT, 2, VHDX_GUID_LOGICAL_SECTOR, 4, SECTOR);
        vhdx_item(b + VHDX_METADATA_AT, 3, VHDX_GUID_PHYSICAL_SECTOR, 4, 4096);
        vhdx_item(b + VHDX_METADATA_AT, 4, VHDX_GUID_PAGE_83, 16, 1);
        le64_put(b + VHDX_BAT_AT, VHDX_PRESENT | (VHDX_DATA_AT + MIB));
        le64_put(b + VHDX_BAT_AT + 8, VHDX_ZERO);
        le64_put(b + VHDX_BAT_AT + 16, VHDX_PRESENT | VHDX_DATA_AT);
        put_block(m, 2, b + VHDX_DATA_AT);
        put_block(m, 0, b + VHDX_DATA_AT + MIB);
        if (with_log)
                vhdx_into_log(b);
        fix_vhdx(m->bytes, m->len);
}

/* --- VMDK -------------------------------------------------------------------------------------------------------- */

enum { VMDK_GRAIN_SECTORS = 8, VMDK_GRAIN_BYTES = 4096, VMDK_TABLE_ENTRIES = 2, VMDK_DESC_AT = 1, VMDK_DATA_AT = 8 };

static void vmdk_header(uint8_t *h, const struct foreign_image *m, uint32_t flags, uint64_t directory)
{
        memcpy(h, "KDMV", 4);
        le32_put(h + VMDK_VERSION, 1);
        le32_put(h + VMDK_FLAGS, VMDK_FLAG_NEWLINES | flags);
        le64_put(h + VMDK_CAPACITY, m->size / SECTOR);
        le64_put(h + VMDK_GRAIN, VMDK_GRAIN_SECTORS);
        le64_put(h + VMDK_DESC_OFFSET, VMDK_DESC_AT);
        le64_put(h + VMDK_DESC_SIZE, 1);
        le32_put(h + VMDK_GT_ENTRIES, VMDK_TABLE_ENTRIES);
        le64_put(h + VMDK_GD_OFFSET, directory);
        memcpy(h + VMDK_NEWLINES, "\n \r\n", 4);
        le16_put(h + VMDK_COMPRESSION, flags & VMDK_FLAG_COMPRESSED ? 1 : 0);
}

static void vmdk_desc(uint8_t *at, const char *type)
{
        strcpy((char *)at, "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"");
        strcat((char *)at, type);
        strcat((char *)at, "\"\n\n# Extent description\nRW 31 SPARSE \"x.vmdk\"\n");
}

/* Directory and two tables of two grains each, in the three sectors from @at on. */
static void vmdk_tables(uint8_t *bytes, uint32_t at, uint32_t grain0, uint32_t grain2)
{
        le32_put(bytes + (size_t)at * SECTOR, at + 1);
        le32_put(bytes + (size_t)at * SECTOR + 4, at + 2);
        le32_put(bytes + (size_t)(at + 1) * SECTOR, grain0);
        le32_put(bytes + (size_t)(at + 2) * SECTOR, grain2);
        le32_put(bytes + (size_t)(at + 2) * SECTOR + 4, VMDK_ENTRY_ZERO);
}

static void make_vmdk(struct foreign_image *m)
{
        start(m, VMDK_DATA_AT * SECTOR + 2 * VMDK_GRAIN_BYTES, VMDK_GRAIN_BYTES);
        vmdk_header(m->bytes, m, VMDK_FLAG_ZERO_GRAINS, 2);
        vmdk_desc(m->bytes + SECTOR, "monolithicSparse");
        vmdk_tables(m->bytes, 2, VMDK_DATA_AT + VMDK_GRAIN_SECTORS, VMDK_DATA_AT);
        put_block(m, 2, m->bytes + VMDK_DATA_AT * SECTOR);
        put_block(m, 0, m->bytes + VMDK_DATA_AT * SECTOR + VMDK_GRAIN_BYTES);
}

static void vmdk_packed(const struct foreign_image *m, unsigned no, uint8_t *at)
{
        uint8_t plain[VMDK_GRAIN_BYTES];
        uLongf len = VMDK_GRAIN_BYTES - VMDK_MARKER_LENGTH;

        put_block(m, no, plain);
        assert(compress(at + VMDK_MARKER_LENGTH, &len, plain, sizeof(plain)) == Z_OK);
        le64_put(at, no * VMDK_GRAIN_SECTORS);
        le32_put(at + VMDK_MARKER_SIZE, (uint32_t)len);
}

static void make_vmdk_stream(struct foreign_image *m)
{
        const uint32_t directory = VMDK_DATA_AT + 2 * VMDK_GRAIN_SECTORS;

        start(m, (directory + 3 + 2) * SECTOR, VMDK_GRAIN_BYTES);
        vmdk_header(m->bytes, m, VMDK_FLAG_ZERO_GRAINS | VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS, VMDK_GD_AT_END);
        vmdk_desc(m->bytes + SECTOR, "streamOptimized");
        vmdk_tables(m->bytes, directory, VMDK_DATA_AT + VMDK_GRAIN_SECTORS, VMDK_DATA_AT);
        vmdk_packed(m, 2, m->bytes + VMDK_DATA_AT * SECTOR);
        vmdk_packed(m, 0, m->bytes + VMDK_DATA_AT * SECTOR + VMDK_GRAIN_BYTES);
        vmdk_header(m->bytes + m->len - VMDK_FOOTER, m,
                    VMDK_FLAG_ZERO_GRAINS | VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS, directory);
}

/* --- all --------------------------------------------------------------------------------------------------------- */

void foreign_make(enum foreign_kind kind, struct foreign_image *ret)
{
        if (kind == FOREIGN_VDI)
                make_vdi(ret);
        else if (kind == FOREIGN_VPC)
                make_vpc(ret);
        else if (kind == FOREIGN_VMDK)
                make_vmdk(ret);
        else if (kind == FOREIGN_VMDK_STREAM)
                make_vmdk_stream(ret);
        else
                make_vhdx(ret, kind == FOREIGN_VHDX_LOG);
}

void foreign_fix_checksums(enum foreign_kind kind, uint8_t *bytes, size_t len)
{
        if (kind == FOREIGN_VPC)
                fix_vpc(bytes, len);
        else if (kind == FOREIGN_VHDX || kind == FOREIGN_VHDX_LOG)
                fix_vhdx(bytes, len);
}
