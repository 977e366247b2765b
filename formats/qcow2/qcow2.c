/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qcow2.c - QEMU's copy-on-write format, versions 2 and 3: the driver's table, and opening an image to be served.
 *
 * Opening believes nothing: header.c checks the numbers, here the top tables are read (as far as the file has them) and
 * every entry that cannot be right is replaced by one that is an error for whoever looks it up. So a broken image can
 * be opened and its good parts read; the first contradiction met stops all writing.
 */
#include "qcow2.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "crypt.h"
#include "formats/drivers.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/snapshot_table.h"

#define PAGE_MAX 4096u
#define SPARE_PAGES 64u /* the smallest cache: these, and room for a few whole leaf tables */
#define SECTOR 512u

static bool qcow2_probe(const void *head, size_t len)
{
        return len >= 8 && be32_get(head) == QCOW2_MAGIC && be32_get((const char *)head + QH_VERSION) >= 2;
}

int qcow2_contradiction(struct qcow2_image *q, const char *fmt, ...)
{
        char text[256];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        if (!__atomic_exchange_n(&q->img.corrupt, true, __ATOMIC_RELAXED)) {
                log_err("'%s' is corrupt, no more writes to it: %s", q->img.file->path, text);
                snprintf(q->img.corrupt_why, sizeof(q->img.corrupt_why), "%s", text);
                atomic_store_explicit(&q->img.corrupt_state, FMT_CORRUPT_SAID, memory_order_release);
        }
        return err_note(-EIO, "the image is corrupt: %s", text);
}

