/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sandbox.h - what the process gives up when it has its opener (opener.h), so that who takes it over has little:
 *
 *   capabilities, supplementary groups, other programs' privileges (no_new_privs)
 *   every path of the host and TCP (Landlock without a single rule)
 *   all system calls that its threads do not need, per kind of thread (seccomp)
 *
 * What the kernel does not have is left out, and the log says so. A refused call gets EPERM; nobody is killed.
 */
#pragma once

#include "vdiskd/config/options.h"

/* For the whole process: before there are threads, and after opener_start(). 0 or -errno with a sentence. */
int sandbox_enter(const struct options *o);

/* The calling thread's system calls from now on; threads that begin later do it themselves (thread.h). */
void sandbox_describe(char *text, size_t len); /* what is on and what is not, for the log */
