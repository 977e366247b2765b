/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/qcow2/at_rest/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"

/* --- entries -------------------------------------------------------------------------------------------------- */

/* Why [off, off + len) cannot hold data or an L2 table; NULL: it can. */
static const char *place_flaw(const struct qcow2_txn *t, uint64_t off, uint64_t len)
{
        uint64_t last = (off + len - 1) >> t->h.cluster_bits;

        for (uint64_t i = off >> t->h.cluster_bits; i <= last; i++) {
                if (i >= t->clusters)
                        return "points beyond the end of the file";
                if (refmap_has(&t->refs, i, REF_META))
                        return "points into the image's own tables";
        }
        return NULL;
}

const char *qcow2_l1e_flaw(const struct qcow2_txn *t, uint64_t e, uint64_t *fixed)
{
        uint64_t off = l1e_offset(e);
        const char *flaw = NULL;

        *fixed = 0;
        if (!is_aligned(off, t->h.cluster_size))
                flaw = "points to the middle of a cluster";
        else if (off)
                flaw = place_flaw(t, off, t->h.cluster_size);
        if (flaw)
                return flaw;
        *fixed = e & ~QCOW2_L1_RESERVED;
        return *fixed == e ? NULL : "has reserved bits set";
}

void qcow2_l2e_range(const struct qcow2_txn *t, struct l2e e, uint64_t *off, uint64_t *len)
{
        if (l2e_is_compressed(e.desc)) {
                *off = l2e_packed_host(e.desc, t->h.cluster_bits);
                *len = l2e_packed_len(e.desc, t->h.cluster_bits);
        } else {
                *off = l2e_offset(e.desc);
                *len = *off ? t->h.cluster_size : 0;
        }
        if (qcow2_has_data_file(&t->h))
                *len = 0; /* that is elsewhere, where nothing is counted */
}

/* Where data is cannot be told from a wrong offset, only that there is data; it has but one place. */
static const char *data_file_flaw(const struct qcow2_txn *t, uint64_t guest, struct l2e e, struct l2e *fixed)
{
        uint64_t wrong = l2e_wrong_bits(&t->h, e);
        const char *flaw;

        if (l2e_is_compressed(e.desc)) {
                *fixed = l2e_zeros(&t->h);
                return "is of a compressed cluster, which an external data file cannot hold";
        }
        flaw = l2e_subs_flaw(&t->h, e, &fixed->subs);
        fixed->desc &= ~wrong;
        if (l2e_has_place(&t->h, e) && l2e_offset(e.desc) != guest) {
                fixed->desc = (fixed->desc & ~QCOW2_OFFSET_MASK) | guest | QCOW2_COPIED;
                flaw = "points to another place in the data file than it has in the disk";
        }
        return wrong ? "has reserved bits set" : flaw;
}

const char *qcow2_l2e_flaw(const struct qcow2_txn *t, uint64_t guest, struct l2e e, struct l2e *fixed)
{
        const char *flaw = NULL;
        uint64_t off, len, wrong = QCOW2_COPIED;

        *fixed = e;
        if (l2e_is_empty(e))
                return NULL;
        if (qcow2_has_data_file(&t->h))
                return data_file_flaw(t, guest, e, fixed);
        qcow2_l2e_range(t, e, &off, &len);
        if (!l2e_is_compressed(e.desc) && !is_aligned(off, t->h.cluster_size))
                flaw = "points to the middle of a cluster";
        else if (len)
                flaw = place_flaw(t, off, len);
        if (flaw) {
                *fixed = l2e_zeros(&t->h);
                return flaw;
        }
        if (!l2e_is_compressed(e.desc))
                wrong = l2e_wrong_bits(&t->h, e);
        flaw = l2e_subs_flaw(&t->h, e, &fixed->subs);
        fixed->desc &= ~wrong;
        if (e.desc & wrong)
                flaw = l2e_is_compressed(e.desc) ? "is of a compressed cluster and has the COPIED bit set" : "has reserved bits set";
        return flaw;
}

static int flawed(uint64_t l1_index, const char *flaw)
{
        return err_note(-EIO, "L1 entry %" PRIu64 " or an entry of its L2 table %s; 'check -r all' can repair that", l1_index,
                        flaw);
}

/* --- whole trees ---------------------------------------------------------------------------------------------- */

