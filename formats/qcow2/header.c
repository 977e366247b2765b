/* SPDX-License-Identifier: BSD-3-Clause */
/* header.c - reading the header: every number is a stranger's until it was compared with its limit here. */
#include "header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"

#define bad(...) err_note(-EINVAL, __VA_ARGS__)

void qcow2_header_finish(struct qcow2_header *h)
{
        free(h->backing_name);
        free(h->backing_format);
        free(h->data_name);
        free(h->raw);
        free(h->ext);
        memset(h, 0, sizeof(*h));
}

/* --- the numbers --------------------------------------------------------------------------------------------- */

static void decode_numbers(struct qcow2_header *h, const uint8_t *b)
{
        h->version = be32_get(b + QH_VERSION);
        h->cluster_bits = be32_get(b + QH_CLUSTER_BITS);
        h->size = be64_get(b + QH_SIZE);
        h->crypt_method = be32_get(b + QH_CRYPT_METHOD);
        h->l1_entries = be32_get(b + QH_L1_ENTRIES);
        h->l1_offset = be64_get(b + QH_L1_OFFSET);
        h->reftable_offset = be64_get(b + QH_REFTABLE_OFFSET);
        h->reftable_clusters = be32_get(b + QH_REFTABLE_CLUSTERS);
        h->nb_snapshots = be32_get(b + QH_SNAPSHOTS);
        h->snapshots_offset = be64_get(b + QH_SNAPSHOTS_OFFSET);
        h->refcount_order = 4;
        h->length = QH_V2_LENGTH;
        if (h->version < 3)
                return;
        h->incompatible = be64_get(b + QH_INCOMPATIBLE);
        h->compatible = be64_get(b + QH_COMPATIBLE);
        h->autoclear = be64_get(b + QH_AUTOCLEAR);
        h->refcount_order = be32_get(b + QH_REFCOUNT_ORDER);
        h->length = be32_get(b + QH_LENGTH);
        if (h->length > QH_COMPRESSION)
                h->compression = b[QH_COMPRESSION];
}

/* What everything else is measured with. */
static int check_geometry(struct qcow2_header *h)
{
        if (h->version != 2 && h->version != 3)
                return err_note(-ENOTSUP, "qcow2 version %" PRIu32 " is not supported (2 and 3 are)", h->version);
        if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
                return bad("cluster_bits is %" PRIu32 ", must be 9 to 21", h->cluster_bits);
        h->cluster_size = 1u << h->cluster_bits;
        if (h->version == 3 && (h->length < QH_V3_MIN_LENGTH || h->length > h->cluster_size || h->length % 8))
                return bad("header_length is %" PRIu32 ", must be a multiple of 8 from 104 to the cluster size %" PRIu32,
                           h->length, h->cluster_size);
        if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
                return bad("refcount_order is %" PRIu32 ", must be 0 to 6", h->refcount_order);
        if (h->crypt_method > QCOW2_CRYPT_LUKS)
                return err_note(-ENOTSUP, "crypt_method %" PRIu32 " is not known", h->crypt_method);
        return 0;
}

/* A table of @len bytes at @off: aligned, not the header, wholly inside the file. */
static int check_table(const struct qcow2_header *h, const struct file *file, const char *what, uint64_t off,
                       uint64_t len)
{
        if (!is_aligned(off, h->cluster_size))
                return bad("the %s's offset 0x%" PRIx64 " is not a multiple of the cluster size %" PRIu32, what, off,
                           h->cluster_size);
        if (off == 0)
                return bad("the %s's offset is 0, where the header is", what);
        if (!range_fits(off, len, file->size))
                return bad("the %s (%" PRIu64 " bytes at offset 0x%" PRIx64 ") ends beyond the file's %" PRIu64 " bytes",
                           what, len, off, file->size);
        return 0;
}

static int check_l1(const struct qcow2_header *h, const struct file *file)
{
        uint64_t needs = qcow2_l1_needs(h, h->size);

        if (h->l1_entries > QCOW2_MAX_L1_ENTRIES)
                return bad("l1_size is %" PRIu32 " entries, the limit is %u", h->l1_entries, QCOW2_MAX_L1_ENTRIES);
        if (h->l1_entries < needs)
                return bad("l1_size is %" PRIu32 " entries, a disk of %" PRIu64 " bytes needs %" PRIu64, h->l1_entries,
                           h->size, needs);
        if (h->l1_entries == 0)
                return 0;
        return check_table(h, file, "L1 table", h->l1_offset, (uint64_t)h->l1_entries * QCOW2_ENTRY_SIZE);
}

