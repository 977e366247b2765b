/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * back_end.h - a vhost-user-blk daemon as a child process, with disks in a temporary directory of its own.
 *
 * Which daemon: the environment variable E2E_BACK_END is the path of a vdiskd, or of a qemu-storage-daemon (the tests
 * were grown on it, and it tells a broken test from a broken daemon). One thread. 0 or negative errno with a sentence.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/front_end.h"

#define BE_DISKS_MAX 4

struct be_disk {
        const char *format;  /* "raw" or "qcow2" */
        uint64_t size;       /* bytes */
        bool read_only;
        bool chain;          /* qcow2: on top of an image with the first half of its clusters */
        bool migratable;     /* vdiskd only */
        unsigned num_queues; /* 0: 4 */
        char path[96], socket[96]; /* made by be_new() */
};

struct back_end {
        char dir[64];
        pid_t pid; /* 0: not running */
        struct be_disk disks[BE_DISKS_MAX];
        unsigned ndisks;
};

/* Is it vdiskd (not qemu-storage-daemon)? Some things only we promise. */
bool be_is_vdiskd(void);

/* Do front ends of be_open() have packed rings? With E2E_PACKED in the environment. */
bool be_packed(void);

/* Makes the directory and fresh images, starts the daemon, waits until its sockets listen. */
int be_new(struct back_end *b, const struct be_disk *disks, unsigned n);
int be_start(struct back_end *b);

/* SIGTERM and wait; -EPROTO unless it exits with status 0. */
int be_stop(struct back_end *b);
int be_kill(struct back_end *b); /* SIGKILL and wait */

/*
 * vdiskd only: another process, started as @binary (NULL: the same), takes over. 0: it serves, the one before ended
 * with status 0. -EREMOTEIO: it came to nothing, the sentence is the daemon's. Call be_adopt_orphans() before be_new().
 */
int be_upgrade(struct back_end *b, const char *binary);
int be_adopt_orphans(void); /* processes that our children start become ours when those end */

/* Is the process there? */
bool be_running(struct back_end *b);

/* qemu-img check of a disk that is not in use: 0; -EPROTO with a sentence when it has errors (leaks are allowed). */
int be_check(const struct back_end *b, unsigned disk);

/* Open file descriptors of the daemon. */
int be_count_fds(const struct back_end *b);

/* Kills what runs, removes directory and images. */
void be_free(struct back_end *b);

/*
 * Around a group of tests: be_new(), and the seed of its random choices, printed: E2E_SEED in the environment, or
 * another one each time (NULL: it makes none). Then be_stop(), be_check() of all disks, be_free(). Both say what went
 * wrong.
 */
int be_group_start(struct back_end *b, const struct be_disk *disks, unsigned n, uint64_t *seed);
int be_group_stop(struct back_end *b);

/* fe_open() on a disk of it, tried again while the daemon still has the front end before. */
int be_open(const struct back_end *b, unsigned disk, struct fe_opts opts, struct front_end **ret);
