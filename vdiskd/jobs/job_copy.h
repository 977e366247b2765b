/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job_copy.h - what jobs over a disk (blkq/jobs/copy_job.h) have in common: the way from the commands to the home
 * thread and back. Control thread.
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>

#include "blkq/jobs/copy_job.h"
#include "vdiskd/jobs/job.h"

/* Begins the struct of such a job. */
struct vol_job {
        struct job job;
        struct copy_job *copy; /* NULL: it did not come to that. The hooks below free it */
        enum job_on_error on_source_error, on_target_error;
        struct loop_task told, finished;
        atomic_bool posted;
        int res;               /* of the copying */
};

void vol_job_on_errors(struct vol_job *vj, const json_t *args); /* on-source-error, on-target-error of its command */
struct copy_owner vol_job_owner(struct vol_job *vj); /* for the maker of the copy_job */

/* Hooks of the driver. The copy_job must be there when the job is started. */
void vol_job_start(struct job *j);
void vol_job_pause(struct job *j);
void vol_job_resume(struct job *j);
void vol_job_cancel(struct job *j);
void vol_job_complete(struct job *j);
void vol_job_set_speed(struct job *j);
void vol_job_progress(const struct job *j, uint64_t *current, uint64_t *total);
void vol_job_finish(struct vol_job *vj); /* in free(): the copy_job and its buffers */
