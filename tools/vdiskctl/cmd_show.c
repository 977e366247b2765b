/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_show.c - list, stats, events, query: ask, and print for people or (--json) as the daemon said it. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/size.h"

static void print_json(const json_t *v)
{
        json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
}

static const char *text_of(const json_t *o, const char *name)
{
        return json_string_value(json_object_get(o, name)) ?: "-";
}

static json_int_t number_of(const json_t *o, const char *name)
{
        return json_integer_value(json_object_get(o, name));
}

static const char *size_of(const json_t *o, const char *name, char *buf, size_t len)
{
        return json_object_get(o, name) ? size_format((uint64_t)number_of(o, name), buf, len) : "-";
}

/* --- list -------------------------------------------------------------------------------------------------------- */

/* The names of the exports of @node, with commas between them. */
static void list_exports(const json_t *exports, const char *node, char *buf, size_t len)
{
        size_t i, n = 0;
        json_t *x;

        snprintf(buf, len, "-");
        json_array_foreach (exports, i, x)
                if (!strcmp(text_of(x, "node-name"), node) && n < len)
                        n += (size_t)snprintf(buf + n, len - n, "%s%s%s", n ? "," : "", text_of(x, "id"),
                                              json_is_true(json_object_get(x, "shutting-down")) ? " (stopping)" : "");
}

static void print_nodes(const json_t *nodes, const json_t *exports)
{
        static const char *const heads[] = { "NAME", "FORMAT", ">SIZE", ">ALLOCATED", "MODE", "EXPORTS", "IMAGE", NULL };
        struct table *t = table_new(heads);
        size_t i;
        json_t *n;

        json_array_foreach (nodes, i, n) {
                const json_t *image = json_object_get(n, "image");
                char buf[32], names[256];

                list_exports(exports, text_of(n, "node-name"), names, sizeof(names));
                table_cell(t, "%s", text_of(n, "node-name"));
                table_cell(t, "%s", text_of(n, "drv"));
                table_cell(t, "%s", size_of(image, "virtual-size", buf, sizeof(buf)));
                table_cell(t, "%s", size_of(image, "actual-size", buf, sizeof(buf)));
                table_cell(t, "%s", json_is_true(json_object_get(n, "ro")) ? "read-only" : "read-write");
                table_cell(t, "%s", names);
                table_cell(t, "%s", text_of(n, "file"));
        }
        table_print(t);
}

int cmd_list(struct ctl *c)
{
        json_t *nodes = NULL, *exports = NULL;
        int r = qmp_client_call(c->client, "query-named-block-nodes", NULL, &nodes);

        if (r == 0)
                r = qmp_client_call(c->client, "query-block-exports", NULL, &exports);
        if (r == 0 && c->json) {
                json_t *both = json_pack("{s:O,s:O}", "nodes", nodes, "exports", exports);

                print_json(both);
                json_decref(both);
        } else if (r == 0) {
                print_nodes(nodes, exports);
        }
        json_decref(nodes);
        json_decref(exports);
        return r;
}

/* --- stats ------------------------------------------------------------------------------------------------------- */

/* @all: an array, which keeps only the entry of @name. */
static int keep_only(json_t *all, const char *name)
{
        for (size_t i = json_array_size(all); i-- > 0;)
                if (strcmp(text_of(json_array_get(all, i), "node-name"), name))
                        json_array_remove(all, i);
        return json_array_size(all) ? 0 : err_note(-ENOENT, "there is no disk '%s'", name);
}

static void cell_time(struct table *t, const json_t *s, const char *ops, const char *failed, const char *time)
{
        json_int_t n = number_of(s, ops) + number_of(s, failed);

        if (n)
                table_cell(t, "%.1f", (double)number_of(s, time) / (double)n / NS_PER_US);
        else
                table_cell(t, "-");
}

static void print_stats(const json_t *all)
{
        static const char *const heads[] = { "NAME", ">READS", ">READ", ">AVG US", ">WRITES", ">WRITTEN", ">AVG US",
                                             ">FLUSHES", ">AVG US", ">DISCARDS", ">FAILED", NULL };
        struct table *t = table_new(heads);
        size_t i;
        json_t *o;

        json_array_foreach (all, i, o) {
                const json_t *s = json_object_get(o, "stats");
                char buf[32];

                table_cell(t, "%s", text_of(o, "node-name"));
                table_cell(t, "%lld", (long long)number_of(s, "rd_operations"));
                table_cell(t, "%s", size_of(s, "rd_bytes", buf, sizeof(buf)));
                cell_time(t, s, "rd_operations", "failed_rd_operations", "rd_total_time_ns");
                table_cell(t, "%lld", (long long)number_of(s, "wr_operations"));
                table_cell(t, "%s", size_of(s, "wr_bytes", buf, sizeof(buf)));
                cell_time(t, s, "wr_operations", "failed_wr_operations", "wr_total_time_ns");
                table_cell(t, "%lld", (long long)number_of(s, "flush_operations"));
                cell_time(t, s, "flush_operations", "failed_flush_operations", "flush_total_time_ns");
                table_cell(t, "%lld", (long long)number_of(s, "unmap_operations"));
                table_cell(t, "%lld", (long long)(number_of(s, "failed_rd_operations") + number_of(s, "failed_wr_operations") +
                                                  number_of(s, "failed_flush_operations") +
                                                  number_of(s, "failed_unmap_operations")));
        }
        table_print(t);
}

int cmd_stats(struct ctl *c)
{
        json_t *all = NULL;
        int r = qmp_client_call(c->client, "query-blockstats", NULL, &all);

        if (r == 0 && c->nwords)
                r = keep_only(all, c->words[0]);
        if (r == 0 && c->json)
                print_json(all);
        else if (r == 0)
                print_stats(all);
        json_decref(all);
        return r;
}

/* --- events, query ----------------------------------------------------------------------------------------------- */

static void print_event(const json_t *event)
{
        time_t at = (time_t)number_of(json_object_get(event, "timestamp"), "seconds");
        AUTO(freep) char *data = json_dumps(json_object_get(event, "data"), JSON_COMPACT);
        char when[32] = "";
        struct tm tm;

        if (localtime_r(&at, &tm))
                strftime(when, sizeof(when), "%F %T", &tm);
        printf("%s  %s  %s\n", when, text_of(event, "event"), data ? data : "");
}

/* Ends when the daemon does. */
int cmd_events(struct ctl *c)
{
        for (;;) {
                json_t *event;
                int r = qmp_client_event(c->client, &event);

                if (r < 0)
                        return r;
                if (c->json) {
                        json_dumpf(event, stdout, JSON_COMPACT); /* one a line */
                        putchar('\n');
                } else {
                        print_event(event);
                }
                fflush(stdout);
                json_decref(event);
        }
}

int cmd_query(struct ctl *c)
{
        json_t *args = NULL, *value = NULL;
        json_error_t error;
        int r;

        if (c->nwords > 1) {
                args = json_loads(c->words[1], JSON_REJECT_DUPLICATES, &error);
                if (!json_is_object(args)) {
                        json_decref(args);
                        return err_note(-EINVAL, "the arguments are no JSON object: %s", c->words[1]);
                }
        }
        r = qmp_client_call(c->client, c->words[0], args, &value);
        if (r == 0)
                print_json(value);
        json_decref(value);
        return r;
}
