/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockdev-mirror: the way from its arguments to blkq/jobs/mirror.h, and what the end of it means for nodes and
 * exports.
 *
 * After the exchange guests use the target: the source's exports belong to the target's node.
 */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/change/exchange.h"
#include "blkq/jobs/mirror.h"
#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/jobs/job_copy.h"
#include "vdiskd/jobs/job_target.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/transaction.h"
#include "vdiskd/json_member.h"
#include "vhost_user_blk/export.h"

#define GRANULARITY_MAX (64 << 20)

struct mirror_job {
        struct vol_job vj;
        struct node *source, *target;
        bool exchange;          /* job-complete, not a soft cancel */
        struct graph_turn turn; /* for the end: nobody else changes the graph meanwhile */
        struct loop_task ended; /* mirror_end() */
        int res;
        uint64_t pause_ns;
        char why[256];
};

static struct mirror_job *mirror_of(struct job *j)
{
        return container_of(j, struct mirror_job, vj.job);
}

/* --- the end --------------------------------------------------------------------------------------------------------- */

static void move_exports(struct mirror_job *m)
{
        struct node *a = m->source, *b = m->target;

        list_for_each(l, &a->disks->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node != a)
                        continue;
                x->node = b;
                if (!x->stopping) /* else no ring of it starts any more */
                        block_export_follow(x, b->vol);
                a->nexports--;
                b->nexports++;
        }
        filter_nodes_follow(a, b);
        synchronize_rcu(); /* who starts a ring knows the new name now */
        vol_ports_moved(a->vol);
        log_info("%s: moved to '%s'; guests waited %" PRIu64 " us", node_label(a), node_label(b), m->pause_ns / 1000);
        block_exports_follow(b);
}

static void on_ended(struct loop_task *task)
{
        struct mirror_job *m = container_of(task, struct mirror_job, ended);

        if (m->res == 0 && m->exchange && !m->vj.job.res)
                move_exports(m);
        graph_turn_end(m->vj.job.disks);
        job_finalized(&m->vj.job, m->res, m->why);
}

/* Any thread. */
static void on_mirror_ended(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        struct mirror_job *m = opaque;

        m->res = res;
        m->pause_ns = pause_ns;
        snprintf(m->why, sizeof(m->why), "%s", why);
        m->ended.run = on_ended;
        loop_post(m->vj.job.disks->loop, &m->ended);
}

static void on_turn(struct graph_turn *turn)
{
        struct mirror_job *m = container_of(turn, struct mirror_job, turn);

        mirror_end(m->vj.copy, m->vj.job.res < 0 ? MIRROR_DROP : m->exchange ? MIRROR_EXCHANGE : MIRROR_SAME, on_mirror_ended, m);
}

static void mirror_finalize(struct job *j, int res)
{
        struct mirror_job *m = mirror_of(j);

        (void)res;
        m->turn.go = on_turn;
        graph_turn_take(j->disks, &m->turn);
}

/* --- the job --------------------------------------------------------------------------------------------------------- */

static void mirror_complete(struct job *j)
{
        mirror_of(j)->exchange = true;
        vol_job_complete(j);
}

/* When it is ready and force is not asked for, the copy is made whole and left alone. */
static void mirror_cancel(struct job *j)
{
        if (j->cancelled)
                vol_job_cancel(j);
        else
                vol_job_complete(j);
        if (!j->cancelled)
                vol_job_resume(j); /* if it stands */
}

static void mirror_free(struct job *j)
{
        struct mirror_job *m = mirror_of(j);

        vol_job_finish(&m->vj);
        free(m);
}

static const struct job_driver mirror_driver = {
        .type = "mirror",
        .block = true,
        .soft_cancel = true,
        .start = vol_job_start,
        .pause = vol_job_pause,
        .resume = vol_job_resume,
        .cancel = mirror_cancel,
        .complete = mirror_complete,
        .set_speed = vol_job_set_speed,
        .progress = vol_job_progress,
        .finalize = mirror_finalize,
        .free = mirror_free,
};

