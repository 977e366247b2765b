/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What disks did. query-blockstats has the fields of QEMU's schema (qapi/block-core.json) that we can tell truthfully;
 * zeros are true: nothing is merged. query-disk-stats is our own and has all that is measured.
 */
#include "vdiskd/control/control_commands.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/range.h"
#include "vdiskd/metrics/disk_stats.h"
#include "vdiskd/disks/node.h"

static void set_number(json_t *o, const char *key, uint64_t n)
{
        json_object_set_new(o, key, json_integer((json_int_t)n));
}

/* --- query-blockstats --------------------------------------------------------------------------------------------- */

static const struct qmp_arg query_blockstats_args[] = {
        { "query-nodes", QMP_BOOL, .optional = true }, /* the same to us */
        { NULL },
};

static void set_count(json_t *o, const char *before, const char *op, const char *after, uint64_t n)
{
        char key[64];

        snprintf(key, sizeof(key), "%s%s%s", before, op, after);
        set_number(o, key, n);
}

static void describe_op(json_t *o, const char *op, const struct op_totals *t)
{
        uint64_t failed = min_u64(t->errors, t->count); /* the two may be a request apart */

        set_count(o, "", op, "_operations", t->count - failed); /* QEMU counts failed ones apart */
        set_count(o, "failed_", op, "_operations", failed);
        set_count(o, "invalid_", op, "_operations", t->invalid);
        set_count(o, "", op, "_total_time_ns", t->stage[STAGE_TOTAL].total_ns);
        if (strcmp(op, "flush")) {
                set_count(o, "", op, "_bytes", t->bytes);
                set_count(o, "", op, "_merged", 0);
        }
}

/* QEMU accounts them as one. */
static void add_op(struct op_totals *sum, const struct op_totals *t)
{
        sum->count += t->count;
        sum->bytes += t->bytes;
        sum->errors += t->errors;
        sum->invalid += t->invalid;
        sum->stage[STAGE_TOTAL].total_ns += t->stage[STAGE_TOTAL].total_ns;
}

static json_t *block_stats(struct disk_stats *s)
{
        struct blk_totals *t = &s->totals;
        json_t *o = json_object();

        add_op(&t->op[STATS_WRITE], &t->op[STATS_WRITE_ZEROES]);
        describe_op(o, "rd", &t->op[STATS_READ]);
        describe_op(o, "wr", &t->op[STATS_WRITE]);
        describe_op(o, "flush", &t->op[STATS_FLUSH]);
        describe_op(o, "unmap", &t->op[STATS_DISCARD]);
        set_number(o, "wr_highest_offset", t->highest_write);
        if (s->now.last_ns) /* else there was nothing yet */
                set_number(o, "idle_time_ns", s->time_ns > s->now.last_ns ? s->time_ns - s->now.last_ns : 0);
        json_object_set_new(o, "account_failed", json_true()); /* in total_time_ns */
        json_object_set_new(o, "account_invalid", json_false());
        json_object_set_new(o, "timed_stats", json_array());
        return o;
}

static void cmd_query_blockstats(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        json_t *all = json_array();
        struct disk_stats s;

        (void)args;
        list_for_each(l, &c->disks->nodes)
                if (disk_stats_get(list_entry(l, struct node, link), &s))
                        json_array_append_new(all, json_pack("{s:s,s:o}", "node-name", s.name, "stats", block_stats(&s)));
        qmp_return(call, all);
}

/* --- query-disk-stats --------------------------------------------------------------------------------------------- */

static const struct qmp_arg query_disk_stats_args[] = {
        { "node-name", QMP_STR, .optional = true },
        { "histograms", QMP_BOOL, .optional = true },
        { NULL },
};

/* The buckets that are not empty: [upper bound in ns, requests] each. */
static json_t *describe_buckets(const struct stage_totals *t)
{
        json_t *a = json_array();

        for (unsigned b = 0; b < STATS_BUCKETS; b++)
                if (t->bucket[b])
                        json_array_append_new(a, json_pack("[I,I]", (json_int_t)stats_bucket_end(b), (json_int_t)t->bucket[b]));
        return a;
}

static json_t *describe_stage(const struct stage_totals *t, bool histograms)
{
        json_t *o = json_object();

        set_number(o, "sum-ns", t->total_ns);
        set_number(o, "p50-ns", stats_quantile(t, 0.5));
        set_number(o, "p90-ns", stats_quantile(t, 0.9));
        set_number(o, "p99-ns", stats_quantile(t, 0.99));
        set_number(o, "p999-ns", stats_quantile(t, 0.999));
        set_number(o, "max-ns", stats_quantile(t, 1));
        if (histograms)
                json_object_set_new(o, "buckets", describe_buckets(t));
        return o;
}

