/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table_cache.c - the tables in memory: top tables whole, leaf tables in pages.
 *
 * Invariants
 * - A page that is dirty, pinned, or carried by a flush in flight is never dropped; so a page that is read from the
 *   file has no newer bytes anywhere in memory.
 * - A page is published in its directory before the top entry that leads to it, and the directory goes with its last
 *   page, so memory is bounded by max_pages, whatever the top table claims.
 * - Pages and directories leave through call_rcu(): other threads may still be looking at them. Their callbacks need
 *   nothing of the image, so closing does not wait for them: rcu_barrier() takes 10 ms and more.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bitmap.h"
#include "common/err.h"
#include "formats/published.h"
#include "qcow2.h"

#define PAGE_ALIGN 4096u
#define LOAD_MAX 64u

void tcache_looked(void)
{
        looked();
}

struct page_load {
        struct fmt_batch b;
        struct list link;
        unsigned n;
        struct page *page[LOAD_MAX];
};

struct miss {
        struct qcow2_image *q;
        enum miss_kind kind;
        struct qcow2_table *table;
        uint64_t no;
};
/* Of this thread: map() runs on many, and only the thread that asks for the batch cares about its own miss. */
static _Thread_local struct miss last_miss;

int tcache_miss(struct qcow2_image *q, enum miss_kind kind, struct qcow2_table *t, uint64_t no)
{
        last_miss = (struct miss){ q, kind, t, no };
        return -EAGAIN;
}

/* --- top tables ------------------------------------------------------------------------------------------------ */

int tcache_table_init(struct qcow2_image *q, struct qcow2_table *t, uint64_t off, uint64_t ntop)
{
        size_t bytes = round_up(max_u64(ntop, 1) * QCOW2_ENTRY_SIZE, q->page_size);
        size_t there = off < q->img.file->size ? round_down(min_u64(bytes, q->img.file->size - off), QCOW2_ENTRY_SIZE) : 0;
        int r;

        t->top_off = off;
        t->ntop = ntop;
        t->top = calloc(1, bytes); /* what lies beyond the end of the file is zeros that cost no memory */
        t->dir = calloc(max_u64(ntop, 1), sizeof(*t->dir));
        t->top_dirty = calloc(BITMAP_WORDS(bytes / q->piece), sizeof(unsigned long));
        if (!t->top || !t->dir || !t->top_dirty)
                return -ENOMEM;
        r = there ? file_pread(q->img.file, (void *)t->top, min_u64(there, ntop * QCOW2_ENTRY_SIZE), off) : 0;
        for (uint64_t i = 0; r == 0 && i < there / QCOW2_ENTRY_SIZE && i < ntop; i++)
                t->top[i] = be64toh(t->top[i]);
        return r;
}

static void page_free(struct page *p)
{
        free(p->bytes);
        free(p);
}

static void page_free_rcu(struct rcu_head *head)
{
        grace_over();
        page_free(container_of(head, struct page, rcu));
}

static void dir_free_rcu(struct rcu_head *head)
{
        grace_over();
        free(container_of(head, struct page_dir, rcu));
}

void tcache_table_finish(struct qcow2_image *q, struct qcow2_table *t)
{
        for (uint64_t i = 0; t->dir && i < t->ntop; i++) {
                struct page_dir *d = t->dir[i];

                for (unsigned k = 0; d && k < q->pages_per_leaf; k++)
                        if (d->page[k])
                                page_free(d->page[k]);
                free(d);
        }
        free((void *)t->top);
        free(t->dir);
        free(t->top_dirty);
        *t = (struct qcow2_table){ 0 };
}

void tcache_finish(struct qcow2_image *q)
{
        tcache_table_finish(q, &q->l2);
        tcache_table_finish(q, &q->rc);
}

void table_set_top(struct qcow2_image *q, struct qcow2_table *t, uint64_t i, uint64_t entry)
{
        atomic_store_explicit(&t->top[i], entry, memory_order_release); /* pairs with table_top() */
        bitmap_set(t->top_dirty, i * QCOW2_ENTRY_SIZE / q->piece);
        t->any_top_dirty = true;
}

/* --- pages ----------------------------------------------------------------------------------------------------- */

