/* SPDX-License-Identifier: BSD-3-Clause */
#include "tools/vdiskctl/stats_print.h"

#include <stdbool.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/size.h"
#include "tools/vdiskctl/disk_view.h"
#include "tools/vdiskctl/vdiskctl.h"

static json_int_t number(const json_t *o, const char *key)
{
        return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
        return json_string_value(json_object_get(o, key)) ?: "-";
}

static const char *bytes(const json_t *o, const char *key, char *buf, size_t len)
{
        return size_format((uint64_t)number(o, key), buf, len);
}

static const json_t *op_of(const json_t *disk, size_t op)
{
        return json_object_get(json_object_get(disk, "operations"), view_ops[op]);
}

/* --- cells -------------------------------------------------------------------------------------------------------- */

static void cell_ns(struct table *t, double ns)
{
        char buf[16];

        table_cell(t, "%s", view_time(ns, buf, sizeof(buf)));
}

static void cell_mean(struct table *t, const json_t *op, const char *stage)
{
        json_int_t n = number(op, "requests");
        const json_t *latency = json_object_get(json_object_get(op, "latency"), stage);

        cell_ns(t, n ? (double)number(latency, "sum-ns") / (double)n : -1);
}

static void cell_quantile(struct table *t, const json_t *op, const char *stage, const char *key)
{
        const json_t *latency = json_object_get(json_object_get(op, "latency"), stage);

        cell_ns(t, number(op, "requests") ? (double)number(latency, key) : -1);
}

static void cells_of_op(struct table *t, const json_t *op)
{
        static const char *const quantiles[] = { "p50-ns", "p99-ns", "p999-ns", "max-ns" };
        char buf[32];

        table_cell(t, "%lld", (long long)number(op, "requests"));
        table_cell(t, "%s", bytes(op, "bytes", buf, sizeof(buf)));
        table_cell(t, "%lld", (long long)(number(op, "errors") + number(op, "invalid")));
        cell_mean(t, op, "total");
        for (size_t i = 0; i < ARRAY_SIZE(quantiles); i++)
                cell_quantile(t, op, "total", quantiles[i]);
}

static bool was_asked(const json_t *op)
{
        return number(op, "requests") || number(op, "invalid");
}

/* --- all disks ---------------------------------------------------------------------------------------------------- */

void stats_print_all(const json_t *disks, FILE *to)
{
        static const char *const heads[] = { "NAME", "OPERATION", ">REQUESTS", ">BYTES", ">FAILED", ">MEAN", ">P50", ">P99",
                                             ">P99.9", ">MAX", NULL };
        struct table *t = table_new(heads);
        const json_t *disk;
        size_t i;

        json_array_foreach (disks, i, disk) {
                bool any = false;

                for (size_t op = 0; op < VIEW_OPS; op++) {
                        if (!was_asked(op_of(disk, op)) && !(op == VIEW_OPS - 1 && !any))
                                continue;
                        table_cell(t, "%s", text(disk, "disk"));
                        table_cell(t, "%s", was_asked(op_of(disk, op)) ? view_op_titles[op] : "-"); /* nothing of any kind */
                        cells_of_op(t, op_of(disk, op));
                        any = true;
                }
        }
        table_print_to(t, to);
}

/* --- one disk ----------------------------------------------------------------------------------------------------- */

static void print_head(const json_t *disk, FILE *to)
{
        json_int_t depth = number(disk, "backing-depth"), connected = number(disk, "connected");
        char size[32], allocated[32], age[16];
        const json_t *flag;
        size_t i;

        fprintf(to, "%s: %s, %s, ", text(disk, "disk"), text(disk, "format"),
                bytes(disk, "virtual-size", size, sizeof(size)));
        if (json_object_get(disk, "allocated"))
                fprintf(to, "%s allocated, ", bytes(disk, "allocated", allocated, sizeof(allocated)));
        fprintf(to, "%s, %lld front end%s connected", json_is_true(json_object_get(disk, "read-only")) ? "read-only" : "read-write",
                (long long)connected, connected == 1 ? "" : "s");
        if (depth)
                fprintf(to, ", %lld backing image%s", (long long)depth, depth == 1 ? "" : "s");
        json_array_foreach (json_object_get(disk, "flags"), i, flag)
                fprintf(to, ", %s", json_string_value(flag) ?: "?");
        fprintf(to, "\n%lld request%s in flight", (long long)number(disk, "in-flight"), number(disk, "in-flight") == 1 ? "" : "s");
        if (number(disk, "in-flight"))
                fprintf(to, ", the oldest for %s", view_time((double)number(disk, "oldest-age-ns"), age, sizeof(age)));
        if (json_object_get(disk, "idle-ns"))
                fprintf(to, "; the last answer was %s ago", view_time((double)number(disk, "idle-ns"), age, sizeof(age)));
        fprintf(to, "\n\n");
}

static void print_ops(const json_t *disk, FILE *to)
{
        static const char *const heads[] = { "OPERATION", ">REQUESTS", ">BYTES", ">FAILED", ">MEAN", ">P50", ">P99", ">P99.9",
                                             ">MAX", NULL };
        struct table *t = table_new(heads);

        for (size_t op = 0; op < VIEW_OPS; op++) {
                table_cell(t, "%s", view_op_titles[op]);
                cells_of_op(t, op_of(disk, op));
        }
        table_print_to(t, to);
}

static void print_stages(const json_t *disk, FILE *to)
{
        static const char *const heads[] = { "MEAN AND P99 OF", ">QUEUE", ">P99", ">MAP", ">P99", ">TURN", ">P99", ">DISK", ">P99",
                                             ">NOTIFY", ">P99", NULL };
        static const char *const stages[] = { "queue", "map", "turn", "disk", "notify" };
        struct table *t = table_new(heads);

        for (size_t op = 0; op < VIEW_OPS; op++) {
                if (!number(op_of(disk, op), "requests"))
                        continue;
                table_cell(t, "%s", view_op_titles[op]);
                for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
                        cell_mean(t, op_of(disk, op), stages[i]);
                        cell_quantile(t, op_of(disk, op), stages[i], "p99-ns");
                }
        }
        fputc('\n', to);
        table_print_to(t, to);
}

static void print_rest(const json_t *disk, FILE *to)
{
        json_int_t hits = number(disk, "table-hits"), misses = number(disk, "table-misses");
        char buf[32];

        fprintf(to, "\nthrough the home thread: %lld requests; flushes that another one did: %lld\n",
                (long long)number(disk, "home-requests"), (long long)number(disk, "flushes-coalesced"));
        fprintf(to, "copied up: %s; ", bytes(disk, "copied-up-bytes", buf, sizeof(buf)));
        fprintf(to, "the furthest write ended at %s", bytes(disk, "highest-write", buf, sizeof(buf)));
        if (hits + misses)
                fprintf(to, "; lookups that found their tables: %.1f %% of %lld",
                        100.0 * (double)hits / (double)(hits + misses), (long long)(hits + misses));
        fputc('\n', to);
}

void stats_print_disk(const json_t *disk, FILE *to)
{
        bool any = false;

        for (size_t op = 0; op < VIEW_OPS; op++)
                any |= number(op_of(disk, op), "requests") != 0;
        print_head(disk, to);
        print_ops(disk, to);
        if (any)
                print_stages(disk, to);
        print_rest(disk, to);
}
