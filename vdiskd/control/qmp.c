/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp.c - the server: it listens, tells events to all clients, and stands still while another process may take over. */
#include "qmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/control/qmp_impl.h"

static void on_connection(struct loop_watch *w, uint32_t events)
{
        int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0)
                qmp_client_new(container_of(w, struct qmp_server, listener), fd);
}

int qmp_add_client(struct qmp_server *s, int fd)
{
        return qmp_client_new(s, fd);
}

void qmp_set_pretty(struct qmp_server *s)
{
        s->pretty = true;
}

static json_t *timestamp(void)
{
        struct timeval tv;

        gettimeofday(&tv, NULL);
        return json_pack("{s:I,s:I}", "seconds", (json_int_t)tv.tv_sec, "microseconds", (json_int_t)tv.tv_usec);
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
                qmp_client_send(c, json_incref(event));
                qmp_client_flush(c);
                qmp_client_bury(c);
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
                qmp_client_free(list_entry(n, struct client, link));
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
                        qmp_client_free(c);
                        continue;
                }
                qmp_client_flush(c); /* what came before the hold has its turn */
                qmp_client_bury(c);
        }
}

int qmp_socket(const struct qmp_server *s)
{
        return s->listener.fd;
}
