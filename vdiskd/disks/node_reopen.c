/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What makes the node what it is must be the same (driver, files, keys, the images behind it); how its image is used
 * may change, and that is blkq/change/refit.h's work while guests' requests wait. The node's record follows when all
 * have done it.
 */
#include "node_reopen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "blkq/change/refit.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/json_member.h"

struct reopening {
        struct action a;
        struct vol_manner was, wanted;
        unsigned full_timeout_s;
        uint64_t max_in_flight;
        bool report_full;
        bool keeps_exports_away; /* node->written is ours */
        struct throttle_group *throttle; /* a reference; NULL: none */
        struct loop_task task;
        int res;
};

static struct reopening *reopening_of(struct action *a)
{
        return container_of(a, struct reopening, a);
}

/* --- what must be the same ---------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
        return a && b ? !strcmp(a, b) : a == b;
}

static int refuse(const struct node *n, const char *option, const char *now)
{
        return err_note(-EINVAL, "Cannot change the option '%s' of node '%s'%s%s%s", option, n->name, now ? ", which is '" : "",
                        now ? now : "", now ? "'" : "");
}

/* Of "file" or "data-file": the object, or the one that a node of driver file stands for. */
static int file_of(const struct node *n, const json_t *o, const char *key, const json_t **ret)
{
        const char *name = text_of(o, key);
        const struct file_node *f = name ? file_node_find(n->disks, name) : NULL;

        *ret = f ? f->file : json_object_get(o, key);
        return name && !f ? err_note(-ENOENT, "Cannot find device='%s' nor node-name='%s'", name, name) : 0;
}

static int check_file(const struct node *n, const json_t *o, const char *key, const char *option, const char *path)
{
        const json_t *file;
        int r = file_of(n, o, key, &file);

        if (r == 0 && !same(text_of(file, "filename"), path))
                r = refuse(n, option, path);
        return r;
}

static const struct inner_node *inner_at(const struct node *n, unsigned depth)
{
        list_for_each(l, &n->below)
                if (--depth == 0)
                        return list_entry(l, struct inner_node, link);
        return NULL;
}

/* What @o says about the image @img of the chain, named @in, if it says anything. */
static int check_behind(const struct node *n, const json_t *o, const struct fmt_image *img, const struct inner_node *in,
                        const struct fmt_layer *layer)
{
        const char *driver = text_of(o, "driver"), *name = text_of(o, "node-name");
        int r = json_object_get(o, "file") ? check_file(n, o, "file", "backing.file.filename", img->file ? img->file->path : "null") : 0;

        if (r == 0 && driver && strcmp(driver, img->drv->name))
                r = refuse(n, "backing.driver", img->drv->name);
        if (r == 0 && name && in && strcmp(name, in->name))
                r = refuse(n, "backing.node-name", in->name);
        if (r == 0 && json_object_get(o, "encrypt") &&
            !same(text_of(json_object_get(o, "encrypt"), "key-secret"), layer ? layer->key_secret : NULL))
                r = refuse(n, "backing.encrypt.key-secret", NULL);
        if (r == 0 && json_object_get(o, "data-file"))
                r = check_file(n, o, "data-file", "backing.data-file.filename", img->data_file ? img->data_file->path : NULL);
        return r;
}

/* As QEMU has it: it must be there, unless there is none and the image names none. */
static int check_chain(const struct node *n, const json_t *o, const struct fmt_image *img)
{
        const struct fmt_layer *layer = n->layer;

        if (!json_object_get(o, "backing") && img && (img->backing || img->backing_name))
                return err_note(-EINVAL, "backing is missing for '%s'", n->name);
        for (unsigned depth = 1; img; depth++, img = img->backing) {
                const json_t *next = json_object_get(o, "backing");
                const struct inner_node *in = inner_at(n, depth);
                int r;

                layer = layer ? layer->backing : NULL;
                if (!next)
                        return 0;
                if (json_is_null(next) || !img->backing)
                        return !img->backing && json_is_null(next) ? 0 : refuse(n, "backing", in ? in->name : NULL);
                if (json_is_string(next))
                        return in && !strcmp(in->name, json_string_value(next)) ? 0 : refuse(n, "backing", in ? in->name : NULL);
                r = check_behind(n, next, img->backing, in, layer);
                if (r < 0)
                        return r;
                o = next;
        }
        return 0;
}

