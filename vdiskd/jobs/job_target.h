/* SPDX-License-Identifier: BSD-3-Clause */
/* job_target.h - what jobs ask of the two nodes that they copy between. Control thread. 0 or -errno with QEMU's
 * sentence. */
#pragma once

#include <jansson.h>

#include "vdiskd/disks/disks.h"
#include "vdiskd/jobs/job.h"

struct node;

/* A node to read from, which guests may use. */
int job_source_find(struct disks *d, const char *name, struct node **ret);
/* A node to write to: of the same size, and without exports. */
int job_target_find(struct disks *d, const struct node *source, const char *name, struct node **ret);

/* What the commands of jobs have in common: device, job-id, speed, auto-finalize, auto-dismiss. */
int job_common_opts(json_t *args, struct job_opts *o);