struct page *tcache_find(struct qcow2_image *q, struct qcow2_table *t, uint64_t no)
{
        struct page_dir *d = see(t->dir[no / q->pages_per_leaf]);
        struct page *p = d ? see(d->page[no % q->pages_per_leaf]) : NULL;

        /* Look before writing: a busy page's cache line stays shared between threads. */
        if (p && !atomic_load_explicit(&p->used, memory_order_relaxed))
                atomic_store_explicit(&p->used, true, memory_order_relaxed);
        return p;
}

int tcache_get(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, struct page **ret)
{
        *ret = tcache_find(q, t, no);
        return *ret ? 0 : tcache_miss(q, MISS_PAGE, t, no);
}

int tcache_get_leaf(struct qcow2_image *q, struct qcow2_table *t, uint64_t top_index)
{
        uint64_t no = top_index * q->pages_per_leaf;

        for (unsigned k = 0; k < q->pages_per_leaf; k++)
                if (!tcache_find(q, t, no + k))
                        return tcache_miss(q, MISS_LEAF, t, no);
        return 0;
}

static void page_drop(struct qcow2_image *q, struct page *p)
{
        struct page_dir **slot = &p->table->dir[p->no / q->pages_per_leaf];
        struct page_dir *d = *slot;

        list_del(&p->link);
        publish(d->page[p->no % q->pages_per_leaf], NULL);
        if (--d->npages == 0) {
                publish(*slot, NULL);
                looked();
                call_rcu(&d->rcu, dir_free_rcu);
        }
        q->cache.npages--;
        looked();
        call_rcu(&p->rcu, page_free_rcu);
}

/* Room for one more page: drop the first clean one that was not used since the hand came by. */
static bool make_room(struct qcow2_image *q)
{
        struct table_cache *c = &q->cache;
        size_t looked = 0, limit = 2 * c->npages;

        list_for_each_safe(pos, &c->clean) {
                struct page *p = list_entry(pos, struct page, link);

                if (c->npages < c->max_pages || looked++ > limit)
                        break;
                if (!p->pins && !atomic_exchange_explicit(&p->used, false, memory_order_relaxed)) {
                        page_drop(q, p);
                        continue;
                }
                list_del(&p->link);
                list_add_tail(&c->clean, &p->link);
                if (next_pos == &c->clean)
                        next_pos = c->clean.next; /* the hand goes round */
        }
        return c->npages < c->max_pages;
}

static struct page *page_new(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, uint64_t off)
{
        struct page *p = calloc(1, sizeof(*p));

        if (p)
                p->bytes = aligned_alloc(PAGE_ALIGN, PAGE_ALIGN);
        if (!p || !p->bytes) {
                free(p);
                return NULL;
        }
        memset(p->bytes, 0, PAGE_ALIGN);
        list_init(&p->link);
        p->table = t;
        p->no = no;
        p->off = off;
        atomic_init(&p->used, true);
        q->cache.npages++;
        return p;
}

int tcache_make_dir(struct qcow2_image *q, struct qcow2_table *t, uint64_t top_index)
{
        struct page_dir *d;

        if (t->dir[top_index])
                return 0;
        d = calloc(1, sizeof(*d) + q->pages_per_leaf * sizeof(d->page[0]));
        if (!d)
                return -ENOMEM;
        publish(t->dir[top_index], d);
        return 0;
}

int tcache_make(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, uint64_t off, struct page **ret)
{
        if (!make_room(q))
                return tcache_miss(q, MISS_FLUSH, t, no);
        *ret = page_new(q, t, no, off);
        return *ret ? 0 : -ENOMEM;
}

void tcache_unmake(struct qcow2_image *q, struct page *p)
{
        if (!p)
                return;
        q->cache.npages--;
        page_free(p);
}

void tcache_publish(struct qcow2_image *q, struct page *p)
{
        struct page_dir *d = p->table->dir[p->no / q->pages_per_leaf];
        struct page **slot = &d->page[p->no % q->pages_per_leaf];

        assert(d && !*slot);
        d->npages++;
        list_add_tail(&q->cache.clean, &p->link);
        publish(*slot, p);
}

