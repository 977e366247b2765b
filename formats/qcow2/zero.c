/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zero.c - discard and write-zeroes, by changing entries only.
 *
 * What becomes of a cluster:
 *   nothing behind it (no backing image, or beyond its end)   -> no entry
 *   a backing image, version 3                                -> a zero entry, so that old bytes do not shine through
 *   a backing image, version 2 (has no zero entries)          -> zeroes are written as data; a discard does nothing
 *   zeroes without leave to unmap, version 3, cluster ours    -> a zero entry that keeps the cluster
 *   an external data file                                     -> data there becomes a hole or zeros, and stays data
 *
 * The same for some sub-clusters of one cluster, which goes when none of them has data any more and may be unmapped.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/err.h"
#include "qcow2.h"

enum action { ACT_NOTHING, ACT_TABLES, ACT_WRITE, ACT_PUNCH };

static bool keeps(const struct qcow2_image *q, const struct entry *d, unsigned flags)
{
        return !(flags & (ZERO_MAY_UNMAP | ZERO_DISCARD)) && q->h.version >= 3 && d->copied && d->kind == ENTRY_PLAIN &&
               d->host;
}

/* There is nothing to give back but what the file system has: data stays data, and becomes a hole. */
static enum action action_in_data_file(const struct qcow2_image *q, const struct entry *d, uint64_t cluster_off, uint32_t subs,
                                       unsigned flags)
{
        /* of a backing image */
        uint32_t shows = flags & ZERO_DISCARD ? 0 : subs & ~d->data & ~zero_subs(q, d, cluster_off);

        if (d->data & subs)
                return shows ? ACT_WRITE : ACT_PUNCH;
        return shows ? ACT_TABLES : ACT_NOTHING;
}

static enum action action_for(const struct qcow2_image *q, const struct entry *d, uint64_t cluster_off, uint32_t subs,
                              unsigned flags)
{
        bool can_drop = q->h.version >= 3 || absent_is_zero(q, cluster_off), whole = subs == q->all_subs;

        if (q->img.data_file)
                return action_in_data_file(q, d, cluster_off, subs, flags);
        if (d->kind == ENTRY_PACKED && !whole)
                return flags & ZERO_DISCARD ? ACT_NOTHING : ACT_WRITE; /* its parts have no entries */
        if (flags & ZERO_DISCARD)
                return d->host && can_drop && (whole || d->data & subs) ? ACT_TABLES : ACT_NOTHING;
        if (!(subs & ~zero_subs(q, d, cluster_off)))
                return d->host && whole && flags & ZERO_MAY_UNMAP ? ACT_TABLES : ACT_NOTHING;
        if (d->kind == ENTRY_PLAIN && d->host && d->copied && !(flags & ZERO_MAY_UNMAP) && q->h.version < 3)
                return ACT_WRITE; /* keep the space, and there is no entry for "zeros, with space" */
        return can_drop ? ACT_TABLES : ACT_WRITE;
}

void zero_commit(struct qcow2_image *q, struct change *c)
{
        uint64_t off = (c->page->no * q->page_entries + c->slot) << q->cluster_bits;

        for (unsigned k = 0; k < c->n; k++, off += q->img.cluster_size) {
                struct entry old = entry_decode(q, page_entry(q, c->page, c->slot + k)), now = old;
                uint32_t subs = change_subs(q, c, k);
                bool keep = keeps(q, &old, c->zero_flags);

                now.kind = ENTRY_PLAIN;
                now.data &= ~subs;
                now.zero &= ~subs;
                if (keep || !absent_is_zero(q, off))
                        now.zero |= subs;
                if (!keep && !now.data && !q->img.data_file)
                        now.host = now.copied = 0;
                change_entry(q, c, k, &now);
                page_set_pristine(q, c->page, c->slot + k, false); /* old bytes are where it says that no data is */
                if (old.host && !now.host)
                        space_unlink(q, &c->spare, old.host, old.kind == ENTRY_PACKED ? old.packed_len : q->img.cluster_size);
        }
}

/* Of the data file, where everything lies at its place in the disk. */
static void plan_punch(uint64_t off, unsigned flags, struct fmt_plan *plan)
{
        plan->kind = PLAN_PUNCH;
        plan->host = off;
        plan->keep = !(flags & (ZERO_MAY_UNMAP | ZERO_DISCARD));
}

