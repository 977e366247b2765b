/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_jobs.c - job ...: what jobs there are, and what is said to them; waiting for one, with its progress. */
#include "vdiskctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

#define POLL_US 200000

volatile sig_atomic_t job_interrupted;

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name)) ?: "";
}

static json_int_t number_of(const json_t *o, const char *name)
{
        return json_integer_value(json_object_get(o, name));
}

/* --- looking ---------------------------------------------------------------------------------------------------------- */

static double percent(const json_t *job)
{
        json_int_t total = number_of(job, "total-progress");

        return total ? 100.0 * (double)number_of(job, "current-progress") / (double)total : 100.0;
}

/* What only block jobs have: speed and such. NULL: it is none. */
static json_t *block_part(json_t *block_jobs, const char *id)
{
        json_t *b;
        size_t i;

        json_array_foreach (block_jobs, i, b)
                if (!strcmp(text_of(b, "device"), id))
                        return b;
        return NULL;
}

static void print_row(struct table *t, json_t *job, json_t *block)
{
        char speed[32] = "-";

        if (number_of(block, "speed"))
                snprintf(speed + strlen(size_format((uint64_t)number_of(block, "speed"), speed, sizeof(speed) - 3)), 3, "/s");
        table_cell(t, "%s", text_of(job, "id"));
        table_cell(t, "%s", text_of(job, "type"));
        table_cell(t, "%s", text_of(job, "status"));
        table_cell(t, "%.1f%%", percent(job));
        table_cell(t, "%s", speed);
        table_cell(t, "%s", *text_of(job, "error") ? text_of(job, "error") : "-");
}

static int job_list(struct ctl *c)
{
        static const char *const heads[] = { "JOB", "TYPE", "STATE", ">DONE", ">SPEED", "ERROR", NULL };
        json_t *jobs = NULL, *block_jobs = NULL, *job;
        struct table *t;
        size_t i;
        int r = qmp_client_call(c->client, "query-jobs", NULL, &jobs);

        if (r == 0)
                r = qmp_client_call(c->client, "query-block-jobs", NULL, &block_jobs);
        if (r == 0 && c->json) {
                json_array_foreach (jobs, i, job)
                        json_object_update_missing(job, block_part(block_jobs, text_of(job, "id")));
                json_dumpf(jobs, stdout, JSON_INDENT(2));
                putchar('\n');
        } else if (r == 0) {
                t = table_new(heads);
                json_array_foreach (jobs, i, job)
                        print_row(t, job, block_part(block_jobs, text_of(job, "id")));
                table_print(t);
        }
        json_decref(jobs);
        json_decref(block_jobs);
        return r;
}

/* --- waiting ---------------------------------------------------------------------------------------------------------- */

/* Job @id as it is now: *ret is the caller's; NULL: there is none. */
/* As @query tells it, which calls a job's name @key. *ret NULL: there is none. */
static int find_in(struct ctl *c, const char *query, const char *key, const char *id, json_t **ret)
{
        json_t *jobs = NULL, *job;
        size_t i;
        int r = qmp_client_call(c->client, query, NULL, &jobs);

        *ret = NULL;
        json_array_foreach (jobs, i, job)
                if (!strcmp(text_of(job, key), id))
                        *ret = json_incref(job);
        json_decref(jobs);
        return r;
}

static void show_progress(const char *id, const json_t *job, bool last)
{
        fprintf(stderr, "\r%s: %s, %.1f%%\033[K%s", id, text_of(job, "status"), percent(job), last ? "\n" : "");
}

/* It is gone: how did it end, the events say, and they have come. A line of progress may stand there. */
static int how_it_ended(struct ctl *c, const char *id, bool quiet)
{
        for (;;) {
                json_t *event, *data;
                const char *name;
                int r = qmp_client_event(c->client, &event);

                if (r < 0)
                        return r;
                name = text_of(event, "event");
                data = json_object_get(event, "data");
                r = 1;
                if (!strcmp(text_of(data, "device"), id) && !strcmp(name, "BLOCK_JOB_CANCELLED"))
                        r = err_note(-ECANCELED, "job '%s' was cancelled", id);
                else if (!strcmp(text_of(data, "device"), id) && !strcmp(name, "BLOCK_JOB_COMPLETED"))
                        r = *text_of(data, "error") ? err_note(-EIO, "job '%s' failed: %s", id, text_of(data, "error")) : 0;
                json_decref(event);
                if (r != 1) {
                        if (!quiet)
                                fprintf(stderr, "\r%s: %s\033[K\n", id, r == 0 ? "done" : r == -ECANCELED ? "cancelled" : "failed");
                        return r;
                }
        }
}

