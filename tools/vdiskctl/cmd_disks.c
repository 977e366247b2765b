/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_disks.c - add, remove, resize: a disk is a node and an export of the same name. The keys are those of vdiskd --disk. */
#include "vdiskctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"

#define DEFAULT_QUEUES 64 /* as vdiskd --disk; QEMU asks for one for each virtual CPU */

struct disk_words {
        const char *path, *data_path, *format, *socket, *serial, *connect, *mode, *owner, *group;
        long num_queues, block_size;
        bool read_only, writeback, migratable;
};

/* --- KEY=VALUE --------------------------------------------------------------------------------------------------- */

static int read_number(const char *word, const char *value, long *ret)
{
        char *end;

        errno = 0;
        *ret = strtol(value, &end, 10);
        if (*end || end == value || errno)
                return err_note(-EINVAL, "%s: expected a number", word);
        return 0;
}

/* Is @value @yes, or @no? */
static int read_choice(const char *word, const char *value, const char *yes, const char *no, bool *ret)
{
        *ret = !strcmp(value, yes);
        return *ret || !strcmp(value, no) ? 0 : err_note(-EINVAL, "%s: expected %s or %s", word, yes, no);
}

static const struct text_key {
        const char *key;
        size_t at; /* in disk_words */
} texts[] = {
        { "path", offsetof(struct disk_words, path) },
        { "data-file", offsetof(struct disk_words, data_path) },
        { "format", offsetof(struct disk_words, format) },
        { "socket", offsetof(struct disk_words, socket) },
        { "socket-mode", offsetof(struct disk_words, mode) },
        { "socket-owner", offsetof(struct disk_words, owner) },
        { "socket-group", offsetof(struct disk_words, group) },
        { "connect", offsetof(struct disk_words, connect) },
        { "serial", offsetof(struct disk_words, serial) },
};

static int read_word(const char *word, struct disk_words *d)
{
        const char *value = strchr(word, '=');
        size_t len = value ? (size_t)(value - word) : 0;

#define IS(key) (len == strlen(key) && !memcmp(word, key, len))
        if (!value)
                return err_note(-EINVAL, "%s: expected KEY=VALUE", word);
        value++;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                if (IS(texts[i].key))
                        return *(const char **)((char *)d + texts[i].at) = value, 0;
        if (IS("num-queues"))
                return read_number(word, value, &d->num_queues);
        if (IS("block-size"))
                return read_number(word, value, &d->block_size);
        if (IS("read-only"))
                return read_choice(word, value, "on", "off", &d->read_only);
        if (IS("migratable"))
                return read_choice(word, value, "on", "off", &d->migratable);
        if (IS("cache"))
                return read_choice(word, value, "writeback", "none", &d->writeback);
#undef IS
        return err_note(-EINVAL, "%s: the keys are path, data-file, format, socket, socket-mode, socket-owner, socket-group, connect, serial, "
                        "num-queues, block-size, read-only, migratable and cache", word);
}

/* --- add --------------------------------------------------------------------------------------------------------- */

static int add_node(struct ctl *c, const char *name, const struct disk_words *d)
{
        AUTO(freep) char *path = absolute_path(d->path), *data = d->data_path ? absolute_path(d->data_path) : NULL;
        json_t *args;

        if (!path || (d->data_path && !data))
                return -ENOMEM;
        args = json_pack("{s:s,s:s,s:b,s:b,s:{s:b},s:{s:s,s:s}}", "driver", d->format, "node-name", name, "read-only",
                         d->read_only, "migratable", d->migratable, "cache", "direct", !d->writeback, "file", "driver", "file", "filename", path);
        if (args && data && json_object_set_new(args, "data-file", json_pack("{s:s,s:s}", "driver", "file", "filename", data)) < 0) {
                json_decref(args);
                args = NULL;
        }
        if (!args)
                return err_note(-EINVAL, "a name or path is no UTF-8, which the control socket cannot carry");
        return qmp_client_call(c->client, "blockdev-add", args, NULL);
}

