/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c - everything committed so far, as one batch.
 *
 *   0. nothing of ours: the external data file, if there is one
 *      ------- sync of that file: entries that lead there come in group 3, so their data never waits for a sync of its
 *   own 1. refcount pages (of blocks old and new: a refcount may be written at any time); a refcount table that has
 *   moved
 *      ------- sync, when a block or a table is new: they must be whole before something leads to them
 *   2. refcount table entries or the header; pages of copied L2 tables (no L1 entry leads to them yet)
 *      ------- sync, when an entry of group 3 relies on something no sync has covered: a reservation (its refcount, the
 *              punch that made it zeros, the length of the file), a copied table, or data that replaces bytes which
 *              were
 *              not zeros (its own and copied-up ones: with the entry durable and the data not, zeros would stand there)
 *      (after a failed flush an L1 entry may lead to a copied table already. Then its pages come last in group 2,
 *      behind a
 *      sync: what their new entries rely on must be durable first, refcount table entries included)
 *   3. L2 pages, L1 entries
 *      ------- sync
 *
 * Data that replaces zeros needs no sync before its entry: the fresh cluster reads as zeros, which is what was there.
 *
 * Tables are written in pieces: one write for each page (4 KiB) of a table that has changed, from its first to its last
 * piece that differs. A piece is a sector of 512 bytes, or what O_DIRECT asks of the file where that is more.
 *
 * The batch carries copies, so home goes on changing pages meanwhile. A page that a batch carries is marked `writing`
 * and stays in memory: its bytes are not in the file yet.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bitmap.h"
#include "qcow2.h"

#define COPY_ALIGN 4096u
#define FIXED_STEPS 7u /* five syncs, the header, a moved refcount table */

struct flush_item {
        struct page *page;         /* NULL: a page of a top table */
        struct qcow2_table *table; /* top table: */
        uint64_t first, n;         /* pieces of it */
        uint16_t from, to;         /* page: bytes of it */
        bool carried;
};

struct flush {
        struct fmt_batch b;
        uint64_t gen, log_mark;
        /* What this generation knew, for when the batch fails. */
        uint64_t newest_used;
        bool data_first, link_blocks, reftable_moved, carried_linked, header;
        struct flush_item *item;
        size_t nitems;
        char *copies; /* page-aligned pieces */
        size_t used;  /* bytes of copies */
};

static uint64_t top_pieces(const struct qcow2_image *q, const struct qcow2_table *t)
{
        return div_round_up(t->ntop * QCOW2_ENTRY_SIZE, q->piece);
}

static size_t count_dirty_top(const struct qcow2_image *q, const struct qcow2_table *t)
{
        size_t n = 0;

        for (uint64_t i = 0; t->any_top_dirty && i < top_pieces(q, t); i++)
                n += bitmap_test(t->top_dirty, i);
        return n;
}

static bool header_changes(const struct qcow2_image *q)
{
        return q->header_dirty || (q->header_page && qcow2_is_corrupt(q) && q->h.version >= 3 &&
                                   !(q->h.incompatible & QCOW2_INCOMPAT_CORRUPT));
}

bool qcow2_is_dirty(const struct fmt_image *img)
{
        const struct qcow2_image *q = qcow2_of(img);

        return !list_empty(&q->cache.dirty) || q->l2.any_top_dirty || q->rc.any_top_dirty || header_changes(q);
}

/* --- steps ----------------------------------------------------------------------------------------------------------- */

static void *add_write(struct flush *f, uint64_t off, size_t len)
{
        void *buf = f->copies + f->used;

        f->used += round_up(len, COPY_ALIGN);
        f->b.step[f->b.nsteps++] = (struct fmt_step){ FMT_WRITE, off, len, buf };
        return buf;
}

static void add_sync(struct flush *f)
{
        f->b.step[f->b.nsteps++] = (struct fmt_step){ .op = FMT_SYNC };
}

enum which_pages { PAGES_REFCOUNT, PAGES_CARRIED, PAGES_L2 };

static void add_pages(struct qcow2_image *q, struct flush *f, enum which_pages which)
{
        list_for_each_safe(pos, &q->cache.dirty) {
                struct page *p = list_entry(pos, struct page, link);
                enum which_pages is = !p->table->is_l2 ? PAGES_REFCOUNT : p->carries ? PAGES_CARRIED : PAGES_L2;

                if (is != which || p->writing)
                        continue;
                memcpy(add_write(f, p->off + p->dirty_from, p->dirty_to - p->dirty_from), (char *)p->bytes + p->dirty_from,
                       p->dirty_to - p->dirty_from);
                f->item[f->nitems++] = (struct flush_item){ .page = p, .from = p->dirty_from, .to = p->dirty_to, .carried = p->carries };
                list_del(&p->link);
                p->dirty = false;
                p->writing = true;
        }
}

static void put_top(const struct qcow2_table *t, uint64_t first, uint64_t n, char *to)
{
        for (uint64_t i = 0; i < n; i++)
                be64_put(to + i * QCOW2_ENTRY_SIZE, first + i < t->ntop ? table_top(t, first + i) : 0);
}

static void add_top(struct qcow2_image *q, struct flush *f, struct qcow2_table *t)
{
        unsigned entries = q->piece / QCOW2_ENTRY_SIZE, per_page = q->page_size / q->piece;
        uint64_t end = top_pieces(q, t);

        for (uint64_t i = 0, n; t->any_top_dirty && i < end; i += n) {
                n = 1;
                if (!bitmap_test(t->top_dirty, i))
                        continue;
                for (uint64_t k = i; k < min_u64(round_up(i + 1, per_page), end); k++) {
                        if (bitmap_test(t->top_dirty, k))
                                n = k - i + 1;
                        bitmap_clear(t->top_dirty, k);
                }
                put_top(t, i * entries, n * entries, add_write(f, t->top_off + i * q->piece, n * q->piece));
                f->item[f->nitems++] = (struct flush_item){ .table = t, .first = i, .n = n };
        }
        t->any_top_dirty = false;
}

