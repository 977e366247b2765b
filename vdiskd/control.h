/* SPDX-License-Identifier: BSD-3-Clause */
/* control.h - the daemon's commands and events on the control socket, in qemu-storage-daemon's words (qmp.h). */
#pragma once

#include "common/loop.h"
#include "vdiskd/disks.h"

struct control;

/**
 * control_new - take commands on @listen_fd (taken, also on failure) about @d, whose events it reports from now on.
 * @quit: called for the command of that name; it may not free the control. 0 or -errno with a sentence.
 */
int control_new(struct loop *l, int listen_fd, struct disks *d, void (*quit)(void *opaque), void *opaque,
                struct control **ret);
void control_free(struct control *c); /* NULL is fine */