/* A piece smaller than its sub-cluster: entries cannot say it. */
static int plan_edge(struct qcow2_image *q, struct page *p, uint64_t off, unsigned flags, struct fmt_plan *plan)
{
        struct entry d = { .kind = ENTRY_PLAIN };

        if (p)
                d = entry_decode(q, page_entry(q, p, l2_slot(q, off)));
        if (d.kind == ENTRY_BAD)
                return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster", off);
        if (q->img.data_file && d.data & 1u << sub_of(q, off))
                plan_punch(off, flags, plan);
        else if (flags & ZERO_DISCARD || zero_subs(q, &d, round_down(off, q->img.cluster_size)) & 1u << sub_of(q, off))
                plan->kind = PLAN_NOTHING;
        else
                plan->kind = PLAN_WRITE_ZEROES;
        return 0;
}

static int plan_tables(struct qcow2_image *q, uint64_t off, unsigned n, uint32_t subs, unsigned linked, unsigned flags,
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
        c->from_sub = (unsigned)__builtin_ctz(subs);
        c->to_sub = 31u - (unsigned)__builtin_clz(subs);
        plan->kind = PLAN_TABLES;
        plan->tag[0] = (uintptr_t)c;
        return 0;
}

/* What a plan is about: whole clusters from @off on that are treated alike, in one page, or @subs of the one there. */
struct target {
        uint64_t off; /* of a cluster */
        uint64_t most;
        uint32_t subs;
};

static int plan_clusters(struct qcow2_image *q, struct page *p, bool owned, const struct target *t, unsigned flags,
                         struct fmt_plan *plan)
{
        unsigned slot = l2_slot(q, t->off), n, linked = 0;
        uint64_t most = min_u64(t->most, q->page_entries - slot);
        enum action first = ACT_NOTHING;

        for (n = 0; n < most; n++) {
                struct entry d = { .kind = ENTRY_PLAIN };
                enum action act;

                if (p)
                        d = entry_decode(q, page_entry(q, p, slot + n));
                if (d.kind == ENTRY_BAD && n == 0)
                        return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster",
                                                   t->off);
                if (d.kind == ENTRY_BAD)
                        break;
                d.copied &= owned;
                act = action_for(q, &d, t->off + ((uint64_t)n << q->cluster_bits), t->subs, flags);
                if (n == 0)
                        first = act;
                else if (act != first)
                        break;
                linked += act == ACT_TABLES && d.host != 0;
        }
        plan->len = (uint64_t)n << q->cluster_bits;
        plan->kind = first == ACT_WRITE ? PLAN_WRITE_ZEROES : PLAN_NOTHING;
        if (first == ACT_PUNCH)
                plan_punch(plan->off, flags, plan);
        return first == ACT_TABLES ? plan_tables(q, t->off, n, t->subs, linked, flags, plan) : 0;
}

int qcow2_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        uint64_t cs = img->cluster_size, unit = img->subcluster_size, end = off + len;
        struct target t = { .off = round_down(off, cs), .most = 1, .subs = q->all_subs };
        struct page *p;
        bool owned;
        int r = qcow2_may_change(q);

        if (r == 0)
                r = l2_look(q, off, &p, &owned);
        if (r < 0)
                return r;
        *plan = (struct fmt_plan){ .off = off, .len = len };
        if (img->data_file && qcow2_data_is_raw(&q->h)) { /* whoever reads that file alone must see zeros, too */
                plan_punch(off, flags, plan);
                return 0;
        }
        if (end >= img->size) /* the last cluster is whole when all that is left of it is asked for */
                end = round_up(end, cs);
        if (!is_aligned(off, unit) || end - off < unit) {
                plan->len = min_u64(len, round_up(off + 1, unit) - off);
                return plan_edge(q, p, off, flags, plan);
        }
        if (off == t.off && end - off >= cs)
                t.most = (end - off) >> q->cluster_bits;
        else
                t.subs = sub_mask(sub_of(q, off), sub_of(q, min_u64(round_down(end, unit), t.off + cs) - 1));
        r = plan_clusters(q, p, owned, &t, flags, plan);
        if (t.subs != q->all_subs)
                plan->len = (uint64_t)__builtin_popcount(t.subs) << q->sub_bits;
        plan->len = min_u64(plan->len, len);
        return r;
}
