/* SPDX-License-Identifier: BSD-3-Clause */
/* job-* and block-job-*, query-jobs and query-block-jobs: what there is to say to jobs that exist (job.h). */
#include "vdiskd/control/control_commands.h"

#include <errno.h>

#include "common/err.h"
#include "vdiskd/jobs/job.h"

static const struct qmp_arg no_args[] = { { NULL } };

/* --- what there is --------------------------------------------------------------------------------------------------- */

static json_t *text(const char *s)
{
        return json_string(s) ?: json_string("(not UTF-8)");
}

static json_t *describe(struct job *j)
{
        uint64_t current, total;
        json_t *o;

        job_progress(j, &current, &total);
        o = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", j->id, "type", j->drv->type, "status", job_status_text(j->status),
                      "current-progress", (json_int_t)current, "total-progress", (json_int_t)total);
        if (j->res < 0)
                json_object_set_new(o, "error", text(j->error));
        return o;
}

static bool is_busy(const struct job *j)
{
        return !j->stands && (j->status == JOB_RUNNING || j->status == JOB_READY || j->finalizing);
}

static json_t *describe_block(struct job *j)
{
        bool ready = j->status == JOB_READY || j->status == JOB_STANDBY;
        uint64_t current, total;
        json_t *o;

        job_progress(j, &current, &total);
        o = json_pack("{s:s,s:s,s:I,s:I,s:b,s:b,s:I,s:s,s:b,s:s,s:b,s:b}", "type", j->drv->type, "device", j->id,
                      "len", (json_int_t)total, "offset", (json_int_t)current, "busy", is_busy(j), "paused", j->user_paused,
                      "speed", (json_int_t)j->speed, "io-status", j->io_status, "ready", ready,
                      "status", job_status_text(j->status), "auto-finalize", j->auto_finalize, "auto-dismiss",
                      j->auto_dismiss);
        if (j->res < 0)
                json_object_set_new(o, "error", text(j->error));
        return o;
}

static json_t *describe_all(struct disks *d, bool block, json_t *(*one)(struct job *j))
{
        json_t *all = json_array();

        list_for_each(l, &d->jobs) {
                struct job *j = list_entry(l, struct job, link);

                if (j->drv->block || !block)
                        json_array_append_new(all, one(j));
        }
        return all;
}

static void cmd_query_jobs(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        (void)args;
        qmp_return(call, describe_all(c->disks, false, describe));
}

static void cmd_query_block_jobs(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        (void)args;
        qmp_return(call, describe_all(c->disks, true, describe_block));
}

/* --- what is done to one --------------------------------------------------------------------------------------------- */

/* NULL: it was answered. */
static struct job *any_job(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct job *j = job_find(c->disks, json_string_value(json_object_get(args, "id")));

        if (!j)
                qmp_fail(call, NULL, "Job not found");
        return j;
}

static struct job *block_job(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *name = json_object_get(args, "device") ?: json_object_get(args, "id");
        struct job *j = job_find(c->disks, json_string_value(name));

        if (j && j->drv->block)
                return j;
        qmp_fail(call, "DeviceNotActive", "Block job '%s' not found", json_string_value(name));
        return NULL;
}

/* The two families, for what is the same in both. */
#define COMMANDS(verb)                                                                        \
        static void cmd_job_##verb(struct qmp_call *call, json_t *args, void *opaque)         \
        {                                                                                     \
                struct job *j = any_job(call, args, opaque);                                  \
                                                                                              \
                if (j)                                                                        \
                        qmp_answer(call, job_##verb(j));                                          \
        }                                                                                     \
        static void cmd_block_job_##verb(struct qmp_call *call, json_t *args, void *opaque)   \
        {                                                                                     \
                struct job *j = block_job(call, args, opaque);                                \
                                                                                              \
                if (j)                                                                        \
                        qmp_answer(call, job_##verb(j));                                          \
        }
COMMANDS(pause)
COMMANDS(resume)
COMMANDS(complete)
COMMANDS(finalize)
COMMANDS(dismiss)

/* Always by force, as in QEMU. */
static void cmd_job_cancel(struct qmp_call *call, json_t *args, void *opaque)
{
        struct job *j = any_job(call, args, opaque);

        if (j)
                qmp_answer(call, job_cancel(j, true));
}

static void cmd_block_job_cancel(struct qmp_call *call, json_t *args, void *opaque)
{
        struct job *j = block_job(call, args, opaque);
        bool force = json_is_true(json_object_get(args, "force"));

        if (j && j->user_paused && !force)
                qmp_fail(call, NULL, "The block job for device '%s' is currently paused", j->id);
        else if (j)
                qmp_answer(call, job_cancel(j, force));
}

static void cmd_block_job_set_speed(struct qmp_call *call, json_t *args, void *opaque)
{
        struct job *j = block_job(call, args, opaque);

        if (j)
                qmp_answer(call, job_set_speed(j, json_integer_value(json_object_get(args, "speed"))));
}

/* --- the table ------------------------------------------------------------------------------------------------------- */

static const struct qmp_arg id_args[] = { { "id", QMP_STR }, { NULL } };
static const struct qmp_arg device_args[] = { { "device", QMP_STR }, { NULL } };
static const struct qmp_arg cancel_args[] = { { "device", QMP_STR }, { "force", QMP_BOOL, .optional = true }, { NULL } };
static const struct qmp_arg speed_args[] = { { "device", QMP_STR }, { "speed", QMP_INT }, { NULL } };

const struct qmp_command job_commands[] = {
        { "query-jobs", no_args, cmd_query_jobs, &answer_jobs },
        { "job-cancel", id_args, cmd_job_cancel },
        { "job-pause", id_args, cmd_job_pause },
        { "job-resume", id_args, cmd_job_resume },
        { "job-complete", id_args, cmd_job_complete },
        { "job-finalize", id_args, cmd_job_finalize },
        { "job-dismiss", id_args, cmd_job_dismiss },
        { "query-block-jobs", no_args, cmd_query_block_jobs, &answer_block_jobs },
        { "block-job-cancel", cancel_args, cmd_block_job_cancel },
        { "block-job-pause", device_args, cmd_block_job_pause },
        { "block-job-resume", device_args, cmd_block_job_resume },
        { "block-job-complete", device_args, cmd_block_job_complete },
        { "block-job-finalize", id_args, cmd_block_job_finalize },
        { "block-job-dismiss", id_args, cmd_block_job_dismiss },
        { "block-job-set-speed", speed_args, cmd_block_job_set_speed },
        { NULL },
};
