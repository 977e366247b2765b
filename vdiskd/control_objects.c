/* SPDX-License-Identifier: BSD-3-Clause */
/* control_objects.c - object-add and object-del: passwords of encrypted images. */
#include "vdiskd/control_commands.h"

#include "common/err.h"
#include "common/secret.h"

static const char *const types[] = { "secret", NULL };
static const char *const formats[] = { "raw", "base64", NULL };
static const struct qmp_arg object_add_args[] = {
        { "qom-type", QMP_STR, .values = types },
        { "id", QMP_STR },
        { "file", QMP_STR, .optional = true }, /* the errors have their own words */
        { "data", QMP_STR, .optional = true },
        { "format", QMP_STR, .optional = true, .values = formats },
        { NULL },
};
static const struct qmp_arg object_del_args[] = { { "id", QMP_STR }, { NULL } };

static const char *text_of(json_t *args, const char *name)
{
        return json_string_value(json_object_get(args, name));
}

static void cmd_object_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct secret_source s = {
                .id = text_of(args, "id"), .file = text_of(args, "file"), .format = text_of(args, "format"), .fd = -1,
                .no_waiting = true,
        };

        (void)opaque;
        if (json_object_get(args, "data"))
                qmp_fail(call, NULL, "Parameter 'data' is unexpected: passwords come from files only, 'file' names one");
        else if (!s.file)
                qmp_fail(call, NULL, "Parameter 'file' is missing");
        else if (secret_add(&s) < 0)
                qmp_fail(call, NULL, "%s", err_text(-1));
        else
                qmp_return(call, NULL);
        err_clear();
}

/* Disks that are open stay open; to open one again (migration) takes the secret again. */
static void cmd_object_del(struct qmp_call *call, json_t *args, void *opaque)
{
        (void)opaque;
        if (secret_remove(text_of(args, "id")) < 0)
                qmp_fail(call, NULL, "object '%s' not found", text_of(args, "id"));
        else
                qmp_return(call, NULL);
        err_clear();
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command object_commands[] = {
        { "object-add", object_add_args, cmd_object_add },
        { "object-del", object_del_args, cmd_object_del },
        { NULL },
};
