/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refcount.c - refcounts of single clusters in cached pages; new refcount blocks and a bigger refcount table.
 *
 * Both are placed at the end of the space ever used (space.end), where the file reads as zeros, so only the pages that
 * hold a refcount need writing. The flush that writes them makes a block durable before the table points to it, and a
 * new table durable before the header does.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bitmap.h"
#include "common/err.h"
#include "qcow2.h"
#include "space.h"

uint64_t rc_get(const struct qcow2_image *q, const struct page *p, uint64_t cluster)
{
        return refcount_get(p->bytes, q->h.refcount_order, cluster & ((1ull << q->rc_page_bits) - 1));
}

void rc_set(struct qcow2_image *q, struct page *p, uint64_t cluster, uint64_t value)
{
        uint64_t i = cluster & ((1ull << q->rc_page_bits) - 1);

        refcount_set(p->bytes, q->h.refcount_order, i, value);
        page_dirty(q, p, (uint32_t)((i << q->h.refcount_order) / 8), max_u64(1u << q->h.refcount_order, 8) / 8);
}

uint64_t rc_page_left(const struct qcow2_image *q, uint64_t cluster)
{
        uint64_t n = 1ull << q->rc_page_bits;

        return n - (cluster & (n - 1));
}

int rc_page(struct qcow2_image *q, uint64_t cluster, struct page **ret)
{
        uint64_t i = cluster >> q->rc_block_bits, e = i < q->rc.ntop ? table_top(&q->rc, i) : 0;

        if (e == 0)
                return -ERANGE;
        if (e & QCOW2_REFTABLE_RESERVED)
                return qcow2_contradiction(q, "refcount table entry %" PRIu64 " points to no valid block", i);
        return tcache_get(q, &q->rc, cluster >> q->rc_page_bits, ret);
}

/* --- a new block ------------------------------------------------------------------------------------------------- */

/* At the end, where it covers itself: its own refcount is the first one in it. */
static int add_block(struct qcow2_image *q)
{
        uint64_t cluster = q->space.end, host = cluster << q->cluster_bits, i = cluster >> q->rc_block_bits;
        uint64_t no = cluster >> q->rc_page_bits;
        struct page *p;
        int r = space_room(q, 1);

        if (r == 0)
                r = meta_reserve(&q->meta, 1);
        if (r == 0)
                r = tcache_make(q, &q->rc, no, host + no % q->pages_per_leaf * q->page_size, &p);
        if (r < 0)
                return r;
        r = tcache_make_dir(q, &q->rc, i);
        if (r < 0) {
                tcache_unmake(q, p);
                return r;
        }
        space_advance(q, 1);
        tcache_publish(q, p);
        rc_set(q, p, cluster, 1);
        meta_add(&q->meta, cluster);
        table_set_top(q, &q->rc, i, host);
        q->link_blocks = true;
        return 0;
}

/* --- a bigger table ---------------------------------------------------------------------------------------------- */

/*
 * [first, first + nblocks) new blocks, [.., + nclusters) the new table; the blocks count both and themselves. None of
 * it was covered before, so the pages are all new.
 */
struct bigger {
        uint64_t first, nblocks, nclusters;
        uint64_t first_page, npages;
        struct page **page;
        struct qcow2_table t;
        struct list spare;
};

static int bigger_size(struct qcow2_image *q, struct bigger *b)
{
        uint64_t most = QCOW2_MAX_REFTABLE_BYTES >> q->cluster_bits, was;

        b->first = q->space.end;
        b->nblocks = b->nclusters = 1;
        do {
                uint64_t entries = ((b->first + b->nblocks + b->nclusters - 1) >> q->rc_block_bits) + 1;

                was = b->nblocks + b->nclusters;
                b->nblocks = entries - (b->first >> q->rc_block_bits);
                b->nclusters = div_round_up((entries + entries / 2) * QCOW2_ENTRY_SIZE, q->img.cluster_size);
                if (b->nclusters > most)
                        b->nclusters = most;
                if (entries * QCOW2_ENTRY_SIZE > QCOW2_MAX_REFTABLE_BYTES)
                        return err_note(-EFBIG, "the refcount table would need more than its limit of %u MiB",
                                        QCOW2_MAX_REFTABLE_BYTES >> 20);
        } while (b->nblocks + b->nclusters != was);
        b->first_page = b->first >> q->rc_page_bits;
        b->npages = ((b->first + was - 1) >> q->rc_page_bits) - b->first_page + 1;
        return 0;
}

