/* SPDX-License-Identifier: BSD-3-Clause */
#include "blkq/bitmaps/vol_bitmaps.h"
#include "blkq/change/overlay.h"
#include "blkq/port_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/change/retire.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

static unsigned chain_length(struct vol *v)
{
        unsigned n = 0;

        for (const struct fmt_image *img = vol_image_get(v); img; img = img->backing)
                n++;
        vol_image_put(v);
        return n;
}

static int check(struct vol *v, const struct fmt_image *img, const char *path)
{
        if (img->backing)
                return err_note(-EINVAL, "'%s' has a backing file already", path);
        if (!(img->drv->caps & FMT_HAS_BACKING))
                return err_note(-ENOTSUP, "'%s': %s images cannot have a backing file", path, img->drv->name);
        if (img->read_only)
                return err_note(-EROFS, "'%s' is open for reading only", path);
        if (round_up(img->size, VOL_SECTOR) != v->size)
                return err_note(-EINVAL, "'%s' has a disk of %" PRIu64 " bytes, and the one in front of which it is to be has %"
                                PRIu64, path, img->size, (uint64_t)v->size);
        if (v->read_only)
                return err_note(-EROFS, "the disk is open for reading only");
        if (v->asleep || v->failed || !chain_length(v))
                return err_note(-EBUSY, "the disk is not in use here, or failed");
        if (chain_length(v) >= FMT_MAX_CHAIN)
                return err_note(-ELOOP, "the disk has a chain of %u images already, and more is not allowed: commit or stream some "
                                "of them first", FMT_MAX_CHAIN);
        return 0;
}

static void tell_home(struct vol *v, struct fmt_image *img)
{
        if (!v->uses_files)
                return;
        image_files(img, v->mover.engine, engine_add_file);
}

static void swap_text(char **a, char **b)
{
        char *was = *a;

        *a = *b;
        *b = was;
}

/* Home; nobody else looks at the chain. */
static void put_on_top(struct vol_change *c)
{
        struct vol_overlay *o = container_of(c, struct vol_overlay, change);
        struct img_writer *old = c->v->writer;
        struct vol *v = c->v;

        tell_home(v, o->img);
        pthread_mutex_lock(&v->lock);
        o->img->backing = v->top;
        v->top = TAKE(o->img, NULL);
        vol_rename(v, &o->path, TAKE(o->keep, NULL));
        swap_text(&v->format, &o->format);
        v->layer = o->layer;
        bitmaps_swap(v, &o->bitmaps);
        pthread_mutex_unlock(&v->lock);
        v->writer = TAKE(o->writer, NULL);
        writer_join(v->writer);
        retire_bitmaps(o->retire, &o->bitmaps);
        retire_start(TAKE(o->retire, NULL), old);
}

void vol_overlay_free(struct vol_overlay *o)
{
        if (!o)
                return;
        if (o->img && bitmap_set_store(&o->bitmaps, o->img) < 0)
                log_err("%s: its bitmaps could not be stored and are inconsistent from now on", o->path ?: "overlay");
        bitmap_set_finish(&o->bitmaps);
        chain_close(o->img);
        writer_free(o->writer);
        free(o->retire);
        free(o->keep);
        free(o->path);
        free(o->format);
        free(o);
}

int vol_overlay_take(struct vol *v, struct fmt_image *img, const char *path, const struct fmt_layer *layer,
                     struct vol_overlay **ret)
{
        struct vol_overlay *o = calloc(1, sizeof(*o));
        int r = check(v, img, path);

        if (!o) {
                chain_close(img);
                return -ENOMEM;
        }
        o->img = img;
        bitmap_set_init(&o->bitmaps);
        if (r == 0)
                r = bitmaps_load(img, &o->bitmaps);
        o->path = strdup(path);
        o->format = strdup(img->drv->name);
        o->layer = layer;
        o->writer = writer_new(v, img, true);
        o->retire = retire_new();
        o->keep = calloc(1, sizeof(*o->keep));
        o->change.v = v;
        o->change.apply = put_on_top;
        if (r == 0 && (!o->path || !o->format || !o->writer || !o->retire || !o->keep))
                r = -ENOMEM;
        if (r < 0)
                vol_overlay_free(o);
        else
                *ret = o;
        return r;
}

int vol_overlay_open(struct vol *v, const char *path, const char *format, const struct fmt_layer *layer,
                     struct vol_overlay **ret)
{
        struct fmt_open_opts how = {
                .format = format, .flags = (v->open_flags & ~(unsigned)FMT_RDONLY) | FMT_NO_BACKING,
                .cache_bytes = v->cache_bytes, .state_dir = v->state_dir, .layer = layer,
        };
        struct fmt_image *img;
        int r = vol_open_image(path, &how, v->block_size, &img);

        return r < 0 ? r : vol_overlay_take(v, img, path, layer, ret);
}
