/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem_guard.h - when a front end truncates the file behind its guest's memory.
 *
 * The kernel answers io_uring with -EFAULT, but our own copies get SIGBUS. The handler puts an anonymous page over the
 * hole, so the copy goes on with zeros, and marks the mapping: whoever uses it ends that session, and that one only.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Install the process-wide handler; more than once is fine. A SIGBUS anywhere else still kills the process. */
int guard_install(void);

/**
 * guard_add - watch over a mapping of guest memory. @page: its page size (huge pages are patched whole).
 * Returns a slot, or -ENOSPC when all are taken. Control threads.
 */
int guard_add(void *addr, size_t len, size_t page);
unsigned guard_left(void); /* slots that are free */
void guard_del(int slot); /* before munmap; nobody touches the mapping any more. -1 is fine */

bool guard_was_hit(int slot); /* any thread */

/* Counts all hits of the process: unchanged means that no slot needs to be asked. */
extern atomic_uint guard_hits;
