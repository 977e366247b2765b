/* SPDX-License-Identifier: BSD-3-Clause */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

struct qmp_client {
        FILE *in;       /* its descriptor is written to, too */
        json_t *events; /* array: came while we waited for an answer */
};

/* --- messages ---------------------------------------------------------------------------------------------------- */

static int receive(struct qmp_client *c, json_t **ret)
{
        json_error_t error;

        *ret = json_loadf(c->in, JSON_DISABLE_EOF_CHECK, &error);
        if (*ret)
                return 0;
        if (feof(c->in) || ferror(c->in))
                return err_note(-ECONNRESET, "the daemon closed the connection");
        return err_note(-EPROTO, "the daemon sent what is no JSON: %s", error.text);
}

static int send_all(struct qmp_client *c, const char *text)
{
        size_t left = strlen(text);

        while (left) {
                ssize_t n = send(fileno(c->in), text, left, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_note(-ECONNRESET, "cannot send to the daemon: %s", strerror(errno));
                text += n;
                left -= (size_t)n;
        }
        return 0;
}

/* @msg is an answer: its value, or the daemon's reason. Taken. */
static int unpack(json_t *msg, json_t **ret)
{
        json_t *value = json_object_get(msg, "return"), *error = json_object_get(msg, "error");
        const char *desc = json_string_value(json_object_get(error, "desc"));
        int r = 0;

        if (!value)
                r = err_note(-EREMOTEIO, "%s", desc ? desc : "the daemon's answer is neither a value nor an error");
        else if (ret)
                *ret = json_incref(value);
        json_decref(msg);
        return r;
}

static int receive_answer(struct qmp_client *c, json_t **ret)
{
        for (;;) {
                json_t *msg;
                int r = receive(c, &msg);

                if (r < 0)
                        return r;
                if (!json_object_get(msg, "event"))
                        return unpack(msg, ret);
                json_array_append_new(c->events, msg);
        }
}

int qmp_client_call(struct qmp_client *c, const char *command, json_t *args, json_t **ret)
{
        json_t *msg = json_pack("{s:s}", "execute", command);
        AUTO(freep) char *text = NULL;
        int r;

        if (args)
                json_object_set_new(msg, "arguments", args);
        text = json_dumps(msg, JSON_COMPACT);
        json_decref(msg);
        if (!text)
                return err_note(-EINVAL, "'%s' cannot be sent: it is no UTF-8", command);
        r = send_all(c, text);
        return r < 0 ? r : receive_answer(c, ret);
}

void qmp_client_drop_events(struct qmp_client *c)
{
        json_array_clear(c->events);
}

int qmp_client_event(struct qmp_client *c, json_t **ret)
{
        for (;;) {
                int r;

                if (json_array_size(c->events)) {
                        *ret = json_incref(json_array_get(c->events, 0));
                        json_array_remove(c->events, 0);
                        return 0;
                }
                r = receive(c, ret);
                if (r < 0 || json_object_get(*ret, "event"))
                        return r;
                json_decref(*ret); /* an answer that nobody waits for */
        }
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static int dial(const char *path)
{
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(sa.sun_path))
                return err_note(-EINVAL, "%s: too long for a socket's path", path);
        strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
        if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return err_note(-errno, "cannot reach vdiskd on %s: %s", path, strerror(errno));
        return TAKE(fd, -1);
}

static int shake_hands(struct qmp_client *c)
{
        json_t *greeting;
        int r = receive(c, &greeting);

        if (r < 0)
                return r;
        r = json_object_get(greeting, "QMP") ? 0 : err_note(-EPROTO, "whoever listens there does not speak QMP");
        json_decref(greeting);
        return r < 0 ? r : qmp_client_call(c, "qmp_capabilities", NULL, NULL);
}

int qmp_client_open(const char *path, struct qmp_client **ret)
{
        struct qmp_client *c;
        int fd = dial(path), r;

        if (fd < 0)
                return fd;
        c = calloc(1, sizeof(*c));
        if (c)
                c->in = fdopen(fd, "r");
        if (!c || !c->in) {
                close(fd);
                free(c);
                return -ENOMEM;
        }
        c->events = json_array();
        r = shake_hands(c);
        if (r < 0) {
                qmp_client_close(c);
                return err_prefix(r, "%s: ", path);
        }
        *ret = c;
        return 0;
}

void qmp_client_close(struct qmp_client *c)
{
        if (!c)
                return;
        fclose(c->in);
        json_decref(c->events);
        free(c);
}
