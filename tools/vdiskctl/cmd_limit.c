/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_limit.c - limit: how much a disk may do in a second. What is not named stays as it is; the daemon knows what goes
 * together. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

/* Our word, and block_set_io_throttle's. */
static const struct limit_name {
        const char *word, *member;
        bool bytes;
} names[] = {
        { "iops", "iops", false }, { "iops-total", "iops", false },
        { "iops-read", "iops_rd", false }, { "iops-write", "iops_wr", false },
        { "bps", "bps", true }, { "bps-total", "bps", true },
        { "bps-read", "bps_rd", true }, { "bps-write", "bps_wr", true },
};
static const char *const suffix[][2] = { { "", "" }, { "-max", "_max" }, { "-max-length", "_max_length" } };

#define MEMBER_BYTES 32

static bool is_limit(const char *member)
{
        return !strncmp(member, "iops", 4) || !strncmp(member, "bps", 3);
}

/* @word is "KEY=...": the member that KEY names. */
static int find_member(const char *word, size_t len, char *member)
{
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                for (size_t s = 0; s < ARRAY_SIZE(suffix); s++) {
                        char key[MEMBER_BYTES];

                        snprintf(key, sizeof(key), "%s%s", names[i].word, suffix[s][0]);
                        if (strlen(key) != len || memcmp(key, word, len))
                                continue;
                        snprintf(member, MEMBER_BYTES, "%s%s", names[i].member, suffix[s][1]);
                        return 0;
                }
        if (len == strlen("iops-size") && !memcmp(word, "iops-size", len)) {
                strcpy(member, "iops_size");
                return 0;
        }
        return err_note(-EINVAL, "%s: the limits are iops, iops-read, iops-write, bps, bps-read and bps-write, each also with -max and "
                        "-max-length; iops-size; group=NAME; or none", word);
}

static int read_word(const char *word, json_t *limits)
{
        const char *value = strchr(word, '=');
        char member[MEMBER_BYTES];
        uint64_t n = 0;
        int r;

        if (!value)
                return err_note(-EINVAL, "%s: expected LIMIT=VALUE, or none", word);
        if (!strncmp(word, "group=", 6))
                return json_object_set_new(limits, "group", json_string(value + 1)) < 0 ? -EINVAL : 0;
        r = find_member(word, (size_t)(value - word), member);
        if (r == 0 && strcmp(value + 1, "none"))
                r = err_prefix(size_parse(value + 1, &n), "%s: ", word);
        if (r == 0)
                json_object_set_new(limits, member, json_integer((json_int_t)n));
        return r;
}

/* What the daemon said about the disk, without what is no limit. */
static json_t *limits_of(json_t *node)
{
        json_t *o = json_object(), *value;
        const char *name;

        json_object_foreach (node, name, value)
                if (is_limit(name) || !strcmp(name, "group"))
                        json_object_set(o, name, value);
        return o;
}

static int find_node(struct ctl *c, const char *name, json_t **ret)
{
        json_t *all = NULL, *n;
        size_t i;
        int r = qmp_client_call(c->client, "query-named-block-nodes", NULL, &all);

        *ret = NULL;
        json_array_foreach (all, i, n) {
                const char *other = json_string_value(json_object_get(n, "node-name"));

                if (other && !strcmp(other, name))
                        *ret = limits_of(n);
        }
        json_decref(all);
        return r == 0 && !*ret ? err_note(-ENOENT, "there is no disk '%s'", name) : r;
}

/* --- showing ------------------------------------------------------------------------------------------------------ */

static void print_burst(const json_t *limits, const char *member, bool bytes)
{
        char key[MEMBER_BYTES + 16], buf[32];
        json_int_t max, length;

        snprintf(key, sizeof(key), "%s_max", member);
        max = json_integer_value(json_object_get(limits, key));
        snprintf(key, sizeof(key), "%s_max_length", member);
        length = json_integer_value(json_object_get(limits, key));
        if (!max)
                return;
        if (bytes)
                printf(", bursts of %s", size_format((uint64_t)max, buf, sizeof(buf)));
        else
                printf(", bursts of %lld", (long long)max);
        printf(" for %lld s", (long long)length);
}

static void print_limits(const json_t *limits)
{
        const char *group = json_string_value(json_object_get(limits, "group"));
        json_int_t size = json_integer_value(json_object_get(limits, "iops_size"));
        char buf[32];

        if (!group) {
                printf("none\n");
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                json_int_t n = json_integer_value(json_object_get(limits, names[i].member));

                if (!n || (i && !strcmp(names[i].member, names[i - 1].member)))
                        continue;
                if (names[i].bytes)
                        printf("%-10s %s/s", names[i].word, size_format((uint64_t)n, buf, sizeof(buf)));
                else
                        printf("%-10s %lld/s", names[i].word, (long long)n);
                print_burst(limits, names[i].member, names[i].bytes);
                putchar('\n');
        }
        if (size)
                printf("%-10s %s\n", "iops-size", size_format((uint64_t)size, buf, sizeof(buf)));
        printf("%-10s %s\n", "group", group);
}

/* --- the command -------------------------------------------------------------------------------------------------- */

/* All of them at once, as the daemon wants it. @limits: taken. */
static int set_limits(struct ctl *c, json_t *limits)
{
        json_object_set_new(limits, "id", json_string(c->words[0]));
        return qmp_client_call(c->client, "block_set_io_throttle", limits, NULL);
}

int cmd_limit(struct ctl *c)
{
        AUTO(freep) char *node = NULL;
        json_t *limits = NULL;
        int r = node_of_disk(c, c->words[0], &node);

        if (r == 0)
                r = find_node(c, node, &limits);
        if (r == 0 && c->nwords == 1) {
                if (c->json)
                        json_dumpf(limits, stdout, JSON_INDENT(2)), putchar('\n');
                else
                        print_limits(limits);
                json_decref(limits);
                return 0;
        }
        if (r == 0 && c->nwords == 2 && !strcmp(c->words[1], "none")) {
                json_decref(limits);
                limits = json_pack("{s:i,s:i,s:i,s:i,s:i,s:i}", "iops", 0, "iops_rd", 0, "iops_wr", 0, "bps", 0, "bps_rd", 0,
                                   "bps_wr", 0);
                return set_limits(c, limits);
        }
        for (int i = 1; r == 0 && i < c->nwords; i++)
                r = read_word(c->words[i], limits);
        if (r == 0)
                return set_limits(c, limits);
        json_decref(limits);
        return r;
}