static int check_reftable(const struct qcow2_header *h, const struct file *file, unsigned flags)
{
        uint64_t len = (uint64_t)h->reftable_clusters << h->cluster_bits;

        if (flags & QCOW2_REPAIRING)
                return 0; /* it will be made anew; see reftable_is_sane() there */
        if (h->reftable_clusters == 0)
                return bad("refcount_table_clusters is 0, at least 1 is needed");
        if (len > max_u64(QCOW2_MAX_REFTABLE_BYTES, h->cluster_size))
                return bad("refcount_table_clusters is %" PRIu32 " (%" PRIu64 " bytes), the limit is %u bytes",
                           h->reftable_clusters, len, QCOW2_MAX_REFTABLE_BYTES);
        /* Some writers leave the unused end of the table away: it reads as zeros, and 8 MiB are not worth a refusal. */
        return check_table(h, file, "refcount table", h->reftable_offset, QCOW2_ENTRY_SIZE);
}

static int check_snapshots(const struct qcow2_header *h, const struct file *file, unsigned flags)
{
        if (flags & QCOW2_REPAIRING)
                return 0; /* who reads the table looks where it is */
        if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
                return bad("nb_snapshots is %" PRIu32 ", the limit is %u", h->nb_snapshots, QCOW2_MAX_SNAPSHOTS);
        if (h->nb_snapshots == 0)
                return 0;
        return check_table(h, file, "snapshot table", h->snapshots_offset, (uint64_t)h->nb_snapshots * QS_EXTRA);
}

static int check_features(const struct qcow2_header *h)
{
        uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;
        bool bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;
        char name[QFN_RECORD];

        if (unknown)
                return err_note(-ENOTSUP, "the image needs a feature that is not known here: %s",
                                qcow2_feature_name(h, 0, (unsigned)__builtin_ctzll(unknown), name, sizeof(name)));
        if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 && h->cluster_bits < QCOW2_MIN_EXTENDED_L2_BITS)
                return bad("cluster_bits is %" PRIu32 ", with extended L2 entries it must be %u to %u", h->cluster_bits,
                           QCOW2_MIN_EXTENDED_L2_BITS, QCOW2_MAX_CLUSTER_BITS);
        if (h->compression > QCOW2_COMPRESSION_ZSTD)
                return err_note(-ENOTSUP, "compression_type %u is not known (0 zlib and 1 zstd are)", h->compression);
        if (bit != (h->compression != QCOW2_COMPRESSION_ZLIB))
                return bad("compression_type is %u, but the compression type feature bit is %s", h->compression,
                           bit ? "set" : "not set");
        if (qcow2_has_data_file(h) && h->nb_snapshots)
                return bad("the image has an external data file and internal snapshots, which exclude each other");
        if (qcow2_data_is_raw(h) && h->backing_name)
                return bad("the image has a raw external data file and a backing file, which exclude each other");
        return 0;
}

int qcow2_header_usable(const struct qcow2_header *h, bool write)
{
        if (h->crypt_method == QCOW2_CRYPT_AES)
                return err_note(-ENOTSUP, "the image has the legacy encryption (AES), which QEMU dropped as broken; "
                                "'qemu-img convert' can still read it");
        if (h->crypt_method != QCOW2_CRYPT_NONE && qcow2_has_data_file(h)) /* holes of that file would be noise */
                return err_note(-ENOTSUP, "the image is encrypted and has an external data file, which is not supported");
        if (write && h->incompatible & QCOW2_INCOMPAT_CORRUPT)
                return err_note(-EROFS, "the image is marked corrupt: open it read-only, or repair it with 'check -r all'");
        return 0;
}

/* --- names and extensions, all inside cluster 0 ---------------------------------------------------------------- */

/* @len bytes as text; NULL with *r set when they hold a NUL or memory is short. */
static char *text_of(const uint8_t *b, size_t len, const char *what, int *r)
{
        char *text = memchr(b, 0, len) ? NULL : strndup((const char *)b, len);

        if (!text)
                *r = memchr(b, 0, len) ? bad("the %s has a NUL byte in it", what) : -ENOMEM;
        return text;
}

