/* SPDX-License-Identifier: BSD-3-Clause */
/* pid_file.h - a file with our process number, locked as long as we run (and whoever takes over from us). */
#pragma once

/**
 * pid_file_make - write our number to @path. Returns the descriptor that holds the lock; or -errno with a sentence:
 * -EBUSY when another process holds it.
 */
int pid_file_make(const char *path);

/* @fd came from the process that ran before us: it has our number from now on. */
int pid_file_take_over(int fd);
