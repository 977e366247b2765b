/* SPDX-License-Identifier: BSD-3-Clause */
/* mark.h - one bit that outlives the process: an empty file that is there, or not. Its directory is ours alone. */
#pragma once

#include <stdbool.h>

bool mark_is_set(const char *path);
int mark_set(const char *path, bool on); /* 0, also when it was so already, or -errno with a sentence */
