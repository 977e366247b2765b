/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * limit_groups.h - throttle groups by name, and which disk is in which. Control thread only.
 *
 * A group is made by object-add or --object and lasts until object-del; or for a disk with limits of its own, under the
 * disk's name, and is gone when no disk is in it any more.
 */
#pragma once

#include <stdbool.h>

#include "blkq/throttle/throttle_group.h"
#include "common/list.h"
#include "vdiskd/disks/disks.h"

struct node;

struct limit_group {
        struct list link; /* disks->limit_groups */
        struct throttle_group *g;
        bool object;      /* object-add made it */
};

struct limit_group *limits_find(struct disks *d, const char *name); /* NULL: there is none */
const char *limits_name(const struct limit_group *lg);

/* -EEXIST with a sentence, -ENOMEM. The limits passed throttle_limits_check(). *@ret may be NULL. */
int limits_add(struct disks *d, const char *name, bool object, const struct throttle_limits *l, struct limit_group **ret);
/* -ENOENT, or -EBUSY when a disk is in it; with a sentence. */
int limits_remove(struct disks *d, const char *name);
void limits_finish(struct disks *d); /* the names; disks keep what they have */

/*
 * For a disk that will be opened as @disk: the group @name, which must be there, or one of its own with @l. Either may
 * be NULL; without both (or without any limit) *@ret is NULL. A reference, the caller's. 0, or -errno with a sentence.
 */
int limits_choose(struct disks *d, const char *disk, const char *name, const struct throttle_limits *l,
                  struct throttle_group **ret);

/*
 * The disk obeys group @name (NULL: the one it is in, or one of its own, called @disk) from now on, whose limits are
 * @l; without any limit it leaves its group. 0, or -errno with a sentence.
 */
int limits_apply(struct node *n, const char *disk, const char *name, const struct throttle_limits *l);

/* The disk obeys group @name, which must be there, as it is; NULL: it has no limits. 0, or -errno with a sentence. */
int limits_join(struct node *n, const char *name);

/* Forgets groups that were a disk's own and have no disk any more. */
void limits_sweep(struct disks *d);

/* All groups, for another process; NULL: no memory. unpack: before the disks. NULL or no list: none. */
json_t *limits_pack(const struct disks *d);
int limits_unpack(struct disks *d, const json_t *all);
