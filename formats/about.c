/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * about.c - what an image says of itself, for who asks while it is served. It is looked up when the image is opened:
 * all of it changes only when the image is opened again.
 */
#include "common/err.h"
#include "formats/format.h"

json_t *fmt_snapshot_json(const struct fmt_snapshot *s)
{
        json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "id", s->id, "name", s->name, "vm-state-size",
                              (json_int_t)s->vm_state_size, "date-sec", (json_int_t)s->date_sec, "date-nsec",
                              (json_int_t)s->date_nsec, "vm-clock-sec", (json_int_t)(s->vm_clock_ns / 1000000000),
                              "vm-clock-nsec", (json_int_t)(s->vm_clock_ns % 1000000000));

        if (o && s->icount != UINT64_MAX)
                json_object_set_new(o, "icount", json_integer((json_int_t)s->icount));
        return o;
}

/* What could not be read is left out, and its sentence with it; that of who opens the image because something failed
 * stays. */
static bool is_read(int r)
{
        if (r < 0)
                err_clear();
        return r == 0;
}

static json_t *snapshots(struct fmt_image *img)
{
        struct fmt_snapshot *s = NULL;
        json_t *all = NULL;
        size_t n = 0;

        if (!img->drv->snapshot_list || !is_read(img->drv->snapshot_list(img, &s, &n)))
                return NULL;
        all = n ? json_array() : NULL;
        for (size_t i = 0; i < n; i++)
                json_array_append_new(all, fmt_snapshot_json(&s[i]));
        fmt_snapshots_free(s, n);
        return all;
}

static json_t *specific(struct fmt_image *img)
{
        json_t *o = json_object();

        if (!img->drv->info || !is_read(img->drv->info(img, o))) {
                json_decref(o);
                return NULL;
        }
        json_object_del(json_object_get(o, "data"), "bitmaps"); /* in use: the disk's own say more (dirty-bitmaps) */
        return o;
}

void fmt_tell(struct fmt_image *img)
{
        json_t *o = json_object(), *list = snapshots(img), *data = specific(img);

        if (list)
                json_object_set_new(o, "snapshots", list);
        if (data)
                json_object_set_new(o, "format-specific", data);
        img->about = o;
}
