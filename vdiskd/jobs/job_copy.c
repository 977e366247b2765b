/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   command -> job.c -> hook here -> wish (copy_job.h) -> home
 *   home -> told() -> task -> news -> job.c -> event
 *
 * When the news are that it is over, one more message goes to home and back, so that nothing of the copying is on its
 * way any more when the job ends.
 */
#include "job_copy.h"

#include "common/cleanup.h"

/* --- home ------------------------------------------------------------------------------------------------------------ */

static enum copy_action on_error(struct copy_job *c, bool read, int err)
{
        struct vol_job *vj = c->owner.opaque;

        switch (job_error_action(read ? vj->on_source_error : vj->on_target_error, err)) {
        case ON_ERROR_IGNORE:
                return COPY_AGAIN;
        case ON_ERROR_STOP:
                return COPY_STOP;
        default:
                return COPY_FAIL;
        }
}

static void on_told(struct copy_job *c)
{
        struct vol_job *vj = c->owner.opaque;

        if (!atomic_exchange(&vj->posted, true))
                loop_post(vj->job.disks->loop, &vj->told);
}

static void on_nothing_under_way(struct copy_job *c)
{
        struct vol_job *vj = c->owner.opaque;

        loop_post(vj->job.disks->loop, &vj->finished);
}

/* --- control --------------------------------------------------------------------------------------------------------- */

static enum job_on_error action_of(enum copy_action a)
{
        return a == COPY_AGAIN ? ON_ERROR_IGNORE : a == COPY_STOP ? ON_ERROR_STOP : ON_ERROR_REPORT;
}

static void on_finished(struct loop_task *task)
{
        struct vol_job *vj = container_of(task, struct vol_job, finished);

        job_ended(&vj->job, vj->res, NULL);
}

static void on_news(struct loop_task *task)
{
        struct vol_job *vj = container_of(task, struct vol_job, told);
        struct copy_news n;

        atomic_store(&vj->posted, false); /* before the news are taken */
        n = copy_job_news(vj->copy);
        for (unsigned i = 0; i < n.nerrors; i++)
                job_io_error(&vj->job, n.error[i].read, n.error[i].err, action_of(n.error[i].action));
        if (n.ready)
                job_is_ready(&vj->job);
        if (n.stands)
                job_stands(&vj->job);
        if (!n.over)
                return;
        vj->res = n.res;
        copy_job_finish(vj->copy, on_nothing_under_way);
}

void vol_job_on_errors(struct vol_job *vj, const json_t *args)
{
        vj->on_source_error = job_on_error_of(json_string_value(json_object_get(args, "on-source-error")));
        vj->on_target_error = job_on_error_of(json_string_value(json_object_get(args, "on-target-error")));
}

struct copy_owner vol_job_owner(struct vol_job *vj)
{
        vj->told.run = on_news;
        vj->finished.run = on_finished;
        return (struct copy_owner){ .on_error = on_error, .told = on_told, .opaque = vj };
}

static struct copy_job *copy_of(const struct job *j)
{
        return container_of(j, struct vol_job, job)->copy;
}

void vol_job_start(struct job *j)
{
        atomic_store(&copy_of(j)->speed, j->speed);
        copy_job_start(copy_of(j));
}

void vol_job_pause(struct job *j)
{
        copy_job_pause(copy_of(j));
}

void vol_job_resume(struct job *j)
{
        copy_job_resume(copy_of(j));
}

void vol_job_cancel(struct job *j)
{
        copy_job_cancel(copy_of(j));
}

void vol_job_complete(struct job *j)
{
        copy_job_complete(copy_of(j));
}

void vol_job_set_speed(struct job *j)
{
        copy_job_set_speed(copy_of(j), j->speed);
}

void vol_job_progress(const struct job *j, uint64_t *current, uint64_t *total)
{
        struct copy_job *c = copy_of(j);

        *current = atomic_load_explicit(&c->done, memory_order_relaxed);
        *total = atomic_load_explicit(&c->total, memory_order_relaxed);
        if (*current > *total) /* the two may be a piece apart */
                *current = *total;
}

void vol_job_finish(struct vol_job *vj)
{
        if (vj->copy)
                copy_job_free(vj->copy);
        vj->copy = NULL;
}
