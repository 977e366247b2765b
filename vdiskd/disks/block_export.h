/* SPDX-License-Identifier: BSD-3-Clause */
/* block_export.h - a node offered on a vhost-user socket, under a name. Control thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/parcel.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/socket.h"

struct node;

struct block_export_opts {
        const char *id;     /* unique among the exports (the caller looked), id.h */
        struct listen_at at;
        const char *connect; /* path of a front end that listens, in place of at */
        bool read_only;     /* refuse writes though the node would take them */
        const char *serial; /* NULL: none */
        unsigned num_queues; /* 0: the default */
        uint32_t block_size; /* 0: 512 */
};

/* Others read it. */
struct block_export {
        struct disks *disks;
        struct list link;       /* disks->exports */
        char *id;
        struct node *node;
        struct listener listener;
        char *connect, *serial;
        char *named;            /* the image that it began with; NULL: none */
        /* reload_disk.c: the image of which the log has said that the next start must name it. Or NULL */
        char *told;
        unsigned num_queues;
        uint32_t block_size;
        bool read_only;
        struct export *export;  /* NULL when stopping */
};

/* Make the socket and take front ends. Returns 0 or -errno with a sentence, and nothing is left then. */
int block_export_add(struct node *n, const struct block_export_opts *o, struct block_export **ret);

bool block_export_in_use(const struct block_export *x); /* is a front end connected? */

/* Names follow images: @n has another one. What is kept about it under its name goes along. */
void block_exports_follow(struct node *n);

/* Turn front ends away, finish what is in flight; then the export is gone from the list and disks->export_gone told. */
void block_export_stop(struct block_export *x);

/* A parked export (export.h) for another process. NULL: no memory. unpack: parked, its node is there and open. */
json_t *block_export_pack(const struct block_export *x, struct parcel *p);
int block_export_unpack(struct disks *d, struct parcel *p, const json_t *o);
