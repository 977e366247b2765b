/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process.h - what a load costs another process: CPU time, context switches, system calls of all its threads.
 * One thread. Reading needs the right to look at that process (root, or the same user).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_THREADS_MAX 1024

struct process {
        pid_t pid;
        int fds[PROCESS_THREADS_MAX]; /* perf counters of raw_syscalls:sys_enter, one a thread */
        unsigned nfds;
        char no_syscalls[128];        /* why system calls are not counted; "": they are */
};

struct process_cost {
        uint64_t cpu_ns, switches, syscalls; /* switches: of the threads that still live */
};

/* Begins to count system calls, if that can be done here. Threads born later are counted with their parents. */
int process_watch(struct process *p, pid_t pid);

/* Totals so far. -ESRCH with a sentence when the process is gone. */
int process_read(const struct process *p, struct process_cost *ret);
void process_finish(struct process *p);
