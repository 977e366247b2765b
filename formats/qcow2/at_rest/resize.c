/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resize.c - another virtual size for an image at rest.
 *
 * New space reads as zeros, whatever lies there: entries left over beyond the old end are dropped, the rest of the last
 * cluster is zeroed, and a longer backing file is hidden behind zero clusters. Space cut off is given back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/luks/crypto.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/bitmap_table.h"
#include "formats/qcow2/at_rest/tree.h"
#include "formats/qcow2/qcow2.h"

struct resizer {
        struct qcow2_txn t;
        uint64_t *l1; /* room for entries */
        uint64_t entries;
        uint8_t *l2, *data; /* a cluster each */
        struct fmt_image *img;
        struct sector_cipher *cipher; /* borrowed; NULL: plain */
        bool changed;       /* a table */
};

static void resizer_finish(struct resizer *z)
{
        free(z->l1);
        free(z->l2);
        free(z->data);
        qcow2_txn_finish(&z->t);
}

static uint64_t clusters_of(const struct resizer *z, uint64_t bytes)
{
        return div_round_up(bytes, z->t.h.cluster_size);
}

/* The L2 table of an L1 entry into z->l2; all zeros when there is none. */
static int load_l2(struct resizer *z, uint64_t i)
{
        uint64_t off = l1e_offset(z->l1[i]); /* checked by load(), or made by us since */

        memset(z->l2, 0, z->t.h.cluster_size);
        return off ? file_pread(z->t.file, z->l2, z->t.h.cluster_size, off) : 0;
}

static int drop_entry(struct resizer *z, uint64_t cluster, bool *changed)
{
        uint64_t i = cluster % l2_entries(&z->t.h);
        struct l2e e = l2e_get(&z->t.h, z->l2, i), fixed;
        const char *flaw = qcow2_l2e_flaw(&z->t, cluster << z->t.h.cluster_bits, e, &fixed);
        uint64_t off, len;

        if (flaw)
                return err_note(-EIO, "an L2 entry %s; 'check -r all' can repair that", flaw);
        if (l2e_is_empty(e))
                return 0;
        *changed = true;
        l2e_put(&z->t.h, z->l2, i, (struct l2e){ 0 });
        qcow2_l2e_range(&z->t, e, &off, &len);
        return qcow2_txn_ref(&z->t, off, len, -1);
}

/* Let go of guest clusters [from, to), as far as the L1 table goes. */
static int drop_clusters(struct resizer *z, uint64_t from, uint64_t to)
{
        uint64_t per = l2_entries(&z->t.h);
        int r = 0;

        to = min_u64(to, z->entries * per);
        while (r == 0 && from < to) {
                uint64_t i = from / per, end = min_u64(to, (i + 1) * per);
                bool changed = false;

                if (z->l1[i] && end - from == per) {
                        r = qcow2_l1e_ref(&z->t, z->l1, i, -1, z->l2);
                        z->l1[i] = 0;
                        z->changed = true;
                } else if (z->l1[i]) {
                        r = load_l2(z, i);
                        for (uint64_t k = from; r == 0 && k < end; k++)
                                r = drop_entry(z, k, &changed);
                        if (r == 0 && changed)
                                r = qcow2_l2_replace(&z->t, z->l1, i, z->l2);
                        z->changed |= changed;
                }
                from = end;
        }
        return r;
}

static bool is_zero(const uint8_t *b, uint64_t len)
{
        return len == 0 || (b[0] == 0 && memcmp(b, b + 1, len - 1) == 0);
}

