/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_ops.h - a disk as the configuration and --disk know it, a node and an export of one name, comes and goes at run
 * time. Control thread only.
 */
#pragma once

#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/config/options.h"

/* The words of @o for node.h and block_export.h. What they point to is @o's; @layer is the caller's, too. */
void disk_node_opts(const struct disk_opts *o, struct node_opts *no, struct fmt_layer *layer);
void disk_export_opts(const struct disk_opts *o, struct block_export_opts *xo);

/* @why: the sentence when @res is -errno, borrowed. */
typedef void disk_done(void *opaque, int res, const char *why);

/**
 * disk_start - open the image and offer it. @o is used until @done, which comes once, from the loop; when @res < 0
 * nothing is left. Returns 0, or -errno with a sentence when it could not even begin (no @done then).
 */
int disk_start(struct disks *d, const struct disk_opts *o, disk_done *done, void *opaque);

/**
 * disk_end - stop the exports of node @id, then close it. @force: also when a front end is connected.
 * A node with more than one export stays (-EBUSY). @done: once, from the loop; @res < 0: it is gone, but not all of its
 * data could be made durable. Returns 0; -ENOENT or -EBUSY with a sentence (no @done then, and nothing has changed).
 */
int disk_end(struct disks *d, const char *id, bool force, disk_done *done, void *opaque);

/* The image behind disk @id: of the export of that name (a snapshot gives it another node), or a node. NULL: there is
 * none. */
struct node *disk_node(struct disks *d, const char *id);

/* Is a front end connected to an export of node @id? */
bool disk_in_use(struct disks *d, const char *id);

/* From disks.c: an export of @n is gone. Returns whether @n is closed by a disk_end(). */
bool disk_export_left(struct disks *d, struct node *n);
