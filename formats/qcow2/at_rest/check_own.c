/* SPDX-License-Identifier: BSD-3-Clause */
/* check_own.c - the clusters that the image needs for itself: found, counted and kept apart from guest data. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/checker.h"
#include "formats/qcow2/refcount_bits.h"

static bool in_file(const struct checker *c, uint64_t off, uint64_t len)
{
        return len == 0 || ((off >> c->t.h.cluster_bits) < c->t.clusters &&
                            ((off + len - 1) >> c->t.h.cluster_bits) < c->t.clusters && off + len > off);
}

/* A table whose place was checked when it was read. */
static int ref_table(struct checker *c, uint64_t off, uint64_t len)
{
        return check_ref(c, off, len, REF_META);
}

/* With -r all, what cannot be repaired is given up, as qemu-img does. */
static bool may_give_up(const struct checker *c)
{
        return c->chk->fix_all && !c->only_refcounts;
}

static void on_lost_snapshot(void *opaque, const char *why)
{
        struct checker *c = opaque;

        check_report(c, FINDING_CORRUPTION, "the snapshot table is damaged: %s; what it says there is given up", why);
        c->flaws++;
        c->rewrite_snapshots = true;
}

static void find_short_snapshots(struct checker *c)
{
        for (uint32_t i = 0; i < c->snaps.n; i++)
                if (qcow2_snapshot_is_short(&c->t.h, &c->snaps.v[i])) {
                        check_report(c, FINDING_CORRUPTION, "snapshot '%.60s' lacks fields that version 3 wants (the size of "
                                     "its VM state and disk)", c->snaps.v[i].name);
                        c->flaws++;
                        c->rewrite_snapshots = true;
                }
}

static int own_snapshots(struct checker *c)
{
        int r = may_give_up(c) ? qcow2_snapshots_salvage(c->t.file, &c->t.h, &c->snaps, on_lost_snapshot, c)
                               : qcow2_snapshots_read(c->t.file, &c->t.h, &c->snaps);

        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                c->chk->check_errors++;
                check_blind(c, "the snapshot table is damaged: %s", err_text(r));
                return 0;
        }
        find_short_snapshots(c);
        r = ref_table(c, c->t.h.snapshots_offset, c->snaps.bytes);
        for (uint32_t i = 0; r == 0 && i < c->snaps.n; i++)
                r = ref_table(c, c->snaps.v[i].l1_offset, (uint64_t)c->snaps.v[i].l1_entries * QCOW2_ENTRY_SIZE);
        return r;
}

/* --- bitmaps: we do not keep them up to date, but their clusters are not ours to take ---------------------------- */

static int own_bitmap_table(struct checker *c, uint64_t off, uint64_t entries)
{
        AUTO(freep) uint8_t *buf = malloc(c->t.h.cluster_size);
        uint64_t per = c->t.h.cluster_size / QCOW2_ENTRY_SIZE;
        int r = buf ? ref_table(c, off, entries * QCOW2_ENTRY_SIZE) : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < entries; i++) {
                uint64_t e;

                if (i % per == 0)
                        r = file_pread(c->t.file, buf, c->t.h.cluster_size, off + i * QCOW2_ENTRY_SIZE);
                e = be64_get(buf + i % per * QCOW2_ENTRY_SIZE);
                if (r < 0 || !(e & QCOW2_BITMAP_OFFSET_MASK))
                        continue;
                e &= QCOW2_BITMAP_OFFSET_MASK;
                if (!is_aligned(e, c->t.h.cluster_size) || !in_file(c, e, c->t.h.cluster_size))
                        check_blind(c, "a bitmap's table points to 0x%" PRIx64 ", which is not a cluster of the file", e);
                else
                        r = check_ref(c, e, c->t.h.cluster_size, REF_META);
        }
        return r;
}

/* One entry of the directory, at *at. */
static int own_bitmap(struct checker *c, const uint8_t *dir, uint64_t *at)
{
        uint64_t left = c->t.h.bitmap_dir_size - *at, off, entries, len;

        if (left < QBM_EXTRA) {
                check_blind(c, "the bitmap directory ends before its last entry");
                *at = c->t.h.bitmap_dir_size;
                return 0;
        }
        off = be64_get(dir + *at + QBM_TABLE_OFFSET);
        entries = be32_get(dir + *at + QBM_TABLE_ENTRIES);
        len = round_up(QBM_EXTRA + (uint64_t)be32_get(dir + *at + QBM_EXTRA_SIZE) + be16_get(dir + *at + QBM_NAME_SIZE), 8);
        *at = min_u64(*at + len, c->t.h.bitmap_dir_size);
        if (entries > QCOW2_MAX_BITMAP_ENTRIES || !is_aligned(off, c->t.h.cluster_size) ||
            !range_fits(off, entries * QCOW2_ENTRY_SIZE, c->t.file->size)) {
                check_blind(c, "a bitmap's table (%" PRIu64 " entries at 0x%" PRIx64 ") must begin at a cluster and lie inside "
                            "the file", entries, off);
                return 0;
        }
        return own_bitmap_table(c, off, entries);
}

static int walk_bitmaps(struct checker *c, const uint8_t *dir)
{
        uint64_t at = 0;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < c->t.h.nb_bitmaps; i++)
                r = own_bitmap(c, dir, &at);
        return r;
}

