/* SPDX-License-Identifier: BSD-3-Clause */
/* disk.h - one disk of the daemon: its image, its socket and its export, from open to closed. Control thread only. */
#pragma once

#include "blkq/qthread.h"
#include "common/loop.h"
#include "vdiskd/options.h"
#include "vdiskd/socket.h"

struct disk;

/* What all disks share. Kept by the caller while a disk lives. */
struct disk_env {
        struct loop *loop;
        struct qthread **threads;
        unsigned nthreads;
        size_t cache_bytes;
        const char *state_dir; /* NULL: none */
        struct passed_sockets *passed;
};

/**
 * disk_open - open the image and take its lock; nobody can reach it yet.
 * @opts: kept by the caller. @home: index of the thread that will change its tables.
 * Returns 0 or -errno with a sentence.
 */
int disk_open(const struct disk_opts *opts, const struct disk_env *env, unsigned home, struct disk **ret);

/* Make its socket and take front ends. Returns 0 or -errno with a sentence; the disk is then still to be closed. */
int disk_serve(struct disk *d);

/**
 * disk_close - turn new front ends away, finish what is in flight, make all of it durable, close the image, free @d.
 * @closed: called once from the loop; @res is 0 or the error that kept data from becoming durable.
 */
void disk_close(struct disk *d, void (*closed)(void *opaque, int res), void *opaque);
