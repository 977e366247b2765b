/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write.c - what a write needs: nothing (in place), or clusters of its own, and then the entries that lead to them.
 *
 * A plan keeps to one page of one L2 table, so it has one page to pin and its entries change at once. Everything that
 * can fail (pages, reservations, memory) is had before anything changes; commit only stores entries.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "qcow2.h"

/* --- an L2 table of our own --------------------------------------------------------------------------------------- */

bool absent_is_zero(const struct qcow2_image *q, uint64_t cluster_off)
{
        if (!q->img.backing)
                return !q->img.backing_name; /* named, but opened without it: its bytes must not come back later */
        return cluster_off >= q->img.backing->size;
}

int l2_look(struct qcow2_image *q, uint64_t off, struct page **ret, bool *owned)
{
        uint64_t l1 = table_top(&q->l2, l1_index(q, off));

        *ret = NULL;
        *owned = l1 & QCOW2_COPIED;
        if (l1 == 0)
                return 0;
        if (l1 & QCOW2_L1_RESERVED)
                return qcow2_contradiction(q, "the L1 entry for guest offset %" PRIu64 " points to no valid L2 table", off);
        return tcache_get(q, &q->l2, l2_page_no(q, off), ret);
}

/* A table in a fresh cluster reads as "nothing here" already: only the page that will change is made. */
static int l2_new(struct qcow2_image *q, uint64_t off, struct page **ret)
{
        uint64_t no = l2_page_no(q, off), i = l1_index(q, off), got, stamp, cluster;
        int r = meta_reserve(&q->meta, 1);

        if (r == 0)
                r = tcache_make(q, &q->l2, no, 0, ret);
        if (r < 0)
                return r;
        r = tcache_make_dir(q, &q->l2, i);
        if (r < 0) {
                tcache_unmake(q, *ret);
                return r;
        }
        cluster = space_take(q, 1, &got, &stamp);
        (*ret)->off = (cluster << q->cluster_bits) + no % q->pages_per_leaf * q->page_size;
        tcache_publish(q, *ret);
        meta_add(&q->meta, cluster);
        q->newest_used = max_u64(q->newest_used, stamp);
        table_set_top(q, &q->l2, i, cluster << q->cluster_bits | QCOW2_COPIED);
        return 0;
}

/* A snapshot shares the table: its pages move to a new cluster. Readers go on with the same pages. */
static int l2_copy(struct qcow2_image *q, uint64_t off, struct page **ret)
{
        uint64_t i = l1_index(q, off), old = l1e_offset(table_top(&q->l2, i)) >> q->cluster_bits, got, stamp, cluster;
        struct list spare;
        int r = tcache_get_leaf(q, &q->l2, i);

        list_init(&spare);
        if (r == 0)
                r = meta_reserve(&q->meta, 1);
        if (r == 0)
                r = space_runs_new(&spare, 1);
        if (r < 0)
                return r;
        cluster = space_take(q, 1, &got, &stamp);
        for (unsigned k = 0; k < q->pages_per_leaf; k++) {
                struct page *p = tcache_find(q, &q->l2, i * q->pages_per_leaf + k);

                assert(!p->dirty && !p->writing); /* a shared table is never changed */
                p->off = (cluster << q->cluster_bits) + (uint64_t)k * q->page_size;
                if (!bytes_are_zero(p->bytes, q->page_size)) {
                        p->carries = true;
                        page_dirty(q, p, 0, q->page_size);
                }
        }
        meta_remove(&q->meta, old);
        meta_add(&q->meta, cluster);
        q->newest_used = max_u64(q->newest_used, stamp);
        table_set_top(q, &q->l2, i, cluster << q->cluster_bits | QCOW2_COPIED);
        space_unlink_table(q, &spare, old, 1);
        *ret = tcache_find(q, &q->l2, l2_page_no(q, off));
        return 0;
}

int l2_own(struct qcow2_image *q, uint64_t off, struct page **ret)
{
        uint64_t l1 = table_top(&q->l2, l1_index(q, off));
        int r;

        if (l1 & QCOW2_COPIED)
                return tcache_get(q, &q->l2, l2_page_no(q, off), ret);
        r = space_ensure(q, 1);
        if (r < 0)
                return r;
        return l1 ? l2_copy(q, off, ret) : l2_new(q, off, ret);
}

/* --- what a plan keeps ---------------------------------------------------------------------------------------------- */