/* [from, to) of the cluster at *host becomes zeros, in a new cluster; not when it is zeros already. */
static int zero_bytes(struct resizer *z, uint64_t *host, uint64_t from, uint64_t to)
{
        uint64_t cs = z->t.h.cluster_size, old = *host;
        int r = file_pread(z->t.file, z->data, cs, old);

        if (r == 0 && z->cipher)
                r = sector_cipher_run(z->cipher, CIPHER_DECRYPT, old / CIPHER_SECTOR, z->data, cs);
        if (r < 0 || is_zero(z->data + from, to - from))
                return r;
        memset(z->data + from, 0, cs - from);
        r = qcow2_txn_alloc(&z->t, 1, host);
        if (r == 0 && z->cipher)
                r = sector_cipher_run(z->cipher, CIPHER_ENCRYPT, *host / CIPHER_SECTOR, z->data, cs);
        if (r == 0)
                r = qcow2_txn_write(&z->t, *host, z->data, cs);
        return r < 0 ? r : qcow2_txn_ref(&z->t, old, cs, -1);
}

/* Of a compressed cluster, too: it becomes a plain one. Else what is cut off would come back when the disk grows
 * again. */
static int zero_packed_tail(struct resizer *z, uint64_t cluster, struct l2e e, uint64_t used)
{
        uint64_t cs = z->t.h.cluster_size, per = l2_entries(&z->t.h), off, len, host;
        AUTO(freep) uint8_t *packed = NULL;
        int r;

        qcow2_l2e_range(&z->t, e, &off, &len);
        packed = malloc(len);
        r = packed ? file_pread(z->t.file, packed, len, off) : -ENOMEM;
        if (r == 0)
                r = qcow2_unpack(z->img, packed, len, z->data);
        if (r < 0 || is_zero(z->data + used, cs - used))
                return r;
        memset(z->data + used, 0, cs - used);
        r = qcow2_txn_alloc(&z->t, 1, &host);
        if (r == 0 && z->cipher)
                r = sector_cipher_run(z->cipher, CIPHER_ENCRYPT, host / CIPHER_SECTOR, z->data, cs);
        if (r == 0)
                r = qcow2_txn_write(&z->t, host, z->data, cs);
        if (r == 0)
                r = qcow2_txn_ref(&z->t, off, len, -1);
        if (r < 0)
                return r;
        l2e_put(&z->t.h, z->l2, cluster % per, l2e_make(&z->t.h, host, true, sub_mask_all(&z->t.h), 0));
        z->changed = true;
        return qcow2_l2_replace(&z->t, z->l1, cluster / per, z->l2);
}

/* What lies behind a disk's end in its last cluster becomes zeros: sub-clusters by their entry, bytes in a new
 * cluster. */
static int zero_tail(struct resizer *z, uint64_t disk_end, uint64_t hide_end)
{
        const struct qcow2_header *h = &z->t.h;
        uint64_t cs = h->cluster_size, per = l2_entries(h), used = disk_end % cs, sub = cs / subclusters(h), host, was;
        uint64_t k = disk_end / cs;
        unsigned last = (unsigned)((used - 1) / sub);
        uint32_t data, zero, behind;
        struct l2e e, now;
        int r = used ? load_l2(z, k / per) : 0;

        if (r < 0 || !used)
                return r;
        e = l2e_get(h, z->l2, k % per);
        if (l2e_is_compressed(e.desc))
                return zero_packed_tail(z, k, e, used);
        data = l2e_data(h, e);
        zero = l2e_zero(h, e);
        host = was = l2e_offset(e.desc);
        behind = sub_mask_all(h) & ~sub_mask(0, last);
        if (used % sub && !((data | zero) & 1u << last) && hide_end > disk_end)
                return err_note(-ENOTSUP, "the disk's last cluster is partly in the backing file, which is longer than the disk: "
                                "write to the last cluster first, or rebase the image");
        if (qcow2_has_data_file(h))
                behind &= ~data; /* data goes with the end of that file */
        else if (used % sub && data & 1u << last)
                r = zero_bytes(z, &host, used, (last + 1) * sub);
        if (data & behind || hide_end > disk_end)
                zero |= behind;
        now = l2e_make(h, host, host != was || e.desc & QCOW2_COPIED, data & ~behind, zero);
        if (r < 0 || l2e_equal(now, e))
                return r;
        l2e_put(h, z->l2, k % per, now);
        z->changed = true;
        return qcow2_l2_replace(&z->t, z->l1, k / per, z->l2);
}

