/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vol_bitmaps.c - the named bitmaps of the disk's image: found, added, removed, and stored when the image is let go.
 *
 *   opened: loaded, marked in use in the image (a crash from here on makes them inconsistent) -> attached
 *   closed: held, settled -> a worker stores them -> closed
 */
#include <errno.h>
#include <urcu.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/bitmaps/vol_bitmaps.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

struct bitmap_set *vol_bitmaps_get(struct vol *v)
{
        pthread_mutex_lock(&v->lock);
        return &v->bitmaps;
}

void vol_bitmaps_put(struct vol *v)
{
        pthread_mutex_unlock(&v->lock);
}

static int find(struct vol *v, const char *name, struct named_bitmap **ret)
{
        *ret = bitmap_set_find(&v->bitmaps, name);
        return *ret ? 0 : err_note(-ENOENT, "Dirty bitmap '%s' not found", name);
}

static int add(struct vol *v, const char *name, uint64_t granularity, bool persistent, bool recording)
{
        struct named_bitmap *b;
        int r;

        if (!v->top || v->asleep)
                return err_note(-EBUSY, "the image is not in use here");
        if (!granularity)
                granularity = dirty_granularity_default(v->cluster_size);
        r = bitmap_set_add(&v->bitmaps, v->top, v->size, name, granularity, persistent, NULL, &b);
        if (r < 0)
                return r;
        dirty_bitmap_record(b->bits, recording);
        r = dirty_attach(v, b->bits);
        if (r < 0) {
                b->persistent = false;
                bitmap_set_remove(&v->bitmaps, b);
        }
        return r;
}

int vol_bitmap_add(struct vol *v, const char *name, uint64_t granularity, bool persistent, bool recording)
{
        int r;

        pthread_mutex_lock(&v->lock);
        r = add(v, name, granularity, persistent, recording);
        pthread_mutex_unlock(&v->lock);
        return r;
}

int vol_bitmap_adopt(struct vol *v, const char *name, struct dirty_bitmap *bits, bool persistent)
{
        struct named_bitmap *b;
        int r;

        pthread_mutex_lock(&v->lock);
        r = v->top ? bitmap_set_add(&v->bitmaps, v->top, v->size, name, dirty_bitmap_granularity(bits), persistent, bits, &b) :
                     -EBUSY;
        pthread_mutex_unlock(&v->lock);
        return r;
}

int vol_bitmap_remove(struct vol *v, const char *name)
{
        struct named_bitmap *b;
        int r;

        pthread_mutex_lock(&v->lock);
        r = find(v, name, &b);
        if (r == 0)
                r = bitmap_set_check(&v->bitmaps, b, BITMAP_USE_REMOVE);
        if (r == 0 && b->bits)
                dirty_detach(v, b->bits);
        if (r == 0)
                bitmap_set_remove(&v->bitmaps, b);
        pthread_mutex_unlock(&v->lock);
        return r;
}

int vol_bitmap_use(struct vol *v, const char *name, enum bitmap_use use, const char *busy, struct dirty_bitmap **ret)
{
        struct named_bitmap *b;
        int r;

        pthread_mutex_lock(&v->lock);
        r = find(v, name, &b);
        if (r == 0)
                r = bitmap_set_check(&v->bitmaps, b, use);
        if (r == 0 && busy)
                b->busy = busy;
        if (r == 0)
                *ret = b->bits ? dirty_bitmap_ref(b->bits) : NULL;
        pthread_mutex_unlock(&v->lock);
        return r;
}

void vol_bitmap_release(struct vol *v, struct dirty_bitmap *bits)
{
        pthread_mutex_lock(&v->lock);
        list_for_each(n, &v->bitmaps.all) {
                struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (b->bits == bits)
                        b->busy = NULL;
        }
        pthread_mutex_unlock(&v->lock);
        dirty_bitmap_unref(bits);
}

/* --- with the image ----------------------------------------------------------------------------------------------- */

int bitmaps_join(struct vol *v, struct bitmap_set *s)
{
        int r;

        pthread_mutex_lock(&v->lock);
        r = dirty_attach_all(v, s);
        if (r == 0)
                bitmap_set_move(&v->bitmaps, s);
        pthread_mutex_unlock(&v->lock);
        return r;
}

int bitmaps_load(struct fmt_image *img, struct bitmap_set *s)
{
        int r = bitmap_set_load(s, img);

        if (r == 0 || r == -ENOMEM)
                return r;
        if (img->read_only) { /* it can be read all the same */
                log_warn("%s: its bitmaps cannot be read: %s", img->file->path, err_text(r));
                err_clear();
                return 0;
        }
        return err_prefix(r, "its bitmaps cannot be kept up to date ('check -r all' removes what is damaged): ");
}

void bitmaps_swap(struct vol *v, struct bitmap_set *s)
{
        struct bitmap_set before;

        bitmap_set_init(&before);
        bitmap_set_move(&before, &v->bitmaps);
        list_for_each(n, &before.all) {
                const struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (b->bits)
                        dirty_detach(v, b->bits);
        }
        if (dirty_attach_all(v, s) == 0)
                bitmap_set_move(&v->bitmaps, s);
        else
                bitmap_set_finish(s);
        bitmap_set_move(s, &before);
}

static bool is_busy(const struct bitmap_set *s)
{
        list_for_each(n, &s->all)
                if (list_entry(n, struct named_bitmap, link)->busy)
                        return true;
        return false;
}

void bitmaps_forget(struct vol *v)
{
        pthread_mutex_lock(&v->lock);
        list_for_each_safe(n, &v->bitmaps.all) {
                struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (!b->persistent)
                        continue;
                if (b->bits)
                        dirty_detach(v, b->bits);
                bitmap_set_remove(&v->bitmaps, b);
        }
        v->bitmaps.stored = false;
        pthread_mutex_unlock(&v->lock);
}

int bitmaps_leave(struct vol *v)
{
        int r = 0;

        if (is_busy(&v->bitmaps))
                return err_note(-EBUSY, "a bitmap of the disk is in use by a job");
        r = bitmap_set_store(&v->bitmaps, v->top);
        if (r == 0)
                bitmaps_forget(v);
        return r;
}

/* --- at the end --------------------------------------------------------------------------------------------------- */

static void store_on_worker(struct work *w)
{
        struct vol *v = container_of(w, struct vol, bitmaps_out.work);

        rcu_register_thread();
        v->bitmaps_out.res = bitmap_set_store(&v->bitmaps, v->top);
        rcu_unregister_thread();
        if (v->bitmaps_out.res < 0)
                log_err("%s: its bitmaps could not be stored and are inconsistent from now on: %s", v->path,
                        err_text(v->bitmaps_out.res));
        err_clear();
        qthread_post(v->home, &v->bitmaps_out.back);
}

static void on_stored(struct qtask *task)
{
        struct vol *v = container_of(task, struct vol, bitmaps_out.back);

        v->bitmaps_out.done(v, v->bitmaps_out.res);
}

void bitmaps_store(struct vol *v, void (*done)(struct vol *v, int res))
{
        struct bitmaps_out *o = &v->bitmaps_out;

        if (v->read_only || v->asleep || !v->top || !bitmap_set_is_stored(&v->bitmaps)) {
                done(v, 0);
                return;
        }
        o->work.run = store_on_worker;
        o->back.run = on_stored;
        o->done = done;
        if (workers_run(&o->work) < 0)
                store_on_worker(&o->work);
}
