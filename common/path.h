/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * path.h - what is done by name: open, look, remove, connect. This process does it itself, or another one that may on
 * its
 * behalf: a daemon in its sandbox can open nothing (vdiskd/sandbox/opener.h).
 *
 * All return -errno when it fails, and open_allowed() notes a sentence then. Any thread. @how: the flags of open(2),
 * always with O_CLOEXEC; what they create has permission 0644 less the umask (path_open: @mode).
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

struct path_ops {
        int (*open)(const char *path, int how, mode_t mode); /* the fd */
        int (*open_beneath)(const char *dir, const char *name, int how);
        int (*open_allowed)(const char *image, const char *path, int how);
        int (*look)(const char *path, bool follow, struct stat *st);
        int (*real)(const char *path, char **ret);
        int (*unlink)(const char *path);
        int (*connect)(const char *path);
        int (*save)(const char *dir, const char *name, const char *text, bool replace);
        int (*remove)(const char *path);
};

/* From now on @ops do it; NULL: this process does. Before there are threads. */
void path_use(const struct path_ops *ops);

int path_open(const char *path, int how, mode_t mode);

/* In the directory @dir or below it, no symbolic links: -EXDEV or -ELOOP for others (openat2(2)). */
int path_open_beneath(const char *dir, const char *name, int how);

/**
 * path_open_allowed - a file that the image at @image names, where names in images may lead: a regular file in the
 * image's own directory or below it, a regular file or block device in an allowed directory (path_allow()) or below it.
 * Symbolic links may lead there, too. Whoever changes the links meanwhile does not get out of these directories. Before
 * path_confine() names in images may lead anywhere: tools do what their user could do, too.
 */
int path_open_allowed(const char *image, const char *path, int how);

void path_confine(void);

/* A directory in which names in images may lead, with all below it. Kept as it is now, without links. Before there are
 * threads. */
int path_allow(const char *dir);
void path_allow_finish(void); /* no directory any more, and not confined */

int path_look(const char *path, bool follow, struct stat *st); /* stat(2), lstat(2) */
int path_real(const char *path, char **ret);                   /* realpath(3); the caller frees */
int path_unlink(const char *path);
int path_connect(const char *path); /* a stream to who listens on this Unix socket, O_NONBLOCK: the fd */

/* text_file_save(), text_file_remove(): with a sentence. */
int path_save(const char *dir, const char *name, const char *text, bool replace);
int path_remove(const char *path);
