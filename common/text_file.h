/* SPDX-License-Identifier: BSD-3-Clause */
/* text_file.h - a small text file that is there whole or not at all, also after a power failure. */
#pragma once

#include <stdbool.h>

/**
 * text_file_save - make the file @name in the directory @dir, which is made, too, when it is not there (its parent must
 * be). Nobody ever sees half of it. @replace: in the place of the one that is there. Returns 0; -EEXIST when there is a
 * file of that name; or -errno with a sentence. Any thread; waits for the disk.
 */
int text_file_save(const char *dir, const char *name, const char *text, bool replace);

/* Remove it, durably. 0 or -errno with a sentence. */
int text_file_remove(const char *path);
