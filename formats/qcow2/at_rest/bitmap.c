/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bitmap.c - the bitmaps of an image: which parts of the disk changed since somebody asked.
 *
 *   taken:   all of them are marked "in use", durable before the disk changes; from here on a crash makes them void
 *   stored:  new bits, durable -> the marks are taken away, durable
 *
 * What is stored goes into free space and comes into force with the header (txn.h), or, when every cluster that it
 * needs is there already, over the old bits of bitmaps that are marked: those are worth nothing anyway. The image is at
 * rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/bitmap_table.h"

static bool all_are(const uint8_t *b, uint64_t len, uint8_t value)
{
        return len == 0 || (b[0] == value && memcmp(b, b + 1, len - 1) == 0);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

struct loader {
        struct file *file;
        const struct qcow2_header *h;
        const struct fmt_bitmap_reader *reader;
        /* clusters: what is read more often than the file has them is one and the same again and again */
        uint64_t budget;
        uint8_t *buf;
};

static int spend(struct loader *l, uint64_t clusters)
{
        if (clusters > l->budget)
                return err_note(-EIO, "the image's bitmaps have more clusters than the file");
        l->budget -= clusters;
        return 0;
}

/* Entries @i and, if they are ones, those that follow and are, too. Moves @i on. */
static int load_entry(struct loader *l, const struct qcow2_bitmap *b, const uint64_t *table, uint32_t *i)
{
        uint64_t at = (uint64_t)*i << l->h->cluster_bits, bytes = qcow2_bitmap_bytes(l->h, b->granularity_bits);
        uint64_t off = table[*i] & QCOW2_BITMAP_OFFSET_MASK, end;
        bool ones = table[(*i)++] & QCOW2_BITMAP_ONES;
        int r = 0;

        while (ones && *i < b->table_entries && table[*i] & QCOW2_BITMAP_ONES)
                ++*i;
        end = min_u64((uint64_t)*i << l->h->cluster_bits, bytes);
        if (off)
                r = spend(l, 1);
        if (off && r == 0)
                r = file_pread(l->file, l->buf, end - at, off);
        if (r == 0 && (off || ones))
                l->reader->put(l->reader->opaque, at, off ? l->buf : NULL, end - at);
        return r;
}

static int load_bits(struct loader *l, const struct qcow2_bitmap *b)
{
        AUTO(freep) uint64_t *table = NULL;
        int r = spend(l, div_round_up((uint64_t)b->table_entries * QCOW2_ENTRY_SIZE, l->h->cluster_size));

        if (r == 0)
                r = qcow2_bitmap_table_read(l->file, l->h, b, &table);
        for (uint32_t i = 0; r == 0 && i < b->table_entries;)
                r = load_entry(l, b, table, &i);
        return r;
}

int qcow2_bitmaps_read_all(struct fmt_image *img, const struct fmt_bitmap_reader *reader)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        AUTO(qcow2_bitmaps_finish) struct qcow2_bitmaps s = { 0 };
        struct loader l = { .file = img->file, .h = &h, .reader = reader };
        AUTO(freep) uint8_t *buf = NULL;
        int r = qcow2_header_read(img->file, 0, &h);

        if (r == 0)
                r = qcow2_bitmaps_read(img->file, &h, &s);
        if (r < 0 || !s.n)
                return r;
        l.budget = qcow2_file_clusters(img->file, h.cluster_bits);
        l.buf = buf = malloc(h.cluster_size);
        if (!buf)
                return -ENOMEM;
        for (uint32_t i = 0; r == 0 && i < s.n; i++) {
                const struct qcow2_bitmap *b = &s.v[i];
                const struct fmt_bitmap found = {
                        .name = b->name, .granularity = 1u << b->granularity_bits, .in_use = b->flags & QCOW2_BITMAP_IN_USE,
                        .recording = b->flags & QCOW2_BITMAP_AUTO,
                };

                r = reader->bitmap(reader->opaque, &found);
                if (r == 0 && reader->put && !found.in_use)
                        r = load_bits(&l, b);
        }
        return r;
}

