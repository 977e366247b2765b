/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_lock.h - QEMU's image locks, so that QEMU, qemu-img, another vdiskd and we refuse each other's open images.
 *
 * Open-file-description locks on single bytes (QEMU block/file-posix.c, man qemu "file locking"): a shared lock on byte
 * 100 + p says "I use permission p"; one on byte 200 + p says "I do not let others use p". Permissions: 0 consistent
 * read, 1 write, 2 write unchanged, 3 resize. Locks go with the open file description: close() gives them back.
 */
#pragma once

#include <stdbool.h>

/**
 * image_lock - say what we do with the file behind @fd: read, or (@write) write and resize it. Either way nobody else
 * may write or resize it meanwhile; tools that ask for no consistency (qemu-img -U) can still look.
 * Returns 0, -EBUSY (another process holds the image; sentence noted with @path), or -errno; file systems without locks
 * (-EOPNOTSUPP, -ENOLCK) count as 0.
 */
int image_lock(int fd, const char *path, bool write);

/* It was locked for writing, and is only read from now on: others may open it for reading, too. */
void image_lock_share(int fd);

/**
 * image_lock_pass - @to is the same image, and shall be locked as image_lock(@to, @path, true) does, in place of @from,
 * which is ours and gives its locks back. Nobody can come in between. On failure @from has a reader's locks, as before,
 * and @to none.
 */
int image_lock_pass(int from, int to, const char *path);

/*
 * Give all of it back now. close() alone may come late: a kernel worker that has just finished our last write holds the
 * open file a moment longer, and whoever opens the image next would be refused.
 */
void image_unlock(int fd);
