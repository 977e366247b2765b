/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Snapshots within an image, while it is served: it is settled, treated as one at rest by a worker, and its tables are
 * read again; guests' requests wait meanwhile. A snapshot is made and deleted in one durable step, so a daemon that is
 * killed leaves it either way.
 */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/change/rework.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/disks/node.h"

struct internal_action {
        struct action a;
        const char *id, *name;
        char which[24];          /* the id of the one that was found */
        json_t *was;             /* what it was, when it is deleted */
        struct loop_task task;
        int res;
};

static struct internal_action *internal_of(struct action *a)
{
        return container_of(a, struct internal_action, a);
}

static const char *text_of(const struct action *a, const char *name)
{
        return json_string_value(json_object_get(a->data, name));
}

/* --- which one ------------------------------------------------------------------------------------------------------ */

static bool is_it(const struct internal_action *i, const struct fmt_snapshot *s)
{
        return (!i->id || !strcmp(s->id, i->id)) && (!i->name || !strcmp(s->name, i->name));
}

/* 1: found; 0: there is none. */
static int find(struct internal_action *i, struct fmt_image *top)
{
        struct fmt_snapshot *s;
        size_t n, at = 0;
        int r = top->drv->snapshot_list(top, &s, &n);

        if (r < 0)
                return r;
        while (at < n && !is_it(i, &s[at]))
                at++;
        r = at < n;
        if (r)
                snprintf(i->which, sizeof(i->which), "%s", s[at].id);
        if (r && !i->was)
                i->was = fmt_snapshot_json(&s[at]);
        fmt_snapshots_free(s, n);
        return r;
}

static int must_find(struct internal_action *i, struct fmt_image *top)
{
        int r = find(i, top);

        if (r == 0)
                r = err_note(-ENOENT, "Snapshot with id '%s' and name '%s' does not exist on device '%s'", i->id ? i->id : "",
                             i->name ? i->name : "", node_known_as(i->a.node));
        return r < 0 ? r : 0;
}

/* --- what is done to the image at rest --------------------------------------------------------------------------------- */

static int create(struct fmt_image *top, void *opaque)
{
        struct internal_action *i = opaque;
        int r = find(i, top);

        if (r > 0)
                return err_note(-EEXIST, "Snapshot with name '%s' already exists on device '%s'", i->name, node_known_as(i->a.node));
        return r < 0 ? r : top->drv->snapshot_create(top, i->name);
}

static int take_away(struct fmt_image *top, void *opaque)
{
        struct internal_action *i = opaque;
        int r = must_find(i, top);

        return r < 0 ? r : top->drv->snapshot_delete(top, i->which);
}

static int revert(struct fmt_image *top, void *opaque)
{
        struct internal_action *i = opaque;
        int r = must_find(i, top);

        return r < 0 ? r : top->drv->snapshot_apply(top, i->which);
}

static int create_work(struct action *a)
{
        return vol_rework(a->node->vol, false, create, internal_of(a));
}

static void create_unwork(struct action *a)
{
        if (vol_rework(a->node->vol, false, take_away, internal_of(a)) < 0)
                log_warn("%s: snapshot '%s' stays: %s", node_label(a->node), internal_of(a)->name, err_text(-EIO));
        err_clear();
}

static int delete_work(struct action *a)
{
        return vol_rework(a->node->vol, false, take_away, internal_of(a));
}

static int revert_work(struct action *a)
{
        return vol_rework(a->node->vol, true, revert, internal_of(a));
}

/* --- before and after ------------------------------------------------------------------------------------------------- */

