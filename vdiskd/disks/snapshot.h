/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot.h - what a transaction can do about snapshots. Overlays: the disk goes on with a new image, and the one that
 * it had is the snapshot. Internal ones are kept in the image itself.
 */
#pragma once

#include "vdiskd/disks/transaction.h"

extern const struct action_type snapshot_action;          /* blockdev-snapshot: an overlay that is a node already */
extern const struct action_type snapshot_sync_action;     /* blockdev-snapshot-sync: an overlay that is made */
extern const struct action_type internal_snapshot_action; /* blockdev-snapshot-internal-sync */
extern const struct action_type abort_action;             /* abort: it fails, so nothing happens */
/* Not in "transaction": */
extern const struct action_type internal_delete_action;   /* blockdev-snapshot-delete-internal-sync */
extern const struct action_type internal_revert_action;   /* blockdev-snapshot-revert: not in QEMU */

/* Their arguments. */
extern const struct qmp_arg snapshot_args[], snapshot_sync_args[], internal_snapshot_args[], internal_delete_args[],
        internal_revert_args[];

/* The root node that a command means, or its sentence: by the export or node @device, or else by @name. */
int disk_of_args(struct disks *d, const char *device, const char *name, struct node **ret);