/* @spare: notes for so many clusters that may be unlinked. */
int change_new(struct qcow2_image *q, unsigned slot, unsigned n, unsigned spare, struct change **ret)
{
        struct change *c = calloc(1, sizeof(*c));
        int r;

        (void)q;
        if (!c)
                return -ENOMEM;
        list_init(&c->spare);
        r = space_runs_new(&c->spare, spare);
        if (r < 0) {
                change_free(c);
                return r;
        }
        c->slot = slot;
        c->n = n;
        *ret = c;
        return 0;
}

void change_pin(struct change *c, struct page *p)
{
        c->page = p;
        p->pins++;
}

uint32_t change_subs(const struct qcow2_image *q, const struct change *c, unsigned k)
{
        return sub_mask(k == 0 ? c->from_sub : 0, k + 1 == c->n ? c->to_sub : q->subs - 1);
}

/* Both words of an entry are logged in one step: a killed process leaves the change whole or not at all. */
static void log_entry(struct qcow2_image *q, const struct change *c, unsigned slot, struct l2e was, struct l2e now)
{
        unsigned words = l2e_words(&q->h);
        uint64_t index = (c->page->no * q->page_entries + slot) * words;
        const struct maplog_entry e[2] = { { index, was.desc, now.desc }, { index + 1, was.subs, now.subs } };
        unsigned same = words == 2 && was.desc == now.desc; /* often: only sub-clusters come and go */

        maplog_put(q->log, e + same, words - same);
}

void entry_dirty(struct qcow2_image *q, struct page *p, unsigned slot)
{
        uint32_t size = q->page_size / q->page_entries;

        page_dirty(q, p, slot * size, size);
}

void change_entry(struct qcow2_image *q, struct change *c, unsigned k, const struct entry *now)
{
        struct l2e e = entry_encode(q, now);

        if (q->log)
                log_entry(q, c, c->slot + k, page_entry(q, c->page, c->slot + k), e);
        page_set_entry(q, c->page, c->slot + k, e);
        entry_dirty(q, c->page, c->slot + k);
}

void change_free(struct change *c)
{
        if (!c)
                return;
        if (c->page)
                c->page->pins--;
        space_runs_free(&c->spare);
        free(c);
}

/* --- planning --------------------------------------------------------------------------------------------------------- */

/* IN_PLACE: all that is written lies in a cluster of ours. REUSE: there is a cluster of ours, but not all of it is in
 * use. */
enum way { WAY_IN_PLACE, WAY_REUSE, WAY_ALLOCATE };

static struct entry look(const struct qcow2_image *q, const struct page *p, unsigned slot, bool owned, uint64_t cluster_off)
{
        struct entry d = { .kind = ENTRY_PLAIN };

        if (p)
                d = entry_decode(q, page_entry(q, p, slot));
        d.copied &= owned;
        if (q->img.data_file) { /* the place is there for every cluster, whatever it holds now */
                d.host = cluster_off;
                d.copied = true;
        }
        return d;
}

static bool is_ours(const struct qcow2_image *q, const struct entry *d)
{
        return d->kind == ENTRY_PLAIN && (d->host || q->img.data_file) && d->copied;
}

static enum way way_of(const struct qcow2_image *q, const struct entry *d, uint32_t subs)
{
        if (!is_ours(q, d))
                return WAY_ALLOCATE;
        return subs & ~d->data ? WAY_REUSE : WAY_IN_PLACE;
}

uint32_t zero_subs(const struct qcow2_image *q, const struct entry *d, uint64_t cluster_off)
{
        if (d->kind != ENTRY_PLAIN)
                return 0;
        return d->zero | (absent_is_zero(q, cluster_off) ? q->all_subs & ~d->data : 0);
}

/* What the clusters that a write begins with have in common. */
struct stretch {
        struct page *page; /* NULL: no L2 table */
        bool owned;
        enum way way;
        unsigned slot, n;  /* entries of the page */
        unsigned linked;   /* of them hold clusters that will be unlinked */
        bool place_zero;   /* the places that the write fills hold zeros: nobody has written there */
        bool all_zero;     /* and so did the disk */
        uint64_t host;     /* IN_PLACE, REUSE: of the first */
        struct {
                struct entry d;
                uint64_t off; /* of the cluster on the disk */
                uint32_t zero;
        } first, last;
};

/* The sub-clusters that [off, end) touches in the cluster at @start. */
static uint32_t touched(const struct qcow2_image *q, uint64_t start, uint64_t off, uint64_t end)
{
        uint64_t stop = min_u64(end, start + q->img.cluster_size);

        return sub_mask(sub_of(q, max_u64(off, start)), sub_of(q, stop - 1));
}

