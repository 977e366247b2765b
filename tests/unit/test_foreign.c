/* SPDX-License-Identifier: BSD-3-Clause */
/* VDI, VHD, VHDX and VMDK made by hand: what they hold is read, what cannot be right is refused with a sentence. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"
#include "formats/foreign/vmdk_desc.h"
#include "formats/format.h"
#include "tests/lib/foreign_images.h"

static int open_bytes(enum foreign_kind kind, const uint8_t *bytes, size_t len, unsigned flags, struct fmt_image **img)
{
        struct fmt_open_opts opts = { .format = foreign_format[kind], .flags = flags };
        struct file *f;

        err_clear();
        assert_int_equal(file_open_mem(bytes, len, &f), 0);
        return fmt_open_file(f, &opts, img);
}

/* In pieces that begin and end anywhere. */
static void expect_contents(const struct foreign_image *m, struct fmt_image *img, const char *what)
{
        AUTO(freep) uint8_t *buf = malloc(m->size);

        assert_int_equal(img->size, m->size);
        for (uint64_t off = 0, n; off < m->size; off += n) {
                n = min_u64(off % 3 ? 1537 : m->block / 2 + 77, m->size - off);
                if (chain_read_sync(img, buf, n, off) < 0)
                        fail_msg("%s: read at %llu: %s", what, (unsigned long long)off, err_text(-EIO));
                for (uint64_t i = 0; i < n; i++)
                        if (buf[i] != foreign_byte(m, off + i))
                                fail_msg("%s: byte %llu is wrong", what, (unsigned long long)(off + i));
        }
}

static void test_contents(void **state)
{
        for (enum foreign_kind k = 0; k < FOREIGN_KINDS; k++) {
                struct foreign_image m;
                struct fmt_image *img;

                foreign_make(k, &m);
                if (open_bytes(k, m.bytes, m.len, FMT_RDONLY, &img) < 0)
                        fail_msg("%s: %s", foreign_name[k], err_text(-EINVAL));
                expect_contents(&m, img, foreign_name[k]);
                assert_string_equal(fmt_probe(m.bytes, 4096), foreign_format[k]);
                chain_close(img);
                free(m.bytes);
        }
}

/* Tables are looked up in pages of which few fit into memory, so all are thrown out now and then. */
static void test_little_cache(void **state)
{
        struct foreign_image m = { 0 };
        const uint32_t blocks = 256 << 10;
        struct fmt_open_opts opts = { .format = "vdi", .flags = FMT_RDONLY, .cache_bytes = 1 };
        struct fmt_image *img;
        struct file *f;
        uint8_t b;

        foreign_make(FOREIGN_VDI, &m);
        m.bytes = realloc(m.bytes, 512 + 4 * blocks + 2 * 512);
        le32_put(m.bytes + VDI_BLOCK_SIZE, 512);
        le32_put(m.bytes + VDI_BLOCKS, blocks);
        le64_put(m.bytes + VDI_DISK_SIZE, 512ull * blocks);
        le32_put(m.bytes + VDI_DATA_OFFSET, 512 + 4 * blocks);
        for (uint32_t i = 0; i < blocks; i++)
                le32_put(m.bytes + 512 + 4 * i, i * 7 / 3 % 2);
        memset(m.bytes + 512 + 4 * blocks, 'a', 512);
        memset(m.bytes + 512 + 4 * blocks + 512, 'b', 512);
        assert_int_equal(file_open_mem(m.bytes, 512 + 4 * blocks + 2 * 512, &f), 0);
        assert_int_equal(fmt_open_file(f, &opts, &img), 0);
        for (uint32_t n = 0, i = 1; n < 5000; n++, i = (i * 40503u + 11) % blocks) {
                assert_int_equal(chain_read_sync(img, &b, 1, 512ull * i), 0);
                assert_int_equal(b, i * 7 / 3 % 2 ? 'b' : 'a');
        }
        chain_close(img);
        free(m.bytes);
}

static void test_read_only(void **state)
{
        struct foreign_image m;
        struct fmt_image *img;

        for (enum foreign_kind k = 0; k < FOREIGN_KINDS; k++) {
                foreign_make(k, &m);
                assert_int_equal(open_bytes(k, m.bytes, m.len, 0, &img), -EROFS);
                assert_non_null(strstr(err_text(-EROFS), "can only be read"));
                free(m.bytes);
        }
}

