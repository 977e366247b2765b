/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *  - a client reads its next command only when the last one is answered, so answers keep their order;
 *  - one command a turn of the loop, and none while answers wait for the client to read them: whatever it sends, others get their turn,
 *    and it gets all its answers;
 *  - a call holds its client by reference: a client that goes away while a call runs leaves the call with client == NULL.
 */
#include "qmp.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "config.h"
#include "json_frame.h"
#include "qmp_args.h"
#include "qmp_schema.h"

#define READ_PIECE 4096

struct qmp_server {
        struct loop *loop;
        struct loop_watch listener;
        const struct qmp_command *const *tables;
        const struct qmp_event_type *events;
        void *opaque;
        struct list clients;
        unsigned nclients;
        struct log_limit limit;
        bool held, pretty;
};

struct client {
        struct qmp_server *server;
        struct list link;
        struct loop_watch watch;
        struct json_frame frame;
        char *in;
        size_t in_len, in_seen; /* bytes held; bytes of them that the frame has seen */
        char *out;
        size_t out_len;
        struct qmp_call *call; /* running; no further command is read meanwhile */
        bool ready;            /* qmp_capabilities was said */
        bool reading;          /* client_run_next() is on the stack */
        bool dead;             /* to be freed by client_ready(), when nothing of it is on the stack */
};

struct qmp_call {
        struct client *client; /* NULL: gone */
        json_t *id;
        json_t *request;
        void (*done)(void *opaque, const char *error); /* qmp_run_local(); else NULL */
        void *done_opaque;
};

static void client_free(struct client *c)
{
        if (c->call)
                c->call->client = NULL;
        loop_unwatch(c->server->loop, &c->watch);
        close(c->watch.fd);
        list_del(&c->link);
        c->server->nclients--;
        free(c->in);
        free(c->out);
        free(c);
}

/* --- out ------------------------------------------------------------------------------------------------------ */

/* More of what it sent is here. */
static bool client_has_more(const struct client *c)
{
        return c->in_seen < c->in_len;
}

/* A command that is here waits for room for its answer: mostly it is there, and this is its next turn. */
static uint32_t client_events(const struct client *c)
{
        if (c->out_len)
                return EPOLLOUT;
        return c->call ? 0 : client_has_more(c) ? EPOLLOUT : EPOLLIN;
}

static void client_flush(struct client *c)
{
        uint32_t events;

        while (c->out_len) {
                ssize_t n = send(c->watch.fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != EAGAIN)
                        c->dead = true;
                if (n < 0)
                        break;
                memmove(c->out, c->out + n, c->out_len - (size_t)n);
                c->out_len -= (size_t)n;
        }
        events = client_events(c);
        if (c->server->held)
                c->watch.events = events; /* qmp_go_on() asks for them */
        else if (events != c->watch.events)
                loop_rewatch_or_hang_up(c->server->loop, &c->watch, events);
}

/* Makes room for @len bytes more of what cannot be sent now; false: the client lets too much wait. */
static bool client_grow(struct client *c, size_t len)
{
        char *bigger = c->out_len + len <= QMP_MAX_BACKLOG ? realloc(c->out, c->out_len + len) : NULL;

        if (bigger)
                c->out = bigger;
        return bigger != NULL;
}

/* @msg is taken. What cannot be sent now waits; a client that lets too much wait is given up. */
static void client_send(struct client *c, json_t *msg)
{
        AUTO(freep) char *text = json_dumps(msg, c->server->pretty ? JSON_INDENT(4) : JSON_COMPACT);
        size_t len = text ? strlen(text) : 0;

        json_decref(msg);
        if (!text || !client_grow(c, len + 2)) {
                log_limited(&c->server->limit, LOG_LVL_WARN, "control client closed: %s",
                            c->out_len + len > QMP_MAX_BACKLOG / 2 ? "it does not read its answers" : "no memory for an answer");
                c->dead = true;
                return;
        }
        memcpy(c->out + c->out_len, text, len);
        memcpy(c->out + c->out_len + len, "\r\n", 2);
        c->out_len += len + 2;
}

