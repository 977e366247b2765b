/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map.c - where guest bytes live: entries read and believed only as far as they make sense.
 *
 * Lookups run on any thread inside rcu_read_lock() and take no lock. Order of reading: L1 entry, page, L2 entry; home
 * publishes in the opposite order. A bad entry is met as an error by whoever looks it up, and stops all writing.
 *
 * What costs more than a comparison (does an entry point into a table?) is asked once, when home has loaded a page:
 * such entries are replaced in memory by one with a reserved bit. That must not reach the file, so the image counts as
 * corrupt at once, not only when somebody looks the entry up: no page changes any more.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/err.h"
#include "qcow2.h"

#define BAD_ENTRY (1ull << 1) /* a reserved bit of L1 and L2 entries */

/* --- looked at once, on home ------------------------------------------------------------------------------------ */

static bool points_into_tables(const struct qcow2_image *q, const struct entry *d)
{
        uint64_t last;

        if (d->kind == ENTRY_BAD || !d->host)
                return false;
        last = d->kind == ENTRY_PACKED ? d->host + d->packed_len - 1 : d->host;
        for (uint64_t c = d->host >> q->cluster_bits; c <= last >> q->cluster_bits; c++)
                if (meta_has(&q->meta, c))
                        return true;
        return false;
}

static const char *flaw_of(const struct qcow2_image *q, const struct page *p, unsigned i)
{
        struct entry d = entry_decode(q, page_entry(q, p, i));

        if (!qcow2_has_data_file(&q->h))
                return points_into_tables(q, &d) ? "points into a table" : NULL;
        if (d.kind == ENTRY_BAD || !d.copied || d.host == (p->no * q->page_entries + i) << q->cluster_bits)
                return NULL;
        return "points to another place in the data file than it has in the disk";
}

void map_check_page(struct qcow2_image *q, struct page *p)
{
        for (unsigned i = 0; i < q->page_entries; i++) {
                const char *flaw = flaw_of(q, p, i);

                if (!flaw)
                        continue;
                page_set_entry(q, p, i, (struct l2e){ BAD_ENTRY, 0 });
                (void)qcow2_contradiction(q, "entry %u of the L2 table page at byte %" PRIu64 " %s", i, p->off, flaw);
        }
}

int map_check_l1(struct qcow2_image *q)
{
        uint64_t used = 0;
        int r;

        for (uint64_t i = 0; i < q->l2.ntop; i++)
                used += table_top(&q->l2, i) != 0;
        r = meta_reserve(&q->meta, used);
        if (r < 0)
                return r;
        for (uint64_t i = 0; i < q->l2.ntop; i++) {
                uint64_t e = table_top(&q->l2, i), host = l1e_offset(e);

                if (e == 0)
                        continue;
                if (e & QCOW2_L1_RESERVED || !is_aligned(host, q->img.cluster_size) ||
                    !host_fits(q, host, q->img.cluster_size) || !meta_add(&q->meta, host >> q->cluster_bits))
                        atomic_store_explicit(&q->l2.top[i], BAD_ENTRY, memory_order_relaxed);
        }
        return 0;
}

/* --- lookup ----------------------------------------------------------------------------------------------------- */

/* Extends the last extent if @e goes on where it stops; else starts a new one. false: no room. */
static bool add_extent(struct extent *ext, unsigned *n, unsigned max, const struct extent *e)
{
        struct extent *last = *n ? &ext[*n - 1] : NULL;

        if (last && last->kind == e->kind && last->writable == e->writable && last->allocated == e->allocated &&
            e->kind != EXT_COMPRESSED && (e->host == 0 || last->host + last->len == e->host)) {
                last->len += e->len;
                return true;
        }
        if (*n == max)
                return false;
        ext[(*n)++] = *e;
        return true;
}

/* The stretch of alike sub-clusters that begins at @off, at most to the end of the cluster; without an entry all
 * are. */
static struct extent extent_of(struct qcow2_image *q, const struct entry *d, bool table_owned, uint64_t off)
{
        uint32_t skip = (uint32_t)(off & (q->img.cluster_size - 1)), bit = 1u << sub_of(q, off);
        uint32_t others = (d->data & bit ? ~d->data : d->data) | (d->zero & bit ? ~d->zero : d->zero);
        struct extent e = { .off = off, .img = &q->img };

        others &= -bit & q->all_subs; /* those behind it that are not like it */
        e.len = (others ? (uint64_t)__builtin_ctz(others) << q->sub_bits : q->img.cluster_size) - skip;
        if (d->kind == ENTRY_PACKED) {
                e.kind = EXT_COMPRESSED;
                e.host = d->host;
                e.packed_len = d->packed_len;
                e.skip = skip;
        } else if (d->data & bit) {
                e.kind = EXT_DATA;
                e.host = d->host + skip;
                e.cipher = q->img.cipher;
                e.file = fmt_data_file(&q->img);
                e.writable = table_owned && d->copied && !q->img.read_only && !qcow2_is_corrupt(q);
        } else {
                e.kind = d->zero & bit ? EXT_ZERO : EXT_ABSENT;
                e.allocated = d->host;
                e.host = d->host ? d->host + skip : 0;
        }
        return e;
}

/* What there is to say about @off, up to a border of sub-clusters (or of L2 tables, when there is none). */
static int map_one(struct qcow2_image *q, uint64_t off, struct extent *e)
{
        uint64_t l1 = table_top(&q->l2, l1_index(q, off));
        uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);
        struct entry d;
        struct page *p;
        struct l2e raw;

        if (l1 & QCOW2_L1_RESERVED)
                return qcow2_contradiction(q, "the L1 entry for guest offset %" PRIu64 " points to no valid L2 table", off);
        if (!l1) {
                *e = (struct extent){ .kind = EXT_ABSENT, .off = off, .len = span - (off & (span - 1)), .img = &q->img };
                return 0;
        }
        p = tcache_find(q, &q->l2, l2_page_no(q, off));
        if (!p)
                return tcache_miss(q, MISS_PAGE, &q->l2, l2_page_no(q, off));
        if (!page_look(q, p, l2_slot(q, off), &raw))
                return -EAGAIN; /* home is changing it, so this is not home, who asks what is wanted */
        d = entry_decode(q, raw);
        if (d.kind == ENTRY_BAD)
                return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster", off);
        *e = extent_of(q, &d, l1 & QCOW2_COPIED, off);
        return 0;
}

int qcow2_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        struct qcow2_image *q = qcow2_of(img);
        unsigned n = 0;
        int r = 0;

        while (len) {
                struct extent e;

                r = map_one(q, off, &e);
                if (r < 0)
                        break;
                e.len = min_u64(e.len, len);
                if (!add_extent(ext, &n, max, &e))
                        break;
                off += e.len;
                len -= e.len;
        }
        tcache_looked();
        return n ? (int)n : r;
}
