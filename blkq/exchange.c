/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An image that settled is wound down, so both are read again from their files, which stay open and locked: that also makes
 * whatever the one home thread had in memory the other's affair from its very beginning.
 */
#include "blkq/exchange.h"

#include <errno.h>

#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

#define SWAP(a, b)                      \
        do {                            \
                typeof(a) was_ = a;     \
                a = b;                  \
                b = was_;               \
        } while (0)

int vol_reload(struct vol *v)
{
        struct fmt_open_opts opts = vol_how(v);
        struct fmt_image *top = v->top;
        int r;

        if (v->asleep || !v->writer || !top->drv->wind_down) /* nothing was wound down */
                return 0;
        pthread_mutex_lock(&v->lock);
        v->top = NULL;
        pthread_mutex_unlock(&v->lock);
        r = chain_reload(&top, &opts);
        pthread_mutex_lock(&v->lock);
        v->top = v->writer->img = top;
        pthread_mutex_unlock(&v->lock);
        if (r < 0)
                vol_fail(v, r, "the image could not be opened again");
        return r;
}

/* Both locks, in an order that is always the same. */
static void lock_both(struct vol *a, struct vol *b)
{
        pthread_mutex_lock(a < b ? &a->lock : &b->lock);
        pthread_mutex_lock(a < b ? &b->lock : &a->lock);
}

static void unlock_both(struct vol *a, struct vol *b)
{
        pthread_mutex_unlock(&a->lock);
        pthread_mutex_unlock(&b->lock);
}

static void change_owner(struct vol *v)
{
        if (!v->writer)
                return;
        list_del(&v->writer->link);
        v->writer->v = v;
        writer_join(v->writer);
}

static void swap(struct vol *a, struct vol *b)
{
        int failed = a->failed;

        lock_both(a, b);
        SWAP(a->top, b->top);
        SWAP(a->read_only, b->read_only);
        SWAP(a->no_sync, b->no_sync);
        SWAP(a->cluster_size, b->cluster_size);
        SWAP(a->path, b->path);
        SWAP(a->format, b->format);
        SWAP(a->state_dir, b->state_dir);
        SWAP(a->layer, b->layer);
        SWAP(a->cache_bytes, b->cache_bytes);
        SWAP(a->block_size, b->block_size);
        SWAP(a->open_flags, b->open_flags);
        SWAP(a->writeback_ns, b->writeback_ns);
        SWAP(a->writer, b->writer);
        SWAP(a->dirty, b->dirty);
        bitmap_set_exchange(&a->bitmaps, &b->bitmaps);
        SWAP(a->on_fail, b->on_fail);
        SWAP(a->on_fail_opaque, b->on_fail_opaque);
        SWAP(a->on_event, b->on_event);
        SWAP(a->on_event_opaque, b->on_event_opaque);
        a->failed = b->failed;
        b->failed = failed;
        unlock_both(a, b);
        change_owner(a);
        change_owner(b);
}

static unsigned writers(const struct vol *v)
{
        unsigned n = 0;

        list_for_each(l, &v->writers)
                n++;
        return n;
}

int vol_exchange_check(struct vol *a, struct vol *b)
{
        if (vol_size(a) != vol_size(b))
                return err_note(-EINVAL, "Source and target image have different sizes");
        if (!vol_is_awake(a) || !vol_is_awake(b))
                return err_note(-EBUSY, "the image is not in use here");
        return 0;
}

int vol_exchange(struct vol *a, struct vol *b)
{
        int r = vol_exchange_check(a, b);

        if (r < 0)
                return r;
        if (writers(a) > 1 || writers(b) > 1 || !a->top || !b->top)
                return err_note(-EBUSY, "an image of the chain is not whole on its disk yet");
        r = vol_reload(b);
        if (r < 0)
                return r;
        swap(a, b);
        log_info("%s: its guests go on with %s", b->path, a->path); /* before the first of them is answered */
        if (vol_reload(b) < 0) /* what @a had: nobody's disk any more */
                err_clear();
        return 0;
}