/* Unallocated guest clusters [from, to) get entries: zeros, or @data: their place in the data file. */
static int fill_clusters(struct resizer *z, uint64_t from, uint64_t to, bool data)
{
        const struct qcow2_header *h = &z->t.h;
        uint64_t per = l2_entries(h);
        int r = 0;

        while (r == 0 && from < to) {
                uint64_t i = from / per, end = min_u64(to, (i + 1) * per);

                r = load_l2(z, i);
                for (; from < end; from++)
                        l2e_put(h, z->l2, from % per, !data ? l2e_zeros(h) :
                                l2e_make(h, from << h->cluster_bits, true, sub_mask_all(h), 0));
                if (r == 0)
                        r = qcow2_l2_replace(&z->t, z->l1, i, z->l2);
                z->changed = true;
        }
        return r;
}

/* What a longer backing file has there reads as zeros. */
static int hide_backing(struct resizer *z, uint64_t from, uint64_t to)
{
        if (from < to && z->t.h.version < 3)
                return err_note(-ENOTSUP, "the backing file is longer than the disk and would show in the new space; version 2 "
                                "images cannot hide it");
        return fill_clusters(z, from, to, false);
}

/*
 * The external data file is as long as the disk. What lay behind the end must not come back, so the space between the
 * sizes is made anew: durable before the header says that it is the disk's, and cut off after.
 */
static int resize_data_file(const struct fmt_image *img, uint64_t old_size, uint64_t size)
{
        struct file *data = img->data_file;
        int r = 0;

        if (data->is_blkdev && data->size < size)
                return err_note(-ENOSPC, "the data file '%s' is a device of %" PRIu64 " bytes, too few for %" PRIu64,
                                data->path, data->size, size);
        if (data->is_blkdev && old_size < size)
                r = file_zero(data, old_size, size - old_size, false);
        if (!data->is_blkdev && old_size < size && data->size > old_size)
                r = file_truncate(data, old_size);
        if (r == 0 && !data->is_blkdev)
                r = file_truncate(data, size);
        return r < 0 ? r : file_sync(data);
}

static int shrink(struct resizer *z, uint64_t old_size, uint64_t size)
{
        int r = drop_clusters(z, clusters_of(z, size), clusters_of(z, old_size));

        return r < 0 ? r : zero_tail(z, size, 0); /* for those who grow it again and do not look */
}

static int grow(struct resizer *z, const struct fmt_image *img, uint64_t old_size, uint64_t size)
{
        uint64_t hide_end = z->t.h.backing_name ? size : 0;
        int r = drop_clusters(z, clusters_of(z, old_size), clusters_of(z, size));

        if (img->backing)
                hide_end = min_u64(hide_end, img->backing->size);
        if (r == 0)
                r = zero_tail(z, old_size, hide_end);
        if (r == 0 && img->data_file)
                r = resize_data_file(img, old_size, size);
        if (r == 0 && qcow2_data_is_raw(&z->t.h)) /* who reads the tables sees what the data file has there, then or later */
                return fill_clusters(z, clusters_of(z, old_size), clusters_of(z, size), true);
        return r < 0 ? r : hide_backing(z, clusters_of(z, old_size), clusters_of(z, hide_end));
}

/* --- the frame ------------------------------------------------------------------------------------------------ */

static int check_wish(const struct resizer *z, const struct fmt_image *img, uint64_t size, bool shrink_ok)
{
        const struct qcow2_header *h = &z->t.h;

        if (size < h->size && !shrink_ok)
                return err_note(-EINVAL, "%" PRIu64 " bytes are less than the disk has (%" PRIu64 "): shrinking would lose data "
                                "and must be asked for (--shrink)", size, h->size);
        if (size > INT64_MAX || qcow2_l1_needs(h, size) > QCOW2_MAX_L1_ENTRIES)
                return err_note(-EFBIG, "%" PRIu64 " bytes are too big for clusters of %" PRIu32 " bytes: the limit is %" PRIu64
                                " bytes", size, h->cluster_size, QCOW2_MAX_L1_ENTRIES * qcow2_l2_covers(h));
        if (qcow2_has_data_file(h) && !img->data_file)
                return err_note(-EINVAL, "the image's data file is not open");
        if (h->version < 3 && h->nb_snapshots)
                return err_note(-ENOTSUP, "a version 2 image with snapshots cannot be resized");
        return 0;
}

