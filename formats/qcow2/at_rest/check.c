/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - do the refcounts say what the tables say? Counts all references in one pass, then compares block by
 * block. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/checker.h"
#include "formats/qcow2/refcount_bits.h"

/*
 * An L2 table that this many trees more than exist point to is walked no more: otherwise a small file could keep us
 * busy for days.
 */
#define SPARE_WALKS 64u

/* --- findings ------------------------------------------------------------------------------------------------- */

static void tell(struct checker *c, enum fmt_finding_kind kind, bool repaired, const char *fmt, va_list ap)
{
        char text[320];

        if (!c->chk->finding)
                return;
        vsnprintf(text, sizeof(text), fmt, ap);
        c->chk->finding(c->chk, &(struct fmt_finding){ .kind = kind, .repaired = repaired, .text = text });
}

void check_report(struct checker *c, enum fmt_finding_kind kind, const char *fmt, ...)
{
        struct fmt_check *chk = c->chk;
        bool leak = kind == FINDING_LEAK;
        bool fix = !c->blind && (chk->fix_all || (leak && chk->fix_leaks && !chk->corruptions && !c->low));
        va_list ap;

        if (leak)
                *(fix ? &chk->leaks_fixed : &chk->leaks) += 1;
        else
                *(fix ? &chk->corruptions_fixed : &chk->corruptions) += 1;
        va_start(ap, fmt);
        tell(c, kind, fix, fmt, ap);
        va_end(ap);
}

void check_blind(struct checker *c, const char *fmt, ...)
{
        va_list ap;

        c->blind = c->blind || !c->only_look;
        c->looked_bad += c->only_look;
        c->chk->corruptions++;
        va_start(ap, fmt);
        tell(c, FINDING_BLIND, false, fmt, ap);
        va_end(ap);
        err_clear();
}

static void progress(struct checker *c, double done)
{
        if (c->chk->progress)
                c->chk->progress(c->chk, done);
}

/* --- counting ------------------------------------------------------------------------------------------------- */

int check_ref(struct checker *c, uint64_t off, uint64_t len, uint32_t flags)
{
        unsigned bits = c->t.h.cluster_bits;
        int r = 0;

        if (c->only_look)
                return 0;
        for (uint64_t i = off >> bits; r == 0 && len && i <= (off + len - 1) >> bits; i++) {
                r = refmap_add(&c->t.refs, i, 1);
                if (r == 0)
                        r = refmap_flag(&c->t.refs, i, flags | REF_OLD);
                if (r == -ERANGE) {
                        check_blind(c, "the cluster at offset 0x%" PRIx64 " has more references than can be counted",
                                    i << bits);
                        r = 0;
                }
        }
        return r;
}

static void check_copied(struct checker *c, bool guest_data, uint64_t guest, uint64_t e, uint64_t off)
{
        const char *what = guest_data ? "L2 entry" : "L1 entry";
        bool one = refmap_has(&c->t.refs, off >> c->t.h.cluster_bits, REF_ONE);

        if (guest_data && qcow2_has_data_file(&c->t.h))
                one = true; /* nobody can share it */
        if (one == !!(e & QCOW2_COPIED))
                return;
        c->copied++;
        check_report(c, FINDING_COPIED, "the %s for guest offset 0x%" PRIx64 " (cluster at 0x%" PRIx64 ") has the COPIED "
                     "bit %s, but its refcount is %s", what, guest, off, one ? "clear" : "set", one ? "1" : "not 1");
}

/* The figures of qemu-img check, about the active tree. */
static void tally(struct checker *c, struct l2e e, uint64_t off, uint64_t *next)
{
        c->chk->allocated_clusters++;
        if (l2e_is_compressed(e.desc)) {
                c->chk->compressed_clusters++;
                c->chk->fragmented_clusters++; /* by nature */
                return;
        }
        if (*next && *next != off)
                c->chk->fragmented_clusters++;
        *next = off + c->t.h.cluster_size;
}

