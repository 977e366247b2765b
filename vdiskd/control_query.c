/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fields of QEMU's schema (qapi/block-core.json, qapi/block-export.json) that we can tell truthfully; those that would be
 * invented are left out.
 */
#include "vdiskd/control_commands.h"

#include <stdio.h>
#include <string.h>

#include "common/range.h"
#include "vdiskd/block_export.h"
#include "vdiskd/file_node.h"
#include "vdiskd/node.h"
#include "vdiskd/node_bitmaps.h"

static const struct qmp_arg no_args[] = { { NULL } };
static const struct qmp_arg query_nodes_args[] = {
        { "flat", QMP_BOOL, .optional = true }, /* we never nest */
        { NULL },
};

/* A path may be no UTF-8, which JSON cannot carry. */
static json_t *text(const char *s)
{
        return json_string(s) ?: json_string("(not UTF-8)");
}

/* --- nodes ------------------------------------------------------------------------------------------------------- */

static json_t *describe_image(const struct node *n, const struct fmt_image *img)
{
        json_t *o = json_pack("{s:o,s:s,s:I,s:b}", "filename", text(node_label(n)), "format", vol_format(n->vol),
                              "virtual-size", (json_int_t)vol_size(n->vol), "dirty-flag", img && img->dirty);

        if (o && img && img->encrypted)
                json_object_set_new(o, "encrypted", json_true());
        uint64_t bytes;

        if (!img)
                return o;
        if (img->cluster_size > 1)
                json_object_set_new(o, "cluster-size", json_integer(img->cluster_size));
        if (img->file && file_allocated(img->file, &bytes) == 0)
                json_object_set_new(o, "actual-size", json_integer((json_int_t)bytes));
        if (img->backing_name)
                json_object_set_new(o, "backing-filename", text(img->backing_name));
        if (img->backing_format)
                json_object_set_new(o, "backing-filename-format", text(img->backing_format));
        return o;
}

static unsigned backing_depth(const struct fmt_image *img)
{
        unsigned depth = 0;

        for (; img && img->backing; img = img->backing)
                depth++;
        return depth;
}

/* Reads only what of an image never changes while it is served, so home need not be asked. No image: it is being resized. */
static json_t *describe_node(struct node *n)
{
        const struct fmt_image *img = vol_image_get(n->vol);
        json_t *o = json_pack("{s:s,s:s,s:o,s:b,s:b,s:s,s:i,s:i,s:{s:b,s:b,s:b},s:o}",
                              "node-name", n->name, "drv", vol_format(n->vol), "file", text(node_label(n)),
                              "ro", vol_read_only(n->vol), "encrypted", img && img->encrypted, "detect_zeroes", "off",
                              "backing_file_depth", backing_depth(img), "write_threshold", 0,
                              "cache", "writeback", true, "direct", img && img->file && img->file->direct, "no-flush", false,
                              "image", describe_image(n, img)), *bitmaps;

        json_object_set_new(o, "active", json_boolean(vol_is_awake(n->vol)));
        if (img && img->backing_name)
                json_object_set_new(o, "backing_file", text(img->backing_name));
        vol_image_put(n->vol);
        bitmaps = node_bitmaps_json(n);
        if (bitmaps)
                json_object_set_new(o, "dirty-bitmaps", bitmaps);
        limits_describe(n, o);
        json_object_set_new(o, "waiting-for-space", json_integer((json_int_t)vol_waiting_for_space(n->vol))); /* not in QEMU */
        return o;
}

static void cmd_query_nodes(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *all = json_array();

        (void)args;
        list_for_each(l, &c->disks->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if (!n->closing)
                        json_array_append_new(all, describe_node(n));
        }
        list_for_each(l, &c->disks->files)
                json_array_append_new(all, file_node_describe(list_entry(l, struct file_node, link)));
        qmp_return(call, all);
}

/* --- exports ----------------------------------------------------------------------------------------------------- */

static void cmd_query_exports(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *all = json_array();

        (void)args;
        list_for_each(l, &c->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                json_array_append_new(all, json_pack("{s:s,s:s,s:s,s:b}", "id", x->id, "type", "vhost-user-blk",
                                                     "node-name", x->node->name, "shutting-down", !x->export));
        }
        qmp_return(call, all);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command query_commands[] = {
        { "query-block-exports", no_args, cmd_query_exports },
        { "query-named-block-nodes", query_nodes_args, cmd_query_nodes },
        { NULL },
};
