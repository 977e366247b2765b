/* SPDX-License-Identifier: BSD-3-Clause */
#include "blkq/bitmaps/bitmap_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define NAME_MAX_BYTES 1023u
#define STORED_MAX_BYTES (512ull << 20) /* of one bitmap's bits, as QEMU has it */
#define VIRTUAL_SECTOR 512u

static void named_free(struct named_bitmap *b)
{
        if (!b)
                return;
        list_del(&b->link);
        dirty_bitmap_unref(b->bits);
        free(b->name);
        free(b);
}
static void named_freep(struct named_bitmap **b)
{
        named_free(*b);
}

static struct named_bitmap *named_new(const char *name, uint32_t granularity)
{
        struct named_bitmap *b = calloc(1, sizeof(*b));

        if (!b)
                return NULL;
        list_init(&b->link);
        b->granularity = granularity;
        b->name = strdup(name);
        if (b->name)
                return b;
        named_free(b);
        return NULL;
}

void bitmap_set_init(struct bitmap_set *s)
{
        *s = (struct bitmap_set){ 0 };
        list_init(&s->all);
}

void bitmap_set_finish(struct bitmap_set *s)
{
        struct list *n;

        while (s->all.next && (n = list_pop(&s->all)) != NULL)
                named_free(list_entry(n, struct named_bitmap, link));
}

void bitmap_set_move(struct bitmap_set *to, struct bitmap_set *from)
{
        to->stored |= from->stored;
        to->read_only = from->read_only;
        list_splice_tail(&to->all, &from->all);
        bitmap_set_init(from);
}

void bitmap_set_exchange(struct bitmap_set *a, struct bitmap_set *b)
{
        struct bitmap_set was;

        bitmap_set_init(&was);
        bitmap_set_move(&was, a);
        bitmap_set_move(a, b);
        bitmap_set_move(b, &was);
}

struct named_bitmap *bitmap_set_find(const struct bitmap_set *s, const char *name)
{
        list_for_each(n, &s->all) {
                struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (!strcmp(b->name, name))
                        return b;
        }
        return NULL;
}

bool bitmap_set_is_stored(const struct bitmap_set *s)
{
        if (s->stored)
                return true;
        list_for_each(n, &s->all)
                if (list_entry(n, struct named_bitmap, link)->persistent)
                        return true;
        return false;
}

int bitmap_set_check(const struct bitmap_set *s, const struct named_bitmap *b, enum bitmap_use use)
{
        if (b->busy)
                return err_note(-EBUSY, "Bitmap '%s' is currently in use by another operation and cannot be used", b->name);
        if ((use == BITMAP_USE_REMOVE || use == BITMAP_USE_CHANGE) && b->persistent && s->read_only)
                return err_note(-EROFS, "Bitmap '%s' is readonly and cannot be modified", b->name);
        if ((use == BITMAP_USE_CHANGE || use == BITMAP_USE_READ) && !b->bits)
                return err_note(-EINVAL, "Bitmap '%s' is inconsistent and cannot be used; it was not stored after its last use "
                                "and can only be removed", b->name);
        return 0;
}

/* --- from the image and back -------------------------------------------------------------------------------------- */

struct loading {
        struct bitmap_set *s;
        const struct fmt_image *img;
        struct named_bitmap *last; /* whose bits come */
};

static int on_bitmap(void *opaque, const struct fmt_bitmap *found)
{
        struct loading *l = opaque;
        AUTO(named_freep) struct named_bitmap *b = named_new(found->name, found->granularity);
        int r;

        if (!b)
                return -ENOMEM;
        b->persistent = true;
        b->recording = found->recording;
        if (!found->in_use) {
                r = dirty_bitmap_new(round_up(l->img->size, VIRTUAL_SECTOR), found->granularity, &b->bits);
                if (r < 0)
                        return r;
                dirty_bitmap_record(b->bits, found->recording);
        }
        list_add_tail(&l->s->all, &b->link);
        l->last = TAKE(b, NULL);
        return 0;
}

static void put_bits(void *opaque, uint64_t at, const void *bytes, uint64_t len)
{
        const struct loading *l = opaque;
        struct dirty_bitmap *bits = l->last->bits;
        uint64_t covers = 8ull * l->last->granularity; /* a byte of it */

        if (bytes)
                dirty_bitmap_or_bytes(bits, at, bytes, len);
        else
                dirty_bitmap_set(bits, at * covers, len > UINT64_MAX / covers ? UINT64_MAX : len * covers);
}

