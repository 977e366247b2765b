/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_snapshot.c - snapshot, list-snapshots, revert, delete-snapshot. Several disks are one transaction: they are kept
 * as they are at one and the same instant, or none is.
 */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/err.h"

struct snapshot_words {
        int ndisks;
        const char *file, *dir, *name;
};

/* --- words ------------------------------------------------------------------------------------------------------- */

static int read_key(const char *word, struct snapshot_words *w)
{
        const char *value = strchr(word, '=') + 1;
        size_t len = (size_t)(value - word);

        if (!strncmp(word, "file=", len))
                w->file = value;
        else if (!strncmp(word, "dir=", len))
                w->dir = value;
        else if (!strncmp(word, "name=", len))
                w->name = value;
        else
                return err_note(-EINVAL, "%s: the keys are file, dir and name", word);
        return *value ? 0 : err_note(-EINVAL, "%s: a value is missing", word);
}

static int read_words(const struct ctl *c, struct snapshot_words *w)
{
        int r = 0;

        for (int i = 0; r == 0 && i < c->nwords; i++) {
                if (strchr(c->words[i], '='))
                        r = read_key(c->words[i], w);
                else if (w->ndisks == i)
                        w->ndisks++;
                else
                        r = err_note(-EINVAL, "%s: disks come before keys", c->words[i]);
        }
        if (r == 0 && !w->ndisks)
                return err_note(-EINVAL, "which disk? 'vdiskctl list' has their names");
        if (r == 0 && !!w->file + !!w->dir + !!w->name > 1)
                return err_note(-EINVAL, "only one of file, dir and name");
        if (r == 0 && w->file && w->ndisks > 1)
                return err_note(-EINVAL, "file=%s is one file, and these are %d disks: say dir=DIR", w->file, w->ndisks);
        return r;
}

/* --- what goes where ---------------------------------------------------------------------------------------------- */

/* The new file of @disk: beside the one that it has now, unless the words say where. NULL: no memory. */
static char *new_file(const struct snapshot_words *w, const char *disk, const char *now)
{
        const char *slash = strrchr(now, '/');
        AUTO(freep) char *dir = w->dir ? absolute_path(w->dir) : strndup(now, slash ? (size_t)(slash - now) : 0);
        time_t t = time(NULL);
        char stamp[32], *path;
        struct tm tm;

        if (w->file)
                return absolute_path(w->file);
        strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", localtime_r(&t, &tm));
        if (!dir || asprintf(&path, "%s%s%s-%s.qcow2", dir, slash || w->dir ? "/" : "", disk, stamp) < 0)
                return NULL;
        return path;
}

/* One disk's part of the transaction; what it means goes into @t. */
static int add_action(json_t *actions, const struct snapshot_words *w, const char *disk, const json_t *node, struct table *t)
{
        const char *name = json_string_value(json_object_get(node, "node-name"));
        const char *now = json_string_value(json_object_get(node, "file"));
        AUTO(freep) char *file = now ? new_file(w, disk, now) : NULL;
        json_t *action;

        if (w->name)
                action = json_pack("{s:s,s:{s:s,s:s}}", "type", "blockdev-snapshot-internal-sync", "data", "device", name, "name",
                                   w->name);
        else if (file)
                action = json_pack("{s:s,s:{s:s,s:s,s:s}}", "type", "blockdev-snapshot-sync", "data", "node-name", name,
                                   "snapshot-file", file, "format", "qcow2");
        else
                return -ENOMEM;
        if (!action)
                return err_note(-EINVAL, "%s: no UTF-8, which the control socket cannot carry", w->name ?: file);
        table_cell(t, "%s", disk);
        table_cell(t, "%s", w->name ?: now);
        table_cell(t, "%s", w->name ? now : file);
        return json_array_append_new(actions, action) < 0 ? -ENOMEM : 0;
}

