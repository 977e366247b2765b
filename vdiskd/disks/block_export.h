/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block_export.h - a node offered on a vhost-user socket, under a name: as a disk of its own, or as a unit (LUN) of a SCSI
 * controller, which others may share (scsi_host.h). Control thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"
#include "common/parcel.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/socket.h"

struct node;
struct scsi_host;
struct scsi_unit;
struct vol;

#define SCSI_ANY_LUN (-1) /* the first that is free */

struct block_export_opts {
        const char *id;     /* unique among the exports (the caller looked), id.h */
        struct listen_at at;
        const char *connect; /* path of a front end that listens, in place of at */
        bool read_only;     /* refuse writes though the node would take them */
        const char *serial; /* NULL: none */
        unsigned num_queues; /* 0: the default */
        uint32_t block_size; /* 0: 512 */
        bool scsi;
        int lun;            /* scsi: 0..255, or SCSI_ANY_LUN */
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
        bool stopping;
        struct export *export;  /* a disk of its own; NULL: it is a unit, or stopping */
        struct scsi_host *host; /* or a unit of this one; NULL: not so */
        struct scsi_unit *unit; /* NULL when stopping */
        unsigned lun;
};

/* Make the socket and take front ends. Returns 0 or -errno with a sentence, and nothing is left then. */
int block_export_add(struct node *n, const struct block_export_opts *o, struct block_export **ret);

bool block_export_in_use(const struct block_export *x); /* is a front end connected? */
bool block_export_has_woken(const struct block_export *x); /* a migratable disk */
bool block_export_is_moving(const struct block_export *x); /* its guest, to another host */
const char *block_export_type(const struct block_export *x); /* QEMU's word */

/* Its node has another volume, or the volume another size. */
void block_export_follow(struct block_export *x, struct vol *v);
void block_export_resized(struct block_export *x);

/* Other permissions for the file of its socket: listener_change(). */
int block_export_change_socket(struct block_export *x, const struct listen_at *at);

/* Names follow images: @n has another one. What is kept about it under its name goes along. */
void block_exports_follow(struct node *n);

/* For block_export.c and scsi_host.c. The mark of a write cache that is off: named after the image and the export, since daemons share
 * the directory; NULL: there is none, or no memory. stopped: nothing of it is left; it is freed. */
char *block_export_mark_path(const struct block_export *x);
void block_export_stopped(void *opaque);

/* Turn front ends away, finish what is in flight; then the export is gone from the list and disks->export_gone told. */
void block_export_stop(struct block_export *x);

/*
 * All doors stand still, as in export.h; @parked once for each, and how many they are. resume: those that are parked go on, with the
 * volumes that their nodes have now.
 */
unsigned block_exports_park(struct disks *d, void (*parked)(void *opaque), void *opaque);
void block_exports_resume(struct disks *d);

/* A parked export (export.h) for another process. NULL: no memory. unpack: parked, its node is there and open. */
json_t *block_export_pack(const struct block_export *x, struct parcel *p);
int block_export_unpack(struct disks *d, struct parcel *p, const json_t *o);
