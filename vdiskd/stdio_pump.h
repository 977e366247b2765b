/* SPDX-License-Identifier: BSD-3-Clause */
/* stdio_pump.h - standard input and output as one connection (--chardev stdio): a thread carries bytes to and from a
 * socket. */
#pragma once

struct stdio_pump;

/* *@fd: the other end, the caller's. While threads may be started. 0 or -errno with a sentence. */
int stdio_pump_start(struct stdio_pump **ret, int *fd);

/* When the other end is closed: all that was written there is on standard output. NULL is fine. */
void stdio_pump_finish(struct stdio_pump *p);
