/* SPDX-License-Identifier: BSD-3-Clause */
/* What a job's clients see: states, events in their order, and which command is refused when. The work itself is a dummy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/disks/node.h"

/* --- the daemon around it ---------------------------------------------------------------------------------------------- */

static char told[2048];
static unsigned gone;

void disks_event(struct disks *d, const char *name, json_t *data)
{
        const char *status = json_string_value(json_object_get(data, "status"));

        snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s%s%s%s%s ",
                 json_string_value(json_object_get(data, "id")) ?: json_string_value(json_object_get(data, "device")),
                 status ? ":" : "!", status ?: name + strlen("BLOCK_JOB_"),
                 json_string_value(json_object_get(data, "action")) ?: "", json_object_get(data, "error") ? "(error)" : "");
        json_decref(data);
}

void disks_job_gone(struct disks *d)
{
        gone++;
}

int node_is_free(const struct node *n)
{
        return n->busy ? err_note(-EBUSY, "Node '%s' is busy: %s", n->name, n->busy) : 0;
}

static void expect_told(const char *what)
{
        if (strcmp(told, what))
                fail_msg("told: %s\n  not: %s", told, what);
        told[0] = 0;
}

static void expect_error(int r, const char *what)
{
        assert_true(r < 0);
        assert_string_equal(err_text(r), what);
        err_clear();
}

/* --- the dummy --------------------------------------------------------------------------------------------------------- */

struct dummy {
        struct job job;
        char hooks[64]; /* a letter each */
};
static bool finalize_later;
static int finalize_res;

static void hook(struct job *j, char c)
{
        struct dummy *y = container_of(j, struct dummy, job);

        y->hooks[strlen(y->hooks)] = c;
}

static void on_start(struct job *j) { hook(j, 's'); }
static void on_pause(struct job *j) { hook(j, 'p'); }
static void on_resume(struct job *j) { hook(j, 'r'); }
static void on_cancel(struct job *j) { hook(j, j->cancelled ? 'X' : 'x'); }
static void on_complete(struct job *j) { hook(j, 'c'); }
static void on_speed(struct job *j) { hook(j, 'v'); }
static void on_free(struct job *j) { free(container_of(j, struct dummy, job)); }

static void on_finalize(struct job *j, int res)
{
        hook(j, res < 0 ? 'F' : 'f');
        if (!finalize_later)
                job_finalized(j, finalize_res, "it did not work");
}

static const struct job_driver dummy = {
        .type = "mirror", .block = true, .soft_cancel = true, .start = on_start, .pause = on_pause, .resume = on_resume,
        .cancel = on_cancel, .complete = on_complete, .set_speed = on_speed, .finalize = on_finalize, .free = on_free,
};

static struct disks d;

static struct job *begin_as(const struct job_opts *o)
{
        struct dummy *y = calloc(1, sizeof(*y));

        assert_int_equal(job_create(&y->job, &dummy, &d, o), 0);
        return &y->job;
}

static struct job *begin(const char *id)
{
        struct job *j = begin_as(&(struct job_opts){ .id = id });

        job_start(j);
        return j;
}

static const char *hooks(struct job *j)
{
        return container_of(j, struct dummy, job)->hooks;
}

static int setup(void **state)
{
        memset(&d, 0, sizeof(d));
        list_init(&d.jobs);
        told[0] = 0;
        gone = 0;
        finalize_later = false;
        finalize_res = 0;
        return 0;
}

static int teardown(void **state)
{
        return list_empty(&d.jobs) ? 0 : -1;
}

/* --- one job ----------------------------------------------------------------------------------------------------------- */

static void test_a_plain_life(void **state)
{
        struct job *j = begin("a");

        expect_told("a:created a:running ");
        job_ended(j, 0, NULL);
        expect_told("a:waiting a:pending a!COMPLETED a:concluded a:null ");
        assert_int_equal(gone, 1);
        assert_null(job_find(&d, "a"));
}

static void test_a_failure(void **state)
{
        struct job *j = begin_as(&(struct job_opts){ .id = "a", .manual_dismiss = true });

        job_start(j);
        job_ended(j, -ENOSPC, "the target is full");
        expect_told("a:created a:running a:aborting a!COMPLETED(error) a:concluded ");
        assert_string_equal(hooks(j), "sF");
        assert_string_equal(j->error, "the target is full");
        assert_int_equal(job_dismiss(j), 0);
        expect_told("a:null ");
}

static void test_by_hand(void **state)
{
        struct job *j = begin_as(&(struct job_opts){ .device = "disk", .manual_finalize = true, .manual_dismiss = true });

        job_start(j);
        job_ended(j, 0, NULL);
        expect_told("disk:created disk:running disk:waiting disk:pending disk!PENDING ");
        assert_string_equal(hooks(j), "s");
        assert_int_equal(job_finalize(j), 0);
        expect_told("disk!COMPLETED disk:concluded ");
        expect_error(job_finalize(j), "Job 'disk' in state 'concluded' cannot accept command verb 'finalize'");
        expect_error(job_cancel(j, true), "Job 'disk' in state 'concluded' cannot accept command verb 'cancel'");
        assert_int_equal(job_dismiss(j), 0);
        expect_told("disk:null ");
}

