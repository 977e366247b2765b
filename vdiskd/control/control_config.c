/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_config.c - the configuration: read again; and disks with the words of --disk and of the configuration, which
 * can be written into it. Not in QEMU.
 */
#include "vdiskd/control/control_commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/disk_options.h"
#include "vdiskd/config/reload.h"

/* --- reload-config ------------------------------------------------------------------------------------------------ */

static const struct qmp_arg no_args[] = { { NULL } };

static void on_reloaded(void *opaque, int res, const char *why, json_t *what)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, json_incref(what));
}

static void cmd_reload(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        int r = c->hooks.reload(c->hooks.opaque, on_reloaded, call);

        (void)args;
        if (r < 0)
                qmp_answer(call, r);
}

/* --- disk-add, disk-remove ---------------------------------------------------------------------------------------- */

static const struct qmp_arg disk_add_args[] = {
        { "id", QMP_STR },
        { "keys", QMP_OBJECT }, /* disk_options.c has their table */
        { "save", QMP_BOOL, .optional = true },
        { NULL },
};
static const struct qmp_arg disk_remove_args[] = {
        { "id", QMP_STR },
        { "force", QMP_BOOL, .optional = true },
        { "save", QMP_BOOL, .optional = true },
        { NULL },
};

static void on_done(void *opaque, int res, const char *why)
{
        struct qmp_call *call = opaque;

        if (res < 0)
                qmp_fail(call, NULL, "%s", why);
        else
                qmp_return(call, NULL);
}

/* Numbers and truths may be written as JSON has them. */
static int set_key(struct disk_opts *d, const char *key, const json_t *value)
{
        char number[32];

        if (json_is_string(value))
                return disk_opts_set(d, key, json_string_value(value));
        if (json_is_boolean(value))
                return disk_opts_set(d, key, json_is_true(value) ? "on" : "off");
        if (!json_is_integer(value))
                return err_note(-EINVAL, "Invalid parameter type for 'keys.%s', expected: string", key);
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        return disk_opts_set(d, key, number);
}

/* Descriptors are of the command line only: the client's are not ours. */
static int read_keys(struct disk_opts *d, const char *id, json_t *keys)
{
        const char *key;
        json_t *value;
        int r = disk_opts_set(d, "id", id);

        json_object_foreach (keys, key, value) {
                if (r == 0 && (!strcmp(key, "id") || !strcmp(key, "fd")))
                        r = err_note(-EINVAL, "Parameter 'keys.%s' is unexpected", key);
                if (r == 0)
                        r = set_key(d, key, value);
        }
        return r < 0 ? r : disk_opts_check(d);
}

static void cmd_disk_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct disk_opts d = no_disk;
        bool save = json_is_true(json_object_get(args, "save"));
        int r = read_keys(&d, json_string_value(json_object_get(args, "id")), json_object_get(args, "keys"));

        if (r == 0)
                r = reload_add(c->disks->configuration, &d, save, on_done, call);
        if (r < 0)
                qmp_answer(call, r);
        disk_opts_finish(&d);
}

static void cmd_disk_remove(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        int r = reload_remove(c->disks->configuration, json_string_value(json_object_get(args, "id")),
                              json_is_true(json_object_get(args, "force")), json_is_true(json_object_get(args, "save")), on_done,
                              call);

        if (r < 0)
                qmp_answer(call, r);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command config_commands[] = {
        { "reload-config", no_args, cmd_reload, &answer_reload },
        { "disk-add", disk_add_args, cmd_disk_add },
        { "disk-remove", disk_remove_args, cmd_disk_remove },
        { NULL },
};
