/* SPDX-License-Identifier: BSD-3-Clause */
/* control.h - the daemon's commands and events on the control socket, in qemu-storage-daemon's words (qmp.h). */
#pragma once

#include "common/loop.h"
#include "vdiskd/disks.h"
#include "vdiskd/reload.h"

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

/**
 * control_new - take commands on @listen_fd (taken, also on failure) about @d, whose events it reports from now on.
 * 0 or -errno with a sentence.
 */
int control_new(struct loop *l, int listen_fd, struct disks *d, const struct control_hooks *hooks, struct control **ret);
struct qmp_server *control_server(struct control *c); /* NULL for NULL */
void control_free(struct control *c); /* NULL is fine */
