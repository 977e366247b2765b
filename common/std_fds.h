/* SPDX-License-Identifier: BSD-3-Clause */
#pragma once

/**
 * std_fds_fill - have something open as stdin, stdout and stderr.
 *
 * Started with one of them closed, a program gets that number for the next file it opens, and what it prints lands in
 * a disk image. Call it first in main(). Returns 0, or -errno.
 */
int std_fds_fill(void);
