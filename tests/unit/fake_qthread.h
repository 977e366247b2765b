/* SPDX-License-Identifier: BSD-3-Clause */
/* fake_qthread.h - see fake_qthread.c. */
#pragma once

#include "blkq/qthread.h"
#include "common/loop.h"

struct qthread *fake_qthread_new(struct loop *l);
void fake_qthread_free(struct qthread *t);
void fake_poll(struct qthread *t);                /* one round: pollers, then hooks */
unsigned fake_expire(struct qthread *t);           /* the time of all timers has come; how many were there? */
unsigned fake_notifies(const struct qthread *t);  /* eventfds written so far */
