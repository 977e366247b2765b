/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bitmaps as actions of a transaction. What can fail is done in check(): a bitmap is there from then on, for the
 * actions that follow, but records only from the instant at which all happens.
 */
#include "bitmap_actions.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/node_bitmaps.h"

#define OVERLAY_CLUSTER (64u << 10)

const struct qmp_arg bitmap_add_args[] = {
        { "node", QMP_STR },
        { "name", QMP_STR },
        { "granularity", QMP_INT, .optional = true, .min = 0, .max = UINT32_MAX },
        { "persistent", QMP_BOOL, .optional = true },
        { "disabled", QMP_BOOL, .optional = true },
        { NULL },
};
const struct qmp_arg bitmap_args[] = { { "node", QMP_STR }, { "name", QMP_STR }, { NULL } };
const struct qmp_arg bitmap_merge_args[] = {
        { "node", QMP_STR },
        { "target", QMP_STR },
        { "bitmaps", QMP_ARRAY }, /* of names, or of objects with node and name */
        { NULL },
};

struct bitmap_action {
        struct action a;
        struct dirty_bitmap *bits; /* a reference */
        bool added;                /* to the node, by check() */
        bool overlay;              /* it will be the bitmap of an image that is not the top yet */
        struct bitmap_merge merge;
};

static struct bitmap_action *bitmap_of(struct action *a)
{
        return container_of(a, struct bitmap_action, a);
}

static const char *text_of(const struct action *a, const char *key)
{
        return json_string_value(json_object_get(a->data, key)) ?: "";
}

static bool is_true(const struct action *a, const char *key)
{
        return json_is_true(json_object_get(a->data, key));
}

static void bitmap_free(struct action *a)
{
        dirty_bitmap_unref(bitmap_of(a)->bits);
        bitmap_merge_finish(&bitmap_of(a)->merge);
}

/* One that is there, to be changed. */
static int change_check(struct action *a)
{
        struct node *n = node_of_bitmaps(a->d, text_of(a, "node"));
        int r = n ? vol_bitmap_use(n->vol, text_of(a, "name"), BITMAP_USE_CHANGE, NULL, &bitmap_of(a)->bits) : -ENODEV;

        if (r == 0)
                action_use_node(a, n);
        return r;
}

/* --- add ---------------------------------------------------------------------------------------------------------- */

int bitmap_granularity(const json_t *args, uint64_t *ret)
{
        const json_t *g = json_object_get(args, "granularity");

        *ret = (uint64_t)json_integer_value(g);
        return g && !*ret ? err_note(-EINVAL, "Granularity must be power of 2 and at least %u", DIRTY_GRANULARITY_MIN) : 0;
}

/* The disk whose top will be called so at the end of the same transaction; NULL: none. */
static struct node *disk_of_overlay(const struct action *a, const char *name)
{
        list_for_each(l, &a->t->actions) {
                const struct action *other = list_entry(l, struct action, link);
                bool new_file = !strcmp(other->type->name, "blockdev-snapshot-sync");

                if (!other->checked || (!new_file && strcmp(other->type->name, "blockdev-snapshot")))
                        continue;
                if (!strcmp(text_of(other, new_file ? "snapshot-node-name" : "overlay"), name))
                        return other->node;
        }
        return NULL;
}

/* The bits are there from now on; they get their name when the image is the top. */
static int check_on_overlay(struct bitmap_action *b, struct node *n, uint64_t granularity)
{
        int r;

        if (!granularity)
                granularity = dirty_granularity_default(OVERLAY_CLUSTER);
        if (!*text_of(&b->a, "name"))
                return err_note(-EINVAL, "Bitmap name cannot be empty");
        if (!dirty_granularity_valid(granularity))
                return err_note(-EINVAL, "Granularity must be power of 2 and at least %u", DIRTY_GRANULARITY_MIN);
        r = dirty_bitmap_new(vol_size(n->vol), (uint32_t)granularity, &b->bits);
        if (r < 0)
                return r;
        dirty_bitmap_record(b->bits, false);
        r = vol_attach_bitmap(n->vol, b->bits);
        b->overlay = r == 0;
        return r;
}

