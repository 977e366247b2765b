/* SPDX-License-Identifier: BSD-3-Clause */
#include "tools/vdisk-img/bitmaps.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tools/vdisk-img/tool.h"

static int on_any(void *opaque, const struct fmt_bitmap *b)
{
        (void)b;
        *(bool *)opaque = true;
        return 0;
}

bool tool_has_bitmaps(struct fmt_image *img)
{
        bool any = false;
        const struct fmt_bitmap_reader reader = { .bitmap = on_any, .opaque = &any };

        if (img->drv->bitmaps_read && img->drv->bitmaps_read(img, &reader) < 0) {
                err_clear();
                return true; /* and wrong ones */
        }
        return any;
}

static int resize_bits(struct bitmap_set *s, uint64_t size)
{
        int r = 0;

        list_for_each(n, &s->all) {
                struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (r == 0 && b->bits)
                        r = dirty_bitmap_resize(b->bits, size);
        }
        return r;
}

int tool_resize(struct fmt_image *img, uint64_t size, bool shrink)
{
        AUTO(bitmap_set_finish) struct bitmap_set s;
        uint64_t old = tool_disk_size(img);
        int r = bitmap_set_load(&s, img), resized;

        if (r < 0)
                return r;
        if (size > old)
                r = resize_bits(&s, size);
        resized = r == 0 ? img->drv->resize(img, size, shrink) : r;
        if (s.stored && (resized == 0 ? size < old : size > old))
                resize_bits(&s, resized == 0 ? size : old); /* shorter: needs no memory, does not fail */
        r = s.stored ? bitmap_set_store(&s, img) : 0;
        return resized < 0 ? resized : r;
}

int tool_bitmap_bits(const struct bitmap_set *s, const char *name, struct dirty_bitmap **ret)
{
        const struct named_bitmap *b = bitmap_set_find(s, name);
        int r = b ? bitmap_set_check(s, b, BITMAP_USE_READ) : err_note(-ENOENT, "Dirty bitmap '%s' not found", name);

        if (r == 0)
                *ret = b->bits;
        return r;
}

int tool_bitmap_merge(const struct named_bitmap *to, struct dirty_bitmap *from, const char *from_name)
{
        if (dirty_bitmap_merge(to->bits, from) == 0)
                return 0;
        return err_note(-EINVAL, "Bitmaps are of different sizes (destination size is %llu bytes, that of '%s' %llu) and can't be "
                        "merged", (unsigned long long)dirty_bitmap_size(to->bits), from_name,
                        (unsigned long long)dirty_bitmap_size(from));
}

/* --- copies ------------------------------------------------------------------------------------------------------- */

struct looked {
        bool skip_broken;
};

static int on_found(void *opaque, const struct fmt_bitmap *b)
{
        const struct looked *l = opaque;

        if (!b->in_use)
                return 0;
        if (!l->skip_broken)
                return err_note(-EINVAL, "Cannot copy inconsistent bitmap '%s': it was not stored after its last use. Try "
                                "--skip-broken-bitmaps, or 'bitmap --remove' to delete it", b->name);
        tool_warn("Skipping inconsistent bitmap '%s'", b->name);
        return 0;
}

int tool_may_copy_bitmaps(struct fmt_image *source, const struct fmt_driver *target, bool skip_broken)
{
        struct looked l = { skip_broken };
        const struct fmt_bitmap_reader reader = { .bitmap = on_found, .opaque = &l };

        if (!source->drv->bitmaps_read)
                return err_note(-ENOTSUP, "Format driver '%s' does not support bitmaps", source->drv->name);
        if (!target->bitmaps_store)
                return err_note(-ENOTSUP, "Format driver '%s' does not support bitmaps", target->name);
        return source->drv->bitmaps_read(source, &reader);
}

static int copy_one(const struct named_bitmap *from, struct bitmap_set *to, struct fmt_image *target)
{
        struct named_bitmap *b;
        int r = bitmap_set_add(to, target, tool_disk_size(target), from->name, from->granularity, true, NULL, &b);

        if (r < 0)
                return r;
        dirty_bitmap_record(b->bits, dirty_bitmap_recording(from->bits));
        return tool_bitmap_merge(b, from->bits, from->name);
}

int tool_copy_bitmaps(struct fmt_image *source, struct fmt_image *target, bool skip_broken)
{
        AUTO(bitmap_set_finish) struct bitmap_set from = { 0 }, to = { 0 };
        int r = bitmap_set_load(&from, source), stored;

        if (r == 0)
                r = bitmap_set_load(&to, target);
        if (r < 0)
                return r;
        list_for_each(n, &from.all) {
                const struct named_bitmap *b = list_entry(n, struct named_bitmap, link);

                if (r == 0 && (b->bits || !skip_broken))
                        r = b->bits ? copy_one(b, &to, target) : bitmap_set_check(&from, b, BITMAP_USE_READ);
        }
        stored = bitmap_set_store(&to, target);
        return r < 0 ? r : stored;
}