int qcow2_may_change(struct qcow2_image *q)
{
        if (q->img.read_only)
                return -EROFS;
        return qcow2_is_corrupt(q) ? err_note(-EIO, "the image is corrupt: no more writes") : 0;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static unsigned log2_of(uint64_t n)
{
        return (unsigned)__builtin_ctzll(n);
}

static void set_geometry(struct qcow2_image *q, size_t cache_bytes)
{
        q->cluster_bits = q->h.cluster_bits;
        q->page_size = (uint32_t)min_u64(q->h.cluster_size, PAGE_MAX);
        q->piece = (uint32_t)min_u64(max_u64(q->img.file->off_align, SECTOR), q->page_size);
        q->pages_per_leaf = q->h.cluster_size / q->page_size;
        q->page_entries = q->page_size / QCOW2_ENTRY_SIZE / l2e_words(&q->h);
        q->l2_bits = log2_of(l2_entries(&q->h));
        q->subs = subclusters(&q->h);
        q->all_subs = sub_mask_all(&q->h);
        q->sub_bits = q->cluster_bits - log2_of(q->subs);
        q->rc_page_bits = log2_of(refcount_per_block(q->page_size, q->h.refcount_order));
        q->rc_block_bits = log2_of(refcount_per_block(q->h.cluster_size, q->h.refcount_order));
        q->cache.max_pages = (cache_bytes ? cache_bytes : FMT_CACHE_DEFAULT) / (PAGE_MAX + sizeof(struct page));
        q->cache.max_pages = max_u64(q->cache.max_pages, 4 * q->pages_per_leaf + SPARE_PAGES);
        q->gen = 1;
        q->img.cluster_size = q->h.cluster_size;
        q->img.subcluster_size = 1u << q->sub_bits;
        q->img.size = round_up(q->h.size, SECTOR);
        q->img.encrypted = q->h.crypt_method != QCOW2_CRYPT_NONE;
        q->img.dirty = q->h.incompatible & QCOW2_INCOMPAT_DIRTY;
}

/* What names us to others: a copy that the chain may keep. */
static int set_names(struct qcow2_image *q)
{
        const struct qcow2_header *h = &q->h;

        if (h->backing_name)
                q->img.backing_name = strdup(h->backing_name);
        if (h->backing_format)
                q->img.backing_format = strdup(h->backing_format);
        return (h->backing_name && !q->img.backing_name) || (h->backing_format && !q->img.backing_format) ? -ENOMEM : 0;
}

static struct meta_range range_of(const struct qcow2_image *q, uint64_t off, uint64_t bytes)
{
        return (struct meta_range){ off >> q->cluster_bits, div_round_up(bytes, q->img.cluster_size) };
}

static void set_meta_ranges(struct qcow2_image *q)
{
        const struct qcow2_header *h = &q->h;

        q->meta.range[META_HEADER] = (struct meta_range){ 0, 1 };
        q->meta.range[META_L1] = range_of(q, h->l1_offset, (uint64_t)h->l1_entries * QCOW2_ENTRY_SIZE);
        q->meta.range[META_REFTABLE] = range_of(q, h->reftable_offset, (uint64_t)h->reftable_clusters * h->cluster_size);
        if (h->nb_snapshots)
                q->meta.range[META_SNAPSHOTS] = range_of(q, h->snapshots_offset, 1);
        if (h->nb_bitmaps)
                q->meta.range[META_BITMAPS] = range_of(q, h->bitmap_dir_offset, h->bitmap_dir_size);
        if (h->luks_offset)
                q->meta.range[META_LUKS] = range_of(q, h->luks_offset, h->luks_length);
}

/* Refcount blocks, for an image that will be changed. A bad entry stays as an entry with a reserved bit. */
static int load_reftable(struct qcow2_image *q)
{
        uint64_t used = 0;
        int r = tcache_table_init(q, &q->rc, q->h.reftable_offset, qcow2_reftable_entries(&q->h));

        for (uint64_t i = 0; r == 0 && i < q->rc.ntop; i++)
                used += table_top(&q->rc, i) != 0;
        if (r == 0)
                r = meta_reserve(&q->meta, used);
        for (uint64_t i = 0; r == 0 && i < q->rc.ntop; i++) {
                uint64_t e = table_top(&q->rc, i), end = q->space.end;

                if (e && (e & QCOW2_REFTABLE_RESERVED || !is_aligned(e, q->img.cluster_size) ||
                          e >> q->cluster_bits >= end || !meta_add(&q->meta, e >> q->cluster_bits)))
                        q->rc.top[i] = QCOW2_REFTABLE_RESERVED;
        }
        return r;
}

static int load_header_page(struct qcow2_image *q)
{
        q->header_page = aligned_alloc(PAGE_MAX, PAGE_MAX);
        if (!q->header_page)
                return -ENOMEM;
        return file_pread(q->img.file, q->header_page, q->page_size, 0);
}

static int load_tables(struct qcow2_image *q)
{
        int r = space_init(q);

        set_meta_ranges(q);
        if (r == 0 && !q->img.read_only)
                r = load_header_page(q);
        if (r == 0 && !q->img.read_only)
                r = load_reftable(q);
        if (r == 0)
                r = tcache_table_init(q, &q->l2, q->h.l1_offset, q->h.l1_entries);
        return r < 0 ? r : map_check_l1(q);
}

static int header_again(struct qcow2_image *q)
{
        qcow2_header_finish(&q->h);
        return qcow2_header_read(q->img.file, 0, &q->h);
}

/* What a process that was killed had told the guest and not written yet. */
static int replay(struct qcow2_image *q, const char *state_dir)
{
        int r = maplog_open(state_dir, q->img.file->dev, q->img.file->ino, &q->log);

        if (r < 0 || !maplog_pending(q->log))
                return r;
        r = qcow2_replay(q->img.file, q->log);
        return r < 0 ? r : header_again(q);
}

/* What a writer owes the image before its first write. */
static int make_writable(struct qcow2_image *q, const char *state_dir)
{
        uint64_t keep;
        int r = 0;

        if (q->h.incompatible & QCOW2_INCOMPAT_DIRTY) {
                r = qcow2_repair_refcounts(q->img.file);
                if (r < 0)
                        return r;
                r = header_again(q);
                q->img.dirty = false;
        }
        if (r == 0 && state_dir && q->img.file->fd >= 0)
                r = replay(q, state_dir);
        keep = qcow2_kept_autoclear(&q->h) & ~(q->keeps_bitmaps ? 0 : QCOW2_AUTOCLEAR_BITMAPS);
        if (r < 0 || q->h.autoclear == keep)
                return r;
        /* the others (bitmaps that nobody keeps, things we do not know) will not follow our writes */
        q->h.autoclear = keep;
        r = qcow2_header_switch(q->img.file, &q->h);
        return r < 0 ? r : file_sync(q->img.file);
}

/* The disk as it was: the snapshot's L1 table instead of the active one, and the size it had. */
static int choose_snapshot(struct qcow2_image *q, const struct fmt_snapshot_which *which)
{
        AUTO(qcow2_snapshots_finish) struct qcow2_snapshots all = { 0 };
        const struct qcow2_snapshot *s = NULL;
        int r = qcow2_snapshots_read(q->img.file, &q->h, &all);

        if (r < 0)
                return r;
        if (!q->img.read_only)
                return err_note(-EINVAL, "a snapshot can only be opened for reading");
        if (which->any)
                s = qcow2_snapshot_find(&all, which->any);
        for (uint32_t i = 0; !which->any && !s && i < all.n; i++)
                if ((!which->id || !strcmp(all.v[i].id, which->id)) && (!which->name || !strcmp(all.v[i].name, which->name)))
                        s = &all.v[i];
        if (!s)
                return err_note(-ENOENT, "the image has no snapshot '%s'", which->any ? which->any :
                                which->name ? which->name : which->id);
        if (qcow2_l1_needs(&q->h, s->disk_size) > s->l1_entries)
                return err_note(-EIO, "snapshot '%s' has an L1 table of %" PRIu32 " entries, too few for its disk of %" PRIu64
                                " bytes", s->name, s->l1_entries, s->disk_size);
        q->h.l1_offset = s->l1_offset;
        q->h.l1_entries = s->l1_entries;
        q->h.size = s->disk_size;
        q->img.size = round_up(s->disk_size, SECTOR);
        return 0;
}

/* Guest clusters may lie anywhere in the disk, so all of it must be there. Only we write to it: nothing is cut off. */
static int stretch_data_file(struct qcow2_image *q)
{
        struct file *data = q->img.data_file;

        if (q->img.read_only || data->size >= q->img.size)
                return 0;
        if (data->is_blkdev)
                return err_note(-ENOSPC, "the data file '%s' has %" PRIu64 " bytes, too few for a disk of %" PRIu64, data->path,
                                data->size, q->img.size);
        return file_truncate(data, q->img.size);
}

static int take_data_file(struct qcow2_image *q, struct file *data)
{
        bool wanted = qcow2_has_data_file(&q->h);
        int r;

        if (wanted != !!data)
                return err_note(-EINVAL, wanted ? "the image's data is in another file, which is not open" :
                                "the image keeps its data itself");
        if (!data)
                return 0;
        q->img.data_file = data;
        r = stretch_data_file(q);
        if (r < 0)
                q->img.data_file = NULL; /* the caller's again */
        return r;
}

static int open_image(struct qcow2_image *q, const struct fmt_open_opts *opts)
{
        bool header_only = opts->flags & (FMT_INFO_ONLY | FMT_REPAIRING);
        int r = qcow2_header_read(q->img.file, opts->flags & FMT_REPAIRING ? QCOW2_REPAIRING : 0, &q->h);

        if (r < 0)
                return r;
        set_geometry(q, opts->cache_bytes);
        r = set_names(q);
        if (r < 0 || header_only)
                return r;
        r = qcow2_header_usable(&q->h, !q->img.read_only);
        if (r == 0)
                r = qcow2_crypt_open(q, opts);
        if (r == 0 && !q->img.read_only)
                r = make_writable(q, opts->state_dir);
        if (r == 0 && opts->snapshot)
                r = choose_snapshot(q, opts->snapshot);
        if (r == 0)
                r = load_tables(q);
        return r < 0 ? r : take_data_file(q, opts->data_file);
}

static int qcow2_data_name(struct file *file, char **name)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        int r = qcow2_header_read(file, 0, &h);

        if (r < 0)
                return r;
        *name = TAKE(h.data_name, NULL);
        return qcow2_has_data_file(&h);
}