/* The guest offset that entry @i of an L2 table is for. */
static uint64_t guest_of(const struct qcow2_txn *t, uint64_t l1_index, uint64_t i)
{
        return l1_index * qcow2_l2_covers(&t->h) + (i << t->h.cluster_bits);
}

/*
 * Nearly all of the millions of entries are a whole cluster in the file and nothing odd: for those the count of that
 * cluster. NULL: all others, and whatever qcow2_l2e_flaw() may have something to say about.
 */
static inline uint32_t *plain_count(const struct qcow2_txn *t, struct l2e e)
{
        uint64_t off = e.desc & ~QCOW2_COPIED, i = off >> t->h.cluster_bits;
        uint32_t *count;

        if (!off || off & (~QCOW2_OFFSET_MASK | (t->h.cluster_size - 1)) || e.subs & e.subs >> 32 || i >= t->clusters)
                return NULL;
        count = refmap_seek(&t->refs, i);
        return count && !(*count & REF_META) ? count : NULL;
}

/* It is counted, and stays so. */
static bool may_count(int64_t count, int delta)
{
        return count && count + delta > 0 && count + delta <= (int64_t)REFMAP_MAX_COUNT;
}

static int ref_l2(struct qcow2_txn *t, uint64_t l1_index, const uint8_t *l2, int delta)
{
        bool plain = !qcow2_has_data_file(&t->h);
        uint64_t n = l2_entries(&t->h);

        for (uint64_t i = 0; i < n; i++) {
                struct l2e e = l2e_get(&t->h, l2, i), fixed;
                uint32_t *count = plain ? plain_count(t, e) : NULL;
                uint64_t off, len;
                const char *flaw;
                int r;

                if (count && may_count(*count & REFMAP_MAX_COUNT, delta)) {
                        *count += (uint32_t)delta; /* as qcow2_txn_ref() would */
                        continue;
                }
                flaw = qcow2_l2e_flaw(t, guest_of(t, l1_index, i), e, &fixed);
                if (flaw)
                        return flawed(l1_index, flaw);
                qcow2_l2e_range(t, e, &off, &len);
                r = qcow2_txn_ref(t, off, len, delta);
                if (r < 0)
                        return r;
        }
        return 0;
}

int qcow2_l1e_ref(struct qcow2_txn *t, const uint64_t *l1, uint64_t i, int delta, uint8_t *l2)
{
        uint64_t fixed, off = l1e_offset(l1[i]);
        const char *flaw = qcow2_l1e_flaw(t, l1[i], &fixed);
        int r;

        if (flaw)
                return flawed(i, flaw);
        if (!off)
                return 0;
        r = qcow2_txn_ref(t, off, t->h.cluster_size, delta);
        if (r == 0)
                r = file_pread(t->file, l2, t->h.cluster_size, off);
        return r < 0 ? r : ref_l2(t, i, l2, delta);
}

int qcow2_tree_ref(struct qcow2_txn *t, const uint64_t *l1, uint64_t entries, int delta)
{
        AUTO(freep) uint8_t *l2 = malloc(t->h.cluster_size);
        int r = l2 ? 0 : -ENOMEM;

        for (uint64_t i = 0; r == 0 && i < entries; i++)
                r = qcow2_l1e_ref(t, l1, i, delta, l2);
        return r;
}

/* Makes the entries of one L2 table right. Did any change? */
static bool settle_l2(const struct qcow2_txn *t, uint8_t *l2, uint64_t l1_index, bool active)
{
        bool changed = false, plain = !qcow2_has_data_file(&t->h);
        uint64_t n = l2_entries(&t->h);

        for (uint64_t i = 0; i < n; i++) {
                struct l2e old = l2e_get(&t->h, l2, i), e;
                const uint32_t *count = plain ? plain_count(t, old) : NULL;

                if (count) {
                        bool alone = (*count & REFMAP_MAX_COUNT) == 1;

                        if (active && alone != !!(old.desc & QCOW2_COPIED)) {
                                l2e_put(&t->h, l2, i, (struct l2e){ old.desc ^ QCOW2_COPIED, old.subs });
                                changed = true;
                        }
                        continue;
                }
                (void)qcow2_l2e_flaw(t, guest_of(t, l1_index, i), old, &e);
                if (active && qcow2_has_data_file(&t->h)) {
                        e.desc |= l2e_offset(e.desc) ? QCOW2_COPIED : 0;
                } else if (active && !l2e_is_compressed(e.desc) && l2e_offset(e.desc)) {
                        bool alone = refmap_count(&t->refs, l2e_offset(e.desc) >> t->h.cluster_bits) == 1;

                        e.desc = alone ? e.desc | QCOW2_COPIED : e.desc & ~QCOW2_COPIED;
                }
                if (l2e_equal(e, old))
                        continue;
                l2e_put(&t->h, l2, i, e);
                changed = true;
        }
        return changed;
}

