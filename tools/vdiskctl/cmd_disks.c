/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_disks.c - add, remove, resize: a disk is a node and an export of the same name. The keys are those of vdiskd
 * --disk. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

/* --- add --------------------------------------------------------------------------------------------------------- */

/* Paths are seen from here, not from where the daemon is. NULL: no memory. */
static char *value_of(const char *key, const char *value)
{
        static const char *const files[] = { "path", "data-file", "socket", "connect" };

        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                if (!strcmp(key, files[i]) && *value)
                        return absolute_path(value);
        return strdup(value);
}

/* The daemon knows the keys and checks them: they are those of its configuration. */
int cmd_add(struct ctl *c)
{
        json_t *keys = json_object(), *args;

        for (int i = 1; i < c->nwords; i++) {
                const char *eq = strchr(c->words[i], '=');
                AUTO(freep) char *key = strndup(c->words[i], eq ? (size_t)(eq - c->words[i]) : strlen(c->words[i]));
                AUTO(freep) char *value = key ? value_of(key, eq ? eq + 1 : "on") : NULL;

                if (key && json_object_get(keys, key)) {
                        json_decref(keys);
                        return err_note(-EINVAL, "%s: a key is given once", c->words[i]);
                }
                if (!value || json_object_set_new(keys, key, json_string(value)) < 0) {
                        json_decref(keys);
                        return value ? err_note(-EINVAL, "%s: no UTF-8, which the control socket cannot carry", c->words[i]) : -ENOMEM;
                }
        }
        args = json_pack("{s:s,s:o,s:b}", "id", c->words[0], "keys", keys, "save", c->save);
        return args ? qmp_client_call(c->client, "disk-add", args, NULL) : err_note(-EINVAL, "%s: no UTF-8", c->words[0]);
}

/* --- remove ------------------------------------------------------------------------------------------------------ */

/* Waits until export @id is gone. */
static int wait_deleted(struct ctl *c, const char *id)
{
        for (;;) {
                json_t *event;
                int r = qmp_client_event(c->client, &event);
                const char *name, *who;
                bool ours;

                if (r < 0)
                        return r;
                name = json_string_value(json_object_get(event, "event"));
                who = json_string_value(json_object_get(json_object_get(event, "data"), "id"));
                ours = name && who && !strcmp(name, "BLOCK_EXPORT_DELETED") && !strcmp(who, id);
                json_decref(event);
                if (ours)
                        return 0;
        }
}

int cmd_remove(struct ctl *c)
{
        AUTO(freep) char *node = NULL;
        const char *name = c->words[0];
        json_t *x;
        int r;

        if (c->save)
                return qmp_client_call(c->client, "disk-remove",
                                       json_pack("{s:s,s:b,s:b}", "id", name, "force", c->force, "save", 1), NULL);
        r = describe_disk(c, name, &x); /* is there one? */
        if (r == 0) {
                json_decref(x);
                r = node_of_disk(c, name, &node);
        }
        if (r == 0)
                r = find_export(c, name, &x);
        if (r == 0 && x) {
                json_decref(x);
                r = qmp_client_call(c->client, "block-export-del",
                                    json_pack("{s:s,s:s}", "id", name, "mode", c->force ? "hard" : "safe"), NULL);
                if (r == 0)
                        r = wait_deleted(c, name);
        }
        return r < 0 ? r : qmp_client_call(c->client, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL);
}

/* --- resize ------------------------------------------------------------------------------------------------------ */

int cmd_resize(struct ctl *c)
{
        const char *name = c->words[0], *text = c->words[1];
        AUTO(freep) char *node = NULL;
        bool more = *text == '+';
        uint64_t size, now = 0;
        int r = size_parse(text + more, &size);

        if (r < 0)
                return r;
        r = node_of_disk(c, name, &node);
        if (r == 0)
                r = size_of_node(c, node, &now); /* also: is there one? */
        if (r < 0)
                return r;
        now = more ? now : 0;
        if (size > INT64_MAX - now)
                return err_note(-EFBIG, "%s: larger than any disk", text);
        return qmp_client_call(c->client, "block_resize",
                               json_pack("{s:s,s:I}", "node-name", node, "size", (json_int_t)(now + size)), NULL);
}