static int add_check(struct action *a)
{
        const char *node = text_of(a, "node"), *name = text_of(a, "name");
        struct bitmap_action *b = bitmap_of(a);
        struct node *n = disk_of_overlay(a, node);
        uint64_t granularity;
        int r = bitmap_granularity(a->data, &granularity);

        if (r == 0 && n) {
                r = check_on_overlay(b, n, granularity);
        } else if (r == 0) {
                n = node_of_bitmaps(a->d, node);
                r = n ? vol_bitmap_add(n->vol, name, granularity, is_true(a, "persistent"), false) : -ENODEV;
                b->added = r == 0;
                if (r == 0)
                        r = vol_bitmap_use(n->vol, name, BITMAP_USE_CHANGE, NULL, &b->bits);
        }
        if (r == 0)
                action_use_node(a, n);
        return r;
}

static void add_apply(struct action *a)
{
        dirty_bitmap_record(bitmap_of(a)->bits, !is_true(a, "disabled"));
}

static void add_abort(struct action *a)
{
        struct bitmap_action *b = bitmap_of(a);

        if (b->overlay)
                vol_detach_bitmap(a->node->vol, b->bits);
        if (b->added && vol_bitmap_remove(a->node->vol, text_of(a, "name")) < 0)
                err_clear();
}

static void add_commit(struct action *a, uint64_t pause_ns)
{
        struct bitmap_action *b = bitmap_of(a);

        (void)pause_ns;
        if (!b->overlay || vol_bitmap_adopt(a->node->vol, text_of(a, "name"), b->bits, is_true(a, "persistent")) == 0)
                return;
        log_err("%s: bitmap '%s' is lost: %s", node_label(a->node), text_of(a, "name"), err_text(-EIO));
        err_clear();
        vol_detach_bitmap(a->node->vol, b->bits);
}

const struct action_type bitmap_add_action = {
        .name = "block-dirty-bitmap-add", .args = bitmap_add_args, .size = sizeof(struct bitmap_action), .check = add_check,
        .apply = add_apply, .abort = add_abort, .commit = add_commit, .free = bitmap_free,
};

/* --- remove ------------------------------------------------------------------------------------------------------- */

static int remove_check(struct action *a)
{
        struct node *n = node_of_bitmaps(a->d, text_of(a, "node"));
        int r = n ? vol_bitmap_use(n->vol, text_of(a, "name"), BITMAP_USE_REMOVE, NULL, &bitmap_of(a)->bits) : -ENODEV;

        if (r == 0)
                action_use_node(a, n);
        return r;
}

/* By its name; nobody can have taken it into use since check(): commands come one after the other. */
static void remove_commit(struct action *a, uint64_t pause_ns)
{
        (void)pause_ns;
        if (vol_bitmap_remove(a->node->vol, text_of(a, "name")) < 0) {
                log_warn("%s: %s", node_label(a->node), err_text(-EBUSY));
                err_clear();
        }
}

const struct action_type bitmap_remove_action = {
        .name = "block-dirty-bitmap-remove", .args = bitmap_args, .size = sizeof(struct bitmap_action), .check = remove_check,
        .commit = remove_commit, .free = bitmap_free,
};

/* --- clear, enable, disable, merge --------------------------------------------------------------------------------- */

static void clear_apply(struct action *a)
{
        dirty_bitmap_clear(bitmap_of(a)->bits, 0, UINT64_MAX);
}

static void enable_apply(struct action *a)
{
        dirty_bitmap_record(bitmap_of(a)->bits, true);
}

static void disable_apply(struct action *a)
{
        dirty_bitmap_record(bitmap_of(a)->bits, false);
}

static int merge_check(struct action *a)
{
        struct node *n = node_of_bitmaps(a->d, text_of(a, "node"));
        int r = n ? bitmap_merge_prepare(&bitmap_of(a)->merge, a->d, text_of(a, "node"), text_of(a, "target"),
                                         json_object_get(a->data, "bitmaps")) : -ENODEV;

        if (r == 0)
                action_use_node(a, n);
        return r;
}

static void merge_apply(struct action *a)
{
        bitmap_merge_apply(&bitmap_of(a)->merge);
}

#define CHANGE(word) \
        { .name = "block-dirty-bitmap-" #word, .args = bitmap_args, .size = sizeof(struct bitmap_action), .check = change_check, \
          .apply = word##_apply, .free = bitmap_free }
const struct action_type bitmap_clear_action = CHANGE(clear);
const struct action_type bitmap_enable_action = CHANGE(enable);
const struct action_type bitmap_disable_action = CHANGE(disable);

const struct action_type bitmap_merge_action = {
        .name = "block-dirty-bitmap-merge", .args = bitmap_merge_args, .size = sizeof(struct bitmap_action), .check = merge_check,
        .apply = merge_apply, .free = bitmap_free,
};
