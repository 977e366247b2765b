/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block-stream and block-commit: jobs that shorten the chain of a disk in use (blkq/jobs/chain_job.h). They begin and
 * end in turn with other changes of the graph; in between the disk's nodes are busy.
 */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/jobs/chain_job.h"
#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/path.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/jobs/job_copy.h"
#include "vdiskd/jobs/job_target.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/snapshot.h"
#include "vdiskd/disks/transaction.h"
#include "vdiskd/json_member.h"

struct chain_job_vd {
        struct vol_job vj;
        struct node *node;
        bool stream;
        unsigned top, base;      /* depths */
        char *base_path, *backing_name;
        const char *base_format; /* NULL: there is no base */
        struct fmt_layer *layer; /* the chain as it will be */

        struct graph_turn turn;
        struct vol_changes all;
        struct vol_change *change;
        struct loop_task task;
        bool copies;             /* the wishes are for the copying; before, they wait */
        bool ends, cut;
        int res;
        uint64_t pause_ns;       /* how long guests waited for it */
        char why[256];
};

static struct chain_job_vd *chain_of(struct job *j)
{
        return container_of(j, struct chain_job_vd, vj.job);
}

/* --- nodes follow ------------------------------------------------------------------------------------------------------ */

static void drop_inner(struct node *n, unsigned from, unsigned to)
{
        unsigned depth = 1;

        list_for_each_safe(l, &n->below) {
                if (depth >= from && depth < to)
                        inner_node_free(list_entry(l, struct inner_node, link));
                depth++;
        }
}

static void swap_text(char **a, char **b)
{
        char *was = *a;

        *a = *b;
        *b = was;
}

/* The base is the top now: the disk is called as it. */
static void become_base(struct chain_job_vd *c)
{
        struct node *n = c->node;

        drop_inner(n, 1, c->base);
        if (!list_empty(&n->below)) {
                struct inner_node *base = list_entry(n->below.next, struct inner_node, link);

                swap_text(&n->name, &base->name);
                inner_node_free(base);
        }
        swap_text(&n->path, &c->base_path);
        n->format = c->base_format;
}

static void nodes_follow(struct chain_job_vd *c)
{
        struct fmt_layer *was = c->node->layer;

        if (c->stream)
                drop_inner(c->node, 1, c->base);
        else if (c->top)
                drop_inner(c->node, c->top, c->base);
        else
                become_base(c);
        c->node->layer = TAKE(c->layer, NULL);
        fmt_layer_free(was);
        if (!c->stream && !c->top)
                block_exports_follow(c->node);
}

/* --- beginning and end, each in its turn --------------------------------------------------------------------------------- */

static void start_copying(struct chain_job_vd *c)
{
        c->copies = true;
        if (c->vj.job.user_paused)
                vol_job_pause(&c->vj.job);
        vol_job_start(&c->vj.job);
}

static void on_change_done(struct loop_task *task)
{
        struct chain_job_vd *c = container_of(task, struct chain_job_vd, task);
        struct disks *d = c->node->disks;
        bool ends = c->ends;

        if (ends && c->cut && c->res == 0) {
                nodes_follow(c);
                log_info("%s: %s: the chain is shorter; guests waited %" PRIu64 " us", node_label(c->node), c->vj.job.id,
                         c->pause_ns / 1000);
        }
        workers_release();
        graph_turn_end(d); /* before the job goes, which the turn is part of */
        if (ends)
                job_finalized(&c->vj.job, c->res, c->why);
        else if (c->res < 0 || c->vj.job.cancelled)
                job_ended(&c->vj.job, c->res < 0 ? c->res : -ECANCELED, c->why);
        else
                start_copying(c);
}

/* Home, or a worker. */
static void on_changed(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        struct chain_job_vd *c = opaque;

        c->pause_ns = pause_ns;
        c->res = res;
        snprintf(c->why, sizeof(c->why), "%s", why);
        loop_post(c->node->disks->loop, &c->task);
}

