/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread.h - the kinds of threads a process has, and what each of them does first: a daemon takes system calls away
 * from it (vdiskd/sandbox/sandbox.h).
 */
#pragma once

enum thread_kind {
        THREAD_CONTROL,
        THREAD_QUEUE,  /* owns an engine and rings */
        THREAD_IO,     /* makes file I/O calls for an engine without io_uring */
        THREAD_WORKER, /* works on what takes long, and opens images */
        THREAD_KINDS,
};

/* @begin is called by each thread that is born from now on, when it has what it needs. NULL: nothing. Before there are
 * threads. */
void thread_on_begin(void (*begin)(enum thread_kind kind));
void thread_begins(enum thread_kind kind); /* the thread itself; control: whoever starts the process */