static int check_same(const struct node *n, const json_t *o)
{
        const char *driver = strcmp(n->format, "null") ? n->format : "null-co";
        const struct fmt_layer *l = n->layer;
        int r = 0;

        if (strcmp(text_of(o, "driver"), driver))
                return refuse(n, "driver", driver);
        if (!n->path) {
                const json_t *size = json_object_get(o, "size");

                return (size ? (uint64_t)json_integer_value(size) : 1u << 30) == n->null_size ? 0 : refuse(n, "size", NULL);
        }
        r = check_file(n, o, "file", "filename", n->path);
        if (r == 0 && (json_object_get(o, "data-file") || (l && l->data_path)))
                r = check_file(n, o, "data-file", "data-file.filename", l ? l->data_path : NULL);
        if (r == 0 && !same(text_of(json_object_get(o, "encrypt"), "key-secret"), l ? l->key_secret : NULL))
                r = refuse(n, "encrypt.key-secret", l ? l->key_secret : NULL);
        if (r == 0 && flag_of(o, "migratable", false) != n->migratable)
                r = refuse(n, "migratable", NULL);
        if (r == 0) {
                const struct fmt_image *top = vol_image_get(n->vol);

                r = top && vol_is_awake(n->vol) ? check_chain(n, o, top) : err_note(-EBUSY, "the image is not in use here");
                vol_image_put(n->vol);
        }
        return r;
}

/* --- what may change ---------------------------------------------------------------------------------------------- */

/* The file's word wins, as when it is added. */
static int read_cache(const struct node *n, const json_t *o, bool *direct)
{
        const json_t *file = NULL, *own = json_object_get(o, "cache");
        int r = file_of(n, o, "file", &file);

        if (r < 0)
                return r;
        if (flag_of(own, "no-flush", false) || flag_of(json_object_get(file, "cache"), "no-flush", false))
                return err_note(-EINVAL, "Parameter 'cache.no-flush' does not accept true: a guest's flush makes its data durable");
        *direct = flag_of(json_object_get(file, "cache"), "direct", flag_of(own, "direct", false));
        return 0;
}

static bool has_writers(const struct node *n)
{
        list_for_each(l, &n->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n && !x->read_only)
                        return true;
        }
        return false;
}

/* Limits that block_set_io_throttle or the disk's own keys gave it are none of these options. */
static int read_throttle(struct reopening *p, const struct node *n)
{
        const char *name = text_of(p->a.data, "throttle-group");
        struct throttle_group *now = vol_throttle(n->vol);
        const struct limit_group *lg = now ? limits_find(n->disks, throttle_group_name(now)) : NULL;

        if (!name && lg && !lg->object) {
                p->throttle = now;
                return 0;
        }
        throttle_group_unref(now);
        return limits_choose(n->disks, n->name, name, NULL, &p->throttle);
}

static int read_wanted(struct reopening *p, const struct node *n)
{
        const json_t *o = p->a.data, *timeout = json_object_get(o, "full-timeout"), *most = json_object_get(o, "max-in-flight");
        bool direct = false;
        int r = read_cache(n, o, &direct);

        if (r < 0)
                return r;
        p->report_full = same(text_of(o, "on-full"), "report");
        p->full_timeout_s = timeout ? (unsigned)json_integer_value(timeout) : FULL_TIMEOUT_S;
        p->max_in_flight = most ? (uint64_t)json_integer_value(most) : MAX_IN_FLIGHT;
        p->wanted = (struct vol_manner){
                .read_only = flag_of(o, "read-only", false),
                .writeback = !direct,
                .entry_with_data = !flag_of(o, "data-first", true),
                .wait_for_space = !p->report_full,
                .space_timeout_s = p->full_timeout_s,
        };
        p->was = (struct vol_manner){
                .read_only = n->read_only,
                .writeback = n->writeback,
                .entry_with_data = n->entry_with_data,
                .wait_for_space = !n->report_full,
                .space_timeout_s = n->full_timeout_s,
        };
        if (p->wanted.read_only && has_writers(n))
                return err_note(-EPERM, "Read-only block node '%s' cannot support read-write users", node_known_as(n));
        return read_throttle(p, n);
}

/* --- the action --------------------------------------------------------------------------------------------------- */

