/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - Every change of state goes through enter(), which knows the allowed ones and sends the event.
 *   - A job's finalize() is called once: when all of its group have done their work, or when it or one of its group
 *     failed. After it came back the job is concluded.
 *   - Nodes of a job are busy from job_use_node() until it is concluded.
 */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/id.h"
#include "vdiskd/disks/node.h"

#define BIT(s) (1u << (s))

static const struct {
        const char *name;
        unsigned to; /* states that may follow */
} states[] = {
        [JOB_CREATED] = { "created", BIT(JOB_RUNNING) | BIT(JOB_ABORTING) | BIT(JOB_NULL) },
        [JOB_RUNNING] = { "running", BIT(JOB_PAUSED) | BIT(JOB_READY) | BIT(JOB_WAITING) | BIT(JOB_ABORTING) },
        [JOB_PAUSED] = { "paused", BIT(JOB_RUNNING) },
        [JOB_READY] = { "ready", BIT(JOB_STANDBY) | BIT(JOB_WAITING) | BIT(JOB_ABORTING) },
        [JOB_STANDBY] = { "standby", BIT(JOB_READY) },
        [JOB_WAITING] = { "waiting", BIT(JOB_PENDING) | BIT(JOB_ABORTING) },
        [JOB_PENDING] = { "pending", BIT(JOB_ABORTING) | BIT(JOB_CONCLUDED) },
        [JOB_ABORTING] = { "aborting", BIT(JOB_CONCLUDED) },
        [JOB_CONCLUDED] = { "concluded", BIT(JOB_NULL) },
        [JOB_NULL] = { "null", 0 },
};

#define ALIVE (BIT(JOB_CREATED) | BIT(JOB_RUNNING) | BIT(JOB_PAUSED) | BIT(JOB_READY) | BIT(JOB_STANDBY))

static const struct {
        const char *name;
        unsigned in; /* states that take it */
} verbs[] = {
        [VERB_CANCEL] = { "cancel", ALIVE | BIT(JOB_WAITING) | BIT(JOB_PENDING) },
        [VERB_PAUSE] = { "pause", ALIVE },
        [VERB_RESUME] = { "resume", ALIVE },
        [VERB_SET_SPEED] = { "set-speed", ALIVE },
        [VERB_COMPLETE] = { "complete", BIT(JOB_READY) | BIT(JOB_STANDBY) },
        [VERB_DISMISS] = { "dismiss", BIT(JOB_CONCLUDED) },
        [VERB_FINALIZE] = { "finalize", BIT(JOB_PENDING) },
};

static void group_goes_on(struct job *j);

const char *job_status_text(enum job_status s)
{
        return states[s].name;
}

/* --- errors of I/O --------------------------------------------------------------------------------------------------- */

const char *const job_on_error_words[] = {
        [ON_ERROR_REPORT] = "report", [ON_ERROR_IGNORE] = "ignore", [ON_ERROR_STOP] = "stop", [ON_ERROR_ENOSPC] = "enospc",
        "auto", NULL,
};

enum job_on_error job_on_error_of(const char *word)
{
        for (unsigned i = 0; word && i <= ON_ERROR_ENOSPC; i++)
                if (!strcmp(word, job_on_error_words[i]))
                        return (enum job_on_error)i;
        return word ? ON_ERROR_ENOSPC : ON_ERROR_REPORT; /* "auto" means that in QEMU's jobs */
}

enum job_on_error job_error_action(enum job_on_error policy, int err)
{
        if (policy == ON_ERROR_ENOSPC)
                return err == -ENOSPC ? ON_ERROR_STOP : ON_ERROR_REPORT;
        return policy;
}

/* --- states and events ----------------------------------------------------------------------------------------------- */

static void enter(struct job *j, enum job_status s)
{
        if (s == j->status)
                return;
        assert(states[j->status].to & BIT(s));
        j->status = s;
        disks_event(j->disks, "JOB_STATUS_CHANGE", json_pack("{s:s,s:s}", "id", j->id, "status", states[s].name));
}

void job_progress(struct job *j, uint64_t *current, uint64_t *total)
{
        if (j->drv->progress) {
                j->drv->progress(j, &j->current, &j->total);
        } else {
                j->total = 1;
                j->current = j->work_done && j->res == 0;
        }
        *current = j->current;
        *total = j->total;
}

