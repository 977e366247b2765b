/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror.h - a disk is copied to another disk until both are the same but for what guests have just written, and is kept so,
 * until somebody decides: then, with guests waiting for a moment, the rest is copied, and they go on with the other volume, or do
 * not.
 *
 *   mirror_new -> copy_job_start -> news: ready -> copy_job_complete() -> over (0) -> mirror_end, with or without an exchange
 *                     +----------------------------------> over (an error) -> mirror_end (drop)
 */
#pragma once

#include "blkq/jobs/copy_job.h"

struct vol;

enum mirror_sync {
        MIRROR_FULL,
        MIRROR_TOP,  /* what the top image has; the target shows the rest by itself */
        MIRROR_NONE, /* what is written from now on */
};

struct mirror_opts {
        struct vol *v, *target; /* of the same size; nobody else writes to the target */
        enum mirror_sync sync;
        uint32_t granularity;   /* bytes, a power of two from 512 to 64 MiB; 0: chosen */
        uint64_t buf_size;      /* bytes in flight at most; 0: chosen */
        /* guests wait until what they change is changed in the target, too (twin.h); so it is the same one day */
        bool blocking;
        struct copy_owner owner;
};
/* From now on what is written is known. 0 or -ENOMEM. */
int mirror_new(const struct mirror_opts *o, struct copy_job **ret);

/* Once, after it is over, or when it was not started. */
enum mirror_how {
        MIRROR_EXCHANGE, /* guests go on with the target (exchange.h) */
        MIRROR_SAME,     /* at one instant both disks are the same; guests go on as before */
        MIRROR_DROP,     /* nothing */
};
/* @done: any thread; @why: the sentence, when @res is -errno, borrowed. Then guests go on with the source, and the
 * target is whatever it is. Of an exchange the source's name is a name for the target until vol_ports_moved().
 * @pause_ns: how long guests waited. */
void mirror_end(struct copy_job *c, enum mirror_how how,
                void (*done)(void *opaque, int res, const char *why, uint64_t pause_ns), void *opaque);