static void test_a_change_that_fails(void **state)
{
        struct job *j = begin("a");

        finalize_res = -EIO;
        told[0] = 0;
        job_ended(j, 0, NULL);
        expect_told("a:waiting a:pending a:aborting a!COMPLETED(error) a:concluded a:null ");
}

static void test_nothing_is_taken_while_the_change_is_made(void **state)
{
        struct job *j = begin("a");

        finalize_later = true;
        job_ended(j, 0, NULL);
        expect_error(job_cancel(j, true), "Job 'a' in state 'pending' cannot accept command verb 'cancel'");
        expect_error(job_finalize(j), "Job 'a' in state 'pending' cannot accept command verb 'finalize'");
        job_finalized(j, 0, NULL);
}

static void test_cancelled(void **state)
{
        struct job *j = begin("a");

        assert_int_equal(job_cancel(j, false), 0); /* not ready: by force in any case */
        assert_string_equal(hooks(j), "sX");
        job_ended(j, 0, NULL); /* it was too late, which does not matter */
        expect_told("a:created a:running a:aborting a!CANCELLED a:concluded a:null ");
}

static void test_cancelled_when_done(void **state)
{
        struct job *j = begin_as(&(struct job_opts){ .id = "a", .manual_finalize = true });

        job_start(j);
        job_ended(j, 0, NULL);
        told[0] = 0;
        assert_int_equal(job_cancel(j, false), 0);
        expect_told("a:aborting a!CANCELLED a:concluded a:null ");
}

static void test_paused(void **state)
{
        struct job *j = begin("a");

        expect_error(job_resume(j), "Can't resume a job that was not paused");
        assert_int_equal(job_pause(j), 0);
        expect_error(job_pause(j), "Job is already paused");
        assert_int_equal(j->status, JOB_RUNNING);
        job_stands(j);
        expect_error(job_complete(j), "Job 'a' in state 'paused' cannot accept command verb 'complete'");
        assert_int_equal(job_resume(j), 0);
        job_stands(j); /* came too late */
        assert_int_equal(job_pause(j), 0);
        job_stands(j);
        expect_told("a:created a:running a:paused a:running a:paused ");
        assert_int_equal(job_cancel(j, true), 0);
        assert_string_equal(hooks(j), "sprpX");
        job_ended(j, -ECANCELED, NULL);
        expect_told("a:running a:aborting a!CANCELLED a:concluded a:null ");
}

static void test_ready(void **state)
{
        struct job *j = begin("a");

        expect_error(job_complete(j), "Job 'a' in state 'running' cannot accept command verb 'complete'");
        expect_error(job_dismiss(j), "Job 'a' in state 'running' cannot accept command verb 'dismiss'");
        told[0] = 0;
        job_is_ready(j);
        assert_int_equal(job_pause(j), 0);
        job_stands(j);
        expect_told("a:ready a!READY a:standby ");
        assert_int_equal(job_complete(j), 0);
        assert_int_equal(job_resume(j), 0);
        job_ended(j, 0, NULL);
        expect_told("a:ready a:waiting a:pending a!COMPLETED a:concluded a:null ");
}

static void test_soft_cancel(void **state)
{
        struct job *j = begin("a");

        job_is_ready(j);
        told[0] = 0;
        assert_int_equal(job_cancel(j, false), 0);
        assert_string_equal(hooks(j), "sx");
        expect_error(job_complete(j), "The active block job 'a' cannot be completed");
        job_ended(j, 0, NULL);
        expect_told("a:waiting a:pending a!COMPLETED a:concluded a:null ");
}

static void test_an_error_stops_it(void **state)
{
        struct job *j = begin("a");

        told[0] = 0;
        job_io_error(j, true, -EIO, ON_ERROR_IGNORE);
        job_io_error(j, false, -ENOSPC, ON_ERROR_STOP);
        expect_told("a!ERRORignore a!ERRORstop a:paused ");
        assert_string_equal(j->io_status, "nospace");
        assert_int_equal(job_resume(j), 0);
        assert_string_equal(j->io_status, "ok");
        assert_string_equal(hooks(j), "sr");
        job_ended(j, 0, NULL);
}

static void test_speed(void **state)
{
        struct job *j = begin("a");

        expect_error(job_set_speed(j, -1), "Parameter 'speed' expects a non-negative value");
        assert_int_equal(job_set_speed(j, 4711), 0);
        assert_int_equal(j->speed, 4711);
        assert_string_equal(hooks(j), "sv");
        job_ended(j, 0, NULL);
}

static void test_names(void **state)
{
        static const struct { const char *id, *device, *error; } cases[] = {
                { NULL, NULL, "An explicit job ID is required" },
                { "1x", NULL, "Invalid job ID '1x'" },
                { "", "disk", "Invalid job ID ''" },
                { "a", "disk", "Job ID 'a' already in use" },
                { NULL, "a", "Job ID 'a' already in use" },
        };
        struct job *j = begin("a"), other = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                expect_error(job_create(&other, &dummy, &d, &(struct job_opts){ .id = cases[i].id, .device = cases[i].device }),
                             cases[i].error);
        d.stopping = true;
        expect_error(job_create(&other, &dummy, &d, &(struct job_opts){ .id = "b" }), "The daemon is stopping");
        job_ended(j, 0, NULL);
}

