/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.h - a client of the control socket (QMP): one command at a time, events kept until somebody asks for them.
 * One thread. 0 or -errno with a sentence: -EREMOTEIO when the daemon refused the command (the sentence is the
 * daemon's),
 * -ECONNRESET when it went away.
 */
#pragma once

#include <jansson.h>

struct qmp_client;

int qmp_client_open(const char *path, struct qmp_client **ret);
void qmp_client_close(struct qmp_client *c); /* NULL is fine */

/* @args: taken; NULL: none. *ret: the "return" value, the caller's; @ret may be NULL. */
int qmp_client_call(struct qmp_client *c, const char *command, json_t *args, json_t **ret);

/* Those that came so far are of no interest. */
void qmp_client_drop_events(struct qmp_client *c);

/* The next event, the caller's. Waits for it. */
int qmp_client_event(struct qmp_client *c, json_t **ret);
