/* SPDX-License-Identifier: BSD-3-Clause */
/* blockdev-backup: answered when the instant is over and the job runs. */
#include "vdiskd/control_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "blkq/change.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/job_backup.h"
#include "vdiskd/node.h"

struct backup_call {
        struct qmp_call *call;
        struct disks *d;
        struct backup_job *b;
        struct vol_change change, *list[1];
        struct vol_changes all;
        struct loop_task task;
        int res;
        char why[256];
};

static void on_instant(struct vol_change *change)
{
        backup_at_instant(container_of(change, struct backup_call, change)->b);
}

static void on_over(struct loop_task *task)
{
        struct backup_call *k = container_of(task, struct backup_call, task);

        if (k->res < 0) {
                backup_drop(k->b);
                qmp_fail(k->call, NULL, "%s", k->why);
        } else {
                backup_begin(k->b);
                qmp_return(k->call, NULL);
        }
        free(k);
}

/* Any thread. */
static void on_done(void *opaque, int res, const char *why, uint64_t pause_ns)
{
        struct backup_call *k = opaque;

        (void)pause_ns;
        k->res = res;
        snprintf(k->why, sizeof(k->why), "%s", why);
        k->task.run = on_over;
        loop_post(k->d->loop, &k->task);
}

static void on_ready(void *opaque, int res, const char *why)
{
        struct backup_call *k = opaque;

        if (res < 0) {
                backup_drop(k->b);
                qmp_fail(k->call, NULL, "%s", why);
                free(k);
                return;
        }
        k->change.v = backup_source(k->b)->vol;
        k->change.apply = on_instant;
        k->list[0] = &k->change;
        k->all = (struct vol_changes){ .change = k->list, .n = 1, .done = on_done, .opaque = k };
        vol_change_all(&k->all);
}

static void cmd_blockdev_backup(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct backup_call *k = calloc(1, sizeof(*k));
        int r = k ? backup_prepare(c->disks, args, NULL, &k->b) : -ENOMEM;

        if (r < 0) {
                free(k);
                return qmp_fail(call, NULL, "%s", err_text(r));
        }
        k->call = call;
        k->d = c->disks;
        backup_get_ready(k->b, on_ready, k);
}

const struct qmp_command backup_commands[] = {
        { "blockdev-backup", backup_args, cmd_blockdev_backup },
        { NULL },
};
