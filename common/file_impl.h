/* SPDX-License-Identifier: BSD-3-Clause */
/* file_impl.h - what the file_*.c tell each other. Contracts are file.h's. */
#pragma once

#include "file.h"

/* file_posix.c: for a file that has a descriptor. */
extern const struct file_ops file_posix_ops;
int file_posix_look(struct file *f);   /* dev, ino, is_blkdev, size: 0 or -errno with a sentence */
void file_posix_align(struct file *f); /* mem_align, off_align: what O_DIRECT asks for here */

/* file_io.c: @r, with the sentence "cannot @what at offset @off" when it is an error. */
int file_noted(struct file *f, int r, const char *what, uint64_t off);