static int read_bitmaps_ext(struct qcow2_header *h, const struct file *file, const uint8_t *data, uint32_t len)
{
        if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
                return 0; /* a program that did not maintain them wrote to the image: they mean nothing */
        if (len != QBX_LENGTH)
                return bad("the bitmaps extension has %" PRIu32 " bytes, must be %d", len, QBX_LENGTH);
        h->nb_bitmaps = be32_get(data + QBX_COUNT);
        h->bitmap_dir_size = be64_get(data + QBX_DIR_SIZE);
        h->bitmap_dir_offset = be64_get(data + QBX_DIR_OFFSET);
        if (be32_get(data + QBX_RESERVED))
                return bad("the bitmaps extension's reserved field is not 0");
        if (h->nb_bitmaps == 0 || h->nb_bitmaps > QCOW2_MAX_BITMAPS)
                return bad("the bitmaps extension names %" PRIu32 " bitmaps, must be 1 to %u", h->nb_bitmaps,
                           QCOW2_MAX_BITMAPS);
        if (h->bitmap_dir_size > QCOW2_MAX_BITMAP_DIR_BYTES)
                return bad("the bitmap directory has %" PRIu64 " bytes, the limit is %u", h->bitmap_dir_size,
                           QCOW2_MAX_BITMAP_DIR_BYTES);
        return check_table(h, file, "bitmap directory", h->bitmap_dir_offset, h->bitmap_dir_size);
}

static int read_luks_ext(struct qcow2_header *h, const struct file *file, const uint8_t *data, uint32_t len)
{
        if (h->crypt_method != QCOW2_CRYPT_LUKS)
                return bad("there is a LUKS extension, but crypt_method is %" PRIu32 ", not 2", h->crypt_method);
        if (h->luks_offset)
                return bad("there are two LUKS extensions");
        if (len != QLX_LENGTH)
                return bad("the LUKS extension has %" PRIu32 " bytes, must be %d", len, QLX_LENGTH);
        h->luks_offset = be64_get(data + QLX_OFFSET);
        h->luks_length = be64_get(data + QLX_SIZE);
        if (h->luks_length == 0 || h->luks_length > QCOW2_MAX_LUKS_BYTES)
                return bad("the LUKS header has %" PRIu64 " bytes, must be 1 to %u", h->luks_length, QCOW2_MAX_LUKS_BYTES);
        return check_table(h, file, "LUKS header", h->luks_offset, h->luks_length);
}

static int read_one_ext(struct qcow2_header *h, const struct file *file, uint32_t type, const uint8_t *data,
                        uint32_t len, bool *have_bitmaps)
{
        int r = 0;

        switch (type) {
        case QCOW2_EXT_BACKING_FORMAT:
                if (h->backing_format)
                        return bad("there are two backing format extensions");
                if (len == 0 || len > 15)
                        return bad("the backing format's name has %" PRIu32 " bytes, must be 1 to 15", len);
                h->backing_format = text_of(data, len, "backing format's name", &r);
                return r;
        case QCOW2_EXT_DATA_FILE:
                if (!qcow2_has_data_file(h))
                        return 0;
                if (h->data_name)
                        return bad("there are two data file extensions");
                if (len > QCOW2_MAX_DATA_NAME)
                        return bad("the data file's name has %" PRIu32 " bytes, the limit is %u", len, QCOW2_MAX_DATA_NAME);
                if (len)
                        h->data_name = text_of(data, len, "data file's name", &r);
                return r;
        case QCOW2_EXT_BITMAPS:
                if (*have_bitmaps)
                        return bad("there are two bitmaps extensions");
                *have_bitmaps = true;
                return read_bitmaps_ext(h, file, data, len);
        case QCOW2_EXT_LUKS:
                return read_luks_ext(h, file, data, len);
        default:
                return 0;
        }
}

