/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watchdog.h - the service manager's watchdog (WatchdogSec=): it is told that all is well only while the control loop
 * turns and every queue thread answers. One that hangs stops the pings, and the manager starts the daemon anew. Control
 * thread.
 */
#pragma once

#include "blkq/qthread.h"
#include "common/loop.h"

struct watchdog;

/* @tick: called before each ping. *@ret is NULL when the manager wants no pings. 0 or -ENOMEM. */
int watchdog_new(struct loop *l, struct qthread **threads, unsigned nthreads, void (*tick)(void *opaque), void *opaque,
                 struct watchdog **ret);
/* When the threads are gone. NULL is fine. */
void watchdog_free(struct watchdog *w);