/* --- what is refused -------------------------------------------------------------------------------------------- */

enum width { W16 = 2, W32 = 4, W64 = 8 };
static const struct {
        enum foreign_kind kind;
        const char *what;
        uint64_t at;
        enum width width;
        uint64_t value;
        int r; /* of open; 0: of reading, which is -EIO */
        const char *sentence;
} rows[] = {
        { FOREIGN_VDI, "magic", VDI_MAGIC, W32, 1, -EINVAL, "magic number" },
        { FOREIGN_VDI, "version", VDI_VERSION, W32, 0x20000, -ENOTSUP, "version 2.0" },
        { FOREIGN_VDI, "differencing", VDI_TYPE, W32, VDI_DIFF, -ENOTSUP, "only differences" },
        { FOREIGN_VDI, "type", VDI_TYPE, W32, 9, -ENOTSUP, "type 9" },
        { FOREIGN_VDI, "parent", VDI_UUID_PARENT + 8, W64, 1ull << 56, -ENOTSUP, "only differences" },
        { FOREIGN_VDI, "sector size", VDI_SECTOR_SIZE, W32, 4096, -ENOTSUP, "sectors of 4096" },
        { FOREIGN_VDI, "block size 0", VDI_BLOCK_SIZE, W32, 0, -EINVAL, "block size of 0" },
        { FOREIGN_VDI, "block size", VDI_BLOCK_SIZE, W32, 4097, -EINVAL, "block size of 4097" },
        { FOREIGN_VDI, "extra bytes", VDI_BLOCK_EXTRA, W32, 64, -ENOTSUP, "64 extra bytes" },
        { FOREIGN_VDI, "map not aligned", VDI_MAP_OFFSET, W32, 700, -EINVAL, "700" },
        { FOREIGN_VDI, "map outside", VDI_MAP_OFFSET, W32, 0xfffffe00, -EINVAL, "block map" },
        { FOREIGN_VDI, "too few blocks", VDI_BLOCKS, W32, 3, -EINVAL, "room for 12288 bytes" },
        { FOREIGN_VDI, "large", VDI_DISK_SIZE, W64, UINT64_MAX, -EINVAL, "room for" },
        { FOREIGN_VDI, "block outside", 512, W32, 2, 0, "beyond the end" },

        { FOREIGN_VPC, "differencing", VHD_TYPE, W32, VHD_DIFFERENCING, -ENOTSUP, "only differences" },
        { FOREIGN_VPC, "type", VHD_TYPE, W32, 5, -ENOTSUP, "type 5" },
        { FOREIGN_VPC, "large", VHD_CURRENT_SIZE, W64, 1ull << 41, -EFBIG, "2040 GiB" },
        { FOREIGN_VPC, "header outside", VHD_DATA_OFFSET, W64, UINT64_MAX - 100, -EINVAL, "dynamic header" },
        { FOREIGN_VPC, "header cookie", 512 + VHD_DYN_COOKIE, W64, 0, -EINVAL, "cxsparse" },
        { FOREIGN_VPC, "block size 0", 512 + VHD_DYN_BLOCK, W32, 0, -EINVAL, "block size of 0" },
        { FOREIGN_VPC, "block size", 512 + VHD_DYN_BLOCK, W32, 4095, -EINVAL, "4095" },
        { FOREIGN_VPC, "too few blocks", 512 + VHD_DYN_ENTRIES, W32, 3, -EINVAL, "room for 12288" },
        { FOREIGN_VPC, "table outside", 512 + VHD_DYN_TABLE, W64, 1ull << 40, -EINVAL, "block table" },
        { FOREIGN_VPC, "block outside", 1536, W32, 1u << 30, 0, "beyond the end" },

        { FOREIGN_VHDX, "version", VHDX_HEADER_1 + VHDX_H_VERSION, W16, 2, -ENOTSUP, "version 2" },
        { FOREIGN_VHDX, "no regions", VHDX_REGIONS_1 + VHDX_R_COUNT, W32, 0, -EINVAL, "does not name" },
        { FOREIGN_VHDX, "many regions", VHDX_REGIONS_1 + VHDX_R_COUNT, W32, 2048, -EINVAL, "2048 entries" },
        { FOREIGN_VHDX, "region unknown", VHDX_REGIONS_1 + VHDX_R_ENTRIES, W64, 1, -ENOTSUP, "requires a region" },
        { FOREIGN_VHDX, "region outside", VHDX_REGIONS_1 + VHDX_R_ENTRIES + VHDX_RE_OFFSET, W64, 1ull << 50, -EINVAL,
          "does not lie in the file" },
        { FOREIGN_VHDX, "region in the header", VHDX_REGIONS_1 + VHDX_R_ENTRIES + VHDX_RE_OFFSET, W64, 0, -EINVAL,
          "1 MiB" },
        { FOREIGN_VHDX, "block size", (2 << 20) + VHDX_M_LENGTH, W32, 512 << 20, -EINVAL, "block size" },
        { FOREIGN_VHDX, "parent", (2 << 20) + VHDX_M_LENGTH + VHDX_FP_FLAGS, W32, VHDX_FP_HAS_PARENT, -ENOTSUP,
          "only differences" },
        { FOREIGN_VHDX, "sector size", (2 << 20) + VHDX_M_LENGTH + 32, W32, 1024, -EINVAL, "1024" },
        { FOREIGN_VHDX, "disk size", (2 << 20) + VHDX_M_LENGTH + 16, W64, UINT64_MAX, -EINVAL, "64 TiB" },
        { FOREIGN_VHDX, "table too small", (2 << 20) + VHDX_M_LENGTH + 16, W64, 1ull << 40, -EINVAL, "too few" },
        { FOREIGN_VHDX, "item unknown", (2 << 20) + VHDX_M_ENTRIES, W64, 1, -ENOTSUP, "metadata item" },
        { FOREIGN_VHDX, "item outside", (2 << 20) + VHDX_M_ENTRIES + VHDX_ME_OFFSET, W32, UINT32_MAX, -EINVAL, "item" },
        { FOREIGN_VHDX, "state of a block", 3 << 20, W64, VHDX_PARTLY_PRESENT, 0, "state 7" },
        { FOREIGN_VHDX, "block in the header", 3 << 20, W64, VHDX_PRESENT, 0, "inside the headers" },
        { FOREIGN_VHDX, "block outside", 3 << 20, W64, VHDX_PRESENT | UINT64_MAX << 20, 0, "beyond the end" },

        { FOREIGN_VHDX_LOG, "log version", VHDX_HEADER_1 + VHDX_H_LOG_VERSION, W16, 1, -ENOTSUP, "log version 1" },
        { FOREIGN_VHDX_LOG, "log length", VHDX_HEADER_1 + VHDX_H_LOG_LENGTH, W32, 4096, -ENOTSUP, "log of 4096" },
        { FOREIGN_VHDX_LOG, "log outside", VHDX_HEADER_1 + VHDX_H_LOG_OFFSET, W64, 1ull << 40, -EINVAL, "the log" },
        { FOREIGN_VHDX_LOG, "tail", (1 << 20) + VHDX_L_TAIL, W32, 100, -EINVAL, "offset 100" },
        { FOREIGN_VHDX_LOG, "tail nowhere", (1 << 20) + VHDX_L_TAIL, W32, 8192, -EINVAL,
          "no whole entry at offset 8192" },
        { FOREIGN_VHDX_LOG, "file cut off", (1 << 20) + VHDX_L_FLUSHED_SIZE, W64, 7 << 20, -EINVAL, "cut off" },
        { FOREIGN_VHDX_LOG, "file without end", (1 << 20) + VHDX_L_LAST_SIZE, W64, UINT64_MAX, -EINVAL, "damaged" },
        { FOREIGN_VHDX_LOG, "log about payload", (1 << 20) + VHDX_L_HEADER + VHDX_LD_OFFSET, W64, 4 << 20, -ENOTSUP,
          "in no table" },

        { FOREIGN_VMDK, "COWD", 0, W32, 0x44574f43, -ENOTSUP, "COWD" },
        { FOREIGN_VMDK, "version", VMDK_VERSION, W32, 4, -ENOTSUP, "version 4" },
        { FOREIGN_VMDK, "line ends", VMDK_NEWLINES, W16, 0x0a0d, -EINVAL, "line ends" },
        { FOREIGN_VMDK, "compression", VMDK_COMPRESSION, W16, 2, -ENOTSUP, "compression 2" },
        { FOREIGN_VMDK, "grain 0", VMDK_GRAIN, W64, 0, -EINVAL, "grain of 0" },
        { FOREIGN_VMDK, "grain", VMDK_GRAIN, W64, 1ull << 40, -EINVAL, "grain of" },
        { FOREIGN_VMDK, "table entries 0", VMDK_GT_ENTRIES, W32, 0, -EINVAL, "0 entries" },
        { FOREIGN_VMDK, "table entries", VMDK_GT_ENTRIES, W32, 513, -EINVAL, "513 entries" },
        { FOREIGN_VMDK, "capacity", VMDK_CAPACITY, W64, UINT64_MAX / 2, -EINVAL, "sectors" },
        { FOREIGN_VMDK, "capacity 0", VMDK_CAPACITY, W64, 0, -EINVAL, "0 sectors" },
        { FOREIGN_VMDK, "directory outside", VMDK_GD_OFFSET, W64, 24, -EINVAL, "grain directory" },
        { FOREIGN_VMDK, "no descriptor", VMDK_DESC_OFFSET, W64, 0, -EINVAL, "no descriptor" },
        { FOREIGN_VMDK, "table outside", 2 * SECTOR, W32, 1u << 31, 0, "grain table" },
        { FOREIGN_VMDK, "grain outside", 3 * SECTOR, W32, 1u << 31, 0, "beyond the end" },
        { FOREIGN_VMDK_STREAM, "grain", 8 * SECTOR + VMDK_MARKER_SIZE, W32, 10, 0, "does not unpack" },
};

