/* SPDX-License-Identifier: BSD-3-Clause */
/* transaction: the actions that there are, each a row. */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <string.h>

#include "common/err.h"
#include "common/range.h"
#include "vdiskd/control/bitmap_actions.h"
#include "vdiskd/jobs/job_backup.h"
#include "vdiskd/disks/snapshot.h"

/* As QEMU has it: {"type": ..., "data": {...}}. */
static const struct qmp_arg snapshot_data[] = { { "data", QMP_OBJECT, .members = snapshot_args }, { NULL } };
static const struct qmp_arg snapshot_sync_data[] = { { "data", QMP_OBJECT, .members = snapshot_sync_args }, { NULL } };
static const struct qmp_arg internal_data[] = { { "data", QMP_OBJECT, .members = internal_snapshot_args }, { NULL } };
static const struct qmp_arg add_data[] = { { "data", QMP_OBJECT, .members = bitmap_add_args }, { NULL } };
static const struct qmp_arg bitmap_data[] = { { "data", QMP_OBJECT, .members = bitmap_args }, { NULL } };
static const struct qmp_arg merge_data[] = { { "data", QMP_OBJECT, .members = bitmap_merge_args }, { NULL } };
static const struct qmp_arg backup_data[] = { { "data", QMP_OBJECT, .members = backup_args }, { NULL } };
static const struct qmp_arg abort_data[] = { { "data", QMP_OBJECT }, { NULL } };

static const struct action_type *const types[] = {
        &snapshot_action, &snapshot_sync_action, &internal_snapshot_action, &abort_action, &bitmap_add_action,
        &bitmap_remove_action, &bitmap_clear_action, &bitmap_enable_action, &bitmap_disable_action, &bitmap_merge_action,
        &backup_action,
};
static const char *const type_words[] = {
        "blockdev-snapshot", "blockdev-snapshot-sync", "blockdev-snapshot-internal-sync", "abort", "block-dirty-bitmap-add",
        "block-dirty-bitmap-remove", "block-dirty-bitmap-clear", "block-dirty-bitmap-enable", "block-dirty-bitmap-disable",
        "block-dirty-bitmap-merge", "blockdev-backup", NULL,
};
static const struct qmp_variant type_args[] = {
        { "blockdev-snapshot", snapshot_data },
        { "blockdev-snapshot-sync", snapshot_sync_data },
        { "blockdev-snapshot-internal-sync", internal_data },
        { "blockdev-backup", backup_data },
        { "abort", abort_data },
        { "block-dirty-bitmap-add", add_data },
        { "block-dirty-bitmap-remove", bitmap_data },
        { "block-dirty-bitmap-clear", bitmap_data },
        { "block-dirty-bitmap-enable", bitmap_data },
        { "block-dirty-bitmap-disable", bitmap_data },
        { "block-dirty-bitmap-merge", merge_data },
        { NULL },
};

static const char *const completion_modes[] = { "individual", "grouped", NULL };
static const struct qmp_arg property_args[] = {
        { "completion-mode", QMP_STR, .optional = true, .values = completion_modes },
        { NULL },
};
static const struct qmp_arg action_args[] = {
        { "type", QMP_STR, .values = type_words, .variants = type_args },
        { NULL },
};
static const struct qmp_arg transaction_args[] = {
        { "actions", QMP_ARRAY, .members = action_args },
        { "properties", QMP_OBJECT, .optional = true, .members = property_args },
        { NULL },
};

static const struct action_type *find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (!strcmp(types[i]->name, name))
                        return types[i];
        return NULL;
}

void control_answer(void *opaque, int res, const char *why, json_t *result)
{
        struct qmp_call *call = opaque;

        (void)result;
        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, NULL);
}

static void cmd_transaction(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *mode = json_string_value(json_object_get(json_object_get(args, "properties"), "completion-mode"));
        struct transaction *t = transaction_new(c->disks, control_answer, call);
        json_t *actions = json_object_get(args, "actions");
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < json_array_size(actions); i++) {
                json_t *o = json_array_get(actions, i);

                r = transaction_add(t, find(json_string_value(json_object_get(o, "type"))), json_object_get(o, "data"), NULL);
        }
        if (r < 0) {
                transaction_drop(t);
                qmp_fail(call, NULL, "%s", err_text(r));
                return;
        }
        t->grouped = mode && !strcmp(mode, "grouped");
        transaction_start(t);
}

const struct qmp_command transaction_commands[] = {
        { "transaction", transaction_args, cmd_transaction },
        { NULL },
};
