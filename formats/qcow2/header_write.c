/* SPDX-License-Identifier: BSD-3-Clause */
/* header_write.c - the header on its way to the file, and the names of feature bits. What we do not know stays as it
 * was. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "header.h"

#define SECTOR 512u

static const struct feature {
        uint8_t type, bit;
        const char *name;
} features[] = {
        { 0, 0, "dirty bit" },
        { 0, 1, "corrupt bit" },
        { 0, 2, "external data file" },
        { 0, 3, "compression type" },
        { 0, 4, "extended L2 entries" },
        { 1, 0, "lazy refcounts" },
        { 2, 0, "bitmaps" },
        { 2, 1, "raw external data" },
};

void qcow2_header_init(struct qcow2_header *h, uint32_t version, uint32_t cluster_bits)
{
        memset(h, 0, sizeof(*h));
        h->version = version;
        h->cluster_bits = cluster_bits;
        h->cluster_size = 1u << cluster_bits;
        h->refcount_order = 4;
        h->length = version >= 3 ? QH_V3_LENGTH : QH_V2_LENGTH;
}

size_t qcow2_header_encode(const struct qcow2_header *h, uint8_t buf[QH_V3_LENGTH])
{
        memset(buf, 0, QH_V3_LENGTH);
        if (h->raw)
                memcpy(buf, h->raw, min_u64(h->length, QH_V3_LENGTH));
        be32_put(buf + QH_MAGIC, QCOW2_MAGIC);
        be32_put(buf + QH_VERSION, h->version);
        be32_put(buf + QH_CLUSTER_BITS, h->cluster_bits);
        be64_put(buf + QH_SIZE, h->size);
        be32_put(buf + QH_CRYPT_METHOD, h->crypt_method);
        be32_put(buf + QH_L1_ENTRIES, h->l1_entries);
        be64_put(buf + QH_L1_OFFSET, h->l1_offset);
        be64_put(buf + QH_REFTABLE_OFFSET, h->reftable_offset);
        be32_put(buf + QH_REFTABLE_CLUSTERS, h->reftable_clusters);
        be32_put(buf + QH_SNAPSHOTS, h->nb_snapshots);
        be64_put(buf + QH_SNAPSHOTS_OFFSET, h->snapshots_offset);
        if (h->version < 3)
                return QH_V2_LENGTH;
        be64_put(buf + QH_INCOMPATIBLE, h->incompatible);
        be64_put(buf + QH_COMPATIBLE, h->compatible);
        be64_put(buf + QH_AUTOCLEAR, h->autoclear);
        be32_put(buf + QH_REFCOUNT_ORDER, h->refcount_order);
        be32_put(buf + QH_LENGTH, h->length);
        if (h->length > QH_COMPRESSION)
                buf[QH_COMPRESSION] = h->compression;
        return min_u64(h->length, QH_V3_LENGTH);
}

int qcow2_header_switch(struct file *file, const struct qcow2_header *h)
{
        uint8_t buf[QH_V3_LENGTH];
        size_t len = qcow2_header_encode(h, buf);

        return file_pwrite(file, buf, len, 0);
}

/* --- cluster 0 anew ------------------------------------------------------------------------------------------- */

/* The cluster being filled. */
struct filler {
        uint8_t *buf;
        uint64_t at, end;
};

static int fill_bytes(struct filler *f, const void *bytes, uint64_t len, uint64_t pad)
{
        uint64_t whole = round_up(len, pad);

        if (whole > f->end - f->at)
                return err_note(-ENOSPC, "the header, its extensions and the backing file's name do not fit into one "
                                "cluster of %" PRIu64 " bytes", f->end);
        memcpy(f->buf + f->at, bytes, len);
        f->at += whole;
        return 0;
}

static int fill_ext(struct filler *f, uint32_t type, const void *data, uint32_t len)
{
        uint8_t head[QCOW2_EXT_HEADER];
        int r;

        be32_put(head, type);
        be32_put(head + 4, len);
        r = fill_bytes(f, head, sizeof(head), 1);
        return r < 0 ? r : fill_bytes(f, data, len, 8);
}

static int fill_luks(struct filler *f, const struct qcow2_header *h)
{
        uint8_t data[QLX_LENGTH];

        be64_put(data + QLX_OFFSET, h->luks_offset);
        be64_put(data + QLX_SIZE, h->luks_length);
        return fill_ext(f, QCOW2_EXT_LUKS, data, sizeof(data));
}

