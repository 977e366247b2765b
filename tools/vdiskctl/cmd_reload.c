/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_reload.c - the daemon reads its configuration again; what it did, and what it left, in lines. */
#include "vdiskctl.h"

#include <stdio.h>

static void print_list(const json_t *what, const char *list)
{
        const json_t *all = json_object_get(what, list), *o;
        size_t i;

        json_array_foreach (all, i, o)
                printf("%s: %s\n", list, json_string_value(o));
}

int cmd_reload(struct ctl *c)
{
        json_t *what = NULL;
        int r = qmp_client_call(c->client, "reload-config", NULL, &what);

        if (r == 0 && c->json) {
                json_dumpf(what, stdout, JSON_INDENT(2));
                putchar('\n');
        } else if (r == 0) {
                print_list(what, "added");
                print_list(what, "removed");
                print_list(what, "changed");
                print_list(what, "left");
        }
        json_decref(what);
        return r;
}