/* Values in VHD are big-endian, in all others little-endian. */
static void put(enum foreign_kind kind, uint8_t *at, enum width width, uint64_t value)
{
        for (unsigned i = 0; i < width; i++)
                at[kind == FOREIGN_VPC ? width - 1 - i : i] = (uint8_t)(value >> 8 * i);
}

static void test_refused(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct foreign_image m;
                struct fmt_image *img = NULL;
                int r, want = rows[i].r;

                foreign_make(rows[i].kind, &m);
                put(rows[i].kind, m.bytes + rows[i].at, rows[i].width, rows[i].value);
                if (rows[i].kind == FOREIGN_VPC) /* both copies of the footer */
                        memcpy(m.bytes + m.len - VHD_FOOTER_LENGTH, m.bytes, VHD_FOOTER_LENGTH);
                foreign_fix_checksums(rows[i].kind, m.bytes, m.len);
                r = open_bytes(rows[i].kind, m.bytes, m.len, FMT_RDONLY, &img);
                if (r == 0 && want == 0) {
                        want = -EIO;
                        r = chain_read_sync(img, m.bytes, m.size, 0);
                }
                if (r != want || !strstr(err_text(r), rows[i].sentence))
                        fail_msg("%s, %s: %d %s", foreign_name[rows[i].kind], rows[i].what, r, r ? err_text(r) : "");
                chain_close(img);
                free(m.bytes);
        }
}

