/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * entry.c - L2 entries in cached pages: read, believed as far as they make sense, and changed.
 *
 * An entry of one word is an atomic. One of two words (sub-clusters) is not, and a lookup on another thread must not
 * see half of a change: a new cluster with the old one's sub-clusters would be a wrong answer or look like damage. So
 * each page has a version, which home makes odd before it changes an entry and even again after. A lookup reads the
 * version, both words and the version again, and believes them only if it is the same even number:
 *
 *     home                                   lookup
 *     version = odd                          v = version           (acquire)
 *     desc, subs = new    (release)          read desc, subs       (acquire)
 *     version = even      (release)          version == v?         (relaxed: the loads before it are acquires)
 *
 * If a lookup saw one new word, then it sees the odd version or a later one, because that store comes before the word's
 * release. If v was the new even version, it sees both new words. Reading the descriptor twice instead would not do: it
 * goes 0, cluster, 0 when a write is followed by a discard, and the sub-clusters in between belong to the cluster.
 *
 * A lookup that fails does not spin: home may have been put to sleep in between. It asks home, as for a page that is
 * not cached; home itself never sees an odd version.
 */
#include <assert.h>

#include "common/range.h"
#include "qcow2.h"

/* --- in pages ---------------------------------------------------------------------------------------------------- */

struct l2e page_entry(const struct qcow2_image *q, const struct page *p, unsigned slot)
{
        if (q->subs == 1)
                return (struct l2e){ page_word(p, slot), 0 };
        return (struct l2e){ page_word(p, 2 * slot), page_word(p, 2 * slot + 1) };
}

bool page_look(const struct qcow2_image *q, const struct page *p, unsigned slot, struct l2e *ret)
{
        uint32_t v;

        if (q->subs == 1) {
                *ret = page_entry(q, p, slot);
                return true;
        }
        v = atomic_load_explicit(&p->version, memory_order_acquire); /* pairs with the last store of page_set_entry() */
        *ret = page_entry(q, p, slot);
        return !(v & 1) && v == atomic_load_explicit(&p->version, memory_order_relaxed);
}

void page_set_entry(const struct qcow2_image *q, struct page *p, unsigned slot, struct l2e e)
{
        uint32_t v;

        if (q->subs == 1) {
                page_set_word(p, slot, e.desc);
                return;
        }
        v = atomic_load_explicit(&p->version, memory_order_relaxed); /* home is the only writer */
        atomic_store_explicit(&p->version, v + 1, memory_order_relaxed);
        page_set_word(p, 2 * slot, e.desc);
        page_set_word(p, 2 * slot + 1, e.subs);
        atomic_store_explicit(&p->version, v + 2, memory_order_release); /* pairs with the first load of page_look() */
}

bool page_is_pristine(const struct qcow2_image *q, const struct page *p, unsigned slot)
{
        return q->subs > 1 && p->pristine[slot / 64] >> slot % 64 & 1;
}

void page_set_pristine(const struct qcow2_image *q, struct page *p, unsigned slot, bool pristine)
{
        uint64_t bit = 1ull << slot % 64;

        if (q->subs > 1)
                p->pristine[slot / 64] = pristine ? p->pristine[slot / 64] | bit : p->pristine[slot / 64] & ~bit;
}

/* --- what they mean ---------------------------------------------------------------------------------------------- */

bool host_fits(const struct qcow2_image *q, uint64_t host, uint64_t len)
{
        uint64_t end = atomic_load_explicit(&q->host_end, memory_order_acquire);

        return host >= q->img.cluster_size && range_fits(host, len, end);
}

static struct entry decode_packed(const struct qcow2_image *q, struct l2e e)
{
        struct entry d = { .kind = ENTRY_PACKED };

        d.host = l2e_packed_host(e.desc, q->cluster_bits);
        d.packed_len = l2e_packed_len(e.desc, q->cluster_bits);
        if (e.subs || qcow2_has_data_file(&q->h) || !host_fits(q, d.host, 1)) /* the last sector may be beyond the end of the file: zeros */
                d.kind = ENTRY_BAD;
        return d;
}

struct entry entry_decode(const struct qcow2_image *q, struct l2e e)
{
        struct entry d = { .kind = ENTRY_PLAIN };
        uint64_t fixed;

        if (l2e_is_empty(e))
                return d;
        if (l2e_is_compressed(e.desc)) /* first: the other bits mean something else then */
                return decode_packed(q, e);
        d.copied = e.desc & QCOW2_COPIED;
        d.host = l2e_offset(e.desc);
        d.data = l2e_data(&q->h, e);
        d.zero = l2e_zero(&q->h, e);
        if (l2e_wrong_bits(&q->h, e) || l2e_subs_flaw(&q->h, e, &fixed))
                d.kind = ENTRY_BAD;
        else if (qcow2_has_data_file(&q->h)) /* at its own place there (map_check_page() has looked), where nobody shares it */
                d.copied = l2e_has_place(&q->h, e);
        else if (d.host && (!is_aligned(d.host, q->img.cluster_size) || !host_fits(q, d.host, q->img.cluster_size)))
                d.kind = ENTRY_BAD;
        else if (d.copied && !d.host)
                d.kind = ENTRY_BAD; /* "refcount 1" of nothing */
        return d;
}

struct l2e entry_encode(const struct qcow2_image *q, const struct entry *d)
{
        assert(d->kind == ENTRY_PLAIN && !(d->data & d->zero) && (d->host || !d->data || qcow2_has_data_file(&q->h)));
        return l2e_make(&q->h, d->host, d->copied, d->data, d->zero);
}
