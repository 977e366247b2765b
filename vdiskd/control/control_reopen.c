/* SPDX-License-Identifier: BSD-3-Clause */
/* blockdev-reopen: a transaction, so that all of its nodes change or none. change-backing-file is one of a single
 * action. */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/disks/node_backing.h"
#include "vdiskd/disks/node_reopen.h"

static const struct qmp_arg reopen_args[] = {
        { "options", QMP_ARRAY, .members = blockdev_add_args },
        { NULL },
};

static void cmd_blockdev_reopen(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct transaction *t = transaction_new(c->disks, control_answer, call);
        const json_t *options = json_object_get(args, "options");
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < json_array_size(options); i++)
                r = transaction_add(t, &reopen_action, json_array_get(options, i), NULL);
        if (r == 0)
                return transaction_start(t);
        transaction_drop(t);
        qmp_fail(call, NULL, "%s", err_text(r));
}

static void cmd_change_backing(struct qmp_call *call, json_t *args, void *opaque)
{
        transaction_run_one(((struct control *)opaque)->disks, &change_backing_action, args, call);
}

const struct qmp_command reopen_commands[] = {
        { "blockdev-reopen", reopen_args, cmd_blockdev_reopen },
        { "change-backing-file", change_backing_args, cmd_change_backing },
        { NULL },
};
