/* SPDX-License-Identifier: BSD-3-Clause */
/* disk_options.h - the keys of --disk: "path=a.qcow2,format=qcow2,socket=/run/a.sock". */
#pragma once

#include <stdio.h>

#include "vdiskd/options.h"

static const struct disk_opts no_disk = { .fd = -1, .socket_mode = -1 };

/* Read @text into @d, which was no_disk. 0, or -EINVAL / -ENOMEM with a sentence; disk_opts_finish() it in either case. */
int disk_opts_parse(struct disk_opts *d, const char *text);
void disk_opts_finish(struct disk_opts *d);

/* Permissions are for a socket that is made at a path: 0, or -EINVAL with a sentence. */
int disk_opts_check_access(const struct disk_opts *d);

void disk_opts_print_help(FILE *to);
