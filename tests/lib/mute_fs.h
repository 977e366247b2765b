/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mute_fs.h - a file system of one file, which stops answering when it is told to: FUSE without a library. Needs /dev/fuse and the
 * right to mount; it is mounted in a mount namespace of its own.
 */
#pragma once

#include <stdint.h>

/*
 * One a process, before its other threads. @fd: the file, of @len bytes, open for reading and writing; the caller's, who closes it after
 * mute_fs_end() (or waits for ever). 0, or -errno with a sentence: not here.
 */
int mute_fs_begin(const char *dir, uint64_t len, int *fd);
void mute_fs_hush(void); /* no answer any more */
void mute_fs_end(void);  /* what waits gets an error; unmounted */

unsigned mute_fs_unanswered(void);