static void test_nodes_are_busy(void **state)
{
        struct node n = { .name = "disk" };
        struct job *j = begin_as(&(struct job_opts){ .id = "a", .manual_dismiss = true }), *k;

        assert_int_equal(job_use_node(j, &n), 0);
        k = begin_as(&(struct job_opts){ .id = "b" });
        expect_error(job_use_node(k, &n), "Node 'disk' is busy: block device is in use by block job: mirror");
        job_drop(k);
        job_start(j);
        job_ended(j, 0, NULL);
        assert_null(n.busy); /* concluded, and not yet dismissed */
        job_dismiss(j);
}

/* --- several ------------------------------------------------------------------------------------------------------------ */

static struct job *pair[2];

static void begin_pair(bool by_hand)
{
        struct job_group *g = job_group_new();

        for (int i = 0; i < 2; i++)
                pair[i] = begin_as(&(struct job_opts){ .id = i ? "b" : "a", .group = g, .manual_finalize = by_hand && i });
        job_group_let_go(g);
        for (int i = 0; i < 2; i++)
                job_start(pair[i]);
        told[0] = 0;
}

static void test_a_group_ends_together(void **state)
{
        begin_pair(false);
        job_ended(pair[0], 0, NULL);
        expect_told("a:waiting ");
        job_ended(pair[1], 0, NULL);
        expect_told("b:waiting a:pending b:pending a!COMPLETED a:concluded a:null b!COMPLETED b:concluded b:null ");
}

static void test_one_finalizes_all(void **state)
{
        begin_pair(true);
        job_ended(pair[0], 0, NULL);
        job_ended(pair[1], 0, NULL);
        expect_told("a:waiting b:waiting a:pending b:pending b!PENDING ");
        assert_int_equal(job_finalize(pair[0]), 0);
        expect_told("a!COMPLETED a:concluded a:null b!COMPLETED b:concluded b:null ");
}

static void test_one_fails(void **state)
{
        begin_pair(false);
        job_ended(pair[0], 0, NULL);
        job_ended(pair[1], -EIO, "broken");
        expect_told("a:waiting a:aborting a!CANCELLED a:concluded a:null "
                    "b:aborting b!COMPLETED(error) b:concluded b:null ");
}

static void test_one_fails_while_the_other_works(void **state)
{
        begin_pair(false);
        job_ended(pair[0], -EIO, "broken");
        assert_string_equal(hooks(pair[1]), "sX");
        expect_told("a:aborting a!COMPLETED(error) a:concluded a:null ");
        job_ended(pair[1], -ECANCELED, NULL);
        expect_told("b:aborting b!CANCELLED b:concluded b:null ");
}

static void test_one_is_cancelled(void **state)
{
        begin_pair(true);
        job_ended(pair[0], 0, NULL);
        job_ended(pair[1], 0, NULL);
        told[0] = 0;
        assert_int_equal(job_cancel(pair[1], true), 0);
        expect_told("a:aborting a!CANCELLED a:concluded a:null b:aborting b!CANCELLED b:concluded b:null ");
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static void test_all_are_cancelled(void **state)
{
        struct job *j = begin("a"), *k = begin_as(&(struct job_opts){ .id = "b", .manual_dismiss = true }), *l;

        job_start(k);
        job_ended(k, 0, NULL);
        l = begin_as(&(struct job_opts){ .id = "c" });
        k = begin_as(&(struct job_opts){ .id = "e", .manual_finalize = true });
        job_start(k);
        job_ended(k, 0, NULL);
        told[0] = 0;
        d.stopping = true;
        jobs_cancel_all(&d);
        expect_told("b:null e:aborting e!CANCELLED e:concluded e:null ");
        assert_string_equal(hooks(j), "sX");
        assert_string_equal(hooks(l), "");
        job_start(l); /* its maker was about to */
        assert_string_equal(hooks(l), "sX");
        job_ended(l, -ECANCELED, NULL);
        expect_told("c:running c:aborting c!CANCELLED c:concluded c:null ");
        job_ended(j, -ECANCELED, NULL);
        expect_told("a:aborting a!CANCELLED a:concluded a:null ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_a_plain_life),
                TEST(test_a_failure),
                TEST(test_by_hand),
                TEST(test_a_change_that_fails),
                TEST(test_nothing_is_taken_while_the_change_is_made),
                TEST(test_cancelled),
                TEST(test_cancelled_when_done),
                TEST(test_paused),
                TEST(test_ready),
                TEST(test_soft_cancel),
                TEST(test_an_error_stops_it),
                TEST(test_speed),
                TEST(test_names),
                TEST(test_nodes_are_busy),
                TEST(test_a_group_ends_together),
                TEST(test_one_finalizes_all),
                TEST(test_one_fails),
                TEST(test_one_fails_while_the_other_works),
                TEST(test_one_is_cancelled),
                TEST(test_all_are_cancelled),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
