/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_commands.h - inside the control socket: its commands, one table row each in control.c. Errors are worded as
 * QEMU words them where it has the case.
 */
#pragma once

#include "vdiskd/control/control.h"
#include "vdiskd/control/control_answers.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/control/qmp_args.h"

struct control {
        struct qmp_server *server;
        struct disks *disks;
        struct control_hooks hooks;
};

/* The tables; run()'s @opaque is the struct control. */
extern const struct qmp_command node_commands[];   /* control_nodes.c: images come and go */
extern const struct qmp_command export_commands[]; /* control_exports.c: so do their sockets */
extern const struct qmp_arg blockdev_add_args[];   /* likewise */
extern const struct qmp_command reopen_commands[]; /* control_reopen.c */
extern const struct qmp_command object_commands[]; /* control_objects.c: secrets */
extern const struct qmp_command resize_commands[]; /* control_resize.c */
extern const struct qmp_command bitmap_commands[]; /* control_bitmaps.c */
extern const struct qmp_command query_commands[];  /* control_query.c: what there is */
extern const struct qmp_command stats_commands[];  /* control_stats.c: what it did */
extern const struct qmp_command job_commands[];    /* control_jobs.c: jobs that there are */
extern const struct qmp_command snapshot_commands[];    /* control_snapshot.c */
extern const struct qmp_command chain_commands[];       /* job_chain.c: block-stream, block-commit */
extern const struct qmp_command transaction_commands[]; /* control_transaction.c */
/* Likewise: the end of a transaction answers @opaque, the struct qmp_call that began it. */
void control_answer(void *opaque, int res, const char *why, json_t *result);
extern const struct qmp_command create_commands[]; /* control_create.c: a job that makes an image */
extern const struct qmp_command backup_commands[]; /* control_backup.c */
extern const struct qmp_command mirror_commands[]; /* job_mirror.c */
extern const struct qmp_command limit_commands[];  /* control_limits.c: what disks may use */

/* control_limits.c, for others: members of a throttle-group object, and making one of them; what a disk's limits
 * are. */
extern const struct qmp_arg throttle_group_args[];
int limits_object_add(struct disks *d, json_t *args);
void limits_describe(struct node *n, json_t *into);
extern const struct qmp_command config_commands[];  /* control_config.c: the configuration, disks with its keys */

extern const struct qmp_event_type control_events[]; /* control_events.c: all that may be sent */