/* Where the guest's disk ends for us: sectors are whole. */
static uint64_t disk_end(const struct qcow2_image *q)
{
        return round_up(q->img.size, 512);
}

/* What must move along when the cluster of @d, at @start, gets another place. */
static uint32_t to_copy(const struct qcow2_image *q, const struct entry *d, uint64_t start)
{
        uint32_t data = d->kind == ENTRY_PACKED ? q->all_subs : d->data;

        return start < disk_end(q) ? data & touched(q, start, start, disk_end(q)) : 0;
}

/* One more cluster, of which @subs are written: does it go the way of those before? */
static bool stretch_add(const struct qcow2_image *q, struct stretch *s, const struct entry *d, uint64_t start, uint32_t subs)
{
        uint32_t zero = zero_subs(q, d, start), copy = 0;
        enum way way = way_of(q, d, subs);

        if (s->n == 0) {
                s->way = way;
                s->host = d->host;
                s->first.d = *d;
                s->first.off = start;
                s->first.zero = zero;
        } else if (way != s->way || (way != WAY_ALLOCATE && d->host != s->host + ((uint64_t)s->n << q->cluster_bits))) {
                return false;
        }
        if (way == WAY_ALLOCATE)
                copy = to_copy(q, d, start);
        else
                s->place_zero &= !q->img.data_file && page_is_pristine(q, s->page, s->slot + s->n);
        s->all_zero &= !copy && !(subs & ~d->data & ~zero);
        s->linked += d->host && way == WAY_ALLOCATE;
        s->last.d = *d;
        s->last.off = start;
        s->last.zero = zero;
        s->n++;
        return true;
}

static int stretch_find(struct qcow2_image *q, uint64_t off, uint64_t len, struct stretch *s)
{
        uint64_t start = round_down(off, q->img.cluster_size), end = off + len, most;
        int r = l2_look(q, off, &s->page, &s->owned);

        if (r < 0)
                return r;
        s->slot = l2_slot(q, off);
        s->all_zero = true;
        s->place_zero = !q->img.encrypted; /* zeros in the file would be deciphered to noise */
        most = min_u64(div_round_up(end - start, q->img.cluster_size), q->page_entries - s->slot);
        for (; s->n < most; start += q->img.cluster_size) {
                struct entry d = look(q, s->page, s->slot + s->n, s->owned, start);

                if (d.kind == ENTRY_BAD && s->n == 0)
                        return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster",
                                                   off);
                if (d.kind == ENTRY_BAD || !stretch_add(q, s, &d, start, touched(q, start, off, end)))
                        break;
        }
        return 0;
}

/*
 * What has to be written around the data: the rest of the sub-clusters at both ends, unless that is zeros already where
 * it goes; and what lies in the old place of a cluster that gets a new one, with all that is between it and the data.
 */
static void plan_edges(const struct qcow2_image *q, const struct stretch *s, struct fmt_plan *plan, struct change *c)
{
        uint64_t end = plan->off + plan->len, stop;
        /* sub-clusters that need nothing written around the data */
        uint32_t first = s->first.d.data, last = s->last.d.data;

        c->from_sub = sub_of(q, plan->off);
        c->to_sub = sub_of(q, end - 1);
        if (s->way == WAY_ALLOCATE) {
                uint32_t left = to_copy(q, &s->first.d, s->first.off), right = to_copy(q, &s->last.d, s->last.off);

                first = last = 0;
                if (left)
                        c->from_sub = (unsigned)min_u64(c->from_sub, (unsigned)__builtin_ctz(left));
                if (right && !is_aligned(end, q->img.cluster_size)) /* else there is nothing behind it, or it is not ours to say */
                        c->to_sub = (unsigned)max_u64(c->to_sub, 31u - (unsigned)__builtin_clz(right));
        }
        if (s->place_zero) {
                first |= s->first.zero;
                last |= s->last.zero;
        }
        stop = round_down(end - 1, q->img.cluster_size) + ((c->to_sub + 1ull) << q->sub_bits);
        if (!q->img.encrypted) /* there what lies behind the end would be noise, not zeros, for those who grow the disk */
                stop = min_u64(stop, max_u64(end, disk_end(q)));
        plan->fresh = s->place_zero;
        plan->head = first & 1u << c->from_sub ? 0 : plan->off - s->first.off - ((uint64_t)c->from_sub << q->sub_bits);
        plan->tail = last & 1u << c->to_sub ? 0 : stop - end;
}

