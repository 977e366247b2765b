/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_job.h - jobs that shorten the chain of a disk in use.
 *
 *   stream   what lies between the top image and @base goes into the top image; then @base is right behind it
 *   commit   what lies in images from @top down to above @base goes into @base; then those images are not in the chain any more
 *
 *   chain_job_new -> (commit) chain_job_begin: a group change -> copy_job_start -> over -> chain_job_end: a group change
 *
 * Where data is copied to, the chain shows the same before and after; so whatever stops the job leaves the disk as it is. When
 * @top is the top image of the disk (an active commit), guests go on writing to it, and the job is ready when little is left.
 */
#pragma once

#include "blkq/change/change.h"
#include "blkq/jobs/copy_job.h"

struct chain_job_opts {
        struct vol *v;         /* nobody else changes its chain meanwhile */
        bool stream;
        /* depths: 0 is the disk's top image; @base: as many as there are images: nothing is behind */
        unsigned top, base;
        struct copy_owner owner;
};
/* 0, -ENOMEM, or -errno with a sentence. */
int chain_job_new(const struct chain_job_opts *o, struct copy_job **ret);

/* Before it is started: the base is opened for writing, and made as large as the disk. */
struct vol_change *chain_job_begin(struct copy_job *c);

/*
 * After it is over, or when it was not started but begun. @cut: all is copied, the images go. @backing_name,
 * @backing_format: what the image above @base says of it from now on; "" when there is none; not used by an active
 * commit. @layer: how the chain is opened from now on; @path, @format: its top image (an active commit). All are kept
 * by their maker while they are in use.
 */
struct chain_end {
        bool cut;
        const char *backing_name, *backing_format, *path, *format;
        const struct fmt_layer *layer;
};
struct vol_change *chain_job_end(struct copy_job *c, const struct chain_end *end);