static int fill_bitmaps(struct filler *f, const struct qcow2_header *h)
{
        uint8_t data[QBX_LENGTH] = { 0 };

        be32_put(data + QBX_COUNT, h->nb_bitmaps);
        be64_put(data + QBX_DIR_SIZE, h->bitmap_dir_size);
        be64_put(data + QBX_DIR_OFFSET, h->bitmap_dir_offset);
        return fill_ext(f, QCOW2_EXT_BITMAPS, data, sizeof(data));
}

/* The extensions as they were read, but for those that we make ourselves. */
static int fill_old_exts(struct filler *f, const struct qcow2_header *h, bool names, bool *have_names)
{
        for (uint64_t at = 0; h->ext_len - at >= QCOW2_EXT_HEADER;) {
                uint32_t type = be32_get(h->ext + at), len = be32_get(h->ext + at + 4);
                bool stale = type == QCOW2_EXT_BITMAPS;
                int r = 0;

                stale |= type == QCOW2_EXT_DATA_FILE && qcow2_has_data_file(h);
                stale |= type == QCOW2_EXT_FEATURE_NAMES && (!names || h->version < 3);
                stale |= type == QCOW2_EXT_BACKING_FORMAT || type == QCOW2_EXT_LUKS;
                if (!stale)
                        r = fill_ext(f, type, h->ext + at + QCOW2_EXT_HEADER, len);
                if (r < 0)
                        return r;
                *have_names |= type == QCOW2_EXT_FEATURE_NAMES;
                at = min_u64(at + QCOW2_EXT_HEADER + round_up(len, 8), h->ext_len);
        }
        return 0;
}

/* Only a help for older readers, so it may stay away when clusters are small. */
static void fill_feature_names(struct filler *f, uint64_t keep_free)
{
        uint8_t names[ARRAY_SIZE(features) * QFN_RECORD] = { 0 };

        if (f->end - f->at < QCOW2_EXT_HEADER + sizeof(names) + keep_free)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
                uint8_t *rec = names + i * QFN_RECORD;

                rec[QFN_TYPE] = features[i].type;
                rec[QFN_BIT] = features[i].bit;
                memcpy(rec + QFN_NAME, features[i].name, strlen(features[i].name));
        }
        (void)fill_ext(f, QCOW2_EXT_FEATURE_NAMES, names, sizeof(names)); /* it fits: asked above */
}

/*
 * @names: with the feature names. @name_at: where the backing file's name goes; 0: right behind the extensions, which
 * end at *exts_end.
 */
static int lay_out(const struct qcow2_header *h, uint8_t *buf, bool names, uint64_t name_at, uint64_t *exts_end)
{
        size_t name_len = h->backing_name ? strlen(h->backing_name) : 0;
        struct filler f = { buf, h->length, h->cluster_size };
        static const uint8_t end_mark[QCOW2_EXT_HEADER];
        uint8_t numbers[QH_V3_LENGTH];
        bool have_names = false;
        int r = 0;

        if (name_len > QCOW2_MAX_BACKING_NAME)
                return err_note(-ENAMETOOLONG, "the backing file's name has %zu bytes, the limit is %u", name_len,
                                QCOW2_MAX_BACKING_NAME);
        memset(buf, 0, h->cluster_size);
        if (h->raw)
                memcpy(buf, h->raw, h->length);
        memcpy(buf, numbers, qcow2_header_encode(h, numbers));
        if (h->backing_format)
                r = fill_ext(&f, QCOW2_EXT_BACKING_FORMAT, h->backing_format, (uint32_t)strlen(h->backing_format));
        if (r == 0 && h->crypt_method == QCOW2_CRYPT_LUKS)
                r = fill_luks(&f, h);
        if (r == 0 && h->data_name)
                r = fill_ext(&f, QCOW2_EXT_DATA_FILE, h->data_name, (uint32_t)strlen(h->data_name));
        if (r == 0 && h->nb_bitmaps && h->autoclear & QCOW2_AUTOCLEAR_BITMAPS)
                r = fill_bitmaps(&f, h);
        if (r == 0)
                r = fill_old_exts(&f, h, names, &have_names);
        if (r == 0 && names && !have_names && h->version >= 3)
                fill_feature_names(&f, sizeof(end_mark) + name_len);
        if (r == 0)
                r = fill_bytes(&f, end_mark, sizeof(end_mark), 1);
        if (r < 0)
                return r;
        *exts_end = f.at;
        f.at = name_at ? name_at : f.at;
        be64_put(buf + QH_BACKING_OFFSET, name_len ? f.at : 0);
        be32_put(buf + QH_BACKING_SIZE, (uint32_t)name_len);
        return name_len ? fill_bytes(&f, h->backing_name, name_len, 1) : 0;
}

