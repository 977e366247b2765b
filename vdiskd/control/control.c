/* SPDX-License-Identifier: BSD-3-Clause */
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vdiskd/control/control_commands.h"

static void cmd_quit(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        (void)args;
        qmp_return(call, NULL);
        c->hooks.quit(c->hooks.opaque);
}

static const struct qmp_arg upgrade_args[] = { { "binary", QMP_STR, .optional = true }, { NULL } };

/* Answered when the new process serves, or it came to nothing. */
static void cmd_upgrade(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;

        c->hooks.upgrade(c->hooks.opaque, json_string_value(json_object_get(args, "binary")), call);
}

static void cmd_query_version(struct qmp_call *call, json_t *args, void *opaque)
{
        (void)args;
        (void)opaque;
        qmp_return(call, qmp_version());
}

static const struct qmp_arg none[] = { { NULL } };

static const struct qmp_command process_commands[] = {
        { "query-version", none, cmd_query_version, &answer_version },
        { "quit", none, cmd_quit },
        { "upgrade", upgrade_args, cmd_upgrade, &answer_upgrade },
        { NULL },
};

/* One table a room. */
static const struct qmp_command *const commands[] = {
        process_commands, node_commands, export_commands, reopen_commands, object_commands, resize_commands, query_commands,
        stats_commands, job_commands, bitmap_commands, create_commands, backup_commands, mirror_commands, limit_commands,
        config_commands, snapshot_commands, transaction_commands, chain_commands, NULL,
};

/* --- events ------------------------------------------------------------------------------------------------------ */

static void on_export_gone(void *opaque, const char *id)
{
        struct control *c = opaque;

        qmp_event(c->server, "BLOCK_EXPORT_DELETED", json_pack("{s:s}", "id", id));
}

static void on_event(void *opaque, const char *name, json_t *data)
{
        struct control *c = opaque;

        qmp_event(c->server, name, data);
}

/* Guests are told an I/O error, as with QEMU's action "report". */
static void on_node_failed(void *opaque, const char *node, int err, const char *what)
{
        struct control *c = opaque;
        json_t *reason = json_sprintf("%s: %s", what, strerror(-err));

        qmp_event(c->server, "BLOCK_IO_ERROR",
                  json_pack("{s:s,s:s,s:s,s:s,s:b,s:o}", "device", "", "node-name", node, "operation", "write", "action",
                            "report", "nospace", err == -ENOSPC, "reason", reason));
}

/* --- life -------------------------------------------------------------------------------------------------------- */

struct control *control_new(struct disks *d, const struct control_hooks *hooks)
{
        struct control *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->disks = d;
        c->hooks = *hooks;
        d->export_gone = on_export_gone;
        d->node_failed = on_node_failed;
        d->event = on_event;
        d->opaque = c;
        return c;
}

int control_listen(struct control *c, struct loop *l, int listen_fd)
{
        return qmp_new(l, listen_fd, commands, control_events, c, &c->server);
}

void control_run(struct control *c, const char *command, json_t *args, void (*done)(void *done_opaque, const char *error),
                 void *done_opaque)
{
        qmp_run_local(commands, c, command, args, done, done_opaque);
}

void control_free(struct control *c)
{
        if (!c)
                return;
        c->disks->export_gone = NULL;
        c->disks->node_failed = NULL;
        c->disks->event = NULL;
        qmp_free(c->server);
        free(c);
}

struct qmp_server *control_server(struct control *c)
{
        return c ? c->server : NULL;
}
