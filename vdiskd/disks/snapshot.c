/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Overlays. The struct node of a disk stays what it is, with its volume, exports and counters; at the end it gets the
 * name and the path of the overlay, and what it was called before is an inner node. So a name always means the same
 * image.
 */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blkq/change/overlay.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/path.h"
#include "vdiskd/id.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/block_export.h"

struct overlay_action {
        struct action a;
        const char *format;        /* a driver's word */
        const char *path;          /* of the overlay */
        char *new_path, *name;     /* of its node */
        struct fmt_layer *layer;   /* the chain as it will be */
        struct inner_node *inner;  /* what the disk is called now */
        bool create, made;
        struct vol_overlay *overlay;

        /* blockdev-snapshot: */
        struct node *other;        /* the overlay's */
        struct fmt_image *taken;
        struct loop_task task;
        int res;
};

static struct overlay_action *overlay_of(struct action *a)
{
        return container_of(a, struct overlay_action, a);
}

static const char *text_of(const struct action *a, const char *name)
{
        return json_string_value(json_object_get(a->data, name));
}

/* --- what both need ------------------------------------------------------------------------------------------------- */

int disk_of_args(struct disks *d, const char *device, const char *name, struct node **ret)
{
        struct inner_node *i;

        *ret = name ? disks_find_node(d, name) : device ? disks_find_device(d, device) : NULL;
        i = *ret ? NULL : disks_find_inner(d, name ? name : device ? device : "");
        if (i)
                return err_note(-EBUSY, "Node '%s' is busy: node is used as backing hd of '%s'", i->name, inner_node_over(i));
        return *ret ? 0 : err_note(-ENOENT, "Cannot find device='%s' nor node-name='%s'", device ? device : "", name ? name : "");
}

static int check_disk(const struct node *n)
{
        if (!n->path)
                return err_note(-ENOTSUP, "Node '%s' has no file that an overlay could name", node_known_as(n));
        if (n->migratable)
                return err_note(-ENOTSUP, "Node '%s' is used by several hosts in turn (migratable): the others would not know of "
                                "its overlay", node_known_as(n));
        if (n->read_only || vol_read_only(n->vol))
                return err_note(-EROFS, "Node '%s' is read only", node_known_as(n));
        return 0;
}

/* The chain as it will be: @top in front of what was said so far. NULL: no memory. */
static struct fmt_layer *layer_over(const struct node *n, const struct fmt_layer *top)
{
        struct fmt_layer below = n->layer ? *n->layer : (struct fmt_layer){ 0 }, l = top ? *top : (struct fmt_layer){ 0 };
        struct fmt_layer *ret;

        below.path = n->path;
        below.format = n->format;
        l.no_backing = false;
        l.backing = &below;
        return fmt_layer_dup(&l, &ret) < 0 ? NULL : ret;
}

/* All that is needed later, so that nothing can fail then. */
static int get_ready(struct overlay_action *o, const char *name, const struct fmt_layer *top)
{
        struct node *n = o->a.node;

        o->name = name ? strdup(name) : node_name_made_up(o->a.d);
        o->layer = layer_over(n, top);
        o->inner = inner_node_new(n, n->name);
        o->new_path = strdup(o->path);
        return o->name && o->layer && o->inner && o->new_path ? 0 : -ENOMEM;
}

static void overlay_apply(struct action *a)
{
        struct vol_overlay *v = overlay_of(a)->overlay;

        v->change.apply(&v->change);
}

static void swap_text(char **a, char **b)
{
        char *was = *a;

        *a = *b;
        *b = was;
}

/* The names follow the images. */
static void overlay_commit(struct action *a, uint64_t pause_ns)
{
        struct overlay_action *o = overlay_of(a);
        struct node *n = a->node;
        struct fmt_layer *was = n->layer;

        log_info("%s: goes on in %s; guests waited %" PRIu64 " us", node_label(n), o->path, pause_ns / 1000);
        list_add_head(&n->below, &o->inner->link);
        o->inner = NULL;
        swap_text(&n->name, &o->name);
        swap_text(&n->path, &o->new_path);
        n->format = o->format;
        n->layer = TAKE(o->layer, NULL);
        fmt_layer_free(was);
        if (o->other)
                node_drop(TAKE(o->other, NULL));
        block_exports_follow(n);
}

static void overlay_free(struct action *a)
{
        struct overlay_action *o = overlay_of(a);

        vol_overlay_free(o->overlay);
        free(o->name);
        free(o->new_path);
        fmt_layer_free(o->layer);
        inner_node_free(o->inner);
}

/* --- blockdev-snapshot-sync ------------------------------------------------------------------------------------------- */

