/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp_call.c - a command of a client, from its text to its answer; and the commands of the protocol itself. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "config.h"
#include "vdiskd/control/qmp_args.h"
#include "vdiskd/control/qmp_impl.h"
#include "vdiskd/control/qmp_schema.h"

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* @answer is taken. The client goes on with what it has sent meanwhile. */
static void call_end(struct qmp_call *call, json_t *answer)
{
        struct client *c = call->client;

        if (call->done)
                call->done(call->done_opaque, json_string_value(json_object_get(json_object_get(answer, "error"), "desc")));
        if (c && call->id && json_object_set(answer, "id", call->id) < 0) {
                /* no memory: an answer that nobody knows for his is worse than a closed connection */
                json_decref(answer);
                answer = NULL;
        }
        if (c) {
                c->call = NULL;
                qmp_client_send(c, answer);
        } else {
                json_decref(answer);
        }
        json_decref(call->id);
        json_decref(call->request);
        free(call);
        if (c && !c->reading) { /* answered later: what came meanwhile has its turn */
                qmp_client_flush(c);
                qmp_client_bury(c);
        }
}

void qmp_return(struct qmp_call *call, json_t *value)
{
        call_end(call, json_pack("{s:o}", "return", value ? value : json_object()));
}

void qmp_fail(struct qmp_call *call, const char *class, const char *fmt, ...)
{
        char desc[512];
        json_t *text;
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(desc, sizeof(desc), fmt, ap);
        va_end(ap);
        text = json_string(desc);
        if (!text) /* cut in the middle of a character */
                text = json_string("the argument is too long");
        call_end(call, json_pack("{s:{s:s,s:o}}", "error", "class", class ? class : "GenericError", "desc", text));
        err_clear();
}

void qmp_answer(struct qmp_call *call, int r)
{
        if (r < 0)
                return qmp_fail(call, NULL, "%s", err_text(r));
        qmp_return(call, NULL);
        err_clear();
}

/* --- commands of the protocol itself ------------------------------------------------------------------------------ */

static void cmd_capabilities(struct qmp_call *call, json_t *args, void *opaque)
{
        json_t *enable = json_object_get(args, "enable");

        (void)opaque;
        if (call->client->ready)
                return qmp_fail(call, "CommandNotFound", "Capabilities negotiation is already complete, command ignored");
        if (json_array_size(enable))
                return qmp_fail(call, NULL, "Capability %s not available", json_string_value(json_array_get(enable, 0)) ?: "");
        call->client->ready = true;
        qmp_return(call, NULL);
}

static void cmd_query_commands(struct qmp_call *call, json_t *args, void *opaque);
static void cmd_query_schema(struct qmp_call *call, json_t *args, void *opaque);

static const struct qmp_arg no_args[] = { { NULL } };
static const struct qmp_arg capabilities_args[] = { { "enable", QMP_ARRAY, .optional = true }, { NULL } };
static const struct qmp_arg command_info[] = { { "name", QMP_STR }, { NULL } };

/* What qmp_schema.c makes. */
static const char *const json_types[] = { "string", "number", "int", "boolean", "null", "object", "array", "value", NULL };
static const struct qmp_arg builtin_info[] = { { "json-type", QMP_STR, .values = json_types }, { NULL } };
static const struct qmp_arg enum_info[] = {
        { "members", QMP_ARRAY, .members = command_info }, { "values", QMP_ARRAY, .strings = true }, { NULL },
};
static const struct qmp_arg array_info[] = { { "element-type", QMP_STR }, { NULL } };
static const struct qmp_arg member_info[] = {
        { "name", QMP_STR }, { "type", QMP_STR }, { "default", QMP_STR, .optional = true, .nullable = true }, { NULL },
};
static const struct qmp_arg variant_info[] = { { "case", QMP_STR }, { "type", QMP_STR }, { NULL } };
static const struct qmp_arg object_info[] = {
        { "members", QMP_ARRAY, .members = member_info }, { "tag", QMP_STR, .optional = true },
        { "variants", QMP_ARRAY, .optional = true, .members = variant_info }, { NULL },
};
static const struct qmp_arg type_info[] = { { "type", QMP_STR }, { NULL } };
static const struct qmp_arg alternate_info[] = { { "members", QMP_ARRAY, .members = type_info }, { NULL } };
static const struct qmp_arg command_type_info[] = { { "arg-type", QMP_STR }, { "ret-type", QMP_STR }, { NULL } };
static const struct qmp_arg event_info[] = { { "arg-type", QMP_STR }, { NULL } };
static const char *const meta_types[] = { "builtin", "enum", "array", "object", "alternate", "command", "event", NULL };
static const struct qmp_variant meta_variants[] = {
        { "builtin", builtin_info }, { "enum", enum_info },           { "array", array_info }, { "object", object_info },
        { "alternate", alternate_info }, { "command", command_type_info }, { "event", event_info }, { NULL },
};
static const struct qmp_arg schema_info[] = {
        { "name", QMP_STR }, { "meta-type", QMP_STR, .values = meta_types, .variants = meta_variants }, { NULL },
};
static const struct qmp_answer answer_commands = { command_info, .list = true }, answer_schema = { schema_info, .list = true };
static const struct qmp_command own_commands[] = {
        { "qmp_capabilities", capabilities_args, cmd_capabilities },
        { "query-commands", no_args, cmd_query_commands, &answer_commands },
        { "query-qmp-schema", no_args, cmd_query_schema, &answer_schema },
        { NULL },
};