static int add_export(struct ctl *c, const char *name, const struct disk_words *d)
{
        AUTO(freep) char *socket = absolute_path(d->socket ? d->socket : d->connect);
        json_t *args;

        if (!socket)
                return -ENOMEM;
        args = json_pack("{s:s,s:s,s:s,s:b,s:I,s:I,s:s*,s:s*,s:s*,s:s*,s:{s:s,s:s}}", "type", "vhost-user-blk", "id", name, "node-name", name,
                         "writable", !d->read_only, "num-queues", (json_int_t)d->num_queues, "logical-block-size",
                         (json_int_t)d->block_size, "serial", d->serial, "socket-mode", d->mode, "socket-owner", d->owner,
                         "socket-group", d->group, "addr", "type", "unix", "path", socket);
        if (args && d->connect)
                json_object_set_new(args, "connect", json_true());
        if (!args)
                return err_note(-EINVAL, "a serial number or path is no UTF-8, which the control socket cannot carry");
        return qmp_client_call(c->client, "block-export-add", args, NULL);
}

static int delete_node(struct ctl *c, const char *name)
{
        return qmp_client_call(c->client, "blockdev-del", json_pack("{s:s}", "node-name", name), NULL);
}

/* The daemon checks the words: they are those of its configuration. */
static int add_saved(struct ctl *c)
{
        static const char *const files[] = { "path", "data-file", "socket", "connect" };
        json_t *keys = json_object(), *args;

        for (int i = 1; i < c->nwords; i++) {
                const char *value = strchr(c->words[i], '=');
                AUTO(freep) char *key = strndup(c->words[i], value ? (size_t)(value - c->words[i]) : strlen(c->words[i]));
                AUTO(freep) char *whole = NULL;

                value = value ? value + 1 : "on";
                for (size_t k = 0; key && k < ARRAY_SIZE(files); k++)
                        if (!strcmp(key, files[k]) && *value)
                                whole = absolute_path(value);
                if (!key || json_object_set_new(keys, key, json_string(whole ?: value)) < 0) {
                        json_decref(keys);
                        return err_note(-EINVAL, "%s: no UTF-8, which the control socket cannot carry", c->words[i]);
                }
        }
        args = json_pack("{s:s,s:o,s:b}", "id", c->words[0], "keys", keys, "save", 1);
        return args ? qmp_client_call(c->client, "disk-add", args, NULL) : err_note(-EINVAL, "%s: no UTF-8", c->words[0]);
}

int cmd_add(struct ctl *c)
{
        struct disk_words d = { .num_queues = DEFAULT_QUEUES, .block_size = 512 };
        const char *name = c->words[0];
        int r = 0;

        if (c->save)
                return add_saved(c);
        for (int i = 1; r == 0 && i < c->nwords; i++)
                r = read_word(c->words[i], &d);
        if (r == 0 && (!d.path || !d.format || !d.socket == !d.connect))
                r = err_note(-EINVAL, "expected path=FILE, format=raw or format=qcow2, and socket=PATH or connect=PATH");
        if (r == 0)
                r = add_node(c, name, &d);
        if (r < 0)
                return r;
        r = add_export(c, name, &d);
        if (r < 0) {
                int gone = delete_node(c, name); /* err_note() keeps the first sentence: why the export failed */

                if (gone < 0)
                        fprintf(stderr, "vdiskctl: the image of %s stays open; try 'vdiskctl remove %s'\n", name, name);
        }
        return r;
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
        r = node_of_disk(c, name, &node);
        if (r == 0)
                r = find_export(c, name, &x);
        if (r == 0 && x) {
                json_decref(x);
                r = qmp_client_call(c->client, "block-export-del",
                                    json_pack("{s:s,s:s}", "id", name, "mode", c->force ? "hard" : "safe"), NULL);
                if (r == 0)
                        r = wait_deleted(c, name);
        }
        return r < 0 ? r : delete_node(c, node);
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
        if (r == 0 && more)
                r = size_of_node(c, node, &now);
        if (r < 0)
                return r;
        if (size > INT64_MAX - now)
                return err_note(-EFBIG, "%s: larger than any disk", text);
        return qmp_client_call(c->client, "block_resize",
                               json_pack("{s:s,s:I}", "node-name", node, "size", (json_int_t)(now + size)), NULL);
}