static void get_bits(void *opaque, uint64_t at, void *bytes, size_t len)
{
        dirty_bitmap_get_bytes(opaque, at, bytes, len);
}

int bitmap_set_load(struct bitmap_set *s, struct fmt_image *img)
{
        struct loading l = { .s = s, .img = img };
        const struct fmt_bitmap_reader reader = { .bitmap = on_bitmap, .put = put_bits, .opaque = &l };
        int r;

        bitmap_set_init(s);
        s->read_only = img->read_only;
        if (!img->drv->bitmaps_read)
                return 0;
        r = img->drv->bitmaps_read(img, &reader);
        s->stored = !list_empty(&s->all);
        if (r == 0 && s->stored && !img->read_only)
                r = img->drv->bitmaps_take(img);
        if (r < 0)
                bitmap_set_finish(s);
        return r;
}

int bitmap_set_store(const struct bitmap_set *s, struct fmt_image *img)
{
        AUTO(freep) struct fmt_bitmap *all = NULL;
        size_t n = 0;

        if (!bitmap_set_is_stored(s))
                return 0;
        list_for_each(l, &s->all)
                n++;
        all = calloc(n + 1, sizeof(*all));
        if (!all)
                return -ENOMEM;
        n = 0;
        list_for_each(l, &s->all) {
                const struct named_bitmap *b = list_entry(l, struct named_bitmap, link);

                if (b->persistent)
                        all[n++] = (struct fmt_bitmap){
                                .name = b->name, .granularity = b->granularity, .in_use = !b->bits, .opaque = b->bits,
                                .recording = b->bits ? dirty_bitmap_recording(b->bits) : b->recording,
                                .get = b->bits ? get_bits : NULL,
                        };
        }
        return img->drv->bitmaps_store(img, all, n);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

static int check_new(const struct bitmap_set *s, const struct fmt_image *img, uint64_t size, const char *name,
                     uint64_t granularity, bool persistent)
{
        if (!*name)
                return err_note(-EINVAL, "Bitmap name cannot be empty");
        if (strlen(name) > NAME_MAX_BYTES)
                return err_note(-EINVAL, "Bitmap name too long: %zu bytes, the limit is %u", strlen(name), NAME_MAX_BYTES);
        if (!is_pow2(granularity) || granularity < DIRTY_GRANULARITY_MIN)
                return err_note(-EINVAL, "Granularity must be power of 2 and at least %u", DIRTY_GRANULARITY_MIN);
        if (granularity > DIRTY_GRANULARITY_MAX)
                return err_note(-EINVAL, "Granularity exceeds maximum (%u bytes)", DIRTY_GRANULARITY_MAX);
        if (bitmap_set_find(s, name))
                return err_note(-EEXIST, "Bitmap already exists: %s", name);
        if (!persistent)
                return 0;
        if (!img->drv->bitmaps_store)
                return err_note(-ENOTSUP, "Cannot store dirty bitmaps in images of format %s", img->drv->name);
        if (s->read_only)
                return err_note(-EROFS, "Cannot store dirty bitmap '%s': the image is open for reading only", name);
        if (div_round_up(size, granularity) / 8 > STORED_MAX_BYTES)
                return err_note(-EINVAL, "Too much space will be occupied by the bitmap. Use larger granularity");
        return 0;
}

int bitmap_set_add(struct bitmap_set *s, const struct fmt_image *img, uint64_t size, const char *name, uint64_t granularity,
                   bool persistent, struct dirty_bitmap *bits, struct named_bitmap **ret)
{
        AUTO(named_freep) struct named_bitmap *b = NULL;
        int r = check_new(s, img, size, name, granularity, persistent);

        if (r < 0)
                return r;
        b = named_new(name, (uint32_t)granularity);
        r = !b ? -ENOMEM : bits ? 0 : dirty_bitmap_new(size, (uint32_t)granularity, &b->bits);
        if (r < 0)
                return r;
        if (bits)
                b->bits = dirty_bitmap_ref(bits);
        b->persistent = persistent;
        list_add_tail(&s->all, &b->link);
        *ret = TAKE(b, NULL);
        return 0;
}

void bitmap_set_remove(struct bitmap_set *s, struct named_bitmap *b)
{
        s->stored |= b->persistent;
        named_free(b);
}