void page_dirty(struct qcow2_image *q, struct page *p, uint32_t from, uint32_t len)
{
        uint32_t to = round_up(from + len, q->piece);

        assert(to <= q->page_size);
        from = round_down(from, q->piece);
        p->dirty_from = (uint16_t)(p->dirty ? min_u64(p->dirty_from, from) : from);
        p->dirty_to = (uint16_t)(p->dirty ? max_u64(p->dirty_to, to) : to);
        if (p->dirty)
                return;
        p->dirty = true;
        list_del(&p->link);
        list_add_tail(&q->cache.dirty, &p->link);
}

void page_settle(struct qcow2_image *q, struct page *p)
{
        p->writing = false;
        if (!p->dirty)
                list_add_tail(&q->cache.clean, &p->link);
}

/* --- loading --------------------------------------------------------------------------------------------------- */

static struct page_load *load_of(struct qcow2_image *q, const struct qcow2_table *t, uint64_t no)
{
        list_for_each(pos, &q->cache.loading) {
                struct page_load *l = list_entry(pos, struct page_load, link);

                for (unsigned i = 0; i < l->n; i++)
                        if (l->page[i]->table == t && l->page[i]->no == no)
                                return l;
        }
        return NULL;
}

static void load_done(struct fmt_batch *b, int err)
{
        struct page_load *l = container_of(b, struct page_load, b);
        struct qcow2_image *q = qcow2_of(b->img);

        list_del(&l->link);
        for (unsigned i = 0; i < l->n; i++) {
                struct page *p = l->page[i];

                if (err == 0 && tcache_make_dir(q, p->table, p->no / q->pages_per_leaf) == 0) {
                        if (p->table->is_l2)
                                map_check_page(q, p);
                        tcache_publish(q, p);
                } else {
                        tcache_unmake(q, p);
                }
        }
        fmt_batch_free(b);
}

static uint64_t leaf_offset(const struct qcow2_table *t, uint64_t top_index)
{
        uint64_t e = table_top(t, top_index);

        return t->is_l2 ? l1e_offset(e) : reftable_offset(e);
}

static bool load_add(struct qcow2_image *q, struct page_load *l, struct qcow2_table *t, uint64_t no)
{
        uint64_t off = leaf_offset(t, no / q->pages_per_leaf) + no % q->pages_per_leaf * q->page_size;
        struct page *p = make_room(q) ? page_new(q, t, no, off) : NULL;

        if (!p)
                return false;
        l->b.step[l->n] = (struct fmt_step){ FMT_READ, off, q->page_size, p->bytes };
        l->page[l->n++] = p;
        l->b.nsteps = l->n;
        return true;
}

/* Pages [no, no + n) of one leaf: those that are neither here nor on their way, as many as go into one batch. */
static struct fmt_batch *load_batch(struct qcow2_image *q, struct qcow2_table *t, uint64_t no, unsigned n)
{
        struct page_load *on_way = NULL, *l;
        struct fmt_batch *b = fmt_batch_new(&q->img, LOAD_MAX, sizeof(*l));

        if (!b)
                return NULL;
        l = container_of(b, struct page_load, b);
        b->done = load_done;
        for (uint64_t end = no + n; no < end && l->n < LOAD_MAX; no++) {
                struct page_load *other = load_of(q, t, no);

                if (other)
                        on_way = other;
                else if (!tcache_find(q, t, no) && !load_add(q, l, t, no))
                        break;
        }
        if (l->n == 0) {
                fmt_batch_free(b);
                if (!on_way && !list_empty(&q->cache.loading)) /* no room for one more: there will be when these are here */
                        on_way = list_entry(q->cache.loading.next, struct page_load, link);
                return on_way ? &on_way->b : NULL;
        }
        list_add_tail(&q->cache.loading, &l->link);
        return b;
}

struct fmt_batch *qcow2_want(struct fmt_image *img)
{
        struct qcow2_image *q = qcow2_of(img);
        struct miss m = last_miss;

        if (m.q != q)
                return NULL;
        switch (m.kind) {
        case MISS_PAGE:
                return load_batch(q, m.table, m.no, 1);
        case MISS_LEAF:
                return load_batch(q, m.table, m.no, q->pages_per_leaf);
        case MISS_GROW:
                return space_grow_batch(q);
        case MISS_FLUSH:
                break;
        }
        return NULL;
}
