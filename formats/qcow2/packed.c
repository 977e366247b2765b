/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * packed.c - where compressed clusters go: one right behind the other, each at any byte, several in one cluster of the
 * file. The refcount of such a cluster is the number of packed clusters that touch it.
 *
 * space.packed_at is the next free byte. While it is not 0 it has a reference of its own to the cluster it is in, which
 * came with the reservation: so that cluster cannot be freed and handed out again before we are done with it. The
 * packed cluster that fills it up, or whose reference would be one more than the refcount can hold, takes that
 * reference over; then the next one begins in a new cluster. (With 1-bit refcounts nothing is shared at all.)
 *
 * A reference is counted when it is planned, and the data of a packed cluster must be durable before its entry: half of
 * it does not read as old bytes or zeros but as an error. So a flush that carries such an entry syncs before the
 * entries, which makes the refcounts durable, too.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "qcow2.h"

struct place {
        uint64_t host;     /* byte */
        bool fits, joins;  /* into the cluster of packed_at; that and the next one. Neither: a new cluster */
        struct page *rc;   /* page with the refcount of the cluster in which it ends */
};

static int place_find(struct qcow2_image *q, uint32_t len, struct place *pl)
{
        uint64_t at = q->space.packed_at, left = at ? round_up(at, q->img.cluster_size) - at : 0, last;

        pl->fits = left >= len;
        last = pl->fits ? at >> q->cluster_bits : space_peek(q);
        pl->joins = !pl->fits && left && (at >> q->cluster_bits) + 1 == last;
        pl->host = pl->fits || pl->joins ? at : last << q->cluster_bits;
        if ((pl->host + len) >> l2e_packed_shift(q->cluster_bits))
                return err_note(-EFBIG, "entries of compressed clusters cannot point beyond %" PRIu64 " bytes",
                                (uint64_t)1 << l2e_packed_shift(q->cluster_bits));
        return rc_page(q, last, &pl->rc);
}

/* Cannot fail. */
static void place_take(struct qcow2_image *q, const struct place *pl, uint32_t len, struct change *c)
{
        uint64_t end = pl->host + len, last = (end - 1) >> q->cluster_bits, got, stamp, count;
        struct space *s = &q->space;

        c->first = pl->host >> q->cluster_bits;
        c->n = (unsigned)(last - c->first + 1);
        c->taken = true;
        c->packed = l2e_packed(pl->host, len, q->cluster_bits);
        if (!pl->fits) {
                if (s->packed_at && !pl->joins)
                        space_untake(q, &c->spare, s->packed_at >> q->cluster_bits, 1);
                space_take(q, 1, &got, &stamp);
        }
        count = rc_get(q, pl->rc, last);
        if (is_aligned(end, q->img.cluster_size) || count == refcount_max(q->h.refcount_order)) {
                s->packed_at = 0;
        } else {
                rc_set(q, pl->rc, last, count + 1);
                s->packed_at = end;
        }
}

/* An entry of the file that will be replaced: notes for what it holds. */
static int look_old(struct qcow2_image *q, uint64_t off, bool *linked)
{
        struct entry d;
        struct page *p;
        bool owned;
        int r = l2_look(q, off, &p, &owned);

        *linked = false;
        if (r < 0 || !p)
                return r;
        d = entry_decode(q, page_entry(q, p, l2_slot(q, off)));
        if (d.kind == ENTRY_BAD)
                return qcow2_contradiction(q, "the L2 entry for guest offset %" PRIu64 " points to no valid cluster", off);
        *linked = d.host != 0;
        return *linked && space_is_crowded(q) ? tcache_miss(q, MISS_FLUSH, NULL, 0) : 0;
}

int qcow2_plan_packed(struct fmt_image *img, uint64_t off, uint32_t packed_len, struct fmt_plan *plan)
{
        struct qcow2_image *q = qcow2_of(img);
        struct space *s = &q->space;
        struct change *c = NULL;
        struct place pl = { 0 };
        struct page *p;
        bool linked;
        int r = qcow2_may_change(q);

        assert(packed_len && packed_len < img->cluster_size && is_aligned(off, img->cluster_size));
        if (r == 0 && q->log)
                r = err_note(-ENOTSUP, "compressed writes to an image whose table entries are logged: replay knows none");
        if (r == 0)
                r = look_old(q, off, &linked);
        if (r == 0 && list_empty(&s->packed_note))
                r = space_runs_new(&s->packed_note, 1);
        if (r == 0)
                r = change_new(q, l2_slot(q, off), 1, 3, &c); /* for abort, the old cluster, and packed_at moving on */
        if (r == 0)
                r = l2_own(q, off, &p);
        if (r == 0)
                change_pin(c, p);
        if (r == 0)
                r = space_ensure(q, 1); /* after the table, which may take the last one */
        if (r == 0)
                r = place_find(q, packed_len, &pl);
        if (r < 0) {
                change_free(c);
                return r;
        }
        place_take(q, &pl, packed_len, c);
        *plan = (struct fmt_plan){
                .kind = PLAN_PACKED, .off = off, .len = min_u64(img->cluster_size, img->size - off), .host = pl.host,
                .tag = { (uintptr_t)c },
        };
        return 0;
}

void packed_commit(struct qcow2_image *q, struct change *c)
{
        struct entry old = entry_decode(q, page_entry(q, c->page, c->slot));

        page_set_entry(q, c->page, c->slot, (struct l2e){ c->packed, 0 });
        entry_dirty(q, c->page, c->slot);
        page_set_pristine(q, c->page, c->slot, false);
        if (old.host)
                space_unlink(q, &c->spare, old.host, old.kind == ENTRY_PACKED ? old.packed_len : q->img.cluster_size);
        q->data_first = true;
}

void packed_end(struct qcow2_image *q)
{
        struct space *s = &q->space;

        if (s->packed_at)
                space_untake(q, &s->packed_note, TAKE(s->packed_at, 0) >> q->cluster_bits, 1);
}
