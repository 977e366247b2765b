/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_show.c - list, events, query: ask, and print for people or (--json) as the daemon said it. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
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

/* The names of the exports of @node, with commas between them; without any, its own. */
static void list_names(const json_t *exports, const char *node, char *buf, size_t len)
{
        size_t i, n = 0;
        json_t *x;

        snprintf(buf, len, "%s", node);
        json_array_foreach (exports, i, x)
                if (!strcmp(text_of(x, "node-name"), node) && n < len)
                        n += (size_t)snprintf(buf + n, len - n, "%s%s%s", n ? "," : "", text_of(x, "id"),
                                              json_is_true(json_object_get(x, "shutting-down")) ? " (stopping)" : "");
}

/* What query-disk-stats says of @node; NULL: nothing, it belongs to another disk's chain. */
static const json_t *find_stats(const json_t *stats, const char *node)
{
        const json_t *o;
        size_t i;

        json_array_foreach (json_object_get(stats, "disks"), i, o)
                if (!strcmp(text_of(o, "node-name"), node))
                        return o;
        return NULL;
}

static void list_state(const json_t *node, const json_t *stats, char *buf, size_t len)
{
        const json_t *flag;
        size_t i, n = 0;

        snprintf(buf, len, "%s", json_is_false(json_object_get(node, "active")) ? "asleep" : "ok");
        json_array_foreach (json_object_get(stats, "flags"), i, flag)
                if (n < len)
                        n += (size_t)snprintf(buf + n, len - n, "%s%s", n ? "," : "", json_string_value(flag) ?: "?");
}

/* Disks, not the images behind them. */
static void print_disks(const json_t *nodes, const json_t *exports, const json_t *stats)
{
        static const char *const heads[] = { "NAME", "FORMAT", ">SIZE", ">ALLOCATED", ">DEPTH", ">CLIENTS", "STATE", "MODE", "IMAGE",
                                             NULL };
        struct table *t = table_new(heads);
        size_t i;
        json_t *n;

        json_array_foreach (nodes, i, n) {
                const json_t *image = json_object_get(n, "image");
                const json_t *s = find_stats(stats, text_of(n, "node-name"));
                char buf[32], names[256], state[64];

                if (!s)
                        continue;
                list_state(n, s, state, sizeof(state));
                list_names(exports, text_of(n, "node-name"), names, sizeof(names));
                table_cell(t, "%s", names);
                table_cell(t, "%s", text_of(n, "drv"));
                table_cell(t, "%s", size_of(image, "virtual-size", buf, sizeof(buf)));
                table_cell(t, "%s", size_of(image, "actual-size", buf, sizeof(buf)));
                table_cell(t, "%lld", (long long)number_of(s, "backing-depth"));
                table_cell(t, "%lld", (long long)number_of(s, "connected"));
                table_cell(t, "%s", state);
                table_cell(t, "%s", json_is_true(json_object_get(n, "ro")) ? "read-only" : "read-write");
                table_cell(t, "%s", text_of(n, "file"));
        }
        table_print(t);
}

int cmd_list(struct ctl *c)
{
        json_t *nodes = NULL, *exports = NULL, *stats = NULL;
        int r = qmp_client_call(c->client, "query-named-block-nodes", NULL, &nodes);

        if (r == 0)
                r = qmp_client_call(c->client, "query-block-exports", NULL, &exports);
        if (r == 0)
                r = qmp_client_call(c->client, "query-disk-stats", NULL, &stats);
        if (r == 0 && c->json) {
                json_t *both = json_pack("{s:O,s:O}", "nodes", nodes, "exports", exports);

                print_json(both);
                json_decref(both);
        } else if (r == 0) {
                print_disks(nodes, exports, stats);
        }
        json_decref(nodes);
        json_decref(exports);
        json_decref(stats);
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

/* Ends when the daemon does. What happened before the line on stderr is not told, everything after it is. */
int cmd_events(struct ctl *c)
{
        fprintf(stderr, "listening; interrupt to end\n");
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
