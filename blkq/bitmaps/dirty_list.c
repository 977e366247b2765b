/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_list.c - the bitmaps that record what changes on a volume.
 *
 * A change ends in request_finish() on the common road, and in change_done() at home: there the list is looked up with
 * RCU and each bitmap gets its bits, before done() and before the port, or home, counts as idle. So when a volume is
 * held, also by a light hold, everything is recorded. A list never changes; who attaches or detaches publishes a new
 * one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "formats/published.h"

struct dirty_list {
        struct rcu_head rcu;
        unsigned n;
        struct dirty_bitmap *b[];
};

static void list_free(struct dirty_list *l)
{
        for (unsigned i = 0; l && i < l->n; i++)
                dirty_bitmap_unref(l->b[i]);
        free(l);
}

static void list_free_rcu(struct rcu_head *head)
{
        grace_over();
        list_free(container_of(head, struct dirty_list, rcu));
}

void dirty_record_slow(struct vol *v, const struct blk_req *req, const struct dirty_bitmap *but)
{
        struct dirty_list *l;

        if (req->op == BLK_READ || req->op == BLK_FLUSH)
                return;
        rcu_read_lock();
        l = see(v->dirty);
        for (unsigned i = 0; l && i < l->n; i++)
                if (l->b[i] != but && dirty_bitmap_recording(l->b[i]))
                        dirty_bitmap_set(l->b[i], req->off, req->len);
        looked();
        rcu_read_unlock();
}

/* v->lock. The old list's users go in their own time. */
static void replace(struct vol *v, struct dirty_list *l)
{
        struct dirty_list *old = v->dirty;

        publish(v->dirty, l);
        if (old)
                call_rcu(&old->rcu, list_free_rcu);
}

static unsigned position(const struct dirty_list *l, const struct dirty_bitmap *b)
{
        unsigned i = 0;

        while (l && i < l->n && l->b[i] != b)
                i++;
        return i;
}

static struct dirty_list *list_new(unsigned n)
{
        struct dirty_list *l = calloc(1, sizeof(*l) + n * sizeof(struct dirty_bitmap *));

        if (l)
                l->n = n;
        return l;
}

int dirty_attach(struct vol *v, struct dirty_bitmap *b)
{
        const struct dirty_list *old = v->dirty;
        unsigned n = old ? old->n : 0;
        struct dirty_list *l;
        int r;

        if (position(old, b) < n)
                return 0;
        r = dirty_bitmap_resize(b, v->size);
        if (r < 0)
                return r;
        l = list_new(n + 1);
        if (!l)
                return -ENOMEM;
        for (unsigned i = 0; i < n; i++)
                l->b[i] = dirty_bitmap_ref(old->b[i]);
        l->b[n] = dirty_bitmap_ref(b);
        replace(v, l);
        return 0;
}

int vol_attach_bitmap(struct vol *v, struct dirty_bitmap *b)
{
        int r;

        pthread_mutex_lock(&v->lock);
        r = dirty_attach(v, b);
        pthread_mutex_unlock(&v->lock);
        return r;
}

int dirty_attach_all(struct vol *v, const struct bitmap_set *s)
{
        struct dirty_list *l;
        unsigned n = 0;

        list_for_each(pos, &s->all)
                n += list_entry(pos, struct named_bitmap, link)->bits != NULL;
        if (!n)
                return 0;
        n += v->dirty ? v->dirty->n : 0;
        l = list_new(n);
        if (!l)
                return -ENOMEM;
        n = 0;
        for (unsigned i = 0; v->dirty && i < v->dirty->n; i++)
                l->b[n++] = dirty_bitmap_ref(v->dirty->b[i]);
        list_for_each(pos, &s->all) {
                struct named_bitmap *b = list_entry(pos, struct named_bitmap, link);

                if (b->bits)
                        l->b[n++] = dirty_bitmap_ref(b->bits);
        }
        replace(v, l);
        return 0;
}

/* Without memory for a shorter list it stays on the list it is on, where it records for nobody; closing lets it go. */
void dirty_detach(struct vol *v, struct dirty_bitmap *b)
{
        const struct dirty_list *old = v->dirty;
        unsigned at = position(old, b), n = 0;
        struct dirty_list *l;

        if (!old || at == old->n)
                return;
        l = old->n > 1 ? list_new(old->n - 1) : NULL;
        for (unsigned i = 0; l && i < old->n; i++)
                if (i != at)
                        l->b[n++] = dirty_bitmap_ref(old->b[i]);
        if (l || old->n == 1)
                replace(v, l);
}

void vol_detach_bitmap(struct vol *v, struct dirty_bitmap *b)
{
        pthread_mutex_lock(&v->lock);
        dirty_detach(v, b);
        pthread_mutex_unlock(&v->lock);
}

/* --- the disk changes as a whole ---------------------------------------------------------------------------------- */

int dirty_resize(struct vol *v, uint64_t size)
{
        int r = 0;

        pthread_mutex_lock(&v->lock);
        for (unsigned i = 0; r == 0 && v->dirty && i < v->dirty->n; i++)
                r = dirty_bitmap_resize(v->dirty->b[i], size);
        pthread_mutex_unlock(&v->lock);
        return r;
}

void dirty_set_all(struct vol *v)
{
        pthread_mutex_lock(&v->lock);
        for (unsigned i = 0; v->dirty && i < v->dirty->n; i++)
                dirty_bitmap_set(v->dirty->b[i], 0, UINT64_MAX);
        pthread_mutex_unlock(&v->lock);
}

void dirty_finish(struct vol *v)
{
        list_free(TAKE(v->dirty, NULL));
}
