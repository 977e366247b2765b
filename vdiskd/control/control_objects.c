/* SPDX-License-Identifier: BSD-3-Clause */
/* control_objects.c - object-add and object-del: passwords of encrypted images, throttle groups. */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <string.h>

#include "common/err.h"
#include "common/secret.h"
#include "vdiskd/id.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/json_member.h"

static const char *const formats[] = { "raw", "base64", NULL };
static const struct qmp_arg secret_args[] = {
        { "file", QMP_STR, .optional = true }, /* the errors have their own words */
        { "data", QMP_STR, .optional = true },
        { "format", QMP_STR, .optional = true, .values = formats },
        { NULL },
};
static const char *const types[] = { "secret", "throttle-group", NULL };
static const struct qmp_variant type_args[] = {
        { "secret", secret_args }, { "throttle-group", throttle_group_args }, { NULL },
};
static const struct qmp_arg object_add_args[] = {
        { "qom-type", QMP_STR, .values = types, .variants = type_args },
        { "id", QMP_STR },
        { NULL },
};
static const struct qmp_arg object_del_args[] = { { "id", QMP_STR }, { NULL } };

static void add_secret(struct qmp_call *call, json_t *args)
{
        struct secret_source s = {
                .id = text_of(args, "id"), .file = text_of(args, "file"), .format = text_of(args, "format"), .fd = -1,
                .no_waiting = true,
        };

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

/* One name, one object, whatever it is. */
static int check_name(struct disks *d, const char *id)
{
        struct secret s = { 0 };
        bool taken = limits_find(d, id) || secret_get(id, &s) == 0;

        secret_free(&s);
        err_clear();
        if (!id_is_valid(id) || strlen(id) > ID_BYTES)
                return err_note(-EINVAL, "Parameter 'id' expects an identifier");
        return taken ? err_note(-EEXIST, "attempt to add duplicate property '%s' to object (type 'container')", id) : 0;
}

static void cmd_object_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        int r;

        if (!strcmp(text_of(args, "qom-type"), "secret"))
                return add_secret(call, args);
        r = check_name(c->disks, text_of(args, "id"));
        if (r == 0)
                r = limits_object_add(c->disks, args);
        qmp_answer(call, r);
}

/* Disks that are open stay open; to open one again (migration) takes the secret again. */
static void cmd_object_del(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        const char *id = text_of(args, "id");
        int r = limits_find(c->disks, id) ? limits_remove(c->disks, id) : secret_remove(id);

        if (r == -ENOENT)
                qmp_fail(call, NULL, "object '%s' not found", id);
        else
                qmp_answer(call, r);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command object_commands[] = {
        { "object-add", object_add_args, cmd_object_add },
        { "object-del", object_del_args, cmd_object_del },
        { NULL },
};
