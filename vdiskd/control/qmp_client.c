/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp_client.c - one client of the control socket: its bytes come in and are cut into commands, its answers go out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "vdiskd/control/qmp_impl.h"

#define READ_PIECE 4096

void qmp_client_free(struct client *c)
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

void qmp_client_flush(struct client *c)
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
void qmp_client_send(struct client *c, json_t *msg)
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

/* A dead client is freed by its own watch: closing the connection wakes it. */
void qmp_client_bury(struct client *c)
{
        if (c->dead)
                shutdown(c->watch.fd, SHUT_RDWR);
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
                qmp_client_execute(c, text, len);
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
                qmp_client_flush(c);
        client_run_next(c);
        qmp_client_flush(c);
        if (c->dead)
                qmp_client_free(c);
}

static void greet(struct client *c)
{
        qmp_client_send(c, json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
}

int qmp_client_new(struct qmp_server *s, int fd)
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
                qmp_client_free(c);
                return r;
        }
        greet(c);
        qmp_client_flush(c);
        if (c->dead)
                qmp_client_free(c);
        return 0;
}
