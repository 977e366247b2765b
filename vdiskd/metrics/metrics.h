/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metrics.h - answers Prometheus over HTTP (libmicrohttpd, driven by the control thread's loop: nothing of it ever
 * waits). Only GET /metrics, on a Unix socket or the loopback address; a few connections at a time, none for long.
 * Control thread only.
 */
#pragma once

#include "common/loop.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/metrics/metrics_address.h"
#include "vdiskd/socket.h"

struct metrics;

/* The socket that @text (--metrics) asks for. 0 or -errno with a sentence. */
int metrics_listen(const char *text, struct listener *ret);

/* Answer on @at->fd, which stays @at's. 0 or -errno with a sentence; -ENOTSUP when built without libmicrohttpd. */
int metrics_new(struct loop *l, struct disks *d, const struct listener *at, struct metrics **ret);
void metrics_free(struct metrics *m); /* NULL is fine */