static json_t *describe_ops(const struct blk_totals *t, bool histograms)
{
        json_t *ops = json_object();

        for (unsigned i = 0; i < STATS_OPS; i++) {
                const struct op_totals *op = &t->op[i];
                json_t *latency = json_object(), *o = json_object();

                for (unsigned stage = 0; stage < STAGES; stage++)
                        json_object_set_new(latency, stats_stage_names[stage], describe_stage(&op->stage[stage], histograms));
                set_number(o, "requests", op->count);
                set_number(o, "bytes", op->bytes);
                set_number(o, "errors", op->errors);
                set_number(o, "invalid", op->invalid);
                json_object_set_new(o, "latency", latency);
                json_object_set_new(ops, stats_op_names[i], o);
        }
        return ops;
}

static json_t *describe_flags(const struct disk_stats *s)
{
        json_t *a = json_array();

        if (s->now.held)
                json_array_append_new(a, json_string("held"));
        if (s->now.throttled)
                json_array_append_new(a, json_string("throttled"));
        if (s->now.full)
                json_array_append_new(a, json_string("full"));
        if (s->failed)
                json_array_append_new(a, json_string("failed"));
        if (s->resizing)
                json_array_append_new(a, json_string("resizing"));
        if (s->busy)
                json_array_append_new(a, json_string("job"));
        return a;
}

static json_t *describe_disk(const struct disk_stats *s, bool histograms)
{
        uint64_t all = disk_stats_requests(s);
        json_t *o = json_pack("{s:s,s:s,s:s,s:b,s:i,s:i,s:i,s:o}", "disk", s->disk, "node-name", s->name, "format", s->format, "read-only",
                              s->read_only, "backing-depth", s->depth, "exports", s->exports, "connected", s->connected, "flags",
                              describe_flags(s));

        set_number(o, "virtual-size", s->size);
        if (s->has_allocated)
                set_number(o, "allocated", s->allocated);
        set_number(o, "in-flight", s->now.in_flight);
        set_number(o, "max-in-flight", s->max_in_flight);
        set_number(o, "oldest-age-ns", disk_stats_oldest_age(s));
        if (s->now.last_ns)
                set_number(o, "idle-ns", s->time_ns > s->now.last_ns ? s->time_ns - s->now.last_ns : 0);
        json_object_set_new(o, "operations", describe_ops(&s->totals, histograms));
        set_number(o, "home-requests", all - min_u64(all, s->totals.fast));
        set_number(o, "flushes-coalesced", s->totals.flushes_joined);
        set_number(o, "copied-up-bytes", s->totals.copied_up);
        set_number(o, "highest-write", s->totals.highest_write);
        if (s->has_tables) {
                set_number(o, "table-hits", s->totals.lookups - min_u64(s->totals.lookups, s->totals.table_misses));
                set_number(o, "table-misses", s->totals.table_misses);
        }
        return o;
}

static json_t *describe_threads(const struct disks *d)
{
        json_t *a = json_array();

        for (unsigned i = 0; i < d->nthreads; i++) {
                struct qthread_times t;

                qthread_times(d->threads[i], &t);
                json_array_append_new(a, json_pack("{s:s,s:I,s:I,s:I}", "name", qthread_name(d->threads[i]), "busy-ns",
                                                   (json_int_t)t.busy_ns, "idle-ns", (json_int_t)t.idle_ns, "cpu-ns",
                                                   (json_int_t)t.cpu_ns));
        }
        return a;
}

static void cmd_query_disk_stats(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *name = json_string_value(json_object_get(args, "node-name"));
        bool histograms = json_is_true(json_object_get(args, "histograms"));
        json_t *all = json_array();
        struct disk_stats s;

        list_for_each(l, &c->disks->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if ((!name || !strcmp(name, n->name)) && disk_stats_get(n, &s))
                        json_array_append_new(all, describe_disk(&s, histograms));
        }
        if (name && !json_array_size(all)) {
                json_decref(all);
                qmp_fail(call, NULL, "Cannot find device='' nor node-name='%s'", name);
                return;
        }
        qmp_return(call, json_pack("{s:I,s:o,s:o}", "time-ns", (json_int_t)clock_ns(), "disks", all, "threads",
                                   describe_threads(c->disks)));
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command stats_commands[] = {
        { "query-blockstats", query_blockstats_args, cmd_query_blockstats, &answer_blockstats },
        { "query-disk-stats", query_disk_stats_args, cmd_query_disk_stats, &answer_disk_stats },
        { NULL },
};
