/* SPDX-License-Identifier: BSD-3-Clause */
/* landlock.h - no path and no TCP but by rules; until the process ends, and in all that it starts. */
#pragma once

#include <stdint.h>

/* linux/landlock.h as of Linux 6.12; the one that we are built with may be older. */
enum {
        PATH_EXECUTE = 1 << 0, PATH_WRITE = 1 << 1, PATH_READ = 1 << 2, PATH_LIST = 1 << 3, PATH_REMOVE_DIR = 1 << 4,
        PATH_REMOVE = 1 << 5, PATH_MAKE_CHAR = 1 << 6, PATH_MAKE_DIR = 1 << 7, PATH_MAKE_FILE = 1 << 8, PATH_MAKE_SOCKET = 1 << 9,
        PATH_MAKE_FIFO = 1 << 10, PATH_MAKE_BLOCK = 1 << 11, PATH_MAKE_LINK = 1 << 12, PATH_MOVE = 1 << 13, PATH_TRUNCATE = 1 << 14,
        PATH_DEVICE_IOCTL = 1 << 15, /* the last two stay with a descriptor, also in a process that gets it */
        /* those that a file has by itself */
        PATH_OF_FILES = PATH_EXECUTE | PATH_WRITE | PATH_READ | PATH_TRUNCATE | PATH_DEVICE_IOCTL,
};

struct landlock {
        int fd;      /* of the ruleset */
        uint64_t fs; /* rights that this kernel knows */
};

/* Every right that this kernel knows is asked for. The ABI, or -errno. */
int landlock_begin(struct landlock *l);
/* What is at @path and below keeps @rights. 0, or -errno: nothing is there. */
int landlock_keep(struct landlock *l, const char *path, uint64_t rights);
int landlock_enter(struct landlock *l); /* from now on. Also the end of @l. 0 or -errno; no_new_privs is set already */
