/* SPDX-License-Identifier: BSD-3-Clause */
/* objects.h - what --object and sections of the configuration make: secrets, throttle groups. Control thread only. */
#pragma once

#include "vdiskd/disks/disks.h"

/* @text: as --object has it, and options_parse() checked it. 0 or -errno with a sentence. */
int object_add(struct disks *d, const char *text);
int object_remove(struct disks *d, const char *text);

/* The object of @text has other properties now. -EOPNOTSUPP with a sentence when it must be made anew. */
int object_change(struct disks *d, const char *text);
