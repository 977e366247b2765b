/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file_node.h - nodes of QEMU's drivers file and host_device: a name for a file, which an image node refers to ("file":
 * "f"). Nothing is open until an image is; exported by itself it becomes a raw image. Control thread only.
 */
#pragma once

#include <jansson.h>

#include "vdiskd/disks/disks.h"

struct file_node {
        struct list link; /* disks->files */
        char *name, *user; /* user: the image that refers to it, if it (still) exists; NULL: none did */
        json_t *file;      /* what blockdev-add said, without the name: driver, filename, cache, ... */
        bool read_only;
};

/* @args: of blockdev-add, checked. 0 or -errno with a sentence. */
int file_node_add(struct disks *d, json_t *args);
struct file_node *file_node_find(const struct disks *d, const char *name); /* NULL: there is none */
bool file_node_used(const struct disks *d, const struct file_node *f);
void file_node_free(struct file_node *f); /* off the list, too */
void file_nodes_finish(struct disks *d);

/*
 * Where blockdev-add's @args name a file node ("file", "data-file", also of backing images), they get what it stands
 * for. Its user is the node that @args make. 0 or -errno with a sentence.
 */
int file_nodes_resolve(struct disks *d, json_t *args);

/* As query-named-block-nodes tells it. */
json_t *file_node_describe(const struct file_node *f);

/* For another process. NULL: no memory. unpack: 0 or -errno with a sentence. */
json_t *file_nodes_pack(const struct disks *d);
int file_nodes_unpack(struct disks *d, const json_t *all);
