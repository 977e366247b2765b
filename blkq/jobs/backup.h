/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backup.h - a disk as it is at one instant is copied to another disk, while guests go on writing (cbw.h).
 *
 *   backup_new -> backup_arm (home, the volume held: the instant) -> copy_job_start ... over
 */
#pragma once

#include "blkq/jobs/copy_job.h"

struct dirty_bitmap;
struct vol;

enum backup_sync {
        BACKUP_FULL,
        BACKUP_TOP,    /* what the top image has */
        BACKUP_NONE,   /* only what guests are about to overwrite, until it is cancelled */
        BACKUP_BITMAP, /* what is dirty in the bitmap at the instant */
};

struct backup_opts {
        struct vol *v, *target; /* of the same size; nobody else writes to the target */
        enum backup_sync sync;
        bool compress;          /* the target can: fmt_can_pack() */
        /* BACKUP_BITMAP needs one; else NULL is fine. At the instant it becomes clean. Borrowed */
        struct dirty_bitmap *bitmap;
        struct copy_owner owner;
};

/* All memory it takes is had. 0 or -ENOMEM. */
int backup_new(const struct backup_opts *o, struct copy_job **ret);

/* Home, the volume held. What cannot be had there shows as the job's failure when it is started, which must follow. */
void backup_arm(struct copy_job *c);

enum backup_bitmap_mode { BITMAP_NEVER, BITMAP_ON_SUCCESS, BITMAP_ALWAYS };
/* When it is over: without success what was dirty in the bitmap (ALWAYS: what of it was not copied) is so again; with
 * NEVER also after success. Any thread. */
void backup_bitmap_end(struct copy_job *c, bool success, enum backup_bitmap_mode mode);