static void on_turn(struct graph_turn *turn)
{
        struct chain_job_vd *c = container_of(turn, struct chain_job_vd, turn);
        struct chain_end end = {
                .cut = c->cut, .backing_name = c->backing_name, .backing_format = c->base_format, .path = c->base_path,
                .format = c->base_format, .layer = c->layer,
        };

        workers_hold();
        c->change = c->ends ? chain_job_end(c->vj.copy, &end) : chain_job_begin(c->vj.copy);
        c->all = (struct vol_changes){ .change = &c->change, .n = 1, .done = on_changed, .opaque = c };
        c->task.run = on_change_done;
        vol_change_all(&c->all);
}

static void chain_start(struct job *j)
{
        struct chain_job_vd *c = chain_of(j);

        c->turn.go = on_turn;
        if (c->stream)
                start_copying(c);
        else
                graph_turn_take(j->disks, &c->turn);
}

static void chain_finalize(struct job *j, int res)
{
        struct chain_job_vd *c = chain_of(j);

        c->ends = true;
        c->cut = res == 0;
        c->turn.go = on_turn;
        graph_turn_take(j->disks, &c->turn);
}

static void chain_free(struct job *j)
{
        struct chain_job_vd *c = chain_of(j);

        free(c->base_path);
        free(c->backing_name);
        fmt_layer_free(c->layer);
        vol_job_finish(&c->vj);
        free(c);
}

static void chain_pause(struct job *j)
{
        if (chain_of(j)->copies)
                vol_job_pause(j);
}

static void chain_resume(struct job *j)
{
        if (chain_of(j)->copies)
                vol_job_resume(j);
}

static void chain_cancel(struct job *j)
{
        if (chain_of(j)->copies)
                vol_job_cancel(j);
}

static void chain_set_speed(struct job *j)
{
        if (chain_of(j)->copies)
                vol_job_set_speed(j);
}

#define DRIVER(name, has_complete)                                                                                          \
        { .type = name, .block = true, .start = chain_start, .pause = chain_pause, .resume = chain_resume,                    \
          .cancel = chain_cancel, .complete = has_complete, .set_speed = chain_set_speed, .progress = vol_job_progress,   \
          .finalize = chain_finalize, .free = chain_free }
static const struct job_driver stream_driver = DRIVER("stream", NULL);
static const struct job_driver commit_driver = DRIVER("commit", NULL);               /* of inner images */
static const struct job_driver active_driver = DRIVER("commit", vol_job_complete);

/* --- arguments ----------------------------------------------------------------------------------------------------------- */