/* Bitmaps that are in use are stored anew by who uses them, for the new size. */
static int check_bitmaps(const struct resizer *z)
{
        AUTO(qcow2_bitmaps_finish) struct qcow2_bitmaps s = { 0 };
        int r = qcow2_bitmaps_read(z->t.file, &z->t.h, &s);

        for (uint32_t i = 0; r == 0 && i < s.n; i++)
                if (!(s.v[i].flags & QCOW2_BITMAP_IN_USE))
                        return err_note(-ENOTSUP, "the image has bitmaps, which would not fit the new size: remove them first");
        return r;
}

static int load(struct resizer *z, uint64_t size)
{
        uint64_t needs = qcow2_l1_needs(&z->t.h, size), per = z->t.h.cluster_size / QCOW2_ENTRY_SIZE;
        AUTO(freep) uint64_t *l1 = NULL;
        int r = qcow2_table_read(z->t.file, z->t.h.l1_offset, z->t.h.l1_entries, &l1);

        for (uint64_t i = 0, fixed; r == 0 && i < z->t.h.l1_entries; i++) {
                const char *flaw = qcow2_l1e_flaw(&z->t, l1[i], &fixed);

                if (flaw)
                        return err_note(-EIO, "L1 entry %" PRIu64 " %s; 'check -r all' can repair that", i, flaw);
        }
        if (r < 0)
                return r;
        z->entries = z->t.h.l1_entries;
        if (needs > z->entries) /* the table has whole clusters anyway */
                z->entries = min_u64(round_up(needs, per), QCOW2_MAX_L1_ENTRIES);
        z->changed = z->entries != z->t.h.l1_entries;
        z->l1 = calloc(z->entries + 1, sizeof(*z->l1));
        z->l2 = malloc(z->t.h.cluster_size);
        z->data = malloc(z->t.h.cluster_size);
        if (!z->l1 || !z->l2 || !z->data)
                return -ENOMEM;
        memcpy(z->l1, l1, z->t.h.l1_entries * sizeof(*l1));
        return 0;
}

/* Nothing but the number changes. */
static int switch_size(struct resizer *z)
{
        int r;

        z->t.h.autoclear = qcow2_kept_autoclear(&z->t.h);
        r = qcow2_header_switch(z->t.file, &z->t.h);
        return r < 0 ? r : file_sync(z->t.file);
}

int qcow2_resize(struct fmt_image *img, uint64_t size, bool shrink_ok)
{
        AUTO(resizer_finish) struct resizer z = { 0 };
        uint64_t old_size;
        int r = qcow2_txn_begin(&z.t, img->file);

        size = size > INT64_MAX ? size : round_up(size, 512);
        if (r == 0)
                r = check_wish(&z, img, size, shrink_ok);
        if (r == 0)
                r = check_bitmaps(&z);
        if (r == 0)
                r = load(&z, size);
        if (r < 0)
                return r;
        if (img->locked)
                return err_note(-EACCES, "the image is encrypted and was opened without its key");
        z.img = img;
        z.cipher = img->cipher;
        old_size = z.t.h.size;
        if (size > old_size)
                r = grow(&z, img, old_size, size);
        else
                r = shrink(&z, old_size, size);
        if (r < 0)
                return r;
        z.t.h.size = size;
        if (!z.changed) {
                r = switch_size(&z);
        } else {
                r = qcow2_l1_replace(&z.t, z.l1, z.entries);
                if (r == 0)
                        r = qcow2_txn_commit(&z.t, QCOW2_COMMIT_NUMBERS);
        }
        return r == 0 && img->data_file && size < old_size ? resize_data_file(img, old_size, size) : r;
}