/* --- the directory in its place ------------------------------------------------------------------------------- */

/* Only flags have changed, each in a sector of its own: any of them may reach the disk before the others. */
static int write_directory(struct file *file, const struct qcow2_header *h, const struct qcow2_bitmaps *s)
{
        AUTO(freep) uint8_t *dir = NULL;
        uint64_t len;
        int r = qcow2_bitmaps_encode(s, &dir, &len);

        if (r == 0 && len != h->bitmap_dir_size)
                r = -EINVAL; /* read from there: it has not changed its length */
        if (r == 0)
                r = file_pwrite(file, dir, len, h->bitmap_dir_offset);
        return r < 0 ? r : file_sync(file);
}

int qcow2_bitmaps_take(struct fmt_image *img)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        AUTO(qcow2_bitmaps_finish) struct qcow2_bitmaps s = { 0 };
        bool change = false;
        int r = qcow2_header_read(img->file, 0, &h);

        if (r == 0)
                r = qcow2_header_usable(&h, true);
        if (r == 0)
                r = qcow2_bitmaps_read(img->file, &h, &s);
        for (uint32_t i = 0; r == 0 && i < s.n; i++) {
                change |= !(s.v[i].flags & QCOW2_BITMAP_IN_USE);
                s.v[i].flags |= QCOW2_BITMAP_IN_USE;
        }
        return r < 0 || !change ? r : write_directory(img->file, &h, &s);
}

/* --- storing over what is there ------------------------------------------------------------------------------- */

struct store {
        struct file *file;
        const struct fmt_bitmap *all;
        size_t n;
        struct qcow2_txn t; /* zeroed on the way in place, which needs only its header */
        struct qcow2_bitmaps old, next;
        uint8_t *buf;       /* a cluster */
};

static void store_finish(struct store *s)
{
        qcow2_txn_finish(&s->t);
        qcow2_bitmaps_finish(&s->old);
        qcow2_bitmaps_finish(&s->next);
        free(s->buf);
}

static uint32_t flags_of(const struct fmt_bitmap *b, const struct qcow2_bitmap *old)
{
        return (b->in_use ? QCOW2_BITMAP_IN_USE : 0) | (b->recording ? QCOW2_BITMAP_AUTO : 0) |
               (old ? old->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE : 0);
}

static unsigned bits_of(const struct fmt_bitmap *b)
{
        return (unsigned)__builtin_ctz(b->granularity);
}

/* Cluster @i of the bits into s->buf; what it needs. */
enum need { NEED_NOTHING, NEED_ONES, NEED_CLUSTER };
static enum need get_cluster(const struct store *s, const struct fmt_bitmap *b, uint64_t i)
{
        const struct qcow2_header *h = &s->t.h;
        uint64_t at = i << h->cluster_bits, nbits = div_round_up(h->size, b->granularity);
        uint64_t len = min_u64(h->cluster_size, div_round_up(nbits, 8) - at), last = (at + len) * 8 > nbits ? nbits % 8 : 0;

        memset(s->buf, 0, h->cluster_size);
        b->get(b->opaque, at, s->buf, len);
        if (all_are(s->buf, len, 0))
                return NEED_NOTHING;
        if (last ? all_are(s->buf, len - 1, 0xff) && s->buf[len - 1] == (1u << last) - 1 : all_are(s->buf, len, 0xff))
                return NEED_ONES;
        return NEED_CLUSTER;
}

/* 1: it needs a cluster that is not there. */
static int overwrite(struct store *s, const struct fmt_bitmap *b, const struct qcow2_bitmap *old)
{
        AUTO(freep) uint64_t *table = NULL;
        bool changed = false;
        int r = qcow2_bitmap_table_read(s->file, &s->t.h, old, &table);

        for (uint32_t i = 0; r == 0 && i < old->table_entries; i++) {
                uint64_t off = table[i] & QCOW2_BITMAP_OFFSET_MASK, was = table[i];
                enum need need = get_cluster(s, b, i);

                if (off)
                        r = file_pwrite(s->file, s->buf, s->t.h.cluster_size, off);
                else if (need == NEED_CLUSTER)
                        return 1;
                else
                        table[i] = need == NEED_ONES ? QCOW2_BITMAP_ONES : 0;
                changed |= table[i] != was;
        }
        for (uint32_t i = 0; r == 0 && changed && i < old->table_entries; i++)
                table[i] = htobe64(table[i]);
        return r < 0 || !changed ? r : file_pwrite(s->file, table, old->table_entries * QCOW2_ENTRY_SIZE, old->table_offset);
}

