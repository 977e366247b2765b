/* SPDX-License-Identifier: BSD-3-Clause */
/* control_blockdev.h - what control_nodes.c and control_throttle.c have in common: parts of blockdev-add. 0 or -errno
 * with a sentence. */
#pragma once

#include <jansson.h>

#include "vdiskd/control/qmp.h"
#include "vdiskd/disks/disks.h"

int blockdev_check_name(struct disks *d, const char *name); /* one that the client has chosen */
int blockdev_check_cache(json_t *args);
bool blockdev_is_file(const char *driver);
/* An image's node, of checked arguments with files in place of names (file_nodes_resolve()). @done: as
 * node_open_start()'s. */
int blockdev_open(struct disks *d, json_t *args, void (*done)(void *opaque, int res, const char *why), void *opaque);

/* control_throttle.c: answers the call. */
void blockdev_add_throttle(struct disks *d, json_t *args, struct qmp_call *call);
