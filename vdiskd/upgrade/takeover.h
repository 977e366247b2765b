/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * takeover.h - the new process of an upgrade (handover.h, upgrade.h): it takes disks over from the one that started
 * it.
 */
#pragma once

#include "vdiskd/disks/disks.h"
#include "vdiskd/socket.h"

bool takeover_asked(void); /* were we? */

/* Were we started to take over? The socket to the old process, or -1. */
int takeover_socket(void);

/**
 * takeover - say hello on @sock (taken), receive the disks, wait for the word. All threads are running; @d as for
 * disks_add_all(). Returns 0: it is all ours, call takeover_go(). On failure does not return: the old process goes on,
 * and nothing here may be tidied up, since it belongs to that one.
 */
void takeover(int sock, struct disks *d, struct listener *control, struct listener *metrics);

/* The exports go on. */
void takeover_go(struct disks *d);