/* --- VHD: which size -------------------------------------------------------------------------------------------- */

static void test_vpc_size(void **state)
{
        static const struct {
                const char *app;
                uint16_t cylinders;
                uint8_t heads, sectors;
                uint64_t size; /* that is taken; the footer says 15872 */
        } cases[] = {
                { "win ", 1, 1, 17, 15872 },  { "qem2", 1, 1, 17, 15872 }, { "wa\0\0", 1, 1, 17, 15872 },
                { "vpc ", 1, 1, 17, 17 * 512 }, { "qemu", 2, 1, 9, 18 * 512 }, { "vpc ", 65535, 16, 255, 15872 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct foreign_image m;
                struct fmt_image *img;
                uint8_t *footer;

                foreign_make(FOREIGN_VPC, &m);
                footer = m.bytes + m.len - VHD_FOOTER_LENGTH;
                memcpy(footer + VHD_CREATOR_APP, cases[i].app, 4);
                be16_put(footer + VHD_CYLINDERS, cases[i].cylinders);
                footer[VHD_HEADS] = cases[i].heads;
                footer[VHD_SECTORS] = cases[i].sectors;
                foreign_fix_checksums(FOREIGN_VPC, m.bytes, m.len);
                assert_int_equal(open_bytes(FOREIGN_VPC, m.bytes, m.len, FMT_RDONLY, &img), 0);
                assert_int_equal(img->size, cases[i].size);
                chain_close(img);
                free(m.bytes);
        }
}

/* A fixed image is the disk and a footer; a file cut off in between is refused. */
static void test_vpc_fixed(void **state)
{
        struct foreign_image m;
        struct fmt_image *img;
        uint8_t disk[4096 + VHD_FOOTER_LENGTH], back[4096], *footer = disk + 4096;

        foreign_make(FOREIGN_VPC, &m);
        for (unsigned i = 0; i < 4096; i++)
                disk[i] = (uint8_t)(i * 13);
        memcpy(footer, m.bytes, VHD_FOOTER_LENGTH);
        be32_put(footer + VHD_TYPE, VHD_FIXED);
        be64_put(footer + VHD_CURRENT_SIZE, 4096);
        foreign_fix_checksums(FOREIGN_VPC, footer, VHD_FOOTER_LENGTH);
        assert_int_equal(open_bytes(FOREIGN_VPC, disk, sizeof(disk), FMT_RDONLY, &img), 0);
        assert_int_equal(img->size, 4096);
        assert_int_equal(chain_read_sync(img, back, sizeof(back), 0), 0);
        assert_memory_equal(disk, back, sizeof(back));
        chain_close(img);
        assert_int_equal(open_bytes(FOREIGN_VPC, disk + 512, sizeof(disk) - 512, FMT_RDONLY, &img), -EINVAL);
        assert_null(fmt_probe(disk, sizeof(disk)));
        footer[VHD_CHECKSUM]++;
        assert_int_equal(open_bytes(FOREIGN_VPC, disk, sizeof(disk), FMT_RDONLY, &img), -EINVAL);
        free(m.bytes);
}

/* The footer of a dynamic image has a copy at the begin of the file. */
static void test_vpc_copy(void **state)
{
        struct foreign_image m;
        struct fmt_image *img;

        foreign_make(FOREIGN_VPC, &m);
        m.bytes[m.len - VHD_FOOTER_LENGTH + VHD_TYPE]++;
        assert_int_equal(open_bytes(FOREIGN_VPC, m.bytes, m.len, FMT_RDONLY, &img), 0);
        expect_contents(&m, img, "copy of the footer");
        chain_close(img);
        m.bytes[VHD_TYPE]++;
        assert_int_equal(open_bytes(FOREIGN_VPC, m.bytes, m.len, FMT_RDONLY, &img), -EINVAL);
        free(m.bytes);
}

/* --- VHDX: headers and log -------------------------------------------------------------------------------------- */

static bool vhdx_opens(struct foreign_image *m)
{
        struct fmt_image *img;

        if (open_bytes(FOREIGN_VHDX, m->bytes, m->len, FMT_RDONLY, &img) < 0)
                return false;
        expect_contents(m, img, "vhdx");
        chain_close(img);
        return true;
}

static void test_vhdx_headers(void **state)
{
        struct foreign_image m;

        foreign_make(FOREIGN_VHDX, &m);
        memcpy(m.bytes + VHDX_REGIONS_2, m.bytes + VHDX_REGIONS_1, VHDX_R_LENGTH);
        m.bytes[VHDX_HEADER_1 + 4000]++; /* the newer one is torn */
        assert_true(vhdx_opens(&m));
        m.bytes[VHDX_HEADER_2 + 4000]++;
        assert_false(vhdx_opens(&m));
        foreign_fix_checksums(FOREIGN_VHDX, m.bytes, m.len);
        assert_true(vhdx_opens(&m));
        le64_put(m.bytes + VHDX_HEADER_1 + VHDX_H_SEQUENCE, 4);
        foreign_fix_checksums(FOREIGN_VHDX, m.bytes, m.len);
        assert_true(vhdx_opens(&m)); /* equal numbers, equal bytes */
        m.bytes[VHDX_HEADER_1 + VHDX_H_LOG_LENGTH]++;
        foreign_fix_checksums(FOREIGN_VHDX, m.bytes, m.len);
        assert_false(vhdx_opens(&m));
        m.bytes[VHDX_HEADER_1 + VHDX_H_LOG_LENGTH]--;
        foreign_fix_checksums(FOREIGN_VHDX, m.bytes, m.len);
        m.bytes[VHDX_REGIONS_1 + 100]++;
        assert_true(vhdx_opens(&m)); /* the second table */
        m.bytes[VHDX_REGIONS_2 + 100]++;
        assert_false(vhdx_opens(&m));
        free(m.bytes);
}

enum { LOG_AT = 1 << 20, LOG_SIZE = 1 << 20, TABLE_AT = 3 << 20 };

/* A second entry that zeroes the sector of the block table; the ring wraps in the middle of it. */
static void second_entry(uint8_t *bytes, uint32_t at, uint32_t tail, uint64_t sequence)
{
        uint8_t e[4096] = { 0 };

        memcpy(e, "loge", 4);
        le32_put(e + VHDX_L_LENGTH, sizeof(e));
        le32_put(e + VHDX_L_TAIL, tail);
        le64_put(e + VHDX_L_SEQUENCE, sequence);
        le32_put(e + VHDX_L_DESCRIPTORS, 1);
        memcpy(e + VHDX_L_GUID, bytes + VHDX_HEADER_1 + VHDX_H_LOG_GUID, 16);
        memcpy(e + VHDX_L_HEADER, "zero", 4);
        le64_put(e + VHDX_L_HEADER + VHDX_LD_LEADING, 4096);
        le64_put(e + VHDX_L_HEADER + VHDX_LD_OFFSET, TABLE_AT);
        le64_put(e + VHDX_L_HEADER + VHDX_LD_SEQUENCE, sequence);
        le32_put(e + VHDX_CHECKSUM, crc32c(0, e, sizeof(e)));
        memcpy(bytes + LOG_AT + at, e, sizeof(e));
}

/* What is read first at @off of the disk: data from the log's first entry, or zeros from its second. */
static int first_byte(const struct foreign_image *m, int *byte)
{
        struct fmt_image *img;
        uint8_t b = 0;
        int r = open_bytes(FOREIGN_VHDX, m->bytes, m->len, FMT_RDONLY, &img);

        if (r < 0)
                return r;
        assert_int_equal(chain_read_sync(img, &b, 1, 0), 0);
        chain_close(img);
        *byte = b;
        return 0;
}

static void test_vhdx_log(void **state)
{
        struct foreign_image m;
        int byte;

        foreign_make(FOREIGN_VHDX_LOG, &m);
        second_entry(m.bytes, 8192, 0, 8);
        assert_int_equal(first_byte(&m, &byte), 0);
        assert_int_equal(byte, 0); /* both replayed, in order */
        second_entry(m.bytes, 8192, 8192, 8);
        assert_int_equal(first_byte(&m, &byte), 0);
        assert_int_equal(byte, 0);
        m.bytes[LOG_AT + 8192 + 100]++; /* torn: the one before counts */
        assert_int_equal(first_byte(&m, &byte), 0);
        assert_int_equal(byte, foreign_byte(&m, 0));
        second_entry(m.bytes, 8192, 0, 9); /* one is missing between them */
        assert_int_equal(first_byte(&m, &byte), -EINVAL);
        second_entry(m.bytes, LOG_SIZE - 4096, LOG_SIZE - 4096,
                     6); /* older: before the first, at the end of the ring */
        second_entry(m.bytes, 8192, LOG_SIZE - 4096, 8);
        assert_int_equal(first_byte(&m, &byte), 0);
        assert_int_equal(byte, 0);
        memset(m.bytes + VHDX_HEADER_1 + VHDX_H_LOG_GUID, 0, 16); /* closed clean: nothing is replayed */
        foreign_fix_checksums(FOREIGN_VHDX, m.bytes, m.len);
        assert_int_equal(first_byte(&m, &byte), 0);
        assert_int_equal(byte, 0);
        free(m.bytes);
}

/* Every sector looks like an entry as long as the log: no more than a few times its length is summed up. */
static void test_vhdx_log_bomb(void **state)
{
        struct foreign_image m;
        int byte;

        foreign_make(FOREIGN_VHDX_LOG, &m);
        for (uint32_t at = 0; at < LOG_SIZE; at += 4096) {
                second_entry(m.bytes, at, 0, 7);
                le32_put(m.bytes + LOG_AT + at + VHDX_L_LENGTH, LOG_SIZE);
        }
        assert_int_equal(first_byte(&m, &byte), -EINVAL);
        assert_non_null(strstr(err_text(-EINVAL), "overlap"));
        free(m.bytes);
}

/* --- VMDK: the descriptor --------------------------------------------------------------------------------------- */

static void test_vmdk_desc(void **state)
{
        static const struct {
                const char *text;
                int r;
                const char *sentence;
        } cases[] = {
                { "CID=123456789", -EINVAL, "'123456789'" },
                { "CID=xyz", -EINVAL, "'xyz'" },
                { "CID=1\nCID=2", 0, NULL },
                { "createType=\"a\"\ncreateType=\"b\"", -EINVAL, "twice" },
                { "createType=\"a", -EINVAL, "closing quote" },
                { "RW", -EINVAL, "does not describe" },
                { "RW 1 FLAT", -EINVAL, "does not describe" },
                { "RW 1 FLAT \"a.vmdk\"", -EINVAL, "does not describe" },
                { "RW 1 SPARSE \"a.vmdk\" 3", -EINVAL, "does not describe" },
                { "RW 0 SPARSE \"a.vmdk\"", -EINVAL, "does not describe" },
                { "RW 99999999999999999999 SPARSE \"a.vmdk\"", -EINVAL, "does not describe" },
                { "RW 1 FLAT \"../a.vmdk\" 0", -EINVAL, "only files in the directory" },
                { "RW 1 FLAT \"/etc/shadow\" 0", -EINVAL, "'/etc/shadow'" },
                { "RW 1 FLAT \"..\" 0", -EINVAL, "only files in the directory" },
                { "RW 1 ZERO", -EINVAL, "does not describe" },
                { "RW 1 SESPARSE \"a.vmdk\"", -ENOTSUP, "SESPARSE" },
                { "NOACCESS 1 ZERO", -ENOTSUP, "must not be read" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                AUTO(vmdk_desc_finish) struct vmdk_desc d = { 0 };
                int r;

                err_clear();
                r = vmdk_desc_parse(cases[i].text, &d);
                if (r != cases[i].r || (r && !strstr(err_text(r), cases[i].sentence)))
                        fail_msg("%s: %d %s", cases[i].text, r, r ? err_text(r) : "");
        }
}

static void test_vmdk_desc_taken(void **state)
{
        AUTO(vmdk_desc_finish) struct vmdk_desc d = { 0 };

        assert_int_equal(vmdk_desc_parse("# Disk DescriptorFile\r\nversion=1\r\nCID = "
                                         "fffffffe\r\nparentCID=0000002a\r\n"
                                         "  createType = \"vmfs\"\r\nparentFileNameHint=\"base one.vmdk\"\r\n\r\n"
                                         "RW 63 VMFS \"a b.vmdk\"\r\nRDONLY 4096 FLAT \"c.vmdk\" 7\r\nRW 1 SPARSE "
                                         "\"d\"",
                                         &d),
                         0);
        assert_int_equal(d.cid, 0xfffffffe);
        assert_int_equal(d.parent_cid, 42);
        assert_string_equal(d.create_type, "vmfs");
        assert_string_equal(d.parent, "base one.vmdk");
        assert_int_equal(d.n, 3);
        assert_string_equal(d.line[0].name, "a b.vmdk");
        assert_int_equal(d.line[1].kind, VMDK_FLAT);
        assert_int_equal(d.line[1].offset, 7);
        assert_int_equal(d.line[1].sectors, 4096);
        assert_int_equal(d.line[2].kind, VMDK_SPARSE);
}

static void test_crc32c(void **state)
{
        uint8_t zeros[32] = { 0 };

        assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
        assert_int_equal(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa); /* RFC 3720, B.4 */
        assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_contents),  cmocka_unit_test(test_little_cache),
                cmocka_unit_test(test_read_only), cmocka_unit_test(test_refused),
                cmocka_unit_test(test_vpc_size),  cmocka_unit_test(test_vpc_fixed),
                cmocka_unit_test(test_vpc_copy),  cmocka_unit_test(test_vhdx_headers),
                cmocka_unit_test(test_vhdx_log),  cmocka_unit_test(test_vhdx_log_bomb),
                cmocka_unit_test(test_vmdk_desc), cmocka_unit_test(test_vmdk_desc_taken),
                cmocka_unit_test(test_crc32c),
        };

        log_init("test_foreign", 0);
        rcu_register_thread();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
