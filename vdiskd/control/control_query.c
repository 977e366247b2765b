/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fields of QEMU's schema (qapi/block-core.json, qapi/block-export.json) that we can tell truthfully; those that would
 * be invented are left out.
 */
#include "vdiskd/control/control_commands.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/node_bitmaps.h"

static const struct qmp_arg no_args[] = { { NULL } };
static const struct qmp_arg query_nodes_args[] = {
        { "flat", QMP_BOOL, .optional = true },
        { NULL },
};

/* A path may be no UTF-8, which JSON cannot carry. */
static json_t *text(const char *s)
{
        return json_string(s) ?: json_string("(not UTF-8)");
}

/* --- nodes ------------------------------------------------------------------------------------------------------- */

/* What it said when it was opened. Copies: another thread may own the image's next. */
static void describe_more(const struct fmt_image *img, json_t *o)
{
        json_t *more = json_deep_copy(img->about), *data = json_object_get(json_object_get(more, "format-specific"), "data");
        AUTO(freep) char *full = NULL;

        if (img->corrupt && json_object_get(data, "corrupt"))
                json_object_set_new(data, "corrupt", json_true());
        json_object_update(o, more);
        json_decref(more);
        if (img->backing_name && img->file && chain_backing_path(img->file->path, img->backing_name, &full) == 0)
                json_object_set_new(o, "full-backing-filename", text(full));
        err_clear();
}

/* As QEMU's ImageInfo. @img: NULL when it is being resized. */
static json_t *describe_image(const char *path, const char *format, uint64_t size, const struct fmt_image *img)
{
        json_t *o = json_pack("{s:o,s:s,s:I,s:b}", "filename", text(path), "format", format, "virtual-size", (json_int_t)size,
                              "dirty-flag", img && img->dirty);
        uint64_t bytes;

        if (!img)
                return o;
        if (img->encrypted)
                json_object_set_new(o, "encrypted", json_true());
        if (img->cluster_size > 1)
                json_object_set_new(o, "cluster-size", json_integer(img->cluster_size));
        if (img->file && file_allocated(img->file, &bytes) == 0)
                json_object_set_new(o, "actual-size", json_integer((json_int_t)bytes));
        if (img->backing_name)
                json_object_set_new(o, "backing-filename", text(img->backing_name));
        if (img->backing_format)
                json_object_set_new(o, "backing-filename-format", text(img->backing_format));
        describe_more(img, o);
        return o;
}

/* With those behind it, one in the other, as QEMU does when it is not to be flat. */
static json_t *describe_chain(const char *path, const char *format, uint64_t size, const struct fmt_image *img, bool flat)
{
        json_t *o = describe_image(path, format, size, img);
        const struct fmt_image *below = img ? img->backing : NULL;

        if (o && below && !flat)
                json_object_set_new(o, "backing-image", describe_chain(below->file ? below->file->path : "null", below->drv->name,
                                                                       below->size, below, false));
        return o;
}

static unsigned backing_depth(const struct fmt_image *img)
{
        unsigned depth = 0;

        for (; img && img->backing; img = img->backing)
                depth++;
        return depth;
}

static json_t *describe_node(const char *name, const char *path, const char *format, uint64_t size, bool read_only,
                             const struct fmt_image *img, bool flat)
{
        json_t *o = json_pack("{s:s,s:s,s:o,s:b,s:b,s:s,s:i,s:i,s:{s:b,s:b,s:b},s:o}",
                              "node-name", name, "drv", format, "file", text(path), "ro", read_only,
                              "encrypted", img && img->encrypted, "detect_zeroes", "off",
                              "backing_file_depth", backing_depth(img), "write_threshold", 0,
                              "cache", "writeback", true, "direct", img && img->file && img->file->direct, "no-flush", false,
                              "image", describe_chain(path, format, size, img, flat));

        if (img && img->backing_name)
                json_object_set_new(o, "backing_file", text(img->backing_name));
        return o;
}

static json_t *describe_inner(const struct inner_node *i, const struct fmt_image *img, bool flat)
{
        static const char *const limits[] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
        json_t *o = describe_node(i->name, img->file ? img->file->path : "null", img->drv->name, img->size, true, img, flat);

        for (size_t k = 0; k < ARRAY_SIZE(limits); k++)
                json_object_set_new(o, limits[k], json_integer(0));
        return o;
}

/*
 * Reads only what of an image never changes while it is served, so home need not be asked. No image: it is being
 * resized. The nodes behind it follow it.
 */
static void describe_nodes(struct node *n, bool flat, json_t *all)
{
        const struct fmt_image *img = vol_image_get(n->vol);
        json_t *o = describe_node(n->name, node_label(n), vol_format(n->vol), vol_size(n->vol), vol_read_only(n->vol), img, flat), *bitmaps;

        json_object_set_new(o, "active", json_boolean(vol_is_awake(n->vol)));
        json_array_append_new(all, o);
        list_for_each(l, &n->below) {
                const struct inner_node *i = list_entry(l, struct inner_node, link);

                img = img ? img->backing : NULL;
                if (img)
                        json_array_append_new(all, describe_inner(i, img, flat));
        }
        vol_image_put(n->vol);
        bitmaps = node_bitmaps_json(n);
        if (bitmaps)
                json_object_set_new(o, "dirty-bitmaps", bitmaps);
        limits_describe(n, o);
}

static json_t *describe_filter(const struct filter_node *f)
{
        json_t *nodes = json_array(), *of = NULL;

        if (f->node)
                describe_nodes(f->node, true, nodes);
        if (f->node)
                of = json_incref(json_array_get(nodes, 0));
        json_decref(nodes);
        return filter_node_describe(f, of);
}

static void cmd_query_nodes(struct qmp_call *call, json_t *args, void *opaque)
{
        bool flat = json_is_true(json_object_get(args, "flat"));
        struct control *c = opaque;
        json_t *all = json_array();

        list_for_each(l, &c->disks->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if (!n->closing)
                        describe_nodes(n, flat, all);
        }
        list_for_each(l, &c->disks->files)
                json_array_append_new(all, file_node_describe(list_entry(l, struct file_node, link)));
        list_for_each(l, &c->disks->filters)
                json_array_append_new(all, describe_filter(list_entry(l, struct filter_node, link)));
        qmp_return(call, all);
}

/* --- exports ----------------------------------------------------------------------------------------------------- */

static json_t *describe_export(const struct block_export *x)
{
        json_t *o = json_pack("{s:s,s:s,s:s,s:b}", "id", x->id, "type", block_export_type(x), "node-name", x->node->name,
                              "shutting-down", x->stopping);

        if (x->host) /* not in QEMU */
                json_object_set_new(o, "lun", json_integer(x->lun));
        return o;
}

static void cmd_query_exports(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *all = json_array();

        (void)args;
        list_for_each(l, &c->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                json_array_append_new(all, describe_export(x));
        }
        qmp_return(call, all);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command query_commands[] = {
        { "query-block-exports", no_args, cmd_query_exports, &answer_exports },
        { "query-named-block-nodes", query_nodes_args, cmd_query_nodes, &answer_nodes },
        { NULL },
};