static void qcow2_close(struct fmt_image *img)
{
        struct qcow2_image *q = qcow2_of(img);

        tcache_finish(q);
        space_finish(q);
        meta_finish(&q->meta);
        maplog_close(q->log);
        qcow2_crypt_close(q);
        free(q->header_page);
        qcow2_header_finish(&q->h);
        free(q);
}

static void qcow2_demote(struct fmt_image *img)
{
        struct qcow2_image *q = qcow2_of(img);

        maplog_close(TAKE(q->log, NULL));
}

static int qcow2_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        struct qcow2_image *q = calloc(1, sizeof(*q));
        int r;

        if (!q) {
                sector_cipher_free(opts->cipher);
                file_close(file);
                return -ENOMEM;
        }
        q->img.cipher = opts->cipher;
        list_init(&q->cache.clean);
        list_init(&q->cache.dirty);
        list_init(&q->cache.loading);
        q->l2.is_l2 = true;
        q->img.drv = &qcow2_driver;
        q->img.file = file;
        q->img.read_only = opts->flags & FMT_RDONLY || file->read_only;
        q->entry_with_data = opts->flags & FMT_ENTRY_WITH_DATA;
        q->keeps_bitmaps = opts->flags & FMT_KEEP_BITMAPS;
        r = open_image(q, opts);
        if (r < 0) {
                free(q->img.backing_name);
                free(q->img.backing_format);
                qcow2_close(&q->img);
                file_close(file);
                return r;
        }
        *ret = &q->img;
        return 0;
}

