/* SPDX-License-Identifier: BSD-3-Clause */
/* blockdev-snapshot*: each is a transaction of one action. */
#include "vdiskd/control/control_commands.h"

#include "vdiskd/disks/snapshot.h"

#define COMMAND(name, action)                                                                  \
        static void name(struct qmp_call *call, json_t *args, void *opaque)                   \
        {                                                                                     \
                transaction_run_one(((struct control *)opaque)->disks, &action, args, call);  \
        }
COMMAND(cmd_snapshot, snapshot_action)
COMMAND(cmd_snapshot_sync, snapshot_sync_action)
COMMAND(cmd_internal, internal_snapshot_action)
COMMAND(cmd_delete_internal, internal_delete_action)
COMMAND(cmd_revert, internal_revert_action)

const struct qmp_command snapshot_commands[] = {
        { "blockdev-snapshot", snapshot_args, cmd_snapshot },
        { "blockdev-snapshot-sync", snapshot_sync_args, cmd_snapshot_sync },
        { "blockdev-snapshot-internal-sync", internal_snapshot_args, cmd_internal },
        { "blockdev-snapshot-delete-internal-sync", internal_delete_args, cmd_delete_internal, &answer_snapshot },
        { "blockdev-snapshot-revert", internal_revert_args, cmd_revert },
        { NULL },
};
