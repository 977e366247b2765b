/* SPDX-License-Identifier: BSD-3-Clause */
/* file_shelf.h - what file.c asks of the shelf that its thread uses (file.h). */
#pragma once

#include <stdbool.h>

#include "file.h"

/* Put the open file on the shelf: its fd is -1 then. False: no shelf, or no room; close it. */
bool file_shelf_keep(struct file *f);

/* The descriptor becomes the caller's, or (look) stays on the shelf. -1: it is not there, or there is no shelf. */
int file_shelf_take(const char *path, bool read_only);
int file_shelf_look(const char *path);