/*
 * Must the data be durable before the entry that shows it? Not where zeros were and zeros are. Always where old bytes
 * are: they are somebody's. Where old bytes were, a power failure could else leave zeros instead of old or new ones.
 */
static bool data_first(const struct qcow2_image *q, const struct stretch *s, const struct fmt_plan *plan)
{
        if (!s->place_zero)
                return true;
        return q->entry_with_data ? plan->head || plan->tail : !s->all_zero;
}

/* Everything is there: L2 page, clusters, notes. */
static int plan_allocate(struct qcow2_image *q, struct stretch *s, struct fmt_plan *plan)
{
        uint64_t got = s->n, first = s->host >> q->cluster_bits;
        struct change *c = NULL;
        int r = change_new(q, s->slot, s->n, s->linked + 1, &c); /* one for abort */

        if (r == 0)
                r = l2_own(q, plan->off, &s->page);
        if (r == 0)
                change_pin(c, s->page);
        if (r == 0 && s->way == WAY_ALLOCATE)
                r = space_ensure(q, s->n); /* after the table, which may take the last one */
        if (r < 0) {
                change_free(c);
                return r;
        }
        if (s->way == WAY_ALLOCATE) {
                first = space_take(q, s->n, &got, &c->stamp);
                c->taken = true;
        }
        if (got < s->n) { /* ends with a whole cluster: no tail */
                plan->len = (got << q->cluster_bits) - (plan->off & (q->img.cluster_size - 1));
                c->n = (unsigned)got;
        }
        c->first = first;
        plan->kind = PLAN_ALLOCATE;
        plan->host = (first << q->cluster_bits) + (plan->off & (q->img.cluster_size - 1));
        plan->tag[0] = (uintptr_t)c;
        plan_edges(q, s, plan, c);
        c->data_first = data_first(q, s, plan);
        return 0;
}

int qcow2_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        struct stretch s = { 0 };
        int r = qcow2_may_change(q);

        if (r == 0)
                r = stretch_find(q, off, len, &s);
        if (r < 0)
                return r;
        *plan = (struct fmt_plan){ .off = off };
        plan->len = min_u64(len, ((uint64_t)s.n << q->cluster_bits) - (off & (img->cluster_size - 1)));
        if (s.way == WAY_IN_PLACE) {
                plan->kind = PLAN_IN_PLACE;
                plan->host = s.host + (off & (img->cluster_size - 1));
                return 0;
        }
        if ((s.linked && space_is_crowded(q)) || (q->log && maplog_is_crowded(q->log)))
                return tcache_miss(q, MISS_FLUSH, NULL, 0);
        return plan_allocate(q, &s, plan);
}

/* --- publishing --------------------------------------------------------------------------------------------------------- */

static void write_commit(struct qcow2_image *q, struct change *c)
{
        for (unsigned k = 0; k < c->n; k++) {
                struct entry old = entry_decode(q, page_entry(q, c->page, c->slot + k));
                uint32_t subs = change_subs(q, c, k);
                struct entry now = { .kind = ENTRY_PLAIN, .host = (c->first + k) << q->cluster_bits, .copied = true,
                                     .data = subs | (c->taken ? 0 : old.data), .zero = old.zero & ~subs };

                change_entry(q, c, k, &now);
                if (c->taken)
                        page_set_pristine(q, c->page, c->slot + k, true);
                if (c->taken && old.host)
                        space_unlink(q, &c->spare, old.host, old.kind == ENTRY_PACKED ? old.packed_len : q->img.cluster_size);
        }
        q->newest_used = max_u64(q->newest_used, c->stamp);
        q->data_first |= c->data_first;
}

void qcow2_commit(struct fmt_image *img, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        struct change *c = (void *)(uintptr_t)plan->tag[0];

        if (!c)
                return;
        if (plan->kind == PLAN_ALLOCATE)
                write_commit(q, c);
        else if (plan->kind == PLAN_PACKED)
                packed_commit(q, c);
        else
                zero_commit(q, c);
        change_free(c);
        plan->tag[0] = 0;
}

void qcow2_abort(struct fmt_image *img, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        struct change *c = (void *)(uintptr_t)plan->tag[0];

        if (!c)
                return;
        if (c->taken)
                space_untake(q, &c->spare, c->first, c->n);
        for (unsigned k = 0; plan->kind == PLAN_ALLOCATE && !c->taken && k < c->n; k++)
                page_set_pristine(q, c->page, c->slot + k, false); /* half of the data may be there */
        change_free(c);
        plan->tag[0] = 0;
}