static bool same_place(const struct store *s, const struct fmt_bitmap *b, const struct qcow2_bitmap *old)
{
        if (strcmp(old->name, b->name) || old->granularity_bits != bits_of(b))
                return false;
        return !b->get || (old->flags & QCOW2_BITMAP_IN_USE && old->table_entries == qcow2_bitmap_entries(&s->t.h, bits_of(b)));
}

/* 1: not possible; nothing that counts has changed. */
static int store_in_place(struct store *s)
{
        int r = 0;

        if (s->n != s->old.n || !s->n)
                return 1;
        for (size_t i = 0; i < s->n; i++)
                if (!same_place(s, &s->all[i], &s->old.v[i]))
                        return 1;
        for (size_t i = 0; r == 0 && i < s->n; i++)
                if (s->all[i].get)
                        r = overwrite(s, &s->all[i], &s->old.v[i]);
        if (r == 0)
                r = file_sync(s->file);
        for (size_t i = 0; r == 0 && i < s->n; i++)
                s->old.v[i].flags = flags_of(&s->all[i], &s->old.v[i]);
        return r ? r : write_directory(s->file, &s->t.h, &s->old);
}

/* --- storing anew --------------------------------------------------------------------------------------------- */

static int drop_bits(struct store *s, const struct qcow2_bitmap *b)
{
        AUTO(freep) uint64_t *table = NULL;
        int r = qcow2_bitmap_table_read(s->file, &s->t.h, b, &table);

        for (uint32_t i = 0; r == 0 && i < b->table_entries; i++)
                if (table[i] & QCOW2_BITMAP_OFFSET_MASK)
                        r = qcow2_txn_ref(&s->t, table[i] & QCOW2_BITMAP_OFFSET_MASK, s->t.h.cluster_size, -1);
        return r < 0 ? r : qcow2_txn_ref(&s->t, b->table_offset, (uint64_t)b->table_entries * QCOW2_ENTRY_SIZE, -1);
}

static int put_bits(struct store *s, const struct fmt_bitmap *b, struct qcow2_bitmap *next)
{
        uint64_t entries = qcow2_bitmap_entries(&s->t.h, bits_of(b));
        AUTO(freep) uint64_t *table = NULL;
        int r = 0;

        if (!entries || entries * s->t.h.cluster_size > max_u64(QCOW2_MAX_BITMAP_BYTES, s->t.h.cluster_size))
                return err_note(-EFBIG, "bitmap '%s' would have %" PRIu64 " bytes; a larger granularity makes it smaller, the limit "
                                "is %llu", b->name, entries * s->t.h.cluster_size, QCOW2_MAX_BITMAP_BYTES);
        table = calloc(entries, sizeof(*table));
        if (!table)
                return -ENOMEM;
        for (uint64_t i = 0; r == 0 && i < entries; i++) {
                enum need need = get_cluster(s, b, i);

                if (need == NEED_CLUSTER)
                        r = qcow2_txn_put(&s->t, s->buf, s->t.h.cluster_size, &table[i]);
                table[i] = htobe64(need == NEED_ONES ? QCOW2_BITMAP_ONES : table[i]);
        }
        next->table_entries = (uint32_t)entries;
        return r < 0 ? r : qcow2_txn_put(&s->t, table, entries * QCOW2_ENTRY_SIZE, &next->table_offset);
}

