/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two clients of the control socket. Byte 1 in the input lets the server run, byte 2 changes the client; the rest is what
 * they say. Each gets lines of JSON, no more answers than it can have asked for, and cutting into pieces changes nothing
 * about where values end.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "fuzz.h"
#include "vdiskd/control/json_frame.h"
#include "vdiskd/control/qmp.h"

#define CLIENTS 2u

static struct loop *loop;
static struct qmp_server *server;
static struct sockaddr_un addr = { .sun_family = AF_UNIX };
static socklen_t addr_len = sizeof(sa_family_t);
static struct qmp_call *waiting[CLIENTS];

static void cmd_echo(struct qmp_call *call, json_t *args, void *opaque)
{
        qmp_return(call, json_incref(args));
}

static void cmd_fail(struct qmp_call *call, json_t *args, void *opaque)
{
        qmp_fail(call, NULL, "no %s", json_string_value(json_object_get(args, "id")));
}

/* Answers when the server runs next time. */
static void cmd_late(struct qmp_call *call, json_t *args, void *opaque)
{
        for (unsigned i = 0; i < CLIENTS; i++)
                if (!waiting[i]) {
                        waiting[i] = call;
                        return;
                }
        qmp_fail(call, NULL, "busy");
}

static const struct qmp_arg fail_args[] = { { "id", QMP_STR }, { "n", QMP_INT, .optional = true },
                                            { "b", QMP_BOOL, .optional = true }, { NULL } };
static const struct qmp_command commands[] = {
        { "echo", NULL, cmd_echo }, { "fail", fail_args, cmd_fail }, { "late", NULL, cmd_late }, { NULL },
};
static const struct qmp_command *const tables[] = { commands, NULL };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        log_init("fuzz", 0);
        if (bind(fd, (struct sockaddr *)&addr, addr_len) < 0 || listen(fd, 8) < 0) /* a name that the kernel picks */
                abort();
        addr_len = sizeof(addr);
        if (getsockname(fd, (struct sockaddr *)&addr, &addr_len) < 0 || loop_new(&loop) < 0 ||
            qmp_new(loop, fd, tables, NULL, NULL, &server) < 0)
                abort();
        return 0;
}

static void stop(struct loop_task *t)
{
        loop_stop(loop);
}

static void turn(void)
{
        struct loop_task t = { .run = stop };

        for (unsigned i = 0; i < CLIENTS; i++)
                if (waiting[i]) {
                        qmp_event(server, "LATE", NULL);
                        qmp_return(TAKE(waiting[i], NULL), NULL);
                }
        for (int i = 0; i < 4; i++) {
                loop_post(loop, &t);
                loop_run(loop);
        }
}

struct client {
        int fd;
        char *heard;
        size_t len;
};

static void hear(struct client *c)
{
        char piece[4096];
        ssize_t n;

        while ((n = recv(c->fd, piece, sizeof(piece), MSG_DONTWAIT)) > 0) {
                c->heard = realloc(c->heard, c->len + (size_t)n + 1);
                memcpy(c->heard + c->len, piece, (size_t)n);
                c->len += (size_t)n;
                c->heard[c->len] = 0;
        }
}

static void check_lines(const struct client *c, size_t said)
{
        char *rest = c->heard, *line;
        size_t answers = 0;

        while (rest && (line = strsep(&rest, "\n")) && *line) {
                json_t *v = json_loads(line, 0, NULL);

                if (!json_is_object(v))
                        fuzz_fail("not an answer: %s", line);
                answers += json_object_get(v, "return") || json_object_get(v, "error");
                json_decref(v);
        }
        if (answers > said)
                fuzz_fail("%zu answers to %zu bytes", answers, said);
}

static void check_frames(const uint8_t *data, size_t size)
{
        struct json_frame whole = { 0 }, drip = { 0 };
        size_t at = 0, n;

        while (at < size && (n = json_frame_feed(&whole, (const char *)data + at, size - at))) {
                if (n > size - at)
                        fuzz_fail("a value ends behind the input");
                for (size_t i = 0; i < n; i++)
                        if (json_frame_feed(&drip, (const char *)data + at + i, 1) != (i + 1 == n))
                                fuzz_fail("byte by byte, a value ends elsewhere than %zu", at + n);
                at += n;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct client c[CLIENTS] = { 0 };
        unsigned now = 0;

        check_frames(data, size);
        for (unsigned i = 0; i < CLIENTS; i++) {
                c[i].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(c[i].fd, (struct sockaddr *)&addr, addr_len) < 0)
                        fuzz_fail("cannot connect");
        }
        turn();
        for (size_t at = 0; at < size;) {
                size_t n = 0;

                while (at + n < size && data[at + n] != 1 && data[at + n] != 2)
                        n++;
                if (n)
                        (void)!send(c[now].fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
                at += n + 1;
                if (at <= size && data[at - 1] == 2)
                        now = (now + 1) % CLIENTS;
                turn();
                for (unsigned i = 0; i < CLIENTS; i++)
                        hear(&c[i]);
        }
        if (size & 1) { /* half of them leave while their calls run */
                close(TAKE(c[0].fd, -1));
                turn();
        }
        for (unsigned i = 0; i < 4; i++)
                turn();
        for (unsigned i = 0; i < CLIENTS; i++) {
                if (c[i].fd >= 0) {
                        hear(&c[i]);
                        close(c[i].fd);
                }
                check_lines(&c[i], size);
                free(c[i].heard);
        }
        for (unsigned i = 0; i < 4; i++)
                turn();
        err_clear();
        return 0;
}