static void event(struct job *j, const char *name, bool with_error)
{
        uint64_t current, total;
        json_t *o;

        if (!j->drv->block)
                return;
        job_progress(j, &current, &total);
        o = json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", j->drv->type, "device", j->id, "len", (json_int_t)total, "offset",
                      (json_int_t)current, "speed", (json_int_t)j->speed);
        if (with_error)
                json_object_set_new(o, "error", json_string(j->error) ?: json_string("(not UTF-8)"));
        disks_event(j->disks, name, o);
}

/* Out of paused and standby, to where nothing is said of pausing. */
static void leave_pause(struct job *j)
{
        j->user_paused = j->stands = false;
        if (j->status == JOB_PAUSED)
                enter(j, JOB_RUNNING);
        else if (j->status == JOB_STANDBY)
                enter(j, JOB_READY);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

struct job *job_find(struct disks *d, const char *id)
{
        list_for_each(l, &d->jobs)
                if (!strcmp(list_entry(l, struct job, link)->id, id))
                        return list_entry(l, struct job, link);
        return NULL;
}

struct job_group *job_group_new(void)
{
        struct job_group *g = calloc(1, sizeof(*g));

        if (g) {
                list_init(&g->jobs);
                g->held = 1;
        }
        return g;
}

void job_group_let_go(struct job_group *g)
{
        if (g && --g->held == 0 && list_empty(&g->jobs))
                free(g);
}

int job_create(struct job *j, const struct job_driver *drv, struct disks *d, const struct job_opts *o)
{
        const char *id = o->id ?: o->device;

        if (d->stopping)
                return err_note(-EBUSY, "The daemon is stopping");
        if (!id)
                return err_note(-EINVAL, "An explicit job ID is required");
        if (o->id && !id_is_valid(id))
                return err_note(-EINVAL, "Invalid job ID '%s'", id);
        if (job_find(d, id))
                return err_note(-EEXIST, "Job ID '%s' already in use", id);
        j->id = strdup(id);
        if (!j->id)
                return -ENOMEM;
        j->drv = drv;
        j->disks = d;
        j->auto_finalize = !o->manual_finalize;
        j->auto_dismiss = !o->manual_dismiss;
        j->speed = o->speed;
        j->io_status = "ok";
        j->status = JOB_CREATED;
        snprintf(j->blocker, sizeof(j->blocker), "block device is in use by block job: %s", drv->type);
        list_init(&j->in_group);
        j->group = o->group;
        if (j->group)
                list_add_tail(&j->group->jobs, &j->in_group);
        list_add_tail(&d->jobs, &j->link);
        disks_event(d, "JOB_STATUS_CHANGE", json_pack("{s:s,s:s}", "id", j->id, "status", "created"));
        return 0;
}

void job_start(struct job *j)
{
        j->started = true;
        enter(j, JOB_RUNNING);
        log_info("job '%s' (%s) begins", j->id, j->drv->type);
        j->drv->start(j);
        if (j->cancelled && j->drv->cancel) /* before it was begun: what was prepared has to be taken back by the work itself */
                j->drv->cancel(j);
}

int job_use_node(struct job *j, struct node *n)
{
        int r = node_is_free(n);

        if (r < 0)
                return r;
        assert(j->nnodes < JOB_NODES);
        j->nodes[j->nnodes++] = n;
        n->busy = j->blocker;
        return 0;
}

int job_write_node(struct job *j, struct node *n)
{
        int r = job_use_node(j, n);

        if (r == 0)
                n->written = true;
        return r;
}

static void release_nodes(struct job *j)
{
        while (j->nnodes) {
                struct node *n = j->nodes[--j->nnodes];

                n->busy = NULL;
                n->written = false;
        }
}

static void dismiss(struct job *j)
{
        struct disks *d = j->disks;

        enter(j, JOB_NULL);
        list_del(&j->link);
        list_del(&j->in_group);
        if (j->group && list_empty(&j->group->jobs) && !j->group->held)
                free(j->group);
        release_nodes(j);
        free(j->id);
        j->drv->free(j);
        disks_job_gone(d);
}

void job_drop(struct job *j)
{
        dismiss(j);
}

/* --- what the work tells --------------------------------------------------------------------------------------------- */

void job_stands(struct job *j)
{
        if (!j->user_paused || j->work_done) /* resumed meanwhile */
                return;
        j->stands = true;
        enter(j, j->status == JOB_READY || j->status == JOB_STANDBY ? JOB_STANDBY : JOB_PAUSED);
}

void job_is_ready(struct job *j)
{
        bool stands = j->stands;

        if (stands && j->status == JOB_PAUSED)
                enter(j, JOB_RUNNING);
        if (j->status != JOB_RUNNING)
                return;
        enter(j, JOB_READY);
        event(j, "BLOCK_JOB_READY", false);
        if (stands)
                enter(j, JOB_STANDBY);
}

void job_io_error(struct job *j, bool read, int err, enum job_on_error action)
{
        disks_event(j->disks, "BLOCK_JOB_ERROR", json_pack("{s:s,s:s,s:s}", "device", j->id, "operation", read ? "read" : "write",
                                                           "action", job_on_error_words[action]));
        log_warn("job '%s' (%s): %s: %s", j->id, j->drv->type, read ? "reading" : "writing", strerror(-err));
        if (action != ON_ERROR_STOP || j->cancelled)
                return;
        j->io_status = err == -ENOSPC ? "nospace" : "failed";
        j->user_paused = true;
        job_stands(j);
}

static void fail_with(struct job *j, int res, const char *why)
{
        if (j->res < 0)
                return;
        j->res = res;
        snprintf(j->error, sizeof(j->error), "%s", why && *why ? why : strerror(-res));
}

void job_ended(struct job *j, int res, const char *why)
{
        assert(!j->work_done);
        leave_pause(j);
        j->work_done = true;
        if (res < 0)
                fail_with(j, res, j->cancelled ? NULL : why);
        else if (j->cancelled)
                fail_with(j, -ECANCELED, NULL);
        if (j->res == 0)
                enter(j, JOB_WAITING);
        group_goes_on(j);
}

/* --- the end, for all of a group ------------------------------------------------------------------------------------- */

static void say_end(struct job *j)
{
        if (j->cancelled) {
                event(j, "BLOCK_JOB_CANCELLED", false);
                log_info("job '%s' (%s) is cancelled", j->id, j->drv->type);
        } else {
                event(j, "BLOCK_JOB_COMPLETED", j->res < 0);
                if (j->res < 0)
                        log_err("job '%s' (%s) failed: %s", j->id, j->drv->type, j->error);
                else
                        log_info("job '%s' (%s) is done", j->id, j->drv->type);
        }
}

void job_finalized(struct job *j, int res, const char *why)
{
        assert(j->finalizing);
        j->finalizing = false;
        if (res < 0)
                fail_with(j, res, why);
        if (j->res < 0)
                enter(j, JOB_ABORTING);
        say_end(j);
        release_nodes(j);
        enter(j, JOB_CONCLUDED);
        if (j->auto_dismiss || j->disks->stopping)
                dismiss(j);
}

static void finalize(struct job *j)
{
        j->finalizing = true;
        if (j->res < 0)
                enter(j, JOB_ABORTING);
        j->drv->finalize(j, j->res);
}

static void cancel_work(struct job *j)
{
        leave_pause(j);
        j->cancelled = true;
        if (j->started && !j->work_done && j->drv->cancel)
                j->drv->cancel(j);
}

static struct job *group_find(const struct job_group *g, bool (*is)(const struct job *j))
{
        list_for_each(l, &g->jobs)
                if (is(list_entry(l, struct job, in_group)))
                        return list_entry(l, struct job, in_group);
        return NULL;
}

static void group_hold(struct job_group *g)
{
        g->held++;
}

static bool still_works(const struct job *j)
{
        return !j->work_done && !j->cancelled;
}

static bool must_be_taken_back(const struct job *j)
{
        return j->work_done && !j->finalizing && j->status < JOB_ABORTING;
}

/* One of the group failed: the others are cancelled; each that has ended is taken back. Whatever is called here may
 * take jobs off the list, so it is looked through anew each time. */
static void group_abort(struct job_group *g)
{
        struct job *j;

        group_hold(g);
        g->aborting = true;
        while ((j = group_find(g, still_works)) != NULL)
                cancel_work(j);
        while ((j = group_find(g, must_be_taken_back)) != NULL) {
                if (j->res == 0) {
                        j->cancelled = true;
                        fail_with(j, -ECANCELED, NULL);
                }
                finalize(j);
        }
        job_group_let_go(g);
}

static bool group_all(const struct job_group *g, bool (*is)(const struct job *j))
{
        list_for_each(l, &g->jobs)
                if (!is(list_entry(l, struct job, in_group)))
                        return false;
        return true;
}

static bool is_done(const struct job *j)
{
        return j->work_done && j->res == 0;
}

static bool is_automatic(const struct job *j)
{
        return j->auto_finalize;
}

static void become_pending(struct job *j)
{
        enter(j, JOB_PENDING);
        if (!j->auto_finalize && j->drv->block)
                disks_event(j->disks, "BLOCK_JOB_PENDING", json_pack("{s:s,s:s}", "type", j->drv->type, "id", j->id));
}

static bool is_pending(const struct job *j)
{
        return j->status == JOB_PENDING && !j->finalizing;
}

static void group_finalize(struct job_group *g)
{
        struct job *j;

        group_hold(g);
        while ((j = group_find(g, is_pending)) != NULL)
                finalize(j);
        job_group_let_go(g);
}

/* @j's work has ended. */
static void group_goes_on(struct job *j)
{
        struct job_group *g = j->group;

        if (!g) {
                if (j->res == 0)
                        become_pending(j);
                if (j->res < 0 || j->auto_finalize)
                        finalize(j);
                return;
        }
        if (j->res < 0 || g->aborting) {
                group_abort(g);
                return;
        }
        if (!group_all(g, is_done))
                return;
        list_for_each(l, &g->jobs)
                become_pending(list_entry(l, struct job, in_group));
        if (group_all(g, is_automatic))
                group_finalize(g);
}

/* --- commands -------------------------------------------------------------------------------------------------------- */

static int may(const struct job *j, enum job_verb v)
{
        if (verbs[v].in & BIT(j->status) && !j->finalizing)
                return 0;
        return err_note(-EPERM, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id, states[j->status].name,
                        verbs[v].name);
}

int job_pause(struct job *j)
{
        int r = may(j, VERB_PAUSE);

        if (r < 0)
                return r;
        if (j->user_paused)
                return err_note(-EINVAL, "Job is already paused");
        j->user_paused = true;
        if (j->drv->pause)
                j->drv->pause(j);
        return 0;
}

int job_resume(struct job *j)
{
        int r;

        if (!j->user_paused)
                return err_note(-EINVAL, "Can't resume a job that was not paused");
        r = may(j, VERB_RESUME);
        if (r < 0)
                return r;
        j->io_status = "ok";
        leave_pause(j);
        if (j->drv->resume)
                j->drv->resume(j);
        return 0;
}

static bool is_soft(const struct job *j, bool force)
{
        return !force && j->drv->soft_cancel && (j->status == JOB_READY || j->status == JOB_STANDBY);
}

int job_cancel(struct job *j, bool force)
{
        int r = may(j, VERB_CANCEL);

        if (r < 0)
                return r;
        if (is_soft(j, force) && !j->cancelled) {
                leave_pause(j);
                j->soft_cancelled = true;
                j->drv->cancel(j);
                return 0;
        }
        if (!j->work_done) {
                cancel_work(j);
                return 0;
        }
        j->cancelled = true;
        fail_with(j, -ECANCELED, NULL);
        group_goes_on(j);
        return 0;
}

int job_complete(struct job *j)
{
        int r = may(j, VERB_COMPLETE);

        if (r < 0)
                return r;
        if (j->cancelled || j->soft_cancelled || !j->drv->complete)
                return err_note(-EINVAL, "The active block job '%s' cannot be completed", j->id);
        j->drv->complete(j);
        return 0;
}

int job_finalize(struct job *j)
{
        int r = may(j, VERB_FINALIZE);

        if (r < 0)
                return r;
        if (j->group)
                group_finalize(j->group);
        else
                finalize(j);
        return 0;
}

int job_dismiss(struct job *j)
{
        int r = may(j, VERB_DISMISS);

        if (r == 0)
                dismiss(j);
        return r;
}

int job_set_speed(struct job *j, int64_t speed)
{
        int r = may(j, VERB_SET_SPEED);

        if (r < 0)
                return r;
        if (speed < 0)
                return err_note(-EINVAL, "Parameter 'speed' expects a non-negative value");
        j->speed = (uint64_t)speed;
        if (j->drv->set_speed)
                j->drv->set_speed(j);
        return 0;
}

/* --- the daemon ends ------------------------------------------------------------------------------------------------- */

void jobs_cancel_all(struct disks *d)
{
        bool again = true;

        while (again) { /* a job that goes may take its whole group along */
                again = false;
                list_for_each(l, &d->jobs) {
                        struct job *j = list_entry(l, struct job, link);

                        if (j->status == JOB_CONCLUDED) {
                                dismiss(j);
                                again = true;
                                break;
                        }
                        if (!j->cancelled && !j->finalizing) {
                                job_cancel(j, true);
                                again = true;
                                break;
                        }
                }
        }
}
