/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job_backup.h - blockdev-backup: a disk as it is at one instant goes to another node. Control thread but for what says
 * otherwise.
 *
 *   backup_prepare -> backup_get_ready -> backup_at_instant (home of the source, which is held) -> backup_begin
 *        +------------------+-> backup_drop
 */
#pragma once

#include <jansson.h>

#include "vdiskd/disks/disks.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/control/qmp.h"

extern const struct qmp_arg backup_args[];
extern const struct action_type backup_action; /* control_backup.c */

struct backup_job;
struct node;

/* @args passed backup_args. The job is there, and its nodes are busy. @g: NULL: alone. 0 or -errno with QEMU's
 * sentence. */
int backup_prepare(struct disks *d, json_t *args, struct job_group *g, struct backup_job **ret);
struct node *backup_source(struct backup_job *b);
/* What of it has to wait. @done: from the loop, or before this returns; @why: borrowed. */
void backup_get_ready(struct backup_job *b, void (*done)(void *opaque, int res, const char *why), void *opaque);
void backup_at_instant(struct backup_job *b);
void backup_begin(struct backup_job *b); /* @b is its own master from now on */
void backup_drop(struct backup_job *b);  /* there was no instant */