static const char *const modes[] = { "existing", "absolute-paths", NULL };
const struct qmp_arg snapshot_sync_args[] = {
        { "device", QMP_STR, .optional = true },
        { "node-name", QMP_STR, .optional = true },
        { "snapshot-file", QMP_STR },
        { "snapshot-node-name", QMP_STR, .optional = true },
        { "format", QMP_STR, .optional = true },
        { "mode", QMP_STR, .optional = true, .values = modes },
        { NULL },
};

static int check_new_name(struct action *a, const char *name)
{
        if (!name)
                return 0;
        if (!id_is_valid(name))
                return err_note(-EINVAL, "Invalid node-name: '%s'", name);
        if (strlen(name) > ID_BYTES)
                return err_note(-EINVAL, "Node name too long");
        if (disks_name_taken(a->d, name))
                return err_note(-EEXIST, "New overlay node-name already in use: '%s'", name);
        list_for_each(l, &a->t->actions) { /* by one of the same transaction */
                struct action *other = list_entry(l, struct action, link);

                if (other->checked && other->type == a->type && !strcmp(overlay_of(other)->name, name))
                        return err_note(-EEXIST, "New overlay node-name already in use: '%s'", name);
        }
        return 0;
}

static int sync_check(struct action *a)
{
        struct overlay_action *o = overlay_of(a);
        const char *format = text_of(a, "format") ?: "qcow2", *mode = text_of(a, "mode");
        const struct fmt_driver *drv = fmt_driver_find(format);
        struct node *n;
        int r = disk_of_args(a->d, text_of(a, "device"), text_of(a, "node-name"), &n);

        if (r == 0)
                r = check_disk(n);
        if (r == 0)
                r = check_new_name(a, text_of(a, "snapshot-node-name"));
        if (r < 0)
                return r;
        if (!drv)
                return err_note(-EINVAL, "Unknown driver '%s'", format);
        if (!(drv->caps & FMT_HAS_BACKING) || !(drv->caps & FMT_CAN_WRITE))
                return err_note(-ENOTSUP, "Format '%s' cannot be used for an overlay: its images have no backing file", format);
        o->format = drv->name;
        o->path = text_of(a, "snapshot-file");
        o->create = !mode || strcmp(mode, "existing");
        r = action_take_node(a, n);
        return r < 0 ? r : get_ready(o, text_of(a, "snapshot-node-name"), NULL);
}

/* An empty file that somebody has made for us is welcome; one with something in it is not ours to overwrite. */
static int look_for_file(const char *path, bool *there)
{
        struct stat st;

        int r = path_look(path, false, &st);

        *there = r == 0;
        if (r < 0 && r != -ENOENT)
                return err_note(r, "'%s': cannot look: %s", path, strerror(-r));
        if (*there && (!S_ISREG(st.st_mode) || st.st_size))
                return err_note(-EEXIST, "'%s' exists, and is not empty: an overlay that is ready to be used goes with mode "
                                "'existing'", path);
        return 0;
}

static int create_file(struct overlay_action *o)
{
        const struct node *n = o->a.node;
        AUTO(freep) char *backing = NULL; /* the overlay may lie elsewhere, and our directory be another one */
        struct fmt_create req = { .size = vol_size(n->vol), .backing_format = n->format };
        bool there;
        int r = path_real(n->path, &backing);

        if (r < 0)
                return err_note(r, "'%s': its overlay must name it: %s", n->path, strerror(-r));
        req.backing_name = backing;
        r = look_for_file(o->path, &there);
        if (r == 0)
                r = fmt_create_path(o->path, fmt_driver_find(o->format), &req);
        if (r < 0)
                return r;
        o->made = !there;
        return file_sync_directory(o->path);
}

static int sync_prepare(struct action *a)
{
        struct overlay_action *o = overlay_of(a);
        int r = o->create ? create_file(o) : 0;

        return r < 0 ? r : vol_overlay_open(a->node->vol, o->path, o->format, o->layer, &o->overlay);
}

static void sync_undo(struct action *a)
{
        struct overlay_action *o = overlay_of(a);

        vol_overlay_free(TAKE(o->overlay, NULL));
        if (o->made)
                path_unlink(o->path);
}

const struct action_type snapshot_sync_action = {
        .name = "blockdev-snapshot-sync",
        .args = snapshot_sync_args,
        .size = sizeof(struct overlay_action),
        .check = sync_check,
        .prepare = sync_prepare,
        .apply = overlay_apply,
        .undo = sync_undo,
        .commit = overlay_commit,
        .free = overlay_free,
};

/* --- blockdev-snapshot ------------------------------------------------------------------------------------------------ */

