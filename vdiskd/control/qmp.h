/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qmp.h - the control socket's protocol: QEMU's QMP (docs/interop/qmp-spec), as qemu-storage-daemon speaks it.
 *
 * Several clients at once. Each gets the greeting, must say qmp_capabilities first, and then gets one answer per
 * command, in order, with its "id". A client that talks nonsense gets error objects; one that does not read its answers
 * gets no more of them, and is closed when events pile up, as is one that sends more than QMP_MAX_REQUEST without
 * completing a command. Nobody else notices, nor does anybody of a client that sends commands without end: each has a
 * turn. Control thread only.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/loop.h"

#define QMP_MAX_REQUEST (1u << 20)   /* bytes of one command */
#define QMP_MAX_BACKLOG (8u << 20)   /* bytes of an answer and events that a client left unread */
#define QMP_MAX_CLIENTS 64u

struct qmp_server;
struct qmp_call; /* one command being carried out; lives until it is answered */

/* QMP_REF: a string, which names something there is, or an object, which describes something new. */
enum qmp_arg_type { QMP_STR, QMP_INT, QMP_BOOL, QMP_OBJECT, QMP_ARRAY, QMP_REF };
struct qmp_arg {
        const char *name; /* NULL ends the list */
        enum qmp_arg_type type;
        bool optional;
        /* of the object (QMP_ARRAY: of each element, all of them objects); NULL: anything */
        const struct qmp_arg *members;
        const char *const *values;     /* QMP_STR: the words it may be, ends with NULL; NULL: any text */
        json_int_t min, max;           /* QMP_INT, when max is not 0 */
        const struct qmp_variant *variants; /* QMP_STR with values: the object around is a union, this its tag */
        bool nullable;                 /* null will do, too */
        bool strings;                  /* QMP_ARRAY: of texts */
};
/* What the object around may have besides when its tag has this value. No row for a value: nothing more. */
struct qmp_variant {
        const char *value; /* NULL ends the list */
        const struct qmp_arg *members;
};

/* What a command answers: an object with these members (NULL: any value), or a list of such. */
struct qmp_answer {
        const struct qmp_arg *members;
        bool list;
};

/*
 * A command. The arguments have passed @args (names, types, missing, unexpected) when run() is called; @args NULL takes
 * any object. run() must answer exactly once, now or later: qmp_return() or qmp_fail(). The arguments stay until run()
 * returns, and until the answer.
 */
struct qmp_command {
        const char *name; /* NULL ends the table */
        const struct qmp_arg *args;
        void (*run)(struct qmp_call *call, json_t *args, void *opaque);
        const struct qmp_answer *answer; /* for query-qmp-schema; NULL: an empty object */
};

/* An event and its data, for query-qmp-schema. */
struct qmp_event_type {
        const char *name; /* NULL ends the table */
        const struct qmp_arg *data;
};

/* @listen_fd: a listening Unix socket, taken also on failure; -1: only qmp_add_client() brings clients. @tables: tables
 * of commands, NULL ends them; @events: what may be sent. Both are kept by reference. 0 or -errno with a sentence. */
int qmp_new(struct loop *l, int listen_fd, const struct qmp_command *const *tables, const struct qmp_event_type *events,
            void *opaque, struct qmp_server **ret);
/* Closes all clients; calls not answered yet are answered into the void. NULL is fine. */
void qmp_free(struct qmp_server *s);

/* A further connection, that of a client who waits at the other end. Taken, also on failure. 0 or -errno with a
 * sentence. */
int qmp_add_client(struct qmp_server *s, int fd);
void qmp_set_pretty(struct qmp_server *s); /* answers and events in several lines, for people */

/**
 * qmp_run_local - carry out a command of @tables for ourselves; @opaque as for qmp_new(). @args: an object, taken.
 * @done: once, maybe before this returns: @error is the sentence, borrowed, or NULL.
 */
void qmp_run_local(const struct qmp_command *const *tables, void *opaque, const char *command, json_t *args,
                   void (*done)(void *done_opaque, const char *error), void *done_opaque);
bool qmp_is_local(const struct qmp_call *call);

/* @value: the "return" value, taken; NULL means {}. */
void qmp_return(struct qmp_call *call, json_t *value);
/* Class GenericError unless @class says otherwise ("DeviceNotFound", "CommandNotFound", ...). */
void qmp_fail(struct qmp_call *call, const char *class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* 0: done, and there is nothing more to say. -errno: failed, with the sentence that was noted for it (err.h). */
void qmp_answer(struct qmp_call *call, int r);

/* What query-version returns; the greeting has it, too. */
json_t *qmp_version(void);

/* To every client that has finished its greeting. @data: taken; NULL leaves the member out. No server: to nobody. */
void qmp_event(struct qmp_server *s, const char *name, json_t *data);

/* Between the two no command is read and nobody is let in; answers and events go out. */
void qmp_hold(struct qmp_server *s);
void qmp_go_on(struct qmp_server *s);
int qmp_socket(const struct qmp_server *s); /* where it listens; stays its own */