static struct table *new_table(const struct snapshot_words *w)
{
        static const char *const files[] = { "DISK", "KEPT IN", "GOES ON IN", NULL };
        static const char *const names[] = { "DISK", "SNAPSHOT", "IMAGE", NULL };

        return table_new(w->name ? names : files);
}

int cmd_snapshot(struct ctl *c)
{
        struct snapshot_words w = { 0 };
        json_t *actions = json_array();
        struct table *t = NULL;
        int r = read_words(c, &w);

        if (r == 0)
                t = new_table(&w);
        for (int i = 0; r == 0 && i < w.ndisks; i++) {
                json_t *node = NULL;

                r = describe_disk(c, c->words[i], &node);
                if (r == 0)
                        r = add_action(actions, &w, c->words[i], node, t);
                json_decref(node);
        }
        if (r == 0)
                r = qmp_client_call(c->client, "transaction", json_pack("{s:O}", "actions", actions), NULL);
        if (r == 0 && c->json) {
                json_dumpf(actions, stdout, JSON_INDENT(2));
                putchar('\n');
        }
        if (r == 0 && !c->json)
                table_print(TAKE(t, NULL));
        table_free(t);
        json_decref(actions);
        return r;
}

/* --- internal ones ------------------------------------------------------------------------------------------------- */

static int about_internal(struct ctl *c, const char *command)
{
        json_t *node = NULL;
        int r = describe_disk(c, c->words[0], &node);

        if (r == 0)
                r = qmp_client_call(c->client, command, json_pack("{s:O,s:s}", "device", json_object_get(node, "node-name"), "name",
                                                                  c->words[1]), NULL);
        json_decref(node);
        return r;
}

int cmd_revert(struct ctl *c)
{
        return about_internal(c, "blockdev-snapshot-revert");
}

int cmd_delete_snapshot(struct ctl *c)
{
        return about_internal(c, "blockdev-snapshot-delete-internal-sync");
}

/* Those of @image first, then of the images behind it. */
static int add_listed(json_t *all, const json_t *image)
{
        const json_t *name = json_object_get(image, "filename");
        size_t i;
        json_t *s;

        json_array_foreach (json_object_get(image, "snapshots"), i, s)
                if (json_array_append_new(all, json_pack("{s:O,s:O,s:O,s:O,s:O}", "image", name, "id", json_object_get(s, "id"), "name",
                                                         json_object_get(s, "name"), "date-sec", json_object_get(s, "date-sec"),
                                                         "vm-state-size", json_object_get(s, "vm-state-size"))) < 0)
                        return -ENOMEM;
        image = json_object_get(image, "backing-image");
        return image ? add_listed(all, image) : 0;
}

static void print_listed(const json_t *all)
{
        static const char *const heads[] = { "ID", "SNAPSHOT", "DATE", "IMAGE", NULL };
        struct table *t = table_new(heads);
        size_t i;
        json_t *s;

        json_array_foreach (all, i, s) {
                time_t at = (time_t)json_integer_value(json_object_get(s, "date-sec"));
                char when[32] = "-";
                struct tm tm;

                if (localtime_r(&at, &tm))
                        strftime(when, sizeof(when), "%F %T", &tm);
                table_cell(t, "%s", json_string_value(json_object_get(s, "id")));
                table_cell(t, "%s", json_string_value(json_object_get(s, "name")));
                table_cell(t, "%s", when);
                table_cell(t, "%s", json_string_value(json_object_get(s, "image")));
        }
        table_print(t);
}

int cmd_list_snapshots(struct ctl *c)
{
        json_t *node = NULL, *all = json_array();
        int r = describe_disk(c, c->words[0], &node);

        if (r == 0)
                r = add_listed(all, json_object_get(node, "image"));
        if (r == 0 && c->json) {
                json_dumpf(all, stdout, JSON_INDENT(2));
                putchar('\n');
        } else if (r == 0) {
                print_listed(all);
        }
        json_decref(node);
        json_decref(all);
        return r;
}