static void bigger_drop(struct qcow2_image *q, struct bigger *b)
{
        for (uint64_t i = 0; b->page && i < b->npages; i++)
                tcache_unmake(q, b->page[i]);
        free(b->page);
        free((void *)b->t.top);
        free(b->t.dir);
        free(b->t.top_dirty);
        space_runs_free(&b->spare);
}

static int bigger_pages(struct qcow2_image *q, struct bigger *b)
{
        int r = 0;

        b->page = calloc(b->npages, sizeof(*b->page));
        if (!b->page)
                return -ENOMEM;
        for (uint64_t k = 0; r == 0 && k < b->npages; k++) {
                uint64_t no = b->first_page + k;
                uint64_t block = b->first + no / q->pages_per_leaf - (b->first >> q->rc_block_bits);

                r = tcache_make(q, &q->rc, no, (block << q->cluster_bits) + no % q->pages_per_leaf * q->page_size,
                                &b->page[k]);
        }
        return r;
}

static int bigger_make(struct qcow2_image *q, struct bigger *b)
{
        uint64_t bytes = b->nclusters << q->cluster_bits;
        int r = space_room(q, b->nblocks + b->nclusters);

        if (r == 0)
                r = meta_reserve(&q->meta, b->nblocks);
        if (r == 0)
                r = space_runs_new(&b->spare, 1);
        if (r == 0)
                r = bigger_pages(q, b);
        if (r < 0)
                return r;
        b->t = q->rc;
        b->t.ntop = bytes / QCOW2_ENTRY_SIZE;
        b->t.top_off = (b->first + b->nblocks) << q->cluster_bits;
        b->t.top = calloc(b->t.ntop, sizeof(*b->t.top));
        b->t.dir = calloc(b->t.ntop, sizeof(*b->t.dir));
        b->t.top_dirty = calloc(BITMAP_WORDS(bytes / q->piece), sizeof(unsigned long));
        if (!b->t.top || !b->t.dir || !b->t.top_dirty)
                return -ENOMEM;
        memcpy((void *)b->t.top, (void *)q->rc.top, q->rc.ntop * sizeof(*b->t.top));
        memcpy(b->t.dir, q->rc.dir, q->rc.ntop * sizeof(*b->t.dir));
        for (uint64_t i = 0; r == 0 && i < b->nblocks; i++) {
                r = tcache_make_dir(q, &b->t, (b->first >> q->rc_block_bits) + i);
                if (r < 0) /* the old table knows nothing of these */
                        for (uint64_t k = q->rc.ntop; k < b->t.ntop; k++)
                                free(b->t.dir[k]);
        }
        return r;
}

/* Nothing can fail from here on. */
static void bigger_install(struct qcow2_image *q, struct bigger *b)
{
        struct qcow2_table old = q->rc;
        uint64_t old_clusters = q->meta.range[META_REFTABLE].n;

        space_advance(q, b->nblocks + b->nclusters);
        q->rc = b->t;
        for (uint64_t i = 0; i < b->nblocks; i++) {
                meta_add(&q->meta, b->first + i);
                table_set_top(q, &q->rc, (b->first >> q->rc_block_bits) + i, (b->first + i) << q->cluster_bits);
        }
        for (uint64_t k = 0; k < b->npages; k++)
                tcache_publish(q, b->page[k]);
        for (uint64_t c = b->first; c < b->first + b->nblocks + b->nclusters; c++)
                rc_set(q, b->page[(c >> q->rc_page_bits) - b->first_page], c, 1);
        q->meta.range[META_REFTABLE] = (struct meta_range){ b->first + b->nblocks, b->nclusters };
        q->h.reftable_offset = q->rc.top_off;
        q->h.reftable_clusters = (uint32_t)b->nclusters;
        q->reftable_moved = q->header_dirty = true;
        space_unlink_table(q, &b->spare, old.top_off >> q->cluster_bits, old_clusters);
        free((void *)old.top);
        free(old.dir);
        free(old.top_dirty);
        free(b->page);
        space_runs_free(&b->spare);
}

static int grow_table(struct qcow2_image *q)
{
        struct bigger b = { 0 };
        int r;

        list_init(&b.spare);
        r = bigger_size(q, &b);
        if (r == 0)
                r = bigger_make(q, &b);
        if (r < 0)
                bigger_drop(q, &b);
        else
                bigger_install(q, &b);
        return r;
}

int rc_cover(struct qcow2_image *q, uint64_t cluster)
{
        assert(cluster == q->space.end);
        return cluster >> q->rc_block_bits < q->rc.ntop ? add_block(q) : grow_table(q);
}
