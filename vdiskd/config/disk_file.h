/* SPDX-License-Identifier: BSD-3-Clause */
/* disk_file.h - a disk that was added at run time is written into the configuration, as a file of its own, and taken
 * out. */
#pragma once

#include "vdiskd/config/options.h"

/**
 * disk_file_save - write disks.d/ID.conf beside the configuration file @config with the keys that were set for @o,
 * which from then on stands there (o->file, o->line). 0; -EEXIST when there is such a file; or -errno with a sentence.
 */
int disk_file_save(const char *config, struct disk_opts *o);

/* The keys of @o have changed: write its file anew. 0; -EPERM when people wrote it; or -errno; with a sentence. */
int disk_file_update(const char *config, struct disk_opts *o);

/* Remove the file of @o, which disk_file_save() wrote. 0; -EPERM when people wrote it; or -errno; with a sentence. */
int disk_file_remove(const struct disk_opts *o);
