/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fields of QEMU's schema (qapi/block-core.json, qapi/block-export.json) that we can tell truthfully; those that would be
 * invented are left out, such as wr_highest_offset. Zeros are true: there are no limits and nothing is merged.
 */
#include "vdiskd/control_commands.h"

#include <stdio.h>
#include <string.h>

#include "common/range.h"
#include "vdiskd/block_export.h"
#include "vdiskd/node.h"

static const struct qmp_arg no_args[] = { { NULL } };
static const struct qmp_arg query_nodes_args[] = {
        { "flat", QMP_BOOL, .optional = true }, /* we never nest */
        { NULL },
};
static const struct qmp_arg query_blockstats_args[] = {
        { "query-nodes", QMP_BOOL, .optional = true }, /* the same to us */
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
        static const char *const limits[] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
        const struct fmt_image *img = vol_image_get(n->vol);
        json_t *o = json_pack("{s:s,s:s,s:o,s:b,s:b,s:s,s:i,s:i,s:{s:b,s:b,s:b},s:o}",
                              "node-name", n->name, "drv", vol_format(n->vol), "file", text(node_label(n)),
                              "ro", vol_read_only(n->vol), "encrypted", img && img->encrypted, "detect_zeroes", "off",
                              "backing_file_depth", backing_depth(img), "write_threshold", 0,
                              "cache", "writeback", true, "direct", img && img->file && img->file->direct, "no-flush", false,
                              "image", describe_image(n, img));

        json_object_set_new(o, "active", json_boolean(vol_is_awake(n->vol)));
        if (img && img->backing_name)
                json_object_set_new(o, "backing_file", text(img->backing_name));
        vol_image_put(n->vol);
        for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
                json_object_set_new(o, limits[i], json_integer(0));
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

/* --- statistics -------------------------------------------------------------------------------------------------- */

static void set_count(json_t *o, const char *before, const char *op, const char *after, uint64_t n)
{
        char key[64];

        snprintf(key, sizeof(key), "%s%s%s", before, op, after);
        json_object_set_new(o, key, json_integer((json_int_t)n));
}

static void describe_op(json_t *o, const char *op, const struct op_totals *t)
{
        uint64_t failed = min_u64(t->errors, t->count); /* the two may be a request apart */

        set_count(o, "", op, "_operations", t->count - failed); /* QEMU counts failed ones apart */
        set_count(o, "failed_", op, "_operations", failed);
        set_count(o, "", op, "_total_time_ns", t->stage[STAGE_TOTAL].total_ns);
        if (strcmp(op, "flush")) {
                set_count(o, "", op, "_bytes", t->bytes);
                set_count(o, "", op, "_merged", 0);
        }
}

static struct op_totals both(const struct op_totals *a, const struct op_totals *b)
{
        struct op_totals sum = *a;

        sum.count += b->count;
        sum.bytes += b->bytes;
        sum.errors += b->errors;
        sum.stage[STAGE_TOTAL].total_ns += b->stage[STAGE_TOTAL].total_ns;
        return sum;
}

static json_t *describe_stats(struct node *n)
{
        struct blk_totals t;
        struct op_totals wr;
        json_t *o = json_object();

        vol_totals(n->vol, &t);
        wr = both(&t.op[STATS_WRITE], &t.op[STATS_WRITE_ZEROES]); /* QEMU accounts them as one */
        describe_op(o, "rd", &t.op[STATS_READ]);
        describe_op(o, "wr", &wr);
        describe_op(o, "flush", &t.op[STATS_FLUSH]);
        describe_op(o, "unmap", &t.op[STATS_DISCARD]);
        json_object_set_new(o, "account_failed", json_true()); /* in total_time_ns */
        json_object_set_new(o, "account_invalid", json_false());
        json_object_set_new(o, "timed_stats", json_array());
        return o;
}

static void cmd_query_blockstats(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *all = json_array();

        (void)args;
        list_for_each(l, &c->disks->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if (!n->closing)
                        json_array_append_new(all, json_pack("{s:s,s:o}", "node-name", n->name, "stats",
                                                             describe_stats(n)));
        }
        qmp_return(call, all);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command query_commands[] = {
        { "query-block-exports", no_args, cmd_query_exports },
        { "query-named-block-nodes", query_nodes_args, cmd_query_nodes },
        { "query-blockstats", query_blockstats_args, cmd_query_blockstats },
        { NULL },
};
