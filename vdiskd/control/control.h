/* SPDX-License-Identifier: BSD-3-Clause */
/* control.h - the daemon's commands and events on the control socket, in qemu-storage-daemon's words (qmp.h). */
#pragma once

#include "common/loop.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/config/reload.h"

struct control;
struct qmp_call;
struct qmp_server;

/* Commands about the whole process. They may not free the control. */
struct control_hooks {
        void (*quit)(void *opaque);
        void (*upgrade)(void *opaque, const char *binary, struct qmp_call *call); /* binary NULL: ours. Answers @call */
        int (*reload)(void *opaque, reload_done *done, void *done_opaque);        /* as reload_start() */
        void *opaque;
};

/* Commands about @d, whose events it reports from now on. Nobody can give one yet but control_run(). NULL: no
 * memory. */
struct control *control_new(struct disks *d, const struct control_hooks *hooks);

/* Take commands on @listen_fd (-1: only of qmp_add_client()), which is taken, also on failure. 0 or -errno with a
 * sentence. */
int control_listen(struct control *c, struct loop *l, int listen_fd);

/* As qmp_run_local(): a command of ours. */
void control_run(struct control *c, const char *command, json_t *args, void (*done)(void *done_opaque, const char *error),
                 void *done_opaque);

struct qmp_server *control_server(struct control *c); /* NULL for NULL, and before control_listen() */
void control_free(struct control *c); /* NULL is fine */
