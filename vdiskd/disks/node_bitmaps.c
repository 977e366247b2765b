/* SPDX-License-Identifier: BSD-3-Clause */
#include "node_bitmaps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/disks/node.h"

struct node *node_of_bitmaps(struct disks *d, const char *name)
{
        struct node *n = disks_find_node(d, name);

        if (n && n->vol)
                return n;
        err_note(-ENODEV, "Cannot find device='%s' nor node-name='%s'", name, name);
        return NULL;
}

int node_bitmap_bits(struct disks *d, const char *node, const char *name, enum bitmap_use use, struct dirty_bitmap **ret)
{
        struct node *n = node_of_bitmaps(d, node);

        return n ? vol_bitmap_use(n->vol, name, use, NULL, ret) : -ENODEV;
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

static json_t *bitmap_json(const struct named_bitmap *b)
{
        uint64_t dirty = b->bits ? dirty_bitmap_count(b->bits) * b->granularity : 0;
        json_t *o = json_pack("{s:o,s:I,s:I,s:b,s:b,s:b}", "name", json_string(b->name) ?: json_string("(not UTF-8)"), "count",
                              (json_int_t)dirty, "granularity", (json_int_t)b->granularity, "recording",
                              b->bits && dirty_bitmap_recording(b->bits), "busy", b->busy != NULL, "persistent", b->persistent);

        if (!b->bits)
                json_object_set_new(o, "inconsistent", json_true());
        return o;
}

json_t *node_bitmaps_json(struct node *n)
{
        const struct bitmap_set *s = vol_bitmaps_get(n->vol);
        json_t *all = list_empty(&s->all) ? NULL : json_array();

        list_for_each(l, &s->all)
                json_array_append_new(all, bitmap_json(list_entry(l, struct named_bitmap, link)));
        vol_bitmaps_put(n->vol);
        return all;
}

bool node_has_volatile_bitmaps(const struct node *n)
{
        const struct bitmap_set *s;
        bool any = false;

        if (!n->vol)
                return false;
        s = vol_bitmaps_get(n->vol);
        list_for_each(l, &s->all)
                any |= !list_entry(l, struct named_bitmap, link)->persistent;
        vol_bitmaps_put(n->vol);
        return any;
}

/* --- merging ------------------------------------------------------------------------------------------------------ */

static int add_source(struct bitmap_merge *m, struct disks *d, const char *node, const json_t *source)
{
        const char *name = json_string_value(json_is_object(source) ? json_object_get(source, "name") : source);
        const json_t *other = json_object_get(source, "node");
        int r;

        if (!name || (json_is_object(source) && (!json_is_string(other) || json_object_size(source) != 2)))
                return err_note(-EINVAL, "Invalid parameter type for 'bitmaps', expected: names, or objects with node and name");
        r = node_bitmap_bits(d, other ? json_string_value(other) : node, name, BITMAP_USE_READ, &m->from[m->n]);
        if (r < 0)
                return r;
        if (dirty_bitmap_size(m->from[m->n++]) == dirty_bitmap_size(m->to))
                return 0;
        return err_note(-EINVAL, "Bitmaps are of different sizes (destination size is %" PRIu64 ", that of '%s' %" PRIu64
                        ") and can't be merged", dirty_bitmap_size(m->to), name, dirty_bitmap_size(m->from[m->n - 1]));
}

int bitmap_merge_prepare(struct bitmap_merge *m, struct disks *d, const char *node, const char *target, const json_t *sources)
{
        int r;

        *m = (struct bitmap_merge){ 0 };
        r = node_bitmap_bits(d, node, target, BITMAP_USE_CHANGE, &m->to);
        m->from = r == 0 ? calloc(json_array_size(sources) + 1, sizeof(struct dirty_bitmap *)) : NULL;
        if (r == 0 && !m->from)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && i < json_array_size(sources); i++)
                r = add_source(m, d, node, json_array_get(sources, i));
        return r;
}

void bitmap_merge_apply(const struct bitmap_merge *m)
{
        for (size_t i = 0; i < m->n; i++)
                (void)dirty_bitmap_merge(m->to, m->from[i]); /* their sizes were compared */
}

void bitmap_merge_finish(struct bitmap_merge *m)
{
        for (size_t i = 0; i < m->n; i++)
                dirty_bitmap_unref(m->from[i]);
        free(m->from);
        dirty_bitmap_unref(m->to);
}
