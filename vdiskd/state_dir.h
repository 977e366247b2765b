/* SPDX-License-Identifier: BSD-3-Clause */
/* state_dir.h - the directory where table changes survive a kill of this process, and what guests chose a restart. */
#pragma once

/**
 * state_dir_choose - @wish, or (NULL) one in the runtime directory; made when it is not there.
 * *ret is its path, the caller's to free. It is NULL when there is none: "none" was wished, or there is no place for
 * the usual one, which is logged, for it is a convenience.
 * 0, or -errno with a sentence: a directory that was wished cannot be had, or others may write to it. Before the
 * sandbox.
 */
int state_dir_choose(const char *wish, char **ret);