int qcow2_l2_replace(struct qcow2_txn *t, uint64_t *l1, uint64_t i, const uint8_t *l2)
{
        uint64_t old = l1e_offset(l1[i]), off;
        int r = qcow2_txn_put(t, l2, t->h.cluster_size, &off);

        if (r == 0 && old)
                r = qcow2_txn_ref(t, old, t->h.cluster_size, -1);
        if (r == 0)
                l1[i] = off | QCOW2_COPIED;
        return r;
}

/* Both trees share the table and nobody else does: the new one is shared as well. */
static int replace_shared(struct qcow2_txn *t, uint64_t *l1, uint64_t *twin, uint64_t i, const uint8_t *l2)
{
        uint64_t old = l1e_offset(l1[i]);
        int r = qcow2_l2_replace(t, l1, i, l2);

        if (r == 0)
                r = qcow2_txn_ref(t, old, t->h.cluster_size, -1);
        if (r == 0)
                r = qcow2_txn_ref(t, l1e_offset(l1[i]), t->h.cluster_size, 1);
        l1[i] &= ~QCOW2_COPIED;
        twin[i] = l1[i];
        return r;
}

static int settle_entry(struct qcow2_txn *t, uint64_t *l1, uint64_t i, bool active, uint64_t *twin, uint8_t *l2)
{
        uint64_t off, count;
        int r;

        (void)qcow2_l1e_flaw(t, l1[i], &l1[i]);
        off = l1e_offset(l1[i]);
        if (!off)
                return 0;
        r = file_pread(t->file, l2, t->h.cluster_size, off);
        if (r < 0)
                return r;
        count = refmap_count(&t->refs, off >> t->h.cluster_bits);
        if (settle_l2(t, l2, i, active)) {
                if (twin && l1e_offset(twin[i]) == off && count == 2)
                        return replace_shared(t, l1, twin, i, l2);
                return qcow2_l2_replace(t, l1, i, l2);
        }
        if (active)
                l1[i] = count == 1 ? l1[i] | QCOW2_COPIED : l1[i] & ~QCOW2_COPIED;
        return 0;
}

int qcow2_tree_settle(struct qcow2_txn *t, uint64_t *l1, uint64_t entries, bool active, uint64_t *twin, bool *changed)
{
        AUTO(freep) uint8_t *l2 = malloc(t->h.cluster_size);
        int r = l2 ? 0 : -ENOMEM;

        *changed = false;
        for (uint64_t i = 0; r == 0 && i < entries; i++) {
                uint64_t old = l1[i];

                r = settle_entry(t, l1, i, active, twin, l2);
                *changed |= l1[i] != old;
                if (twin)
                        twin[i] &= ~QCOW2_COPIED;
        }
        return r;
}

/* --- L1 tables ------------------------------------------------------------------------------------------------ */

int qcow2_l1_move(struct qcow2_txn *t, uint64_t *l1, uint64_t entries, uint64_t *off, uint64_t old_entries)
{
        AUTO(freep) uint64_t *be = malloc((entries + 1) * sizeof(*be));
        int r = 0;

        if (!be)
                return -ENOMEM;
        for (uint64_t i = 0; i < entries; i++)
                be[i] = htobe64(l1[i]);
        if (*off && old_entries)
                r = qcow2_txn_ref(t, *off, old_entries * QCOW2_ENTRY_SIZE, -1);
        *off = 0;
        return r < 0 || !entries ? r : qcow2_txn_put(t, be, entries * QCOW2_ENTRY_SIZE, off);
}

int qcow2_l1_replace(struct qcow2_txn *t, uint64_t *l1, uint64_t entries)
{
        int r = qcow2_l1_move(t, l1, entries, &t->h.l1_offset, t->h.l1_entries);

        if (r == 0)
                t->h.l1_entries = (uint32_t)entries;
        return r;
}