static int own_bitmaps(struct checker *c)
{
        AUTO(freep) uint8_t *dir = NULL;
        int r;

        if (!c->t.h.nb_bitmaps && c->t.h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) {
                check_report(c, FINDING_CORRUPTION, "the bitmaps feature bit is set, but there is no bitmaps extension");
                c->flaws++;
        }
        if (!c->t.h.nb_bitmaps)
                return 0;
        dir = malloc(c->t.h.bitmap_dir_size + 1);
        r = dir ? file_pread(c->t.file, dir, c->t.h.bitmap_dir_size, c->t.h.bitmap_dir_offset) : -ENOMEM;
        if (r == 0 && may_give_up(c)) {
                c->only_look = true;
                r = walk_bitmaps(c, dir);
                c->only_look = false;
                if (c->looked_bad) {
                        c->flaws++;
                        c->t.h.nb_bitmaps = 0; /* all of them: their clusters are free, see check_repair() */
                        return r;
                }
        }
        if (r == 0)
                r = ref_table(c, c->t.h.bitmap_dir_offset, c->t.h.bitmap_dir_size);
        return r < 0 ? r : walk_bitmaps(c, dir);
}

/* --- the refcount structure: last, so that blocks on top of other tables are seen -------------------------------- */

/* What the block says about the clusters that the file has. */
static int load_block(struct checker *c, uint64_t index, uint8_t *buf)
{
        uint64_t per = refcount_per_block(c->t.h.cluster_size, c->t.h.refcount_order), first = index * per;
        uint64_t end = min_u64(first + per, c->t.clusters);
        int r = file_pread(c->t.file, buf, c->t.h.cluster_size, c->t.blocks[index]);

        for (uint64_t i = first; r == 0 && i < end; i++) {
                uint64_t count = refcount_get(buf, c->t.h.refcount_order, i - first);

                if (count)
                        r = refmap_flag(&c->t.refs, i, count == 1 ? REF_OLD | REF_ONE : REF_OLD);
        }
        return r;
}

/* Can there be a refcount block? NULL: yes. */
static const char *block_flaw(const struct checker *c, uint64_t e)
{
        if (e & QCOW2_REFTABLE_RESERVED)
                return "has reserved bits set";
        if (!is_aligned(e, c->t.h.cluster_size))
                return "points to the middle of a cluster";
        if (!in_file(c, e, c->t.h.cluster_size))
                return "points beyond the end of the file";
        if (refmap_has(&c->t.refs, e >> c->t.h.cluster_bits, REF_META))
                return "points to another of the image's tables";
        return NULL;
}

static int own_blocks(struct checker *c)
{
        AUTO(freep) uint8_t *buf = malloc(c->t.h.cluster_size);
        int r = buf ? 0 : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < c->t.nblocks; i++) {
                const char *flaw = c->t.blocks[i] ? block_flaw(c, c->t.blocks[i]) : NULL;

                if (flaw) {
                        check_report(c, FINDING_CORRUPTION, "refcount table entry %" PRIu64 " (0x%016" PRIx64 ") %s", i,
                                     c->t.blocks[i], flaw);
                        c->bad_structure = true;
                        c->t.blocks[i] = 0;
                }
                if (!c->t.blocks[i])
                        continue;
                r = check_ref(c, c->t.blocks[i], c->t.h.cluster_size, REF_META);
                if (r == 0)
                        r = load_block(c, i, buf);
        }
        return r;
}

static const char *reftable_flaw(const struct checker *c, uint64_t len)
{
        uint64_t off = c->t.h.reftable_offset;

        if (!len)
                return "has no clusters";
        if (len > max_u64(QCOW2_MAX_REFTABLE_BYTES, c->t.h.cluster_size))
                return "is longer than any may be";
        if (!is_aligned(off, c->t.h.cluster_size))
                return "begins in the middle of a cluster";
        if (!in_file(c, off, len))
                return "is not inside the file";
        for (uint64_t i = 0; i < len >> c->t.h.cluster_bits; i++)
                if (refmap_has(&c->t.refs, (off >> c->t.h.cluster_bits) + i, REF_META))
                        return "lies on top of another of the image's tables";
        return NULL;
}

static int own_refcounts(struct checker *c)
{
        uint64_t len = (uint64_t)c->t.h.reftable_clusters << c->t.h.cluster_bits;
        const char *flaw = reftable_flaw(c, len);
        int r;

        if (flaw) {
                check_report(c, FINDING_CORRUPTION, "the refcount table (%" PRIu32 " clusters at 0x%" PRIx64 ") %s",
                             c->t.h.reftable_clusters, c->t.h.reftable_offset, flaw);
                c->bad_structure = true;
                return 0;
        }
        c->t.table_clusters = c->t.h.reftable_clusters;
        c->t.nblocks = qcow2_reftable_entries(&c->t.h);
        r = ref_table(c, c->t.h.reftable_offset, len);
        if (r == 0)
                r = qcow2_table_read(c->t.file, c->t.h.reftable_offset, c->t.nblocks, &c->t.blocks);
        return r < 0 ? r : own_blocks(c);
}

int check_own_tables(struct checker *c)
{
        int r = ref_table(c, 0, c->t.h.cluster_size);

        if (r == 0)
                r = ref_table(c, c->t.h.l1_offset, (uint64_t)c->t.h.l1_entries * QCOW2_ENTRY_SIZE);
        if (r == 0)
                r = ref_table(c, c->t.h.luks_offset, c->t.h.luks_length);
        if (r == 0)
                r = own_snapshots(c);
        if (r == 0)
                r = own_bitmaps(c);
        return r < 0 ? r : own_refcounts(c);
}