json_t *qmp_version(void)
{
        int major = 0, minor = 0, micro = 0;

        sscanf(VDISKD_VERSION, "%d.%d.%d", &major, &minor, &micro);
        return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
                         "vdiskd " VDISKD_VERSION);
}

/* All tables, ours first, as qmp_new() takes them; to be freed. NULL: no memory. */
static const struct qmp_command **all_tables(const struct qmp_server *s)
{
        const struct qmp_command **all;
        size_t n = 0;

        while (s->tables[n])
                n++;
        all = calloc(n + 2, sizeof(*all));
        if (!all)
                return NULL;
        all[0] = own_commands;
        memcpy(all + 1, s->tables, n * sizeof(*all));
        return all;
}

static void cmd_query_commands(struct qmp_call *call, json_t *args, void *opaque)
{
        AUTO(freep) const struct qmp_command **all = all_tables(call->client->server);
        json_t *names = json_array();

        (void)args;
        (void)opaque;
        for (size_t t = 0; all && all[t]; t++)
                for (const struct qmp_command *cmd = all[t]; cmd->name; cmd++)
                        json_array_append_new(names, json_pack("{s:s}", "name", cmd->name));
        qmp_return(call, names);
}

static void cmd_query_schema(struct qmp_call *call, json_t *args, void *opaque)
{
        AUTO(freep) const struct qmp_command **all = all_tables(call->client->server);
        json_t *schema = all ? qmp_schema(all, call->client->server->events) : NULL;

        (void)args;
        (void)opaque;
        if (schema)
                qmp_return(call, schema);
        else
                qmp_fail(call, NULL, "out of memory");
}

/* --- carrying out ------------------------------------------------------------------------------------------------- */

static const struct qmp_command *look_in(const struct qmp_command *table, const char *name)
{
        for (; table->name; table++)
                if (!strcmp(table->name, name))
                        return table;
        return NULL;
}

static const struct qmp_command *find_command(const struct qmp_server *s, const char *name)
{
        const struct qmp_command *cmd = look_in(own_commands, name);

        for (size_t t = 0; !cmd && s->tables[t]; t++)
                cmd = look_in(s->tables[t], name);
        return cmd;
}

/* The answer frees the call, and run() may look at its arguments after that. */
static void run_command(const struct qmp_command *cmd, struct qmp_call *call, json_t *args, void *opaque)
{
        json_incref(args);
        cmd->run(call, args, opaque);
        json_decref(args);
}

static void run(struct qmp_call *call)
{
        struct qmp_server *s = call->client->server;
        json_t *args = json_object_get(call->request, "arguments"), *execute = json_object_get(call->request, "execute");
        const struct qmp_command *cmd;
        const char *key;
        json_t *value;

        json_object_foreach (call->request, key, value)
                if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id"))
                        return qmp_fail(call, NULL, "QMP input member '%s' is unexpected", key);
        if (!json_is_string(execute))
                return qmp_fail(call, NULL, execute ? "QMP input member 'execute' must be a string"
                                                    : "QMP input lacks member 'execute'");
        if (args && !json_is_object(args))
                return qmp_fail(call, NULL, "QMP input member 'arguments' must be an object");
        cmd = find_command(s, json_string_value(execute));
        if (!call->client->ready && (!cmd || cmd->run != cmd_capabilities))
                return qmp_fail(call, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
        if (!cmd)
                return qmp_fail(call, "CommandNotFound", "The command %s has not been found", json_string_value(execute));
        if (!args) {
                json_object_set_new(call->request, "arguments", json_object());
                args = json_object_get(call->request, "arguments");
        }
        err_clear();
        if (cmd->args && qmp_args_check(cmd->args, args) < 0)
                return qmp_fail(call, NULL, "%s", err_text(-EINVAL));
        run_command(cmd, call, args, s->opaque);
}

void qmp_run_local(const struct qmp_command *const *tables, void *opaque, const char *command, json_t *args,
                   void (*done)(void *done_opaque, const char *error), void *done_opaque)
{
        struct qmp_call *call = calloc(1, sizeof(*call));
        const struct qmp_command *cmd = NULL;

        if (!call || !args) {
                free(call);
                json_decref(args);
                return done(done_opaque, "out of memory");
        }
        *call = (struct qmp_call){ .done = done, .done_opaque = done_opaque };
        call->request = json_pack("{s:o}", "arguments", args);
        for (size_t t = 0; !cmd && tables[t]; t++)
                cmd = look_in(tables[t], command);
        err_clear();
        if (!cmd)
                return qmp_fail(call, "CommandNotFound", "The command %s has not been found", command);
        if (cmd->args && (qmp_args_from_text(cmd->args, args) < 0 || qmp_args_check(cmd->args, args) < 0))
                return qmp_fail(call, NULL, "%s", err_text(-EINVAL));
        run_command(cmd, call, args, opaque);
}

bool qmp_is_local(const struct qmp_call *call)
{
        return call->done != NULL;
}

void qmp_client_execute(struct client *c, const char *text, size_t len)
{
        json_error_t error;
        json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
        struct qmp_call *call = calloc(1, sizeof(*call));

        if (!call) {
                json_decref(request);
                c->dead = true;
                return;
        }
        *call = (struct qmp_call){ .client = c, .request = request };
        c->call = call;
        if (!request)
                return qmp_fail(call, NULL, "JSON parse error, %s", error.text);
        if (!json_is_object(request))
                return qmp_fail(call, NULL, "QMP input must be a JSON object");
        call->id = json_incref(json_object_get(request, "id"));
        run(call);
}