static void report_flaw(struct checker *c, struct l2e e, uint64_t guest, const char *flaw)
{
        char subs[32] = "";

        if (qcow2_has_subclusters(&c->t.h))
                snprintf(subs, sizeof(subs), " 0x%016" PRIx64, e.subs);
        c->flaws++;
        check_report(c, FINDING_ENTRY, "%s: the L2 entry 0x%016" PRIx64 "%s for guest offset 0x%" PRIx64 " %s", c->whose,
                     e.desc, subs, guest, flaw);
}

static int walk_l2(struct checker *c, const uint8_t *l2, uint64_t guest, bool active)
{
        uint64_t next = 0;
        int r = 0;

        for (uint64_t i = 0; r == 0 && i < l2_entries(&c->t.h); i++, guest += c->t.h.cluster_size) {
                struct l2e e = l2e_get(&c->t.h, l2, i), fixed;
                const char *flaw = qcow2_l2e_flaw(&c->t, guest, e, &fixed);
                uint64_t off, len;

                if (flaw)
                        report_flaw(c, e, guest, flaw);
                qcow2_l2e_range(&c->t, fixed, &off, &len);
                if (!len && !(qcow2_has_data_file(&c->t.h) && l2e_has_place(&c->t.h, fixed)))
                        continue;
                r = check_ref(c, off, len, 0);
                if (active)
                        tally(c, fixed, off, &next);
                if (active && !l2e_is_compressed(fixed.desc))
                        check_copied(c, true, guest, e.desc, off);
        }
        return r;
}

/* Goes down one L1 entry. */
static int walk_entry(struct checker *c, uint64_t e, uint64_t guest, bool active, uint8_t *l2)
{
        uint64_t fixed, off;
        const char *flaw = qcow2_l1e_flaw(&c->t, e, &fixed);
        int r;

        if (flaw) {
                c->flaws++;
                check_report(c, FINDING_ENTRY, "%s: the L1 entry 0x%016" PRIx64 " for guest offset 0x%" PRIx64 " %s",
                             c->whose, e, guest, flaw);
        }
        off = l1e_offset(fixed);
        if (!off)
                return 0;
        if (refmap_count(&c->t.refs, off >> c->t.h.cluster_bits) > c->snaps.n + SPARE_WALKS) {
                check_blind(c, "%s: the L2 table at 0x%" PRIx64 " is used by more L1 entries than any tree can have",
                            c->whose, off);
                return 0;
        }
        r = check_ref(c, off, c->t.h.cluster_size, 0);
        if (r == 0 && active)
                check_copied(c, false, guest, e, off);
        if (r == 0)
                r = file_pread(c->t.file, l2, c->t.h.cluster_size, off);
        if (r < 0 && r != -ENOMEM) {
                c->chk->check_errors++;
                check_blind(c, "%s: the L2 table at 0x%" PRIx64 " cannot be read: %s", c->whose, off, strerror(-r));
                return 0;
        }
        return r < 0 ? r : walk_l2(c, l2, guest, active);
}

static int walk_tree(struct checker *c, uint64_t l1_off, uint64_t entries, bool active)
{
        AUTO(freep) uint8_t *l2 = malloc(c->t.h.cluster_size);
        AUTO(freep) uint64_t *l1 = NULL;
        int r = l2 ? qcow2_table_read(c->t.file, l1_off, entries, &l1) : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < entries; i++) {
                if (l1[i])
                        r = walk_entry(c, l1[i], i * qcow2_l2_covers(&c->t.h), active, l2);
                if (active && i % 256 == 0)
                        progress(c, 0.9 * (double)i / (double)entries);
        }
        return r;
}

static int walk_all(struct checker *c)
{
        int r;

        c->whose = "active disk";
        r = walk_tree(c, c->t.h.l1_offset, c->t.h.l1_entries, true);
        for (uint32_t i = 0; r == 0 && i < c->snaps.n; i++) {
                char whose[80];

                snprintf(whose, sizeof(whose), "snapshot '%.60s'", c->snaps.v[i].name);
                c->whose = whose;
                r = walk_tree(c, c->snaps.v[i].l1_offset, c->snaps.v[i].l1_entries, false);
        }
        c->whose = NULL;
        return r;
}