static void add_moved_table(struct qcow2_image *q, struct flush *f)
{
        size_t bytes = q->rc.ntop * QCOW2_ENTRY_SIZE;

        put_top(&q->rc, 0, q->rc.ntop, add_write(f, q->rc.top_off, bytes));
        memset(q->rc.top_dirty, 0, BITMAP_WORDS(top_pieces(q, &q->rc)) * sizeof(unsigned long));
        q->rc.any_top_dirty = false;
}

static void add_header(struct qcow2_image *q, struct flush *f)
{
        uint8_t numbers[QH_V3_LENGTH];
        size_t n;

        if (qcow2_is_corrupt(q) && q->h.version >= 3)
                q->h.incompatible |= QCOW2_INCOMPAT_CORRUPT;
        n = qcow2_header_encode(&q->h, numbers);
        memcpy(q->header_page, numbers, n);
        memcpy(add_write(f, 0, q->page_size), q->header_page, q->page_size);
        q->header_dirty = false;
}

/* --- the batch -------------------------------------------------------------------------------------------------------- */

static void flush_free(struct flush *f)
{
        free(f->item);
        free(f->copies);
        fmt_batch_free(&f->b);
}

static void mark_again(struct qcow2_image *q, const struct flush *f)
{
        q->carried_linked |= f->carried_linked;
        for (size_t i = 0; i < f->nitems; i++) {
                const struct flush_item *it = &f->item[i];

                q->carried_linked |= it->carried;
                if (it->page)
                        page_dirty(q, it->page, it->from, it->to - it->from);
                for (uint64_t k = it->first; !it->page && k < min_u64(it->first + it->n, top_pieces(q, it->table)); k++) {
                        bitmap_set(it->table->top_dirty, k);
                        it->table->any_top_dirty = true;
                }
        }
        q->newest_used = max_u64(q->newest_used, f->newest_used);
        q->data_first |= f->data_first;
        q->link_blocks |= f->link_blocks;
        q->reftable_moved |= f->reftable_moved;
        q->header_dirty |= f->header;
}

static void flush_done(struct fmt_batch *b, int err)
{
        struct flush *f = container_of(b, struct flush, b);
        struct qcow2_image *q = qcow2_of(b->img);

        if (err < 0)
                mark_again(q, f);
        else
                q->durable_gen = f->gen;
        if (err == 0 && q->log)
                maplog_trim(q->log, f->log_mark);
        for (size_t i = 0; i < f->nitems; i++) {
                struct page *p = f->item[i].page;

                if (!p)
                        continue;
                if (err == 0 && f->item[i].carried)
                        p->carries = false;
                page_settle(q, p);
        }
        flush_free(f);
}

static int flush_new(struct qcow2_image *q, struct flush **ret)
{
        size_t npages = count_dirty_top(q, &q->l2) + count_dirty_top(q, &q->rc), bytes;
        struct fmt_batch *b;
        struct flush *f;

        list_for_each(pos, &q->cache.dirty)
                npages++;
        bytes = (npages + 1) * COPY_ALIGN + (q->reftable_moved ? q->rc.ntop * QCOW2_ENTRY_SIZE + COPY_ALIGN : 0);
        b = fmt_batch_new(&q->img, (unsigned)npages + FIXED_STEPS, sizeof(*f));
        if (!b)
                return -ENOMEM;
        f = container_of(b, struct flush, b);
        b->done = flush_done;
        b->nsteps = 0;
        f->item = calloc(npages + 1, sizeof(*f->item));
        f->copies = aligned_alloc(COPY_ALIGN, round_up(bytes, COPY_ALIGN));
        if (!f->item || !f->copies) {
                flush_free(f);
                return -ENOMEM;
        }
        *ret = f;
        return 0;
}

/* Does the flush hold anything for group 3 that must wait for what came before? */
static bool entries_rely(const struct qcow2_image *q, const struct flush *f)
{
        for (size_t i = 0; i < f->nitems; i++)
                if (f->item[i].carried)
                        return true;
        return q->data_first || q->newest_used > q->durable_gen;
}

int qcow2_flush(struct fmt_image *img, struct fmt_batch **ret)
{
        struct qcow2_image *q = qcow2_of(img);
        struct flush *f;
        int r = flush_new(q, &f);

        if (r < 0)
                return r;
        f->newest_used = q->newest_used;
        f->data_first = q->data_first;
        f->link_blocks = q->link_blocks;
        f->reftable_moved = q->reftable_moved;
        f->carried_linked = q->carried_linked;
        f->header = header_changes(q);

        if (img->data_file)
                f->b.step[f->b.nsteps++] = (struct fmt_step){ .op = FMT_SYNC, .data = true };
        add_pages(q, f, PAGES_REFCOUNT);
        if (q->reftable_moved)
                add_moved_table(q, f);
        if (q->reftable_moved || q->link_blocks)
                add_sync(f);
        add_top(q, f, &q->rc);
        if (f->header)
                add_header(q, f);
        if (q->carried_linked)
                add_sync(f);
        add_pages(q, f, PAGES_CARRIED);
        if (entries_rely(q, f))
                add_sync(f);
        add_pages(q, f, PAGES_L2);
        add_top(q, f, &q->l2);
        add_sync(f);

        f->gen = q->gen++;
        f->log_mark = q->log ? maplog_mark(q->log) : 0;
        q->newest_used = 0;
        q->data_first = q->link_blocks = q->reftable_moved = q->carried_linked = false;
        *ret = &f->b;
        return 0;
}