static int find(struct disks *d, const char *name, struct node **ret)
{
        const struct inner_node *i;

        if (!name)
                return err_note(-EINVAL, "node-name not specified");
        if (filter_node_find(d, name))
                return err_note(-ENOTSUP, "Node '%s' is a throttle node, whose group cannot be changed: qom-set changes the group's limits",
                                name);
        *ret = disks_find_node(d, name);
        i = *ret ? NULL : disks_find_inner(d, name);
        if (i)
                return err_note(-EBUSY, "Node '%s' is busy: node is used as backing hd of '%s'", name, inner_node_over(i));
        if (!*ret && file_node_find(d, name))
                return err_note(-ENOTSUP, "Node '%s' is a file: the image that refers to it can be reopened", name);
        return *ret ? 0 : err_note(-ENOENT, "Failed to find node with node-name='%s'", name);
}

static int check(struct action *a)
{
        struct reopening *p = reopening_of(a);
        struct node *n;
        int r = find(a->d, text_of(a->data, "node-name"), &n);

        if (r == 0)
                r = node_is_free(n);
        if (r == 0 && n->resizing)
                r = err_note(-EBUSY, "Node '%s' is busy: it is being resized", node_known_as(n));
        if (r == 0)
                r = check_same(n, a->data);
        if (r == 0)
                r = read_wanted(p, n);
        if (r == 0)
                r = action_take_node(a, n);
        if (r < 0)
                return r;
        a->settled = true;
        p->keeps_exports_away = n->written = p->wanted.read_only;
        return 0;
}

/* Much of what settling has to write is written before guests wait. */
static void on_flushed(struct loop_task *task)
{
        struct reopening *p = container_of(task, struct reopening, task);

        action_begun(&p->a, p->res, "the disk could not be flushed");
}

static void on_vol_flushed(void *opaque, int res)
{
        struct reopening *p = opaque;

        p->res = res;
        p->task.run = on_flushed;
        loop_post(p->a.d->loop, &p->task);
}

static void begin(struct action *a)
{
        vol_flush(a->node->vol, on_vol_flushed, reopening_of(a));
}

static int work(struct action *a)
{
        return err_prefix(vol_refit(a->node->vol, &reopening_of(a)->wanted), "Could not reopen '%s': ", a->node->name);
}

static void unwork(struct action *a)
{
        struct reopening *p = reopening_of(a);

        if (vol_refit(a->node->vol, &p->was) < 0)
                log_err("%s: cannot be opened as it was: %s", node_label(a->node), err_text(-EIO));
        else
                vol_refit_stays(a->node->vol);
        err_clear();
}

static void apply(struct action *a)
{
        vol_refit_stays(a->node->vol);
}

static void let_exports(struct reopening *p)
{
        if (p->keeps_exports_away)
                p->a.node->written = false;
        p->keeps_exports_away = false;
}

static void abort_it(struct action *a)
{
        let_exports(reopening_of(a));
}

static void commit(struct action *a, uint64_t pause_ns)
{
        struct reopening *p = reopening_of(a);
        struct throttle_group *now = vol_throttle(a->node->vol);
        struct node *n = a->node;

        n->read_only = p->wanted.read_only;
        n->writeback = p->wanted.writeback;
        n->entry_with_data = p->wanted.entry_with_data;
        n->report_full = p->report_full;
        n->full_timeout_s = p->full_timeout_s;
        node_set_max_in_flight(n, p->max_in_flight);
        if (now != p->throttle && vol_set_throttle(n->vol, p->throttle) < 0)
                log_err("%s: there is no memory for its limits: they stay as they were", node_label(n));
        throttle_group_unref(now);
        limits_sweep(n->disks);
        let_exports(p);
        log_info("%s: reopened, %s, %s; guests waited %" PRIu64 " us", node_label(n), n->read_only ? "read-only" : "read-write",
                 n->writeback ? "through the page cache" : "direct", pause_ns / 1000);
}

static void free_it(struct action *a)
{
        throttle_group_unref(reopening_of(a)->throttle);
}

const struct action_type reopen_action = {
        .name = "blockdev-reopen",
        .size = sizeof(struct reopening),
        .check = check,
        .begin = begin,
        .work = work,
        .unwork = unwork,
        .apply = apply,
        .abort = abort_it,
        .commit = commit,
        .free = free_it,
};
