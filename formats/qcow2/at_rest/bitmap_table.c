/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/at_rest/bitmap_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"

#define bad(...) err_note(-EIO, __VA_ARGS__)

static void entry_finish(struct qcow2_bitmap *b)
{
        free(b->name);
        free(b->extra);
        memset(b, 0, sizeof(*b));
}

void qcow2_bitmaps_finish(struct qcow2_bitmaps *s)
{
        for (uint32_t i = 0; i < s->n; i++)
                entry_finish(&s->v[i]);
        free(s->v);
        memset(s, 0, sizeof(*s));
}

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2_bitmaps *s, const char *name)
{
        for (uint32_t i = 0; i < s->n; i++)
                if (!strcmp(s->v[i].name, name))
                        return &s->v[i];
        return NULL;
}

uint64_t qcow2_bitmap_bytes(const struct qcow2_header *h, unsigned granularity_bits)
{
        return div_round_up(div_round_up(h->size, 1ull << granularity_bits), 8);
}

uint64_t qcow2_bitmap_entries(const struct qcow2_header *h, unsigned granularity_bits)
{
        return div_round_up(qcow2_bitmap_bytes(h, granularity_bits), h->cluster_size);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static int check_entry(const struct file *file, const struct qcow2_header *h, const struct qcow2_bitmap *b, uint8_t type)
{
        uint64_t need;

        if (type != QCOW2_BITMAP_TRACKING)
                return err_note(-ENOTSUP, "bitmap '%s' is of type %u, which is not known here", b->name, type);
        if (b->flags & ~QCOW2_BITMAP_KNOWN)
                return err_note(-ENOTSUP, "bitmap '%s' has flags (0x%" PRIx32 ") that are not known here", b->name, b->flags);
        if (b->extra_len && !(b->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE))
                return err_note(-ENOTSUP, "bitmap '%s' has extra data, without which it must not be used", b->name);
        if (b->granularity_bits < QCOW2_MIN_GRANULARITY_BITS || b->granularity_bits > QCOW2_MAX_GRANULARITY_BITS)
                return bad("bitmap '%s' has granularity_bits %u, must be %u to %u", b->name, b->granularity_bits,
                           QCOW2_MIN_GRANULARITY_BITS, QCOW2_MAX_GRANULARITY_BITS);
        if (!b->table_entries || b->table_entries > QCOW2_MAX_BITMAP_ENTRIES ||
            (uint64_t)b->table_entries * h->cluster_size > max_u64(QCOW2_MAX_BITMAP_BYTES, h->cluster_size))
                return bad("the table of bitmap '%s' has %" PRIu32 " entries, which is none or more than any may have", b->name,
                           b->table_entries);
        if (!b->table_offset || !is_aligned(b->table_offset, h->cluster_size) ||
            !range_fits(b->table_offset, (uint64_t)b->table_entries * QCOW2_ENTRY_SIZE, file->size))
                return bad("the table of bitmap '%s' (%" PRIu32 " entries at offset 0x%" PRIx64 ") must begin at a cluster and "
                           "lie inside the file", b->name, b->table_entries, b->table_offset);
        need = qcow2_bitmap_entries(h, b->granularity_bits);
        if (!(b->flags & QCOW2_BITMAP_IN_USE) && b->table_entries != need)
                return bad("the table of bitmap '%s' has %" PRIu32 " entries, the disk needs %" PRIu64, b->name,
                           b->table_entries, need);
        return 0;
}

/* One entry at @dir + *at, which moves behind it. @b is finished by the caller. */
static int read_entry(const struct file *file, const struct qcow2_header *h, const uint8_t *dir, uint64_t *at,
                      struct qcow2_bitmap *b)
{
        const uint8_t *e = dir + *at;
        uint64_t left = h->bitmap_dir_size - *at, extra, name;

        if (left < QBM_EXTRA)
                return bad("the bitmap directory ends before its last entry");
        extra = be32_get(e + QBM_EXTRA_SIZE);
        name = be16_get(e + QBM_NAME_SIZE);
        if (extra > QCOW2_MAX_BITMAP_EXTRA || !name || name > QCOW2_MAX_BITMAP_NAME ||
            round_up(QBM_EXTRA + extra + name, 8) > left)
                return bad("a bitmap's name (%" PRIu64 " bytes, must be 1 to %u) and extra data (%" PRIu64 " bytes, must be at "
                           "most %u) do not fit into the bitmap directory", name, QCOW2_MAX_BITMAP_NAME, extra,
                           QCOW2_MAX_BITMAP_EXTRA);
        *at += round_up(QBM_EXTRA + extra + name, 8);
        *b = (struct qcow2_bitmap){
                .table_offset = be64_get(e + QBM_TABLE_OFFSET), .table_entries = be32_get(e + QBM_TABLE_ENTRIES),
                .flags = be32_get(e + QBM_FLAGS), .granularity_bits = e[QBM_GRANULARITY], .extra_len = (uint32_t)extra,
                .name = strndup((const char *)e + QBM_EXTRA + extra, name), .extra = extra ? malloc(extra) : NULL,
        };
        if (!b->name || (extra && !b->extra))
                return -ENOMEM;
        if (extra)
                memcpy(b->extra, e + QBM_EXTRA, extra);
        if (strlen(b->name) != name)
                return bad("a bitmap's name has a NUL byte in it");
        return check_entry(file, h, b, e[QBM_TYPE]);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_names(const struct qcow2_bitmaps *s)
{
        AUTO(freep) char **names = calloc(s->n + 1u, sizeof(*names));

        if (!names)
                return -ENOMEM;
        for (uint32_t i = 0; i < s->n; i++)
                names[i] = s->v[i].name;
        qsort(names, s->n, sizeof(*names), by_name);
        for (uint32_t i = 1; i < s->n; i++)
                if (!strcmp(names[i - 1], names[i]))
                        return bad("two bitmaps have the name '%s'", names[i]);
        return 0;
}

static int read_entries(struct file *file, const struct qcow2_header *h, struct qcow2_bitmaps *s)
{
        AUTO(freep) uint8_t *dir = malloc(h->bitmap_dir_size + 1);
        uint64_t at = 0;
        int r = dir ? file_pread(file, dir, h->bitmap_dir_size, h->bitmap_dir_offset) : -ENOMEM;

        if (r == 0 && h->nb_bitmaps > h->bitmap_dir_size / QBM_EXTRA)
                return bad("the bitmap directory has %" PRIu64 " bytes, too few for %" PRIu32 " bitmaps", h->bitmap_dir_size,
                           h->nb_bitmaps);
        s->v = r == 0 ? calloc(h->nb_bitmaps, sizeof(*s->v)) : NULL;
        if (r == 0 && !s->v)
                return -ENOMEM;
        while (r == 0 && s->n < h->nb_bitmaps)
                r = read_entry(file, h, dir, &at, &s->v[s->n++]);
        if (r == 0 && at != h->bitmap_dir_size)
                return bad("the bitmap directory has %" PRIu64 " bytes, its entries %" PRIu64, h->bitmap_dir_size, at);
        s->bytes = at;
        return r < 0 ? r : check_names(s);
}

int qcow2_bitmaps_read(struct file *file, const struct qcow2_header *h, struct qcow2_bitmaps *s)
{
        int r;

        memset(s, 0, sizeof(*s));
        r = h->nb_bitmaps ? read_entries(file, h, s) : 0;
        if (r < 0)
                qcow2_bitmaps_finish(s);
        return r;
}

int qcow2_bitmap_table_read(struct file *file, const struct qcow2_header *h, const struct qcow2_bitmap *b, uint64_t **ret)
{
        AUTO(freep) uint64_t *t = NULL;
        int r = qcow2_table_read(file, b->table_offset, b->table_entries, &t);

        for (uint32_t i = 0; r == 0 && i < b->table_entries; i++) {
                uint64_t off = t[i] & QCOW2_BITMAP_OFFSET_MASK;

                if (t[i] & QCOW2_BITMAP_RESERVED || (off && t[i] & QCOW2_BITMAP_ONES))
                        return bad("entry %" PRIu32 " of the table of bitmap '%s' (0x%" PRIx64 ") has reserved bits set", i, b->name,
                                   t[i]);
                if (!is_aligned(off, h->cluster_size) || off >= max_u64(file->size, 1))
                        return bad("entry %" PRIu32 " of the table of bitmap '%s' points to 0x%" PRIx64 ", which is not a "
                                   "cluster of the file", i, b->name, off);
        }
        if (r == 0)
                *ret = TAKE(t, NULL);
        return r;
}

/* --- writing -------------------------------------------------------------------------------------------------- */

static uint64_t entry_bytes(const struct qcow2_bitmap *b)
{
        return round_up(QBM_EXTRA + b->extra_len + strlen(b->name), 8);
}

static void encode_entry(const struct qcow2_bitmap *b, uint8_t *e)
{
        size_t name = strlen(b->name);

        be64_put(e + QBM_TABLE_OFFSET, b->table_offset);
        be32_put(e + QBM_TABLE_ENTRIES, b->table_entries);
        be32_put(e + QBM_FLAGS, b->flags);
        e[QBM_TYPE] = QCOW2_BITMAP_TRACKING;
        e[QBM_GRANULARITY] = b->granularity_bits;
        be16_put(e + QBM_NAME_SIZE, (uint16_t)name);
        be32_put(e + QBM_EXTRA_SIZE, b->extra_len);
        if (b->extra_len)
                memcpy(e + QBM_EXTRA, b->extra, b->extra_len);
        memcpy(e + QBM_EXTRA + b->extra_len, b->name, name);
}

int qcow2_bitmaps_encode(const struct qcow2_bitmaps *s, uint8_t **ret, uint64_t *len)
{
        uint64_t total = 0, at = 0;
        uint8_t *dir;

        for (uint32_t i = 0; i < s->n; i++)
                total += entry_bytes(&s->v[i]);
        if (s->n > QCOW2_MAX_BITMAPS || total > QCOW2_MAX_BITMAP_DIR_BYTES)
                return err_note(-EFBIG, "the image would have %" PRIu32 " bitmaps in a directory of %" PRIu64 " bytes; the limits "
                                "are %u and %u", s->n, total, QCOW2_MAX_BITMAPS, QCOW2_MAX_BITMAP_DIR_BYTES);
        dir = calloc(1, total + 1);
        if (!dir)
                return -ENOMEM;
        for (uint32_t i = 0; i < s->n; at += entry_bytes(&s->v[i]), i++)
                encode_entry(&s->v[i], dir + at);
        *ret = dir;
        *len = total;
        return 0;
}
