/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockdev-backup, as a command and as an action of transaction: answered when the instant is over and the job runs.
 * Several disks in one transaction are backed up at the same instant, together with its snapshots; grouped, their jobs
 * end together.
 */
#include "vdiskd/control/control_commands.h"

#include "common/cleanup.h"
#include "vdiskd/jobs/job_backup.h"
#include "vdiskd/disks/transaction.h"

struct backup_action {
        struct action a;
        struct backup_job *b;
};

static struct backup_action *backup_of(struct action *a)
{
        return container_of(a, struct backup_action, a);
}

static int backup_check(struct action *a)
{
        struct backup_action *k = backup_of(a);
        int r = backup_prepare(a->d, a->data, transaction_group(a->t), &k->b);

        if (r == 0)
                action_use_node(a, backup_source(k->b)); /* the job has it */
        return r;
}

static void on_ready(void *opaque, int res, const char *why)
{
        action_begun(opaque, res, why);
}

static void backup_do_begin(struct action *a)
{
        backup_get_ready(backup_of(a)->b, on_ready, a);
}

static void backup_apply(struct action *a)
{
        backup_at_instant(backup_of(a)->b);
}

static void backup_abort(struct action *a)
{
        backup_drop(backup_of(a)->b);
}

static void backup_commit(struct action *a, uint64_t pause_ns)
{
        (void)pause_ns;
        backup_begin(backup_of(a)->b);
}

const struct action_type backup_action = {
        .name = "blockdev-backup",
        .args = backup_args,
        .size = sizeof(struct backup_action),
        .check = backup_check,
        .begin = backup_do_begin,
        .apply = backup_apply,
        .abort = backup_abort,
        .commit = backup_commit,
};

static void cmd_blockdev_backup(struct qmp_call *call, json_t *args, void *opaque)
{
        transaction_run_one(((struct control *)opaque)->disks, &backup_action, args, call);
}

const struct qmp_command backup_commands[] = {
        { "blockdev-backup", backup_args, cmd_blockdev_backup },
        { NULL },
};
