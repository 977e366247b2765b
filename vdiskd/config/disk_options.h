/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_options.h - the keys of a disk, for --disk ("path=a.qcow2,format=qcow2,socket=/run/a.sock"), for the
 * configuration's sections and for the control socket's disk-add: one table.
 */
#pragma once

#include <stdio.h>

#include "vdiskd/config/options.h"

static const struct disk_opts no_disk = { .fd = -1, .lun = -1, .socket_mode = -1, .full_timeout = FULL_TIMEOUT_S,
                                           .max_in_flight = MAX_IN_FLIGHT, .limits = THROTTLE_NO_LIMITS_INIT };

/* Read @text into @d, which was no_disk. 0, or -EINVAL / -ENOMEM with a sentence; disk_opts_finish() it in either
 * case. */
int disk_opts_parse(struct disk_opts *d, const char *text);
void disk_opts_finish(struct disk_opts *d);

/* One key; @value NULL: the key stood alone. Then all of them together. 0, or -EINVAL / -ENOMEM with a sentence. */
int disk_opts_set(struct disk_opts *d, const char *key, const char *value);
int disk_opts_check(const struct disk_opts *d);

/* Can a key change while the disk is served? Those of the socket can when they are said; limits and max-in-flight can also
 * be taken back. */
enum disk_key_live { KEY_FIXED, KEY_SOCKET, KEY_LIMITS, KEY_IN_FLIGHT, KEY_KINDS };

/* The name of key number @i; NULL: there are no more. What was set for it, NULL: nothing. */
const char *disk_opts_key(size_t i);
const char *disk_opts_said(const struct disk_opts *d, size_t i);
enum disk_key_live disk_opts_live(size_t i);

/* Permissions are for a socket that is made at a path: 0, or -EINVAL with a sentence. */
int disk_opts_check_access(const struct disk_opts *d);

void disk_opts_print_help(FILE *to);
