/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map.c - where guest bytes live: entries read and believed only as far as they make sense.
 *
 * Lookups run on any thread inside rcu_read_lock() and take no lock. Order of reading: L1 entry, page, L2 entry; home
 * publishes in the opposite order. A bad entry is met as an error by whoever looks it up, and stops all writing.
 *
 * What costs more than a comparison (does an entry point into a table?) is asked once, when home has loaded a page: such
 * entries are replaced in memory by one with a reserved bit. That must not reach the file, so the image counts as corrupt
 * at once, not only when somebody looks the entry up: no page changes any more.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/err.h"
#include "qcow2.h"

#define BAD_ENTRY (1ull << 1) /* a reserved bit of L1 and L2 entries */

static bool host_fits(const struct qcow2_image *q, uint64_t host, uint64_t len)
{
        uint64_t end = atomic_load_explicit(&q->host_end, memory_order_acquire);

        return host >= q->img.cluster_size && range_fits(host, len, end);
}

static struct entry decode_packed(const struct qcow2_image *q, uint64_t e)
{
        struct entry d = { .kind = ENTRY_PACKED };

        d.host = l2e_packed_host(e, q->cluster_bits);
        d.packed_len = l2e_packed_len(e, q->cluster_bits);
        if (!host_fits(q, d.host, 1)) /* the last sector may be beyond the end of the file: zeros */
                d.kind = ENTRY_BAD;
        return d;
}

struct entry entry_decode(const struct qcow2_image *q, uint64_t e)
{
        struct entry d = { .kind = ENTRY_ABSENT };

        if (e == 0)
                return d;
        if (l2e_is_compressed(e)) /* first: the other bits mean something else then */
                return decode_packed(q, e);
        d.copied = e & QCOW2_COPIED;
        d.host = l2e_offset(e);
        if (l2e_reserved(e, q->h.version))
                d.kind = ENTRY_BAD;
        else if (d.host && (!is_aligned(d.host, q->img.cluster_size) || !host_fits(q, d.host, q->img.cluster_size)))
                d.kind = ENTRY_BAD;
        else if (l2e_is_zero(e, q->h.version))
                d.kind = d.host ? ENTRY_KEPT : ENTRY_ZERO;
        else if (d.host)
                d.kind = ENTRY_DATA;
        else if (d.copied)
                d.kind = ENTRY_BAD; /* "refcount 1" of nothing */
        return d;
}

/* --- looked at once, on home ------------------------------------------------------------------------------------ */

static bool points_into_tables(const struct qcow2_image *q, const struct entry *d)
{
        uint64_t last;

        if (d->kind != ENTRY_DATA && d->kind != ENTRY_KEPT && d->kind != ENTRY_PACKED)
                return false;
        last = d->kind == ENTRY_PACKED ? d->host + d->packed_len - 1 : d->host;
        for (uint64_t c = d->host >> q->cluster_bits; c <= last >> q->cluster_bits; c++)
                if (meta_has(&q->meta, c))
                        return true;
        return false;
}

void map_check_page(struct qcow2_image *q, struct page *p)
{
        for (unsigned i = 0; i < q->page_entries; i++) {
                struct entry d = entry_decode(q, page_entry(p, i));

                if (!points_into_tables(q, &d))
                        continue;
                page_set_entry(p, i, BAD_ENTRY);
                (void)qcow2_contradiction(q, "entry %u of the L2 table page at byte %" PRIu64 " points into a table", i,
                                          p->off);
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

static struct extent extent_of(struct qcow2_image *q, const struct entry *d, bool table_owned, uint64_t off, uint64_t len)
{
        uint32_t skip = (uint32_t)(off & (q->img.cluster_size - 1));
        struct extent e = { .off = off, .len = len, .img = &q->img };

        switch (d->kind) {
        case ENTRY_DATA:
                e.kind = EXT_DATA;
                e.host = d->host + skip;
                e.writable = table_owned && d->copied && !q->img.read_only && !qcow2_is_corrupt(q);
                break;
        case ENTRY_KEPT:
                e.host = d->host + skip;
                e.allocated = true;
                e.kind = EXT_ZERO;
                break;
        case ENTRY_ZERO:
                e.kind = EXT_ZERO;
                break;
        case ENTRY_PACKED:
                e.kind = EXT_COMPRESSED;
                e.host = d->host;
                e.packed_len = d->packed_len;
                e.skip = skip;
                break;
        default:
                e.kind = EXT_ABSENT;
        }
        return e;
}

/* What there is to say about [off, off + len), up to the next border of cluster (or of L2 table, when there is none). */
static int map_one(struct qcow2_image *q, uint64_t off, uint64_t len, struct extent *e)
{
        uint64_t l1 = table_top(&q->l2, l1_index(q, off));
        uint64_t span = l1 ? q->img.cluster_size : 1ull << (q->cluster_bits + q->l2_bits);
        struct entry d = { .kind = ENTRY_ABSENT };
        struct page *p;

        if (l1 & QCOW2_L1_RESERVED)
                return qcow2_contradiction(q, "the L1 entry for guest offset %" PRIu64 " points to no valid L2 table", off);
        if (l1) {
                p = tcache_find(q, &q->l2, l2_page_no(q, off));
                if (!p)
                        return tcache_miss(q, MISS_PAGE, &q->l2, l2_page_no(q, off));
                d = entry_decode(q, page_entry(p, l2_slot(q, off)));
        }
        if (d.kind == ENTRY_BAD)
                return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster", off);
        *e = extent_of(q, &d, l1 & QCOW2_COPIED, off, min_u64(len, span - (off & (span - 1))));
        return 0;
}

int qcow2_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        struct qcow2_image *q = qcow2_of(img);
        unsigned n = 0;
        int r = 0;

        while (len) {
                struct extent e;

                r = map_one(q, off, len, &e);
                if (r < 0 || !add_extent(ext, &n, max, &e))
                        break;
                off += e.len;
                len -= e.len;
        }
        tcache_looked();
        return n ? (int)n : r;
}
