/* SPDX-License-Identifier: BSD-3-Clause */
/* successor.h - the process that is to take over (upgrade.h): started by this one, or by its opener. */
#pragma once

#include <sys/types.h>

/**
 * successor_start - run @binary with @argv and this process's environment, no signals blocked or ignored, and a socket
 * as descriptor 3, which the variable HANDOVER_ENV names.
 * Returns the other end (SOCK_SEQPACKET, yours) and *pid, or -errno with a sentence.
 */
int successor_start(const char *binary, char *const *argv, pid_t *pid);

/* @kill_it: it may be in the middle of anything; afterwards it is gone, and so is what it holds. Else it is asked to
 * stop. */
void successor_end(pid_t pid, int kill_it);
