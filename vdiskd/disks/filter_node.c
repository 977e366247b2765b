/* SPDX-License-Identifier: BSD-3-Clause */
#include "filter_node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/parcel.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"

/* --- finding -------------------------------------------------------------------------------------------------------- */

struct filter_node *filter_node_find(const struct disks *d, const char *name)
{
        list_for_each(l, &d->filters)
                if (!strcmp(list_entry(l, struct filter_node, link)->name, name))
                        return list_entry(l, struct filter_node, link);
        return NULL;
}

struct filter_node *filter_node_of(const struct disks *d, const struct node *n)
{
        list_for_each(l, &d->filters)
                if (list_entry(l, struct filter_node, link)->node == n)
                        return list_entry(l, struct filter_node, link);
        return NULL;
}

struct filter_node *filter_node_of_file(const struct disks *d, const struct file_node *f)
{
        list_for_each(l, &d->filters)
                if (list_entry(l, struct filter_node, link)->file == f)
                        return list_entry(l, struct filter_node, link);
        return NULL;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

static void filter_free(struct filter_node *f)
{
        list_del(&f->link);
        free(f->name);
        free(f->group);
        free(f);
}

static int enter(struct disks *d, const char *name, const char *group, struct node *n, struct file_node *file, bool owns)
{
        struct filter_node *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        list_init(&f->link);
        f->name = strdup(name);
        f->group = strdup(group);
        f->node = n;
        f->file = file;
        f->owns = owns;
        if (!f->name || !f->group) {
                filter_free(f);
                return -ENOMEM;
        }
        list_add_tail(&d->filters, &f->link);
        return 0;
}

static int check_file(const struct disks *d, const struct file_node *file)
{
        if (file_node_used(d, file))
                return err_note(-EBUSY, "Node '%s' is in use by '%s'", file->name, file->user);
        if (filter_node_of_file(d, file))
                return err_note(-EBUSY, "Node '%s' is in use by '%s'", file->name, filter_node_of_file(d, file)->name);
        return 0;
}

static int check_node(struct disks *d, struct node *n)
{
        struct throttle_group *now = vol_throttle(n->vol);
        int r = 0;

        if (now)
                r = err_note(-EBUSY, "Node '%s' has the limits of group '%s', and a disk has those of one group", n->name,
                             throttle_group_name(now));
        throttle_group_unref(now);
        return r < 0 ? r : node_is_free(n);
}

int filter_node_add(struct disks *d, json_t *args)
{
        const char *name = json_string_value(json_object_get(args, "node-name"));
        const char *group = json_string_value(json_object_get(args, "throttle-group"));
        const char *over = json_string_value(json_object_get(args, "file"));
        struct file_node *file = file_node_find(d, over);
        struct node *n = file ? NULL : disks_find_node(d, over);
        int r;

        if (!group)
                return err_note(-EINVAL, "Parameter 'throttle-group' is missing");
        if (!limits_find(d, group))
                return err_note(-EINVAL, "Throttle group '%s' does not exist", group);
        if (!file && !n)
                return err_note(-ENOENT, "Cannot find device='%s' nor node-name='%s'", over, over);
        r = file ? check_file(d, file) : check_node(d, n);
        if (r == 0 && n)
                r = limits_join(n, group);
        return r < 0 ? r : enter(d, name, group, n, file, false);
}

int filter_node_add_owner(struct disks *d, const char *name, const char *group, struct node *n, struct file_node *file)
{
        return enter(d, name, group, n, file, true);
}

int filter_node_del(struct disks *d, struct filter_node *f, struct node **owned)
{
        *owned = NULL;
        if ((f->node && f->node->nexports) || (f->file && file_node_used(d, f->file)))
                return err_note(-EBUSY, "Node %s is in use", f->name);
        if (f->node && node_is_free(f->node) < 0)
                return -EBUSY;
        if (f->node && f->node->vol)
                limits_join(f->node, NULL);
        if (f->owns && f->file)
                file_node_free(f->file);
        else if (f->owns)
                *owned = f->node;
        filter_free(f);
        return 0;
}

void filter_nodes_forget(struct node *n)
{
        struct filter_node *f = n->disks ? filter_node_of(n->disks, n) : NULL;

        if (f)
                filter_free(f);
}

void filter_nodes_follow(struct node *a, struct node *b)
{
        struct filter_node *f = filter_node_of(a->disks, a);

        if (f)
                f->node = b, f->owns = false; /* @b is somebody's, and @a has a name */
}

void filter_nodes_finish(struct disks *d)
{
        list_for_each_safe(l, &d->filters)
                filter_free(list_entry(l, struct filter_node, link));
}

/* --- telling -------------------------------------------------------------------------------------------------------- */

json_t *filter_node_describe(const struct filter_node *f, json_t *of)
{
        static const char *const not_its_own[] = { "backing_file", "dirty-bitmaps", "waiting-for-space", "active" };
        json_t *o = of ? of : file_node_describe(f->file), *image = json_object_get(o, "image"), *own = json_object();
        static const char *const of_image[] = { "filename", "virtual-size", "actual-size", "dirty-flag" };

        for (size_t i = 0; i < ARRAY_SIZE(not_its_own); i++)
                json_object_del(o, not_its_own[i]);
        for (size_t i = 0; i < ARRAY_SIZE(of_image); i++)
                if (json_object_get(image, of_image[i]))
                        json_object_set(own, of_image[i], json_object_get(image, of_image[i]));
        json_object_set_new(own, "format", json_string("throttle"));
        json_object_set_new(o, "image", own);
        json_object_set_new(o, "node-name", json_string(f->name));
        json_object_set_new(o, "drv", json_string("throttle"));
        json_object_set_new(o, "group", json_string(f->group));
        return o;
}

/* --- for another process ------------------------------------------------------------------------------------------ */

json_t *filter_nodes_pack(const struct disks *d)
{
        json_t *all = json_array();

        list_for_each(l, &d->filters) {
                const struct filter_node *f = list_entry(l, struct filter_node, link);

                json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:b}", "name", f->name, "group", f->group, "over",
                                                     f->node ? f->node->name : f->file->name, "owns", f->owns));
        }
        return all;
}

static int unpack_one(struct disks *d, const json_t *o)
{
        const char *name, *group, *over;
        struct file_node *file;
        struct node *n;
        bool owns = false;
        int r = parcel_get_text(o, "name", false, &name);

        if (r == 0)
                r = parcel_get_text(o, "group", false, &group);
        if (r == 0)
                r = parcel_get_text(o, "over", false, &over);
        if (r == 0 && json_object_get(o, "owns")) /* not from before there was such a thing */
                r = parcel_get_bool(o, "owns", &owns);
        if (r < 0)
                return r;
        file = file_node_find(d, over);
        n = file ? NULL : disks_find_node(d, over);
        if (!file && !n)
                return err_note(-EBADMSG, "a throttle node in front of '%s', which is not there", over);
        return enter(d, name, group, n, file, owns);
}

int filter_nodes_unpack(struct disks *d, const json_t *all)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(all); i++)
                r = unpack_one(d, json_array_get(all, i));
        return r;
}