/* With the names of features, if they find room, own or old: nobody needs them. */
static int lay_out_best(const struct qcow2_header *h, uint8_t *buf, bool *names, uint64_t *exts_end)
{
        int r = lay_out(h, buf, true, 0, exts_end);

        *names = r != -ENOSPC;
        if (*names)
                return r;
        err_clear();
        return lay_out(h, buf, false, 0, exts_end);
}

int qcow2_header_build(const struct qcow2_header *h, uint8_t *buf)
{
        uint64_t exts_end;
        bool names;

        return lay_out_best(h, buf, &names, &exts_end);
}

/* --- another cluster 0 for an image that is there ---------------------------------------------------------------- */

/* Behind all extensions, old and new, and not where the old name lies. */
static uint64_t free_place(const struct qcow2_header *old, uint64_t exts_end, uint64_t len)
{
        uint64_t name = be64_get(old->raw + QH_BACKING_OFFSET), name_len = be32_get(old->raw + QH_BACKING_SIZE);
        uint64_t at = max_u64(exts_end, old->length + old->ext_len + QCOW2_EXT_HEADER);

        return name && range_overlaps(at, len, name, name_len) ? round_up(name + name_len, 8) : at;
}

static int write_synced(struct file *file, const uint8_t *buf, uint64_t from, uint64_t to)
{
        int r = from < to ? file_pwrite(file, buf + from, to - from, from) : 0;

        return r < 0 ? r : file_sync(file);
}

/*
 * Only a sector changes all at once. So first the new name goes where the old header has nothing; then the first sector
 * turns to it, with few enough extensions to hold them all; then the names of features, which nobody needs, come back
 * the same way. Where that finds no room (clusters below 2 KiB with a long name, an image with many extensions) cluster
 * 0 is written at once.
 */
int qcow2_header_replace(struct file *file, const struct qcow2_header *h)
{
        AUTO(qcow2_header_finish) struct qcow2_header old = { 0 };
        AUTO(freep) uint8_t *buf = malloc(h->cluster_size);
        uint64_t len = h->backing_name ? strlen(h->backing_name) : 0, at = 0, exts_end = 0, small_end = 0;
        int r = buf ? qcow2_header_read(file, 0, &old) : -ENOMEM;
        bool names = true;

        if (r == 0)
                r = lay_out_best(h, buf, &names, &exts_end);
        if (r < 0)
                return r;
        at = free_place(&old, exts_end, len);
        if (!range_fits(at, len, h->cluster_size) || lay_out(h, buf, false, at, &small_end) < 0 || small_end > SECTOR)
                return (r = qcow2_header_build(h, buf)) < 0 ? r : write_synced(file, buf, 0, h->cluster_size);
        r = write_synced(file, buf, at, at + len);
        if (r == 0)
                r = write_synced(file, buf, 0, SECTOR);
        if (r == 0)
                r = lay_out(h, buf, names, at, &exts_end);
        if (r == 0)
                r = write_synced(file, buf, SECTOR, h->cluster_size);
        return r < 0 ? r : write_synced(file, buf, 0, SECTOR);
}

/* --- feature names -------------------------------------------------------------------------------------------- */

/* The image's own word for the bit, or NULL. */
static const uint8_t *own_name(const struct qcow2_header *h, unsigned type, unsigned bit)
{
        for (uint64_t at = 0; h->ext_len - at >= QCOW2_EXT_HEADER;) {
                uint32_t ext = be32_get(h->ext + at), len = be32_get(h->ext + at + 4);
                const uint8_t *data = h->ext + at + QCOW2_EXT_HEADER;

                for (uint32_t i = 0; ext == QCOW2_EXT_FEATURE_NAMES && len - i >= QFN_RECORD; i += QFN_RECORD)
                        if (data[i + QFN_TYPE] == type && data[i + QFN_BIT] == bit)
                                return data + i + QFN_NAME;
                at = min_u64(at + QCOW2_EXT_HEADER + round_up(len, 8), h->ext_len);
        }
        return NULL;
}

const char *qcow2_feature_name(const struct qcow2_header *h, unsigned type, unsigned bit, char *buf, size_t buflen)
{
        const uint8_t *own = own_name(h, type, bit);

        snprintf(buf, buflen, "bit %u", bit);
        for (size_t i = 0; i < ARRAY_SIZE(features); i++)
                if (features[i].type == type && features[i].bit == bit)
                        snprintf(buf, buflen, "%s", features[i].name);
        if (own && own[0])
                snprintf(buf, buflen, "%.*s", QFN_RECORD - QFN_NAME, (const char *)own);
        for (char *c = buf; *c; c++)
                if (!isprint((unsigned char)*c))
                        *c = '?';
        return buf;
}
