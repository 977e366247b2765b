/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pages.c - a set-associative cache: a page can lie in WAYS places, a new one takes the place of the one that came
 * first.
 *
 * Invariants
 * - A page never changes once it is published, and leaves through call_rcu(): other threads may still be looking at it.
 *   The callback needs nothing of the image, so closing does not wait for it.
 * - A page is on its way once at a time (loading), so all who miss it wait for one read.
 */
#include "formats/foreign/pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "formats/published.h"

#define PAGE_SIZE 4096u
#define WAYS 4u
#define MIN_SETS 4u

struct page {
        struct rcu_head rcu;
        struct fmt_image *img; /* of whose file */
        uint64_t no;
        uint8_t *bytes; /* PAGE_SIZE, aligned for direct I/O */
};
struct set {
        struct page *way[WAYS];
        unsigned oldest;
};
struct pages {
        pages_loaded loaded;
        struct list loading;
        uint64_t nsets; /* a power of two */
        struct set set[];
};
struct load {
        struct fmt_batch b;
        struct list link;
        struct pages *pages;
        struct page *page;
};

/* Of this thread: lookups run on many, and only the thread that asks for the batch cares about its own miss. */
static _Thread_local struct {
        struct pages *pages;
        struct fmt_image *img;
        uint64_t no;
} last_miss;

struct pages *pages_new(size_t cache_bytes)
{
        uint64_t want = (cache_bytes ? cache_bytes : FMT_CACHE_DEFAULT) / (WAYS * PAGE_SIZE), nsets = MIN_SETS;
        struct pages *p;

        while (nsets * 2 <= want)
                nsets *= 2;
        p = calloc(1, sizeof(*p) + nsets * sizeof(p->set[0]));
        if (!p)
                return NULL;
        p->nsets = nsets;
        list_init(&p->loading);
        return p;
}

void pages_on_load(struct pages *p, pages_loaded loaded)
{
        p->loaded = loaded;
}

static void page_free(struct page *page)
{
        if (page)
                free(page->bytes);
        free(page);
}

static void page_free_rcu(struct rcu_head *head)
{
        grace_over();
        page_free(container_of(head, struct page, rcu));
}

void pages_free(struct pages *p)
{
        if (!p)
                return;
        assert(list_empty(&p->loading));
        for (uint64_t i = 0; i < p->nsets; i++)
                for (unsigned w = 0; w < WAYS; w++)
                        page_free(p->set[i].way[w]);
        free(p);
}

static struct set *set_of(struct pages *p, const struct fmt_image *img, uint64_t no)
{
        return &p->set[((no ^ (uintptr_t)img >> 6) * 0x9e3779b97f4a7c15u >> 40) & (p->nsets - 1)];
}

static const struct page *look_up(struct pages *p, const struct fmt_image *img, uint64_t no)
{
        struct set *s = set_of(p, img, no);

        for (unsigned w = 0; w < WAYS; w++) {
                const struct page *page = see(s->way[w]);

                if (page && page->no == no && page->img == img)
                        return page;
        }
        return NULL;
}

int pages_get(struct pages *p, struct fmt_image *img, uint64_t off, void *buf, size_t len)
{
        uint64_t no = off / PAGE_SIZE;
        const struct page *page = look_up(p, img, no);

        assert(off % PAGE_SIZE + len <= PAGE_SIZE);
        if (!page) {
                last_miss.pages = p;
                last_miss.img = img;
                last_miss.no = no;
                return -EAGAIN;
        }
        memcpy(buf, page->bytes + off % PAGE_SIZE, len);
        looked();
        return 0;
}

static void insert(struct pages *p, struct page *page)
{
        struct set *s = set_of(p, page->img, page->no);
        struct page **way = &s->way[s->oldest++ % WAYS], *old = *way;

        publish(*way, page);
        if (old)
                call_rcu(&old->rcu, page_free_rcu);
}

static void on_loaded(struct fmt_batch *b, int err)
{
        struct load *l = container_of(b, struct load, b);
        struct page *page = l->page;

        list_del(&l->link);
        if (err == 0 && l->pages->loaded)
                l->pages->loaded(page->img, page->no * PAGE_SIZE, page->bytes);
        if (err == 0)
                insert(l->pages, page);
        else
                page_free(page);
        fmt_batch_free(b);
}

static struct page *page_new(struct fmt_image *img, uint64_t no)
{
        struct page *page = calloc(1, sizeof(*page));
        void *bytes;

        if (!page)
                return NULL;
        if (posix_memalign(&bytes, PAGE_SIZE, PAGE_SIZE) != 0) {
                free(page);
                return NULL;
        }
        page->img = img;
        page->no = no;
        page->bytes = bytes;
        return page;
}

static struct fmt_batch *load_new(struct pages *p, struct fmt_image *img, uint64_t no)
{
        struct fmt_batch *b = fmt_batch_new(img, 1, sizeof(struct load));
        struct page *page = b ? page_new(img, no) : NULL;
        struct load *l;

        if (!page) {
                fmt_batch_free(b);
                return NULL;
        }
        l = container_of(b, struct load, b);
        l->pages = p;
        l->page = page;
        b->step[b->nsteps++] = (struct fmt_step){ FMT_READ, no * PAGE_SIZE, PAGE_SIZE, page->bytes };
        b->done = on_loaded;
        list_add_tail(&p->loading, &l->link);
        return b;
}

struct fmt_batch *pages_want(struct pages *p)
{
        assert(last_miss.pages == p);
        list_for_each(n, &p->loading) {
                struct load *l = list_entry(n, struct load, link);

                if (l->page->no == last_miss.no && l->page->img == last_miss.img)
                        return &l->b;
        }
        return load_new(p, last_miss.img, last_miss.no);
}
