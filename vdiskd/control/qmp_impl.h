/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qmp_impl.h - inside the control socket's protocol: qmp.c is the server, qmp_client.c one client of it, qmp_call.c a
 * command.
 *
 * Invariants:
 *  - a client reads its next command only when the last one is answered, so answers keep their order;
 *  - one command a turn of the loop, and none while answers wait for the client to read them: whatever it sends, others
 *    get their turn, and it gets all its answers;
 *  - a call holds its client by reference: a client that goes away while a call runs leaves the call with client ==
 *    NULL.
 */
#pragma once

#include "common/log.h"
#include "vdiskd/control/json_frame.h"
#include "vdiskd/control/qmp.h"

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
        bool reading;          /* its next command is being carried out, below us on the stack */
        bool dead;             /* to be freed by its watch, when nothing of it is on the stack */
};

struct qmp_call {
        struct client *client; /* NULL: gone */
        json_t *id;
        json_t *request;
        void (*done)(void *opaque, const char *error); /* qmp_run_local(); else NULL */
        void *done_opaque;
};

/* --- qmp_client.c ---------------------------------------------------------------------------------------------------- */

int qmp_client_new(struct qmp_server *s, int fd);   /* greeted; @fd is taken, also on failure. 0 or -errno */
void qmp_client_free(struct client *c);             /* nothing of it is on the stack */
void qmp_client_send(struct client *c, json_t *msg); /* @msg is taken. What cannot be sent now waits, within bounds */
/* what waits, as far as it goes; and what the loop is to watch for */
void qmp_client_flush(struct client *c);
void qmp_client_bury(struct client *c);             /* if it is dead: its watch wakes, and frees it */

/* --- qmp_call.c ------------------------------------------------------------------------------------------------------ */

void qmp_client_execute(struct client *c, const char *text, size_t len); /* @text: one value as the frame cut it */