static json_t *timestamp(void)
{
        struct timeval tv;

        gettimeofday(&tv, NULL);
        return json_pack("{s:I,s:I}", "seconds", (json_int_t)tv.tv_sec, "microseconds", (json_int_t)tv.tv_usec);
}

json_t *qmp_version(void)
{
        int major = 0, minor = 0, micro = 0;

        sscanf(VDISKD_VERSION, "%d.%d.%d", &major, &minor, &micro);
        return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
                         "vdiskd " VDISKD_VERSION);
}

static void greet(struct client *c)
{
        client_send(c, json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
}

/* --- calls ---------------------------------------------------------------------------------------------------- */

/* A dead client is freed by its own watch: closing the connection wakes it. */
static void client_bury(struct client *c)
{
        if (c->dead)
                shutdown(c->watch.fd, SHUT_RDWR);
}

/* @answer is taken. The client goes on with what it has sent meanwhile. */
static void call_end(struct qmp_call *call, json_t *answer)
{
        struct client *c = call->client;

        if (call->done)
                call->done(call->done_opaque, json_string_value(json_object_get(json_object_get(answer, "error"), "desc")));
        if (c && call->id && json_object_set(answer, "id", call->id) < 0) {
                json_decref(answer); /* no memory: an answer that nobody knows for his is worse than a closed connection */
                answer = NULL;
        }
        if (c) {
                c->call = NULL;
                client_send(c, answer);
        } else {
                json_decref(answer);
        }
        json_decref(call->id);
        json_decref(call->request);
        free(call);
        if (c && !c->reading) { /* answered later: what came meanwhile has its turn */
                client_flush(c);
                client_bury(c);
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

/* @text: one value as the frame cut it. */
static void client_execute(struct client *c, const char *text, size_t len)
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

/* --- in ------------------------------------------------------------------------------------------------------- */

static bool only_space(const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (!strchr(" \t\r\n", text[i]))
                        return false;
        return true;
}

/* The first @len bytes of the input are done with. */
static void client_consume(struct client *c, size_t len)
{
        memmove(c->in, c->in + len, c->in_len - len);
        c->in_len -= len;
        c->in_seen = 0;
}

static void client_run_one(struct client *c, size_t len)
{
        AUTO(freep) char *text = NULL;
        bool empty = only_space(c->in, len);

        if (!empty)
                text = malloc(len);
        if (text)
                memcpy(text, c->in, len);
        client_consume(c, len);
        if (text)
                client_execute(c, text, len);
        else if (!empty)
                c->dead = true; /* who gets no answer must see the connection end */
}

/* Carry out the next command, if it has arrived whole. */
static void client_run_next(struct client *c)
{
        if (!c->call && !c->dead && !c->out_len && !c->server->held && client_has_more(c)) {
                size_t n = json_frame_feed(&c->frame, c->in + c->in_seen, c->in_len - c->in_seen);

                c->reading = true;
                if (n)
                        client_run_one(c, c->in_seen + n);
                else
                        c->in_seen = c->in_len;
                c->reading = false;
        }
        if (c->in_len > QMP_MAX_REQUEST) {
                log_limited(&c->server->limit, LOG_LVL_WARN,
                            "control client sent more than %u bytes without a whole command: closed", QMP_MAX_REQUEST);
                c->dead = true;
        }
}

static void client_receive(struct client *c)
{
        char *bigger = realloc(c->in, c->in_len + READ_PIECE);
        ssize_t n;

        if (!bigger) {
                c->dead = true;
                return;
        }
        c->in = bigger;
        n = recv(c->watch.fd, c->in + c->in_len, READ_PIECE, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                c->dead = true;
        else if (n > 0)
                c->in_len += (size_t)n;
}

static void client_ready(struct loop_watch *w, uint32_t events)
{
        struct client *c = container_of(w, struct client, watch);

        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                client_receive(c);
        if (c->out_len)
                client_flush(c);
        client_run_next(c);
        client_flush(c);
        if (c->dead)
                client_free(c);
}

static int add_client(struct qmp_server *s, int fd)
{
        struct client *c;
        int r;

        c = s->nclients < QMP_MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
        if (!c) {
                log_limited(&s->limit, LOG_LVL_WARN, "more than %u control clients: one turned away", QMP_MAX_CLIENTS);
                close(fd);
                return -EMFILE;
        }
        c->server = s;
        c->watch = (struct loop_watch){ .fd = fd, .ready = client_ready, .events = EPOLLIN };
        list_add_tail(&s->clients, &c->link);
        s->nclients++;
        r = loop_watch(s->loop, &c->watch);
        if (r < 0) {
                client_free(c);
                return r;
        }
        greet(c);
        client_flush(c);
        if (c->dead)
                client_free(c);
        return 0;
}

static void on_connection(struct loop_watch *w, uint32_t events)
{
        int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0)
                add_client(container_of(w, struct qmp_server, listener), fd);
}

int qmp_add_client(struct qmp_server *s, int fd)
{
        return add_client(s, fd);
}

void qmp_set_pretty(struct qmp_server *s)
{
        s->pretty = true;
}

void qmp_event(struct qmp_server *s, const char *name, json_t *data)
{
        json_t *event;

        if (!s) {
                json_decref(data);
                return;
        }
        event = json_pack("{s:s,s:o}", "event", name, "timestamp", timestamp());
        if (data)
                json_object_set_new(event, "data", data);
        list_for_each_safe(n, &s->clients) {
                struct client *c = list_entry(n, struct client, link);

                if (!c->ready || c->dead)
                        continue;
                client_send(c, json_incref(event));
                client_flush(c);
                client_bury(c);
        }
        json_decref(event);
}

int qmp_new(struct loop *l, int listen_fd, const struct qmp_command *const *tables, const struct qmp_event_type *events,
            void *opaque, struct qmp_server **ret)
{
        struct qmp_server *s = calloc(1, sizeof(*s));
        int r;

        if (!s) {
                closep(&listen_fd);
                return -ENOMEM;
        }
        s->loop = l;
        s->tables = tables;
        s->events = events;
        s->opaque = opaque;
        list_init(&s->clients);
        s->listener = (struct loop_watch){ .fd = listen_fd, .ready = on_connection, .events = EPOLLIN };
        r = listen_fd < 0 ? 0 : loop_watch(l, &s->listener);
        if (r < 0) {
                qmp_free(s);
                return err_note(r, "cannot watch the control socket: %s", strerror(-r));
        }
        *ret = s;
        return 0;
}

void qmp_free(struct qmp_server *s)
{
        if (!s)
                return;
        list_for_each_safe(n, &s->clients)
                client_free(list_entry(n, struct client, link));
        loop_unwatch(s->loop, &s->listener);
        closep(&s->listener.fd);
        free(s);
}

void qmp_hold(struct qmp_server *s)
{
        s->held = true;
        loop_unwatch(s->loop, &s->listener);
        list_for_each(n, &s->clients)
                loop_unwatch(s->loop, &list_entry(n, struct client, link)->watch);
}

void qmp_go_on(struct qmp_server *s)
{
        s->held = false;
        if (s->listener.fd >= 0 && loop_watch(s->loop, &s->listener) < 0)
                log_err("the control socket cannot be watched any more");
        list_for_each_safe(n, &s->clients) {
                struct client *c = list_entry(n, struct client, link);

                if (loop_watch(s->loop, &c->watch) < 0) {
                        client_free(c);
                        continue;
                }
                client_flush(c); /* what came before the hold has its turn */
                client_bury(c);
        }
}

int qmp_socket(const struct qmp_server *s)
{
        return s->listener.fd;
}
