/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - the daemon's life: threads, disks, signals, and an end in good order. */
#pragma once

#include "vdiskd/config/options.h"

/**
 * daemon_run - serve @o's disks until SIGTERM or SIGINT (@o follows what a reload changes), then finish what is in
 * flight and close the images. Or until another process has taken over (upgrade.h): that starts with the same @argv,
 * and this one ends with status 0 without returning.
 * Returns the exit status: 0 when all went well to the end, 1 when something could not be started or made durable (it
 * was logged). Nothing is left behind either way: no socket, no lock.
 */
int daemon_run(struct options *o, char **argv);
