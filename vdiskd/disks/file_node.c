/* SPDX-License-Identifier: BSD-3-Clause */
#include "file_node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/parcel.h"
#include "common/path.h"
#include "common/range.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/json_member.h"

struct file_node *file_node_find(const struct disks *d, const char *name)
{
        list_for_each(l, &d->files)
                if (!strcmp(list_entry(l, struct file_node, link)->name, name))
                        return list_entry(l, struct file_node, link);
        return NULL;
}

bool file_node_used(const struct disks *d, const struct file_node *f)
{
        return f->user && disks_name_taken(d, f->user);
}

void file_node_free(struct file_node *f)
{
        list_del(&f->link);
        json_decref(f->file);
        free(f->name);
        free(f->user);
        free(f);
}

void file_nodes_finish(struct disks *d)
{
        list_for_each_safe(l, &d->files)
                file_node_free(list_entry(l, struct file_node, link));
}

static int enter(struct disks *d, const char *name, json_t *file, bool read_only, const char *user)
{
        struct file_node *f = calloc(1, sizeof(*f));

        if (!f) {
                json_decref(file);
                return -ENOMEM;
        }
        list_init(&f->link);
        f->name = strdup(name);
        f->user = user ? strdup(user) : NULL;
        f->file = file;
        f->read_only = read_only;
        if (!f->name || !f->file || (user && !f->user)) {
                file_node_free(f);
                return -ENOMEM;
        }
        list_add_tail(&d->files, &f->link);
        return 0;
}

int file_node_add(struct disks *d, json_t *args)
{
        const char *name = text_of(args, "node-name"), *path = text_of(args, "filename");
        bool read_only = json_is_true(json_object_get(args, "read-only"));
        struct stat st;
        json_t *file;
        int r;

        r = path_look(path, true, &st);
        if (r < 0)
                return err_note(r, "Could not open '%s': %s", path, strerror(-r));
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return err_note(-EINVAL, "Could not open '%s': it is neither a regular file nor a block device", path);
        file = json_deep_copy(args);
        json_object_del(file, "node-name");
        json_object_del(file, "read-only");
        return enter(d, name, file, read_only, NULL);
}

/* --- references ---------------------------------------------------------------------------------------------------- */

static int resolve_one(struct disks *d, json_t *top, json_t *o, const char *key, const char *user)
{
        const char *name = text_of(o, key);
        struct filter_node *filter = name ? filter_node_find(d, name) : NULL;
        struct file_node *f = filter ? filter->file : name ? file_node_find(d, name) : NULL;

        if (!name)
                return 0;
        if (f && filter_node_of_file(d, f) != filter)
                return err_note(-EBUSY, "Node '%s' is in use by '%s'", name, filter_node_of_file(d, f)->name);
        if (f && filter && (o != top || strcmp(key, "file")))
                return err_note(-EINVAL, "Node '%s' has limits, which only the file of the disk itself can have", name);
        if (f && filter && text_of(top, "throttle-group") && strcmp(text_of(top, "throttle-group"), filter->group))
                return err_note(-EINVAL, "Node '%s' has the limits of group '%s', and a disk has those of one group", name,
                                filter->group);
        if (f && filter && json_object_set_new(top, "throttle-group", json_string(filter->group)) < 0)
                return -ENOMEM;
        if (!f && disks_find_node(d, name))
                return err_note(-EINVAL, "Node '%s' is an image; '%s' takes a node of driver file or host_device", name, key);
        if (!f)
                return err_note(-ENOENT, "Cannot find device='%s' nor node-name='%s'", name, name);
        if (file_node_used(d, f))
                return err_note(-EBUSY, "Node '%s' is in use by '%s'", name, f->user);
        free(f->user);
        f->user = user ? strdup(user) : NULL;
        return json_object_set_new(o, key, json_deep_copy(f->file)) < 0 ? -ENOMEM : 0;
}

int file_nodes_resolve(struct disks *d, json_t *args)
{
        const char *user = text_of(args, "node-name");
        int r = 0;

        for (json_t *o = args; r == 0 && json_is_object(o); o = json_object_get(o, "backing")) {
                r = resolve_one(d, args, o, "file", user);
                if (r == 0)
                        r = resolve_one(d, args, o, "data-file", user);
        }
        return r;
}

/* --- telling ------------------------------------------------------------------------------------------------------- */

json_t *file_node_describe(const struct file_node *f)
{
        const char *path = text_of(f->file, "filename"), *driver = text_of(f->file, "driver");
        bool direct = json_is_true(json_object_get(json_object_get(f->file, "cache"), "direct"));
        static const char *const limits[] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
        struct stat st = { 0 };
        json_t *o;

        path_look(path, true, &st); /* zeros when it is gone */
        o = json_pack("{s:s,s:s,s:s,s:b,s:b,s:s,s:i,s:i,s:{s:b,s:b,s:b},s:{s:s,s:s,s:I,s:I,s:b}}", "node-name", f->name, "drv", driver,
                      "file", path, "ro", f->read_only, "encrypted", 0, "detect_zeroes", "off", "backing_file_depth", 0,
                      "write_threshold", 0, "cache", "writeback", 1, "direct", direct, "no-flush", 0, "image", "filename", path,
                      "format", driver, "virtual-size", (json_int_t)round_up((uint64_t)st.st_size, 512), "actual-size",
                      (json_int_t)st.st_blocks * 512, "dirty-flag", 0);
        for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
                json_object_set_new(o, limits[i], json_integer(0));
        return o;
}

/* --- for another process ------------------------------------------------------------------------------------------ */

json_t *file_nodes_pack(const struct disks *d)
{
        json_t *all = json_array();

        list_for_each(l, &d->files) {
                const struct file_node *f = list_entry(l, struct file_node, link);

                json_array_append_new(all, json_pack("{s:s,s:s?,s:O,s:b}", "name", f->name, "user", f->user, "file", f->file,
                                                     "read-only", f->read_only));
        }
        return all;
}

static int unpack_one(struct disks *d, const json_t *o)
{
        const char *name, *user;
        const json_t *file;
        bool read_only;
        int r = parcel_get_text(o, "name", false, &name);

        if (r == 0)
                r = parcel_get_text(o, "user", true, &user);
        if (r == 0)
                r = parcel_get_object(o, "file", false, &file);
        if (r == 0)
                r = parcel_get_bool(o, "read-only", &read_only);
        if (r == 0 && (!text_of(file, "filename") || !text_of(file, "driver")))
                r = err_note(-EBADMSG, "a file node without its file");
        return r < 0 ? r : enter(d, name, json_deep_copy(file), read_only, user);
}

int file_nodes_unpack(struct disks *d, const json_t *all)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(all); i++)
                r = unpack_one(d, json_array_get(all, i));
        return r;
}
