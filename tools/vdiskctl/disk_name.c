/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_name.c - what people call a disk is its export, whose node changes with each snapshot and mirror; a node that
 * nobody exports goes by its own name.
 */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

/* The object of what @query returns whose @key is @value; *ret NULL: there is none. */
static int find(struct ctl *c, const char *query, const char *key, const char *value, json_t **ret)
{
        json_t *all = NULL, *o;
        size_t i;
        int r = qmp_client_call(c->client, query, NULL, &all);

        *ret = NULL;
        json_array_foreach (all, i, o) {
                const char *other = json_string_value(json_object_get(o, key));

                if (other && !strcmp(other, value)) {
                        *ret = json_incref(o);
                        break;
                }
        }
        json_decref(all);
        return r;
}

int find_export(struct ctl *c, const char *id, json_t **ret)
{
        return find(c, "query-block-exports", "id", id, ret);
}

int node_of_disk(struct ctl *c, const char *name, char **ret)
{
        json_t *x;
        int r = find_export(c, name, &x);

        if (r < 0)
                return r;
        *ret = strdup(json_string_value(json_object_get(x, "node-name")) ?: name);
        json_decref(x);
        return *ret ? 0 : -ENOMEM;
}

int describe_disk(struct ctl *c, const char *name, json_t **ret)
{
        AUTO(freep) char *node = NULL;
        int r = node_of_disk(c, name, &node);

        if (r == 0)
                r = find(c, "query-named-block-nodes", "node-name", node, ret);
        if (r == 0 && !*ret)
                r = err_note(-ENOENT, "there is no disk '%s'", name);
        return r;
}

int size_of_node(struct ctl *c, const char *name, uint64_t *ret)
{
        json_t *n = NULL;
        int r = find(c, "query-named-block-nodes", "node-name", name, &n);

        if (r == 0 && !n)
                r = err_note(-ENOENT, "there is no disk '%s'", name);
        *ret = (uint64_t)json_integer_value(json_object_get(json_object_get(n, "image"), "virtual-size"));
        json_decref(n);
        return r;
}

/* The daemon's working directory is not ours. */
char *absolute_path(const char *path)
{
        AUTO(freep) char *cwd = NULL;
        char *whole = NULL;

        if (*path == '/')
                return strdup(path);
        cwd = getcwd(NULL, 0);
        if (!cwd || asprintf(&whole, "%s/%s", cwd, path) < 0)
                return NULL;
        return whole;
}
