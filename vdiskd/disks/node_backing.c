/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Only the header says something else afterwards, for whoever opens the image next. Here the chain stays as it is, also
 * when it is opened again (an upgrade): the node's layers name the image that is behind it now.
 */
#include "node_backing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/change/rework.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/node.h"

struct backing_action {
        struct action a;
        struct fmt_layer *layer; /* of the node, from now on */
};

static struct backing_action *backing_of(struct action *a)
{
        return container_of(a, struct backing_action, a);
}

static const char *text_of(const struct action *a, const char *key)
{
        return json_string_value(json_object_get(a->data, key));
}

/* --- before ------------------------------------------------------------------------------------------------------- */

static int find(struct action *a, struct node **ret)
{
        const char *device = text_of(a, "device"), *name = text_of(a, "image-node-name");
        struct node *n = disks_find_device(a->d, device);

        *ret = n;
        if (!n)
                return err_note(-ENOENT, "Cannot find device='%s' nor node-name=''", device);
        if (!strcmp(n->name, name))
                return 0;
        if (inner_node_find(n, name))
                return err_note(-ENOTSUP, "Node '%s' is a backing image, which is only read here: only the top image of '%s' can be "
                                "given another backing file", name, device);
        if (!disks_name_taken(a->d, name))
                return err_note(-ENOENT, "Cannot find device='' nor node-name='%s'", name);
        return err_note(-EINVAL, "'%s' and image file are not in the same chain", device);
}

static int pin_chain(struct backing_action *b, const struct node *n, const struct fmt_image *top)
{
        struct fmt_layer all = n->layer ? *n->layer : (struct fmt_layer){ 0 };
        struct fmt_layer below = all.backing ? *all.backing : (struct fmt_layer){ 0 };

        if (!top || !top->backing || !top->backing->file)
                return err_note(-EINVAL, "not allowing backing file change on an image without a backing file");
        if (!below.path) {
                below.path = top->backing->file->path;
                below.format = top->backing->drv->name;
        }
        all.backing = &below;
        return fmt_layer_dup(&all, &b->layer);
}

static int check(struct action *a)
{
        struct backing_action *b = backing_of(a);
        const char *file = text_of(a, "backing-file");
        AUTO(freep) char *path = NULL;
        struct node *n;
        int r = find(a, &n);

        if (r < 0)
                return r;
        if (n->read_only || vol_read_only(n->vol))
                return err_note(-EROFS, "Node '%s' is read only", node_known_as(n));
        if (n->migratable)
                return err_note(-ENOTSUP, "Node '%s' is used by several hosts in turn (migratable)", node_known_as(n));
        if (!file[0])
                return err_note(-EINVAL, "Parameter 'backing-file' expects the name of a file");
        r = pin_chain(b, n, vol_image_get(n->vol));
        vol_image_put(n->vol);
        if (r == 0)
                r = chain_backing_path(n->path, file, &path); /* could it be followed? */
        if (r == 0)
                r = action_take_node(a, n);
        a->settled = true;
        return r;
}

/* --- the change --------------------------------------------------------------------------------------------------- */

static int amend(struct fmt_image *top, void *opaque)
{
        const struct action *a = opaque;
        const struct fmt_option opts[] = {
                { "backing_file", text_of(a, "backing-file") },
                { "backing_fmt", top->backing_format ? top->backing_format : top->backing->drv->name },
        };

        if (!top->drv->amend)
                return err_note(-ENOTSUP, "%s images cannot have another backing file", top->drv->name);
        return top->drv->amend(top, opts, 2, false);
}

static int work(struct action *a)
{
        return vol_rework(a->node->vol, false, amend, a);
}

static void apply(struct action *a)
{
        vol_set_layer(a->node->vol, backing_of(a)->layer);
}

static void commit(struct action *a, uint64_t pause_ns)
{
        struct fmt_layer *was = a->node->layer;

        a->node->layer = TAKE(backing_of(a)->layer, NULL);
        fmt_layer_free(was);
        log_info("%s: its backing file is '%s' for who opens it next; guests waited %" PRIu64 " us", node_label(a->node),
                 text_of(a, "backing-file"), pause_ns / 1000);
}

static void free_it(struct action *a)
{
        fmt_layer_free(backing_of(a)->layer);
}

const struct qmp_arg change_backing_args[] = {
        { "device", QMP_STR }, { "image-node-name", QMP_STR }, { "backing-file", QMP_STR }, { NULL },
};
const struct action_type change_backing_action = {
        .name = "change-backing-file",
        .args = change_backing_args,
        .size = sizeof(struct backing_action),
        .check = check,
        .work = work,
        .apply = apply,
        .commit = commit,
        .free = free_it,
};