const struct qmp_arg snapshot_args[] = { { "node", QMP_STR }, { "overlay", QMP_STR }, { NULL } };

static bool has_backing(struct node *n)
{
        const struct fmt_image *top = vol_image_get(n->vol);
        bool backing = top && top->backing;

        vol_image_put(n->vol);
        return backing;
}

static int check_overlay(const struct action *a, struct node *o)
{
        if (o == a->node || o->nexports || o->busy || o->pins)
                return err_note(-EBUSY, "The overlay is already in use");
        if (has_backing(o))
                return err_note(-EINVAL, "The overlay already has a backing image");
        if (!(fmt_driver_find(o->format)->caps & FMT_HAS_BACKING))
                return err_note(-ENOTSUP, "The overlay does not support backing images");
        return check_disk(o);
}

static int snapshot_check(struct action *a)
{
        struct overlay_action *o = overlay_of(a);
        const char *node = text_of(a, "node"), *overlay = text_of(a, "overlay");
        struct node *n, *other;
        int r = disk_of_args(a->d, NULL, node, &n);

        if (r == 0)
                r = disk_of_args(a->d, NULL, overlay, &other);
        if (r == 0)
                r = check_disk(n);
        if (r == 0)
                r = action_take_node(a, n);
        if (r == 0)
                r = check_overlay(a, other);
        if (r < 0)
                return r;
        o->format = other->format;
        o->path = other->path;
        r = get_ready(o, other->name, other->layer);
        if (r < 0)
                return r;
        o->other = other;
        other->closing = true; /* nobody finds it, and its name is taken */
        return 0;
}

static void on_taken(struct loop_task *task)
{
        struct overlay_action *o = container_of(task, struct overlay_action, task);

        action_begun(&o->a, o->res, "not all of the overlay could be made durable");
}

/* Home of the overlay's volume, which is gone. */
static void on_vol_taken(void *opaque, int res, struct fmt_image *top)
{
        struct overlay_action *o = opaque;

        o->res = res;
        o->taken = top;
        o->task.run = on_taken;
        loop_post(o->a.d->loop, &o->task);
}

static void snapshot_begin(struct action *a)
{
        struct overlay_action *o = overlay_of(a);

        vol_take(TAKE(o->other->vol, NULL), on_vol_taken, o);
}

static struct fmt_open_opts how(const struct node *n)
{
        return (struct fmt_open_opts){
                .format = n->format, .cache_bytes = n->disks->cache_bytes, .layer = n->layer, .state_dir = n->disks->state_dir,
                .flags = (n->writeback ? 0 : FMT_DIRECT) | (n->entry_with_data ? FMT_ENTRY_WITH_DATA : 0) | FMT_KEEP_BITMAPS,
        };
}

static int snapshot_prepare(struct action *a)
{
        struct overlay_action *o = overlay_of(a);
        struct fmt_open_opts opts = how(o->other);
        int r = chain_reload(&o->taken, &opts);

        return r < 0 ? r : vol_overlay_take(a->node->vol, TAKE(o->taken, NULL), o->path, o->layer, &o->overlay);
}

static void snapshot_undo(struct action *a)
{
        struct overlay_action *o = overlay_of(a);

        vol_overlay_free(TAKE(o->overlay, NULL));
        chain_close(TAKE(o->taken, NULL));
}

/* The overlay is a node of its own again. */
static void snapshot_abort(struct action *a)
{
        struct overlay_action *o = overlay_of(a);
        struct node *other = TAKE(o->other, NULL);

        other->closing = false;
        if (other->vol || node_start(other, 0) == 0)
                return;
        log_err("%s: cannot be opened again: %s", node_label(other), err_text(-EIO));
        err_clear();
        node_drop(other);
}

const struct action_type snapshot_action = {
        .name = "blockdev-snapshot",
        .args = snapshot_args,
        .size = sizeof(struct overlay_action),
        .check = snapshot_check,
        .begin = snapshot_begin,
        .prepare = snapshot_prepare,
        .apply = overlay_apply,
        .undo = snapshot_undo,
        .abort = snapshot_abort,
        .commit = overlay_commit,
        .free = overlay_free,
};

/* --- abort ------------------------------------------------------------------------------------------------------------ */

static const struct qmp_arg abort_args[] = { { NULL } };

static int abort_prepare(struct action *a)
{
        (void)a;
        return err_note(-ECANCELED, "Transaction aborted using Abort action");
}

static int nothing_to_check(struct action *a)
{
        (void)a;
        return 0;
}

const struct action_type abort_action = {
        .name = "abort", .args = abort_args, .size = sizeof(struct action), .check = nothing_to_check, .prepare = abort_prepare,
};
