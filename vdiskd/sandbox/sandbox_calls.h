/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sandbox_calls.h - the system calls that each kind of thread keeps. The only room that names them for seccomp.
 *
 * EPERM for all others, not a kill: the call is refused in either case, and a call that was forgotten here, or that a
 * newer C library makes, costs one function then, and not the disks of all guests.
 */
#pragma once

#include "common/sanitized.h"
#include "common/thread.h"
#include "config.h"

/* Builds in which the sandbox filters nothing: sanitizers and coverage open, map and trace at any time. */
#if SANITIZED || defined(BUILD_OPENS_FILES)
#define SANDBOX_RELAXED 1
#else
#define SANDBOX_RELAXED 0
#endif

/* Compile the filters. 0; -ENOTSUP: this build has none; or the library's -errno. Before there are threads. */
int sandbox_calls_prepare(void);

/* The calling process is an opener from now on, and has one thread. Likewise. */
int sandbox_calls_opener(void);

/* From now on the calling thread has the calls of @kind only. */
void sandbox_calls_apply(enum thread_kind kind);