const struct fmt_driver qcow2_driver = {
        .name = "qcow2",
        .caps = FMT_CAN_WRITE | FMT_HAS_BACKING | FMT_HAS_SNAPSHOTS | FMT_HAS_KEYS | FMT_HAS_DATA_FILE,
        .probe = qcow2_probe,
        .open = qcow2_open,
        .data_name = qcow2_data_name,
        .close = qcow2_close,

        .map = qcow2_map,
        .want = qcow2_want,
        .unpack = qcow2_unpack,
        .pack = qcow2_pack,

        .plan_write = qcow2_plan_write,
        .plan_packed = qcow2_plan_packed,
        .plan_zero = qcow2_plan_zero,
        .commit = qcow2_commit,
        .abort = qcow2_abort,
        .dying = qcow2_dying,
        .dying_release = qcow2_dying_release,
        .flush = qcow2_flush,
        .is_dirty = qcow2_is_dirty,
        .housekeep = qcow2_housekeep,
        .wind_down = qcow2_wind_down,
        .demote = qcow2_demote,

        .create = qcow2_create,
        .create_options = qcow2_create_options,
        .measure = qcow2_measure,
        .check = qcow2_check,
        .resize = qcow2_resize,
        .empty = qcow2_empty,
        .amend = qcow2_amend,
        .rename = qcow2_rename,
        .amend_options = qcow2_amend_options,
        .info = qcow2_info,
        .bitmaps_read = qcow2_bitmaps_read_all,
        .bitmaps_take = qcow2_bitmaps_take,
        .bitmaps_store = qcow2_bitmaps_store,
        .snapshot_list = qcow2_snapshot_list,
        .snapshot_usage = qcow2_snapshot_usage,
        .snapshot_create = qcow2_snapshot_create,
        .snapshot_apply = qcow2_snapshot_apply,
        .snapshot_delete = qcow2_snapshot_delete,
};
