/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * opener.h - a process beside the daemon that keeps the right to open files, when the daemon gives it up (sandbox.h).
 *
 *   daemon  -- "open this path" -->  opener: open(2)     one packet each, over a socketpair, one question at a time
 *           <-- result, descriptor --
 *
 * It is born by fork() before the daemon has threads, does what path.h names, makes and removes sockets, and has given
 * up all that this does not need (opener_confine.c). A third process, the starter, starts the one that takes over in an
 * upgrade: with the daemon's own arguments and environment, as they were, and only from a file that nobody but root and
 * its own user may write. Both end when the daemon is gone. Signals that stop the daemon are not for them.
 *
 * Who took the daemon over can ask it, too. With @strict it serves only what the command line names: images and
 * --allow-dir directories, with what is below them, and the places of its sockets.
 */
#pragma once

#include <stdbool.h>

#include "vdiskd/config/options.h"
#include "vdiskd/socket.h"

struct opener_rules {
        bool strict;
        const struct options *options;
        const char *state_dir; /* NULL: none */
        char *const *argv;     /* of the process that takes over */
        int std_fd;            /* where its standard streams lead; -1: where the daemon's do */
};

/* From now on files are opened by it (path_use()). Before there are threads. 0 or -errno with a sentence. */
int opener_start(const struct opener_rules *rules);
bool opener_runs(void);
void opener_stop(void); /* waits until it is gone; files are opened by this process again. Nothing when there is none */

/* listener_open() with a path, and successor_start(), successor_end(), done by it. Any thread. */
int opener_listen(const struct listen_at *at, struct listener *l);
int opener_change(const struct listener *l, const struct listen_at *at); /* listener_change() */
int opener_spawn(const char *binary, pid_t *pid);
void opener_end_spawned(bool kill_it);
