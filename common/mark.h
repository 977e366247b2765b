/* SPDX-License-Identifier: BSD-3-Clause */
/* mark.h - one bit that outlives the process: an empty file that is there, or not. Its directory is ours alone. */
#pragma once

#include <stdbool.h>

bool mark_is_set(const char *path);
int mark_set(const char *path, bool on); /* 0, also when it was so already, or -errno with a sentence */

/* What the mark at *@path says, @on, is said at @to from now on, which becomes *@path (both NULL: nowhere; *@path is the heap's). 0, or
 * -errno with a sentence. */
int mark_move(char **path, const char *to, bool on);
