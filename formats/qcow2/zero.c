/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zero.c - discard and write-zeroes, by changing entries only.
 *
 * What becomes of a cluster:
 *   nothing behind it (no backing image, or beyond its end)   -> no entry
 *   a backing image, version 3                                -> a zero entry, so that old bytes do not shine through
 *   a backing image, version 2 (has no zero entries)          -> zeroes are written as data; a discard does nothing
 *   zeroes without leave to unmap, version 3, cluster ours    -> a zero entry that keeps the cluster
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/err.h"
#include "qcow2.h"

enum action { ACT_NOTHING, ACT_TABLES, ACT_WRITE };

static bool keeps(const struct qcow2_image *q, const struct entry *d, unsigned flags)
{
        return !(flags & (ZERO_MAY_UNMAP | ZERO_DISCARD)) && q->h.version >= 3 && d->copied &&
               (d->kind == ENTRY_DATA || d->kind == ENTRY_KEPT);
}

static enum action action_for(const struct qcow2_image *q, const struct entry *d, uint64_t cluster_off, unsigned flags)
{
        bool can_drop = q->h.version >= 3 || absent_is_zero(q, cluster_off);
        bool has_host = d->kind == ENTRY_DATA || d->kind == ENTRY_PACKED || d->kind == ENTRY_KEPT;

        if (flags & ZERO_DISCARD)
                return has_host && can_drop ? ACT_TABLES : ACT_NOTHING;
        if (d->kind == ENTRY_ZERO || (d->kind == ENTRY_ABSENT && absent_is_zero(q, cluster_off)))
                return ACT_NOTHING;
        if (d->kind == ENTRY_KEPT)
                return flags & ZERO_MAY_UNMAP ? ACT_TABLES : ACT_NOTHING;
        if (d->kind == ENTRY_DATA && d->copied && !(flags & ZERO_MAY_UNMAP) && q->h.version < 3)
                return ACT_WRITE; /* keep the space, and there is no entry for "zeros, with space" */
        return can_drop ? ACT_TABLES : ACT_WRITE;
}

void zero_commit(struct qcow2_image *q, struct change *c)
{
        uint64_t off = (c->page->no * q->page_entries + c->slot) << q->cluster_bits;

        for (unsigned k = 0; k < c->n; k++, off += q->img.cluster_size) {
                struct entry old = entry_decode(q, page_entry(c->page, c->slot + k));

                if (keeps(q, &old, c->zero_flags)) {
                        change_entry(q, c, k, old.host | QCOW2_L2_ZERO | QCOW2_COPIED);
                        continue;
                }
                change_entry(q, c, k, absent_is_zero(q, off) ? 0 : QCOW2_L2_ZERO);
                if (old.host)
                        space_unlink(q, &c->spare, old.host, old.kind == ENTRY_PACKED ? old.packed_len : q->img.cluster_size);
        }
}

/* A piece smaller than its cluster: entries cannot say it. */
static int plan_edge(struct qcow2_image *q, struct page *p, uint64_t off, unsigned flags, struct fmt_plan *plan)
{
        struct entry d = { .kind = ENTRY_ABSENT };

        if (p)
                d = entry_decode(q, page_entry(p, l2_slot(q, off)));
        if (d.kind == ENTRY_BAD)
                return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster", off);
        if (flags & ZERO_DISCARD || d.kind == ENTRY_ZERO || d.kind == ENTRY_KEPT ||
            (d.kind == ENTRY_ABSENT && absent_is_zero(q, round_down(off, q->img.cluster_size))))
                plan->kind = PLAN_NOTHING;
        else
                plan->kind = PLAN_WRITE_ZEROES;
        return 0;
}

static int plan_tables(struct qcow2_image *q, uint64_t off, unsigned n, unsigned linked, unsigned flags,
                       struct fmt_plan *plan)
{
        struct change *c = NULL;
        struct page *p;
        int r;

        if ((linked && space_is_crowded(q)) || (q->log && maplog_is_crowded(q->log)))
                return tcache_miss(q, MISS_FLUSH, NULL, 0);
        r = change_new(q, l2_slot(q, off), n, linked, &c);
        if (r == 0)
                r = l2_own(q, off, &p);
        if (r < 0) {
                change_free(c);
                return r;
        }
        change_pin(c, p);
        c->zero_flags = flags;
        plan->kind = PLAN_TABLES;
        plan->tag[0] = (uintptr_t)c;
        return 0;
}

/* Whole clusters from @off on that are treated alike, in one page. */
static int plan_clusters(struct qcow2_image *q, struct page *p, bool owned, uint64_t off, uint64_t most, unsigned flags,
                         struct fmt_plan *plan)
{
        unsigned slot = l2_slot(q, off), n, linked = 0;
        enum action first = ACT_NOTHING;

        most = min_u64(most, q->page_entries - slot);
        for (n = 0; n < most; n++) {
                struct entry d = { .kind = ENTRY_ABSENT };
                enum action act;

                if (p)
                        d = entry_decode(q, page_entry(p, slot + n));
                if (d.kind == ENTRY_BAD && n == 0)
                        return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster",
                                                   off);
                if (d.kind == ENTRY_BAD)
                        break;
                d.copied &= owned;
                act = action_for(q, &d, off + ((uint64_t)n << q->cluster_bits), flags);
                if (n == 0)
                        first = act;
                else if (act != first)
                        break;
                linked += act == ACT_TABLES && d.host != 0;
        }
        plan->len = (uint64_t)n << q->cluster_bits;
        plan->kind = first == ACT_WRITE ? PLAN_WRITE_ZEROES : PLAN_NOTHING;
        return first == ACT_TABLES ? plan_tables(q, off, n, linked, flags, plan) : 0;
}

int qcow2_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        uint64_t cs = img->cluster_size, end = off + len;
        struct page *p;
        bool owned;
        int r = qcow2_may_change(q);

        if (r == 0)
                r = l2_look(q, off, &p, &owned);
        if (r < 0)
                return r;
        *plan = (struct fmt_plan){ .off = off };
        if (end >= img->size) /* the last cluster is whole when all that is left of it is asked for */
                end = round_up(end, cs);
        if (!is_aligned(off, cs) || end - off < cs) {
                plan->len = min_u64(len, round_up(off + 1, cs) - off);
                return plan_edge(q, p, off, flags, plan);
        }
        r = plan_clusters(q, p, owned, off, (end - off) >> q->cluster_bits, flags, plan);
        plan->len = min_u64(plan->len, len);
        return r;
}
