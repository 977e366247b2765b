/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * closer.h - a thread that closes what may never close.
 *
 * close() of a stranger's file may wait for him (fd_kind.h), and there is no other way to be rid of a descriptor that has come. So one
 * thread does that and nothing else; it is started when it is first needed, if it was not before. Where it hangs, what comes behind stays open, and
 * who sends such things is kept out (door.h), so that it is not much. Control thread.
 */
#pragma once

#include <stdbool.h>

void closer_start(void);      /* already now, for a process in which threads cannot be started later */
void closer_take(int fd);     /* the closer's */
bool closer_is_stuck(void);   /* it has been at one for a second, or could not be started */