static int check(struct action *a)
{
        struct internal_action *i = internal_of(a);
        const struct fmt_driver *drv;
        struct node *n;
        int r = disk_of_args(a->d, text_of(a, "device"), text_of(a, "node-name"), &n);

        if (r < 0)
                return r;
        i->id = text_of(a, "id");
        i->name = text_of(a, "name");
        drv = fmt_driver_find(n->format);
        if (n->read_only || vol_read_only(n->vol))
                return err_note(-EROFS, "Device '%s' is read only", node_known_as(n));
        if (!drv->snapshot_create)
                return err_note(-ENOTSUP, "Block format '%s' used by device '%s' does not support internal snapshots", n->format,
                                node_known_as(n));
        a->settled = true;
        return action_take_node(a, n);
}

static int create_check(struct action *a)
{
        int r = check(a);

        if (r == 0 && !internal_of(a)->name[0])
                r = err_note(-EINVAL, "Name is empty");
        return r;
}

static int one_check(struct action *a)
{
        int r = check(a);

        if (r == 0 && !internal_of(a)->id && !internal_of(a)->name)
                r = err_note(-EINVAL, "Name or id must be provided");
        return r;
}

/* Much of what settling has to write is written before guests wait. */
static void on_flushed(struct loop_task *task)
{
        struct internal_action *i = container_of(task, struct internal_action, task);

        action_begun(&i->a, i->res, "the disk could not be flushed");
}

static void on_vol_flushed(void *opaque, int res)
{
        struct internal_action *i = opaque;

        i->res = res;
        i->task.run = on_flushed;
        loop_post(i->a.d->loop, &i->task);
}

static void flush_first(struct action *a)
{
        vol_flush(a->node->vol, on_vol_flushed, internal_of(a));
}

static void say(const struct action *a, const char *what, uint64_t pause_ns)
{
        const struct internal_action *i = container_of(a, struct internal_action, a);

        log_info("%s: snapshot '%s' %s; guests waited %" PRIu64 " us", node_label(a->node), i->name ? i->name : i->id, what,
                 pause_ns / 1000);
}

static void create_commit(struct action *a, uint64_t pause_ns)
{
        say(a, "is made", pause_ns);
}

static void delete_commit(struct action *a, uint64_t pause_ns)
{
        say(a, "is deleted", pause_ns);
        a->t->result = json_incref(internal_of(a)->was);
}

static void revert_commit(struct action *a, uint64_t pause_ns)
{
        say(a, "is what the disk is again", pause_ns);
        disks_resized(a->d, a->node);
}

static void internal_free(struct action *a)
{
        json_decref(internal_of(a)->was);
}

const struct qmp_arg internal_snapshot_args[] = { { "device", QMP_STR }, { "name", QMP_STR }, { NULL } };
const struct action_type internal_snapshot_action = {
        .name = "blockdev-snapshot-internal-sync",
        .args = internal_snapshot_args,
        .size = sizeof(struct internal_action),
        .check = create_check,
        .begin = flush_first,
        .work = create_work,
        .unwork = create_unwork,
        .commit = create_commit,
        .free = internal_free,
};

const struct qmp_arg internal_delete_args[] = {
        { "device", QMP_STR },
        { "id", QMP_STR, .optional = true },
        { "name", QMP_STR, .optional = true },
        { NULL },
};
const struct action_type internal_delete_action = {
        .name = "blockdev-snapshot-delete-internal-sync",
        .args = internal_delete_args,
        .size = sizeof(struct internal_action),
        .check = one_check,
        .begin = flush_first,
        .work = delete_work,
        .commit = delete_commit,
        .free = internal_free,
};

const struct qmp_arg internal_revert_args[] = {
        { "device", QMP_STR, .optional = true },
        { "node-name", QMP_STR, .optional = true },
        { "id", QMP_STR, .optional = true },
        { "name", QMP_STR, .optional = true },
        { NULL },
};
const struct action_type internal_revert_action = {
        .name = "blockdev-snapshot-revert",
        .args = internal_revert_args,
        .size = sizeof(struct internal_action),
        .check = one_check,
        .begin = flush_first,
        .work = revert_work,
        .commit = revert_commit,
        .free = internal_free,
};