/* Most jobs that are pending are on their way to their end; does this one wait for somebody to say so? */
static bool waits_for_finalize(struct ctl *c, const char *id)
{
        json_t *job = NULL;
        bool manual = find_in(c, "query-block-jobs", "device", id, &job) == 0 && job &&
                      json_is_false(json_object_get(job, "auto-finalize"));

        json_decref(job);
        err_clear();
        return manual;
}

/* 0: it has ended well, or is ready; 1: go on; or -errno with a sentence. */
static int look(struct ctl *c, const char *id, unsigned how, bool quiet)
{
        json_t *job;
        int r = find_in(c, "query-jobs", "id", id, &job);
        const char *status;

        if (r < 0)
                return r;
        if (!job)
                return how & JOB_OURS ? how_it_ended(c, id, quiet) : err_note(-ENOENT, "there is no job '%s'", id);
        status = text_of(job, "status");
        r = 1;
        if (!strcmp(status, "concluded"))
                r = *text_of(job, "error") ? err_note(-EIO, "job '%s' failed: %s", id, text_of(job, "error")) : 0;
        else if ((!strcmp(status, "pending") && waits_for_finalize(c, id)) || (how & JOB_UNTIL_READY && !strcmp(status, "ready")))
                r = 0;
        if (!quiet)
                show_progress(id, job, r != 1);
        json_decref(job);
        return r;
}

/* Some jobs cannot be: one that makes an image, one that is at its end. They end soon. */
static void cancel(struct ctl *c, const char *id)
{
        qmp_client_call(c->client, "block-job-cancel", json_pack("{s:s,s:b}", "device", id, "force", 1), NULL);
        err_clear();
}

int job_wait(struct ctl *c, const char *id, unsigned how)
{
        bool quiet = how & JOB_QUIET || !isatty(STDERR_FILENO);
        bool cancelled = false;
        int r = 1;

        while (r == 1) {
                if (job_interrupted && !cancelled) {
                        cancelled = true;
                        cancel(c, id);
                }
                r = look(c, id, cancelled ? how & ~(unsigned)JOB_UNTIL_READY : how, quiet);
                how |= JOB_OURS;
                if (r == 1)
                        usleep(POLL_US);
        }
        if (r != -ECANCELED || !cancelled)
                return r;
        err_clear();
        return err_note(-EINTR, "interrupted; the job is cancelled");
}

/* --- saying ----------------------------------------------------------------------------------------------------------- */

static const char *const plain[] = { "pause", "resume", "complete", "finalize", "dismiss" };

static int say(struct ctl *c, const char *command, const char *key, const char *id)
{
        return qmp_client_call(c->client, command, json_pack("{s:s}", key, id), NULL);
}

static int job_cancel(struct ctl *c, const char *id)
{
        return qmp_client_call(c->client, "block-job-cancel", json_pack("{s:s,s:b}", "device", id, "force", c->force), NULL);
}

static int job_set_speed(struct ctl *c, const char *id, const char *speed)
{
        uint64_t bytes;
        int r = size_parse(speed, &bytes);

        if (r < 0)
                return r;
        return qmp_client_call(c->client, "block-job-set-speed",
                               json_pack("{s:s,s:I}", "device", id, "speed", (json_int_t)bytes), NULL);
}

int cmd_job(struct ctl *c)
{
        const char *verb = c->words[0], *id = c->nwords > 1 ? c->words[1] : NULL;
        int words = !strcmp(verb, "list") ? 1 : !strcmp(verb, "set-speed") ? 3 : 2;
        char command[32];

        if (c->nwords != words)
                return err_note(-EINVAL, "job %s: expected %s", verb, words == 1 ? "no more words" : words == 3 ? "a job and a speed, such as "
                                "20M; 0 is as fast as it goes" : "the name of a job");
        if (words == 1)
                return job_list(c);
        if (!strcmp(verb, "wait"))
                return job_wait(c, id, JOB_UNTIL_READY);
        if (!strcmp(verb, "cancel"))
                return job_cancel(c, id);
        if (!strcmp(verb, "set-speed"))
                return job_set_speed(c, id, c->words[2]);
        for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
                if (!strcmp(verb, plain[i])) {
                        snprintf(command, sizeof(command), "job-%s", verb);
                        return say(c, command, "id", id);
                }
        return err_note(-EINVAL, "job: '%s' is not one of list, wait, pause, resume, complete, cancel, set-speed, finalize and dismiss",
                        verb);
}
