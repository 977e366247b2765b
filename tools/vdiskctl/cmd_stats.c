/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_stats.c - stats: what disks have done, for people; one disk with the stages in which its requests spent their
 * time. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/size.h"
#include "tools/vdiskctl/disk_view.h"
#include "tools/vdiskctl/stats_print.h"

/* @all: an array, which keeps only the entry of @name. */
static int keep_only(json_t *all, const char *name)
{
        for (size_t i = json_array_size(all); i-- > 0;) {
                const char *other = json_string_value(json_object_get(json_array_get(all, i), "disk"));

                if (!other || strcmp(other, name))
                        json_array_remove(all, i);
        }
        return json_array_size(all) ? 0 : err_note(-ENOENT, "there is no disk '%s'", name);
}

int cmd_stats(struct ctl *c)
{
        json_t *stats = NULL, *disks;
        int r = qmp_client_call(c->client, "query-disk-stats", NULL, &stats);

        disks = json_object_get(stats, "disks");
        if (r == 0 && c->nwords)
                r = keep_only(disks, c->words[0]);
        if (r == 0 && c->json) {
                json_dumpf(stats, stdout, JSON_INDENT(2));
                putchar('\n');
        } else if (r == 0 && c->nwords) {
                stats_print_disk(json_array_get(disks, 0), stdout);
        } else if (r == 0) {
                stats_print_all(disks, stdout);
        }
        json_decref(stats);
        return r;
}
