/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fd_kind.h - what a stranger's descriptor is, found out without asking whoever stands behind it.
 *
 * A file may be one of a file system that its sender runs himself (FUSE, which any user can mount). Then fstat(), fstatfs(), a touch of
 * mapped memory, even close() wait for his answer, which need not come, and no signal ends that. So the kernel alone is asked, about what it
 * knows by itself.
 */
#pragma once

#include <stddef.h>

enum fd_kind {
        FD_MEMORY,  /* a memfd, or a file of tmpfs or hugetlbfs */
        FD_DISK,    /* a regular file of a disk file system that this process sees mounted (fd_kind_prepare()) */
        FD_EVENTFD,
        FD_PIPE,    /* of pipe(2) */
        FD_SOCKET,  /* a Unix socket */
        FD_OTHER,   /* anything: neither used, nor closed by a thread that others need */
};
enum fd_kind fd_kind(int fd);

/* What it is, as the kernel shows it in /proc ("/mnt/x/ram", "socket:[5]"), for log lines; "?". Returns @buf. */
const char *fd_shown(int fd, char *buf, size_t len);

/*
 * Opens the table of mounts, for a process that soon cannot open any more. Without it there is no FD_DISK. Once is enough; the
 * control thread alone calls these.
 */
void fd_kind_prepare(void);
void fd_kind_finish(void);
