/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_host.h - a SCSI controller on its socket: exports of type vhost-user-scsi with the same address share one. It comes with the
 * first of them and goes with the last. Control thread only.
 */
#pragma once

#include "common/list.h"
#include "common/parcel.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/socket.h"

struct scsi_controller;

struct scsi_host {
        struct disks *disks;
        struct list link;        /* disks->scsi_hosts */
        char *address;           /* what exports say to share it: "unix:/run/a.sock", "fd:3" */
        char *place;             /* what guests know it by: the path of the socket, whoever made it */
        struct listener listener;
        char *connect;
        int socket_mode;                   /* as struct listen_at: what its first export said */
        char *socket_owner, *socket_group;
        unsigned home;           /* index of its first queue's thread */
        unsigned nunits;         /* exports that are not stopping */
        struct scsi_controller *controller; /* NULL when stopping */
};

/*
 * A unit for @x, which has a node: with @x->lun, or the first that is free when that is SCSI_ANY_LUN. The controller is made if
 * nobody of that address has one; @o says where, and must not contradict what the others said. 0 or -errno with a sentence, and nothing
 * has changed.
 */
int scsi_host_enter(struct block_export *x, const struct block_export_opts *o);

/* @x has let its unit go (block_export_stop()): on_stopped comes from the loop. */
void scsi_host_leave(struct block_export *x, void (*on_stopped)(void *opaque));

/* Other permissions for its socket's file: listener_change(). */
int scsi_host_change(struct scsi_host *h, const struct listen_at *at);

/* For another process, all exports being parked: hosts first, then each export's unit, then what their front ends said. */
json_t *scsi_hosts_pack(const struct disks *d, struct parcel *p);
int scsi_hosts_unpack(struct disks *d, struct parcel *p, const json_t *all);
int scsi_hosts_unpack_sessions(struct disks *d, struct parcel *p, const json_t *all);
int scsi_host_reenter(struct block_export *x, const char *address);
