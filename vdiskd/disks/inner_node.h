/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inner_node.h - an image further down the chain of a node: it has a name, but its volume is the node's. Control thread only.
 *
 * The list root->below follows the volume's chain: the n-th inner node is its n-th backing image. Both change at the end of a
 * change of the graph (transaction.h). A volume that is asleep has only its top open, and no inner nodes.
 */
#pragma once

#include <stdbool.h>

#include "common/list.h"

struct disks;
struct fmt_image;
struct node;

struct inner_node {
        struct list link;   /* root->below */
        struct node *root;
        char *name;
};

/* Before @n's image is open: the first @n_names names, NULL: to be made up. -ENOMEM. */
int inner_nodes_name(struct node *n, const char *const *names, unsigned n_names);
/* Now it is: as many as there are backing images. Those without memory for a name are left out. */
void inner_nodes_fit(struct node *n);
void inner_nodes_free(struct node *n);

/* on no list. @name NULL: made up. NULL: no memory */
struct inner_node *inner_node_new(struct node *root, const char *name);
void inner_node_free(struct inner_node *i); /* off the list, too. NULL is fine */

struct inner_node *inner_node_find(const struct node *root, const char *name);
unsigned inner_node_depth(const struct inner_node *i); /* 1: right behind the top */
const char *inner_node_over(const struct inner_node *i); /* the name of the node that it is the backing image of */

/* The image at that depth of the chain: between vol_image_get() and vol_image_put(). NULL: there is none. */
struct fmt_image *chain_image_at(struct fmt_image *top, unsigned depth);

/* A name that nobody has: "#block" and a number. NULL: no memory. */
char *node_name_made_up(struct disks *d);