/* One that stays as it is keeps its table, a new one gets one. */
static int put_bitmap(struct store *s, const struct fmt_bitmap *b, struct qcow2_bitmap *next)
{
        struct qcow2_bitmap *old = qcow2_bitmap_find(&s->old, b->name);

        if (!b->get && !old)
                return err_note(-ENOENT, "the image has no bitmap '%s'", b->name);
        next->name = strdup(b->name);
        next->granularity_bits = (uint8_t)bits_of(b);
        next->flags = flags_of(b, old);
        if (old) {
                next->extra = TAKE(old->extra, NULL);
                next->extra_len = old->extra_len;
                next->table_offset = old->table_offset;
                next->table_entries = old->table_entries;
        }
        if (!next->name)
                return -ENOMEM;
        return b->get ? put_bits(s, b, next) : 0;
}

static bool keeps_bits(const struct store *s, const struct qcow2_bitmap *old)
{
        for (size_t i = 0; i < s->n; i++)
                if (!strcmp(s->all[i].name, old->name))
                        return !s->all[i].get;
        return false;
}

static int put_directory(struct store *s)
{
        struct qcow2_header *h = &s->t.h;
        AUTO(freep) uint8_t *dir = NULL;
        uint64_t len;
        int r = h->nb_bitmaps ? qcow2_txn_ref(&s->t, h->bitmap_dir_offset, h->bitmap_dir_size, -1) : 0;

        h->nb_bitmaps = s->next.n;
        h->bitmap_dir_offset = h->bitmap_dir_size = 0;
        h->autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
        if (r < 0 || !s->next.n)
                return r;
        h->autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
        r = qcow2_bitmaps_encode(&s->next, &dir, &len);
        if (r == 0)
                r = qcow2_txn_put(&s->t, dir, len, &h->bitmap_dir_offset);
        h->bitmap_dir_size = len;
        return r;
}

static int store_anew(struct store *s)
{
        int r = 0;

        s->next.v = calloc(s->n + 1, sizeof(*s->next.v));
        if (!s->next.v)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < s->n; i++)
                r = put_bitmap(s, &s->all[i], &s->next.v[s->next.n++]);
        for (uint32_t i = 0; r == 0 && i < s->old.n; i++)
                if (!keeps_bits(s, &s->old.v[i]))
                        r = drop_bits(s, &s->old.v[i]);
        if (r == 0)
                r = put_directory(s);
        return r < 0 ? r : qcow2_txn_commit(&s->t, QCOW2_COMMIT_EXTENSIONS);
}

static int check_wish(const struct store *s)
{
        if (s->n && s->t.h.version < 3)
                return err_note(-ENOTSUP, "version 2 images cannot have bitmaps; amend -o compat=v3 makes a newer one of it");
        for (size_t i = 0; i < s->n; i++)
                if (!*s->all[i].name || strlen(s->all[i].name) > QCOW2_MAX_BITMAP_NAME)
                        return err_note(-EINVAL, "a bitmap's name has %zu bytes, must be 1 to %u", strlen(s->all[i].name),
                                        QCOW2_MAX_BITMAP_NAME);
        return 0;
}

static int look(struct store *s)
{
        int r = qcow2_header_read(s->file, 0, &s->t.h);

        if (r == 0)
                r = qcow2_header_usable(&s->t.h, true);
        if (r == 0)
                r = qcow2_bitmaps_read(s->file, &s->t.h, &s->old);
        s->buf = r == 0 ? malloc(s->t.h.cluster_size) : NULL;
        return r == 0 && !s->buf ? -ENOMEM : r;
}

int qcow2_bitmaps_store(struct fmt_image *img, const struct fmt_bitmap *all, size_t n)
{
        AUTO(store_finish) struct store s = { .file = img->file, .all = all, .n = n };
        int r = look(&s);

        if (r == 0)
                r = check_wish(&s);
        if (r == 0 && !n && !s.old.n)
                return 0;
        if (r == 0)
                r = store_in_place(&s);
        if (r <= 0)
                return r;
        qcow2_txn_finish(&s.t);
        r = qcow2_txn_begin(&s.t, img->file);
        return r < 0 ? r : store_anew(&s);
}