/* --- comparing ------------------------------------------------------------------------------------------------ */

static void compare_one(struct checker *c, uint64_t cluster, uint64_t on_disk, uint64_t counted, bool say)
{
        uint64_t off = cluster << c->t.h.cluster_bits;

        if (on_disk < counted) {
                c->low += !say;
                if (say)
                        check_report(c, FINDING_LOW, "the cluster at 0x%" PRIx64 " has refcount %" PRIu64
                                     ", should have %" PRIu64, off, on_disk, counted);
        } else if (on_disk > counted) {
                c->leaks += !say;
                if (say)
                        check_report(c, FINDING_LEAK, "the cluster at 0x%" PRIx64 " is leaked: it has refcount %" PRIu64
                                     ", should have %" PRIu64, off, on_disk, counted);
        }
}

/* All clusters whose refcounts lie in one block, or would (@block NULL: there is none). */
static void compare_block(struct checker *c, uint64_t index, const uint8_t *block, bool say)
{
        uint64_t per = refcount_per_block(c->t.h.cluster_size, c->t.h.refcount_order), first = index * per;
        uint64_t end = block ? first + per : min_u64(first + per, c->t.refs.end);

        for (uint64_t i = first; i < end; i++) {
                uint64_t on_disk = block ? refcount_get(block, c->t.h.refcount_order, i - first) : 0;

                compare_one(c, i, on_disk, refmap_count(&c->t.refs, i), say);
        }
}

/* First counts (@say false), so that what follows knows how bad it is; then tells. */
static int compare(struct checker *c, bool say)
{
        uint64_t per = refcount_per_block(c->t.h.cluster_size, c->t.h.refcount_order);
        uint64_t blocks = max_u64(c->t.nblocks, div_round_up(c->t.refs.end, per));
        AUTO(freep) uint8_t *buf = malloc(c->t.h.cluster_size);
        int r = buf ? 0 : -ENOMEM;

        for (uint64_t b = 0; r == 0 && b < blocks; b++) {
                bool there = b < c->t.nblocks && c->t.blocks[b];

                if (there)
                        r = file_pread(c->t.file, buf, c->t.h.cluster_size, c->t.blocks[b]);
                if (r == 0)
                        compare_block(c, b, there ? buf : NULL, say);
        }
        return r;
}

static void sum_up(struct checker *c)
{
        c->chk->total_clusters = div_round_up(c->t.h.size, c->t.h.cluster_size);
        c->chk->image_end_offset = refmap_used_end(&c->t.refs) << c->t.h.cluster_bits;
        progress(c, 1.0);
}

static void checker_finish(struct checker *c)
{
        qcow2_snapshots_finish(&c->snaps);
        qcow2_txn_finish(&c->t);
}

static int check_file(struct checker *c, struct file *file)
{
        bool fix = c->chk->fix_all || c->chk->fix_leaks;
        int r;

        c->t.file = file;
        if (fix && file->read_only)
                return err_note(-EROFS, "the image is open for reading only, so it cannot be repaired");
        r = qcow2_header_read(file, QCOW2_REPAIRING, &c->t.h);
        if (r == 0)
                r = qcow2_header_usable(&c->t.h, false);
        c->t.clusters = qcow2_file_clusters(file, c->t.h.cluster_bits);
        if (r == 0)
                r = check_own_tables(c);
        if (r == 0)
                r = walk_all(c);
        if (r == 0)
                r = compare(c, false);
        if (r == 0 && (c->low || c->leaks))
                r = compare(c, true);
        if (r == 0 && fix)
                r = check_repair(c);
        if (r == 0)
                sum_up(c);
        return r;
}

int qcow2_check(struct fmt_image *img, struct fmt_check *chk)
{
        AUTO(checker_finish) struct checker c = { .chk = chk };

        return check_file(&c, img->file);
}

int qcow2_repair_refcounts(struct file *file)
{
        struct fmt_check chk = { .fix_all = true };
        AUTO(checker_finish) struct checker c = { .chk = &chk, .only_refcounts = true };

        return check_file(&c, file);
}
