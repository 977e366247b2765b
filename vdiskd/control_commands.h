/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_commands.h - inside the control socket: its commands, one table row each in control.c. Errors are worded as
 * QEMU words them where it has the case.
 */
#pragma once

#include "vdiskd/control.h"
#include "vdiskd/disks.h"
#include "vdiskd/qmp.h"
#include "vdiskd/qmp_args.h"

struct control {
        struct qmp_server *server;
        struct disks *disks;
        struct control_hooks hooks;
};

/* control_disks.c: disks come and go. @opaque: struct control. */
extern const struct qmp_arg blockdev_del_args[], block_export_add_args[], block_export_del_args[];
void cmd_blockdev_add(struct qmp_call *call, json_t *args, void *opaque); /* checks its arguments itself: a union */
void cmd_blockdev_del(struct qmp_call *call, json_t *args, void *opaque);
void cmd_block_export_add(struct qmp_call *call, json_t *args, void *opaque);
void cmd_block_export_del(struct qmp_call *call, json_t *args, void *opaque);

/* control_objects.c: secrets */
extern const struct qmp_arg object_add_args[], object_del_args[];
void cmd_object_add(struct qmp_call *call, json_t *args, void *opaque);
void cmd_object_del(struct qmp_call *call, json_t *args, void *opaque);

/* control_resize.c */
extern const struct qmp_arg block_resize_args[];
void cmd_block_resize(struct qmp_call *call, json_t *args, void *opaque);

/* control_query.c: what there is. */
extern const struct qmp_arg query_nodes_args[], query_blockstats_args[];
void cmd_query_nodes(struct qmp_call *call, json_t *args, void *opaque);
void cmd_query_exports(struct qmp_call *call, json_t *args, void *opaque);
void cmd_query_blockstats(struct qmp_call *call, json_t *args, void *opaque);