/* Walks [start, end) of cluster 0 and keeps a copy of what lies there. */
static int read_extensions(struct qcow2_header *h, const struct file *file, const uint8_t *cluster, uint64_t start,
                           uint64_t end, unsigned flags)
{
        bool have_bitmaps = false;
        uint64_t at = start;

        while (end - at >= QCOW2_EXT_HEADER) {
                uint32_t type = be32_get(cluster + at), len = be32_get(cluster + at + 4);
                int r;

                if (type == QCOW2_EXT_END)
                        break;
                if (len > end - at - QCOW2_EXT_HEADER)
                        return bad("header extension 0x%08" PRIx32 " has %" PRIu32 " bytes, only %" PRIu64 " are left",
                                   type, len, end - at - QCOW2_EXT_HEADER);
                r = read_one_ext(h, file, type, cluster + at + QCOW2_EXT_HEADER, len, &have_bitmaps);
                if (r < 0)
                        return r;
                at = min_u64(at + QCOW2_EXT_HEADER + round_up(len, 8), end);
        }
        if (h->autoclear & QCOW2_AUTOCLEAR_BITMAPS && !have_bitmaps && !(flags & QCOW2_REPAIRING))
                return bad("the bitmaps feature bit is set, but there is no bitmaps extension");
        if (h->crypt_method == QCOW2_CRYPT_LUKS && !h->luks_offset)
                return bad("crypt_method is 2 (LUKS), but there is no LUKS extension that says where its header is");
        h->ext_len = (uint32_t)(at - start);
        if (h->ext_len == 0)
                return 0;
        h->ext = malloc(h->ext_len);
        if (!h->ext)
                return -ENOMEM;
        memcpy(h->ext, cluster + start, h->ext_len);
        return 0;
}

/* Where the extensions end: at the backing file's name, or with the cluster. */
static int read_backing_name(struct qcow2_header *h, const uint8_t *cluster, uint64_t *ext_end)
{
        uint64_t off = be64_get(cluster + QH_BACKING_OFFSET);
        uint32_t len = be32_get(cluster + QH_BACKING_SIZE);
        int r = 0;

        *ext_end = h->cluster_size;
        if (off == 0)
                return 0; /* the size means nothing then */
        if (len == 0 || len > QCOW2_MAX_BACKING_NAME)
                return bad("the backing file's name has %" PRIu32 " bytes, must be 1 to %u", len, QCOW2_MAX_BACKING_NAME);
        if (off < h->length || !range_fits(off, len, h->cluster_size))
                return bad("the backing file's name (%" PRIu32 " bytes at offset %" PRIu64 ") is not between the header's "
                           "%" PRIu32 " bytes and the end of the first cluster", len, off, h->length);
        *ext_end = off;
        h->backing_name = text_of(cluster + off, len, "backing file's name", &r);
        return r;
}

static int read_cluster0(struct file *file, unsigned flags, struct qcow2_header *h)
{
        AUTO(freep) uint8_t *cluster = calloc(1, h->cluster_size);
        uint64_t ext_end;
        int r;

        h->raw = calloc(1, h->length);
        if (!cluster || !h->raw)
                return -ENOMEM;
        r = file_pread(file, cluster, min_u64(h->cluster_size, file->size), 0);
        if (r < 0)
                return r;
        memcpy(h->raw, cluster, h->length);
        r = read_backing_name(h, cluster, &ext_end);
        if (r < 0)
                return r;
        return read_extensions(h, file, cluster, h->length, ext_end, flags);
}

static int read_checked(struct file *file, unsigned flags, struct qcow2_header *h)
{
        uint8_t b[QH_V3_LENGTH];
        int r = file_pread(file, b, sizeof(b), 0);

        if (r < 0)
                return r;
        if (be32_get(b + QH_MAGIC) != QCOW2_MAGIC)
                return bad("this is not a qcow2 image: it does not begin with \"QFI\\xfb\"");
        if (file->size < QH_V2_LENGTH)
                return bad("the file has %" PRIu64 " bytes, too few for a qcow2 header", file->size);
        decode_numbers(h, b);
        r = check_geometry(h);
        if (r == 0)
                r = read_cluster0(file, flags, h);
        if (r == 0)
                r = check_features(h);
        if (r == 0)
                r = check_l1(h, file);
        if (r == 0)
                r = check_reftable(h, file, flags);
        if (r == 0)
                r = check_snapshots(h, file, flags);
        return r;
}

int qcow2_header_read(struct file *file, unsigned flags, struct qcow2_header *h)
{
        int r;

        memset(h, 0, sizeof(*h));
        r = read_checked(file, flags, h);
        if (r < 0)
                qcow2_header_finish(h);
        return r;
}
