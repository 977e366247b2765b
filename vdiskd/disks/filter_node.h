/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * filter_node.h - nodes of QEMU's driver throttle: the node "file" with the limits of a throttle group. Here a disk has
 * its limits itself, so such a node is one more name for the disk, which joins the group. In front of a file node it is
 * a name for that, and the image that is opened from it joins. Control thread only.
 */
#pragma once

#include <jansson.h>

#include "vdiskd/disks/disks.h"

struct file_node;
struct node;

struct filter_node {
        struct list link;       /* disks->filters */
        char *name, *group;
        struct node *node;      /* what it is a name for; NULL: */
        struct file_node *file; /* this */
        bool owns;              /* made along with it, and to go with it: of an object "file" */
};

/* @args: of blockdev-add, checked, with the name of a node as "file". 0 or -errno with a sentence. */
int filter_node_add(struct disks *d, json_t *args);
/* In front of @n, which is in the group already, or of @file, made for it. */
int filter_node_add_owner(struct disks *d, const char *name, const char *group, struct node *n, struct file_node *file);
struct filter_node *filter_node_find(const struct disks *d, const char *name); /* NULL: there is none */
/* The one in front of it; NULL: there is none. */
struct filter_node *filter_node_of(const struct disks *d, const struct node *n);
struct filter_node *filter_node_of_file(const struct disks *d, const struct file_node *f);

/* The disk has no limits then. -EBUSY with a sentence: somebody uses it. *owned: the node that is to be closed now;
 * NULL: none. */
int filter_node_del(struct disks *d, struct filter_node *f, struct node **owned);
void filter_nodes_forget(struct node *n);             /* it goes, and they with it */
void filter_nodes_follow(struct node *a, struct node *b); /* the guests of @a have gone to @b */
void filter_nodes_finish(struct disks *d);

/* As query-named-block-nodes tells it; @of, taken: the same of the node that it is a name for, NULL for a file. */
json_t *filter_node_describe(const struct filter_node *f, json_t *of);

/* For another process. NULL: no memory. unpack: behind nodes and file nodes; 0 or -errno with a sentence. */
json_t *filter_nodes_pack(const struct disks *d);
int filter_nodes_unpack(struct disks *d, const json_t *all);