static const struct qmp_arg stream_args[] = {
        { "device", QMP_STR },
        { "job-id", QMP_STR, .optional = true },
        { "base", QMP_STR, .optional = true },
        { "base-node", QMP_STR, .optional = true },
        { "backing-file", QMP_STR, .optional = true },
        { "speed", QMP_INT, .optional = true },
        { "on-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "filter-node-name", QMP_STR, .optional = true }, /* there is no such node here */
        { "auto-finalize", QMP_BOOL, .optional = true },
        { "auto-dismiss", QMP_BOOL, .optional = true },
        { NULL },
};
static const struct qmp_arg commit_args[] = {
        { "device", QMP_STR },
        { "job-id", QMP_STR, .optional = true },
        { "base", QMP_STR, .optional = true },
        { "base-node", QMP_STR, .optional = true },
        { "top", QMP_STR, .optional = true },
        { "top-node", QMP_STR, .optional = true },
        { "backing-file", QMP_STR, .optional = true },
        { "speed", QMP_INT, .optional = true },
        { "on-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "filter-node-name", QMP_STR, .optional = true },
        { "auto-finalize", QMP_BOOL, .optional = true },
        { "auto-dismiss", QMP_BOOL, .optional = true },
        { NULL },
};

static unsigned chain_length(struct node *n)
{
        unsigned len = 0;

        for (const struct fmt_image *img = vol_image_get(n->vol); img; img = img->backing)
                len++;
        vol_image_put(n->vol);
        return len;
}

/* By the name of its node, or by its file. */
static int depth_of(struct node *n, const char *node, const char *file, unsigned *ret)
{
        struct inner_node *i = node ? inner_node_find(n, node) : NULL;
        unsigned depth = 0;
        bool found = false;

        if (node && file)
                return err_note(-EINVAL, "Use either a file name or a node name, not both");
        if (node && !strcmp(node, n->name)) {
                *ret = 0;
                return 0;
        }
        if (i) {
                *ret = inner_node_depth(i);
                return 0;
        }
        if (node)
                return err_note(-EINVAL, "Node '%s' is not a backing image of '%s'", node, node_known_as(n));
        for (const struct fmt_image *img = vol_image_get(n->vol), *over = NULL; img && !found; over = img, img = img->backing) {
                found = (img->file && !strcmp(img->file->path, file)) ||
                        (over && over->backing_name && !strcmp(over->backing_name, file));
                *ret = depth++;
        }
        vol_image_put(n->vol);
        return found ? 0 : err_note(-EINVAL, "Can't find '%s' in the backing chain", file);
}

/* What is known of the base, as long as the chain stays what it is. */
static int remember_base(struct chain_job_vd *c, const char *backing_name)
{
        AUTO(freep) char *real = NULL;
        struct fmt_image *base;
        int r = 0;

        base = chain_image_at(vol_image_get(c->node->vol), c->base);
        if (base && !base->file)
                r = err_note(-ENOTSUP, "the base has no file");
        if (r == 0 && base) {
                c->base_path = strdup(base->file->path);
                c->base_format = base->drv->name;
        }
        vol_image_put(c->node->vol);
        if (r < 0 || !c->base_format) {
                c->backing_name = r == 0 ? strdup("") : NULL;
                return r < 0 ? r : c->backing_name ? 0 : -ENOMEM;
        }
        if (!c->base_path)
                return -ENOMEM;
        r = backing_name ? 0 : path_real(c->base_path, &real);
        if (r < 0)
                return err_note(r, "'%s': %s", c->base_path, strerror(-r));
        c->backing_name = strdup(backing_name ? backing_name : real);
        return c->backing_name ? 0 : -ENOMEM;
}

/* What is said about the images that stay: [0, over], and from the base on. */
static int make_layer(struct chain_job_vd *c)
{
        struct fmt_layer all[FMT_MAX_CHAIN + 1] = { 0 }, kept[FMT_MAX_CHAIN + 1] = { 0 };
        unsigned n = chain_length(c->node), over = c->stream ? 1 : c->top, k = 0, i = 0;

        for (const struct fmt_layer *l = c->node->layer; l && i < FMT_MAX_CHAIN; l = l->backing)
                all[i++] = *l;
        for (i = 0; i < n && i < FMT_MAX_CHAIN; i++) {
                if (i >= over && i < c->base)
                        continue;
                kept[k] = all[i];
                if (i == c->base)
                        kept[k].path = k ? c->base_path : NULL;
                if (i == c->base)
                        kept[k].format = k ? c->base_format : NULL;
                kept[k].backing = NULL;
                if (k)
                        kept[k - 1].backing = &kept[k];
                k++;
        }
        return fmt_layer_dup(kept, &c->layer);
}

/* --- the commands -------------------------------------------------------------------------------------------------------- */

static int enter(struct chain_job_vd *c, struct disks *d, json_t *args, const struct job_driver *drv)
{
        struct chain_job_opts co = { .v = c->node->vol, .stream = c->stream, .top = c->top, .base = c->base };
        struct job_opts o;
        int r = job_common_opts(args, &o);

        if (r == 0)
                r = job_create(&c->vj.job, drv, d, &o);
        if (r < 0) {
                chain_free(&c->vj.job);
                return r;
        }
        c->vj.on_source_error = c->vj.on_target_error = job_on_error_of(text_of(args, "on-error"));
        r = job_use_node(&c->vj.job, c->node);
        co.owner = vol_job_owner(&c->vj);
        if (r == 0)
                r = chain_job_new(&co, &c->vj.copy);
        if (r < 0)
                job_drop(&c->vj.job);
        else
                job_start(&c->vj.job);
        return r;
}

static int find_disk(struct disks *d, json_t *args, struct chain_job_vd *c)
{
        int r = disk_of_args(d, text_of(args, "device"), NULL, &c->node);

        if (r == 0 && c->node->migratable)
                r = err_note(-ENOTSUP, "Node '%s' is used by several hosts in turn (migratable)", node_known_as(c->node));
        return r < 0 ? r : node_is_free(c->node);
}

static int begin_stream(struct disks *d, json_t *args, struct chain_job_vd *c)
{
        const char *base = text_of(args, "base"), *node = text_of(args, "base-node");
        int r = find_disk(d, args, c);

        if (r < 0)
                return r;
        c->stream = true;
        c->base = chain_length(c->node);
        if (base || node)
                r = depth_of(c->node, node, base, &c->base);
        else if (text_of(args, "backing-file"))
                r = err_note(-EINVAL, "backing file specified, but streaming the entire chain");
        if (r == 0 && c->base == 0)
                r = err_note(-EINVAL, "The base is the disk's own image");
        if (r == 0 && vol_read_only(c->node->vol))
                r = err_note(-EROFS, "Node '%s' is read only", node_known_as(c->node));
        return r < 0 ? r : remember_base(c, text_of(args, "backing-file"));
}

static int begin_commit(struct disks *d, json_t *args, struct chain_job_vd *c)
{
        const char *base = text_of(args, "base"), *base_node = text_of(args, "base-node");
        const char *top = text_of(args, "top"), *top_node = text_of(args, "top-node");
        int r = find_disk(d, args, c);

        if (r < 0)
                return r;
        c->base = chain_length(c->node) - 1;
        if (base || base_node)
                r = depth_of(c->node, base_node, base, &c->base);
        if (r == 0 && (top || top_node))
                r = depth_of(c->node, top_node, top, &c->top);
        if (r == 0 && c->top == c->base)
                r = err_note(-EINVAL, "cannot commit an image into itself");
        if (r == 0 && c->top > c->base)
                r = err_note(-EINVAL, "The base is not behind the image that is to be committed");
        if (r == 0 && vol_read_only(c->node->vol))
                r = err_note(-EROFS, "Node '%s' is read only", node_known_as(c->node));
        if (r == 0 && c->top == 0 && text_of(args, "backing-file"))
                r = err_note(-EINVAL, "'backing-file' specified, but 'top' is the active layer");
        return r < 0 ? r : remember_base(c, text_of(args, "backing-file"));
}

static void run(struct qmp_call *call, json_t *args, struct disks *d,
                int (*begin)(struct disks *d, json_t *args, struct chain_job_vd *c))
{
        struct chain_job_vd *c = calloc(1, sizeof(*c));
        int r = c ? begin(d, args, c) : -ENOMEM;

        if (r == 0)
                r = make_layer(c);
        if (r == 0)
                r = enter(c, d, args, c->stream ? &stream_driver : c->top ? &commit_driver : &active_driver);
        else if (c)
                chain_free(&c->vj.job);
        qmp_answer(call, r);
}

static void cmd_block_stream(struct qmp_call *call, json_t *args, void *opaque)
{
        run(call, args, ((struct control *)opaque)->disks, begin_stream);
}

static void cmd_block_commit(struct qmp_call *call, json_t *args, void *opaque)
{
        run(call, args, ((struct control *)opaque)->disks, begin_commit);
}

const struct qmp_command chain_commands[] = {
        { "block-stream", stream_args, cmd_block_stream },
        { "block-commit", commit_args, cmd_block_commit },
        { NULL },
};