/* --- its arguments ----------------------------------------------------------------------------------------------------- */

static const char *const syncs[] = { "full", "top", "none", NULL };
static const char *const copy_modes[] = { "background", "write-blocking", NULL };
static const struct qmp_arg mirror_args[] = {
        { "device", QMP_STR },
        { "target", QMP_STR },
        { "sync", QMP_STR, .values = syncs },
        { "job-id", QMP_STR, .optional = true },
        { "speed", QMP_INT, .optional = true },
        { "granularity", QMP_INT, .optional = true },
        { "buf-size", QMP_INT, .optional = true },
        { "on-source-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "on-target-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "copy-mode", QMP_STR, .optional = true, .values = copy_modes },
        { "auto-finalize", QMP_BOOL, .optional = true },
        { "auto-dismiss", QMP_BOOL, .optional = true },
        { "filter-node-name", QMP_STR, .optional = true }, /* there is no such node here */
        { NULL },
};

static int read_numbers(json_t *args, struct mirror_opts *mo)
{
        json_t *granularity = json_object_get(args, "granularity");
        json_int_t g = json_integer_value(granularity), buf = json_integer_value(json_object_get(args, "buf-size"));

        if (granularity && g != 0 && (g < 512 || g > GRANULARITY_MAX))
                return err_note(-EINVAL, "Parameter 'granularity' expects a value in range [512B, 64MB]");
        if (g & (g - 1))
                return err_note(-EINVAL, "Parameter 'granularity' expects a power of 2");
        if (buf < 0)
                return err_note(-EINVAL, "Parameter 'buf-size' expects a non-negative value");
        mo->granularity = (uint32_t)g;
        mo->buf_size = (uint64_t)buf;
        return 0;
}

static int find_nodes(struct disks *d, json_t *args, struct mirror_opts *mo, struct mirror_job *m)
{
        const char *sync = text_of(args, "sync"), *mode = text_of(args, "copy-mode");
        int r = job_source_find(d, text_of(args, "device"), &m->source);

        if (r == 0)
                r = job_target_find(d, m->source, text_of(args, "target"), &m->target);
        if (r == 0)
                r = vol_exchange_check(m->source->vol, m->target->vol);
        if (r < 0)
                return r;
        mo->v = m->source->vol;
        mo->target = m->target->vol;
        mo->sync = !strcmp(sync, "top") ? MIRROR_TOP : !strcmp(sync, "none") ? MIRROR_NONE : MIRROR_FULL;
        mo->blocking = mode && !strcmp(mode, "write-blocking");
        return read_numbers(args, mo);
}

static int enter(struct mirror_job *m, struct disks *d, struct mirror_opts *mo, json_t *args)
{
        struct job_opts o;
        int r = job_common_opts(args, &o);

        if (r == 0)
                r = job_create(&m->vj.job, &mirror_driver, d, &o);
        if (r < 0) {
                free(m);
                return r;
        }
        r = job_use_node(&m->vj.job, m->source);
        if (r == 0)
                r = job_write_node(&m->vj.job, m->target);
        if (r == 0) {
                mo->owner = vol_job_owner(&m->vj);
                r = mirror_new(mo, &m->vj.copy);
        }
        if (r < 0)
                job_drop(&m->vj.job);
        else
                job_start(&m->vj.job);
        return r;
}

static int begin(struct disks *d, json_t *args)
{
        struct mirror_job *m = calloc(1, sizeof(*m));
        struct mirror_opts mo = { 0 };
        int r = m ? find_nodes(d, args, &mo, m) : -ENOMEM;

        if (r == 0) {
                vol_job_on_errors(&m->vj, args);
                return enter(m, d, &mo, args);
        }
        free(m);
        return r;
}

static void cmd_blockdev_mirror(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        qmp_answer(call, begin(c->disks, args));
}

const struct qmp_command mirror_commands[] = {
        { "blockdev-mirror", mirror_args, cmd_blockdev_mirror },
        { NULL },
};
