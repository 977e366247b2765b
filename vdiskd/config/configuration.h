/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * configuration.h - the configuration: vdiskd.conf and disks.d/NAME.conf beside it (INI, read by libinih;
 * vdiskd.conf(5)).
 *
 *   [vdiskd]             options of the daemon, with the words of the command line
 *   [disk NAME]          a disk, with the keys of --disk
 *   [secret NAME], [throttle-group NAME]
 *                        an object, with the keys of --object
 */
#pragma once

#include "vdiskd/config/options.h"

/**
 * config_read - what the files say, into @o. Everything is read, also after a mistake, so that all are told at once.
 * Returns 0, or -EINVAL with the first of o->problems noted ("FILE:LINE: ..."), or the error of reading a file.
 */
int config_read(struct options *o, const char *path);

/* The directory of disks that belongs to the configuration file @path; to be freed. NULL: no memory. */
char *config_disks_dir(const char *path);

/* From options.c: one line of [vdiskd]; a new disk, which the caller fills; an object as --object has it. */
int options_set(struct options *o, const char *key, const char *value);
bool options_may_repeat(const char *key);
struct disk_opts *options_add_disk(struct options *o);
int options_add_object(struct options *o, const char *text);

/* options_whole.c: all is read. 0, or -EINVAL with a sentence. */
int options_check_whole(struct options *o);
