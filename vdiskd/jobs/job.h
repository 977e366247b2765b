/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job.h - background jobs, with the states, commands and events that QEMU's clients know. Control thread only.
 *
 *   created -> running <-> paused        -> waiting -> pending -> concluded -> null
 *                 +-----> ready <-> standby -^ |          |          ^
 *                 +-------------+--------------+----------+-> aborting
 *
 * A kind of job is a driver: hooks that start, stop and steer the work, which is done elsewhere (home threads, workers)
 * and comes back through job_stands(), job_is_ready(), job_io_error(), job_ended() and job_finalized().
 *
 * Jobs of a group come to an end together: when one fails the others are cancelled, and none is finalized before all
 * have done their work.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "vdiskd/disks/disks.h"

struct node;
struct job;

enum job_status {
        JOB_CREATED, JOB_RUNNING, JOB_PAUSED, JOB_READY, JOB_STANDBY, JOB_WAITING, JOB_PENDING, JOB_ABORTING, JOB_CONCLUDED,
        JOB_NULL,
};
enum job_verb { VERB_CANCEL, VERB_PAUSE, VERB_RESUME, VERB_SET_SPEED, VERB_COMPLETE, VERB_DISMISS, VERB_FINALIZE };

struct job_driver {
        const char *type; /* QEMU's JobType: "backup", "mirror", "commit", "stream", "create" */
        bool block;       /* block-job-* know it, and BLOCK_JOB_* events tell of it */
        bool soft_cancel; /* when ready, a cancel without force ends it well: all is copied, nothing is exchanged */

        /* Begin. job_ended() follows in any case, later. */
        void (*start)(struct job *j);
        /* Stand still as soon as you can, then job_stands(). NULL: it cannot; the wish is noted. resume: of a job that
         * stands or was asked to. */
        void (*pause)(struct job *j);
        void (*resume)(struct job *j);
        /* Come to an end: job_ended(). The job is not paused. j->cancelled or j->soft_cancelled is set. May come twice, the
         * second time with force. NULL: it ends when it has done its work. */
        void (*cancel)(struct job *j);
        /* it is ready: end, and make the change that it is about. NULL: there is none */
        void (*complete)(struct job *j);
        void (*set_speed)(struct job *j); /* j->speed is another */
        void (*progress)(const struct job *j, uint64_t *current, uint64_t *total); /* NULL: 0 of 1, at the end 1 */
        /* Its work is done (@res 0): make the change, or @res < 0: take everything back. job_finalized() follows,
         * perhaps at once. Guests of the nodes are served meanwhile. */
        void (*finalize)(struct job *j, int res);
        void (*free)(struct job *j);      /* the last call */
};

/* on-source-error, on-target-error */
enum job_on_error { ON_ERROR_REPORT, ON_ERROR_IGNORE, ON_ERROR_STOP, ON_ERROR_ENOSPC };
extern const char *const job_on_error_words[]; /* QEMU's, in this order; ends with NULL */
/* @word: one of them, or "auto"; NULL: report. */
enum job_on_error job_on_error_of(const char *word);
/* What is to be done about @err: REPORT, IGNORE or STOP. */
enum job_on_error job_error_action(enum job_on_error policy, int err);

#define JOB_NODES 8u

struct job_group {
        struct list jobs;
        bool aborting;
        unsigned held; /* somebody goes through the list, or adds to it */
};

struct job {
        const struct job_driver *drv;
        struct disks *disks;
        struct list link;     /* disks->jobs */
        char *id;
        enum job_status status;
        bool auto_finalize, auto_dismiss;
        bool started;
        bool user_paused;     /* asked for, by somebody or by an error */
        bool stands;          /* and so it is */
        bool cancelled, soft_cancelled;
        bool work_done;       /* job_ended() was called */
        bool finalizing;
        uint64_t speed;       /* bytes a second; 0: as fast as it goes */
        uint64_t current, total; /* as last told */
        int res;
        char error[256];      /* the sentence when @res is an error */
        const char *io_status; /* QEMU's words: ok, failed, nospace */
        struct job_group *group; /* NULL: alone */
        struct list in_group;
        struct node *nodes[JOB_NODES]; /* that it uses: job_use_node() */
        unsigned nnodes;
        char blocker[64];     /* their node->busy */
};

struct job_opts {
        const char *id;      /* NULL: @device's name */
        const char *device;  /* may be NULL */
        uint64_t speed;
        bool manual_finalize, manual_dismiss;
        struct job_group *group; /* NULL: alone. Lives until its last job is gone, and frees itself then */
};

/* --- for drivers ---------------------------------------------------------------------------------------------------- */

/**
 * job_create - enter @j, whose memory the driver made (zeroed), among the jobs. Its state is created; job_start()
 * follows, or job_drop() when something else fails. 0 or -errno with a sentence: then @j is the caller's, as before.
 */
int job_create(struct job *j, const struct job_driver *drv, struct disks *d, const struct job_opts *o);
void job_start(struct job *j);
void job_drop(struct job *j); /* it was never started: driver's free() and all */

/* Nobody else shall change @n while the job lives. -EBUSY with QEMU's sentence when somebody uses it already. */
int job_use_node(struct job *j, struct node *n);
int job_write_node(struct job *j, struct node *n); /* the same, and nobody exports it */

void job_stands(struct job *j);   /* nothing is under way, because of pause() */
void job_is_ready(struct job *j);
/* The work met an error and has dealt with it as job_error_action() says; STOP: it stands still until resume(). */
void job_io_error(struct job *j, bool read, int err, enum job_on_error action);
/* The work is over: 0, or -errno and why (NULL: strerror). Nothing of it is under way. @j may be gone when this
 * returns. */
void job_ended(struct job *j, int res, const char *why);
/* The answer to finalize(). @res < 0: the change could not be made, and all is taken back. @j may be gone. */
void job_finalized(struct job *j, int res, const char *why);

/* A group for several job_create(); let it go when they are all made, or none will be. NULL: no memory. */
struct job_group *job_group_new(void);
void job_group_let_go(struct job_group *g); /* NULL is fine */

/* --- for commands --------------------------------------------------------------------------------------------------- */

struct job *job_find(struct disks *d, const char *id);
const char *job_status_text(enum job_status s);

/* Each 0 or -errno with QEMU's sentence. @j may be gone afterwards. */
int job_pause(struct job *j);
int job_resume(struct job *j);
int job_cancel(struct job *j, bool force);
int job_complete(struct job *j);
int job_finalize(struct job *j);
int job_dismiss(struct job *j);
int job_set_speed(struct job *j, int64_t speed);

void job_progress(struct job *j, uint64_t *current, uint64_t *total);

/* --- for the daemon's end ------------------------------------------------------------------------------------------- */

/* Cancel all and dismiss what is concluded. Each that is gone calls disks_job_gone(). */
void jobs_cancel_all(struct disks *d);
