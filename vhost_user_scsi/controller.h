/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * controller.h - disks behind one vhost-user socket, as the units of a virtio SCSI host. The face of vhost_user_scsi to the
 * daemon. Who comes in, and how, is the door's (vhost_user/door/door.h). Control thread only.
 *
 *     scsi_controller_new(loop, fd, &opts, &c);
 *     scsi_unit_add(c, vol, &unit_opts, &u);      any number of them, at any time: guests see them come
 *     scsi_unit_remove(u, removed, opaque);       and go
 *     scsi_controller_stop(c, stopped, opaque);   with the units that are left
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "blkq/vol.h"
#include "common/loop.h"
#include "common/parcel.h"

#define SCSI_LUNS 256u          /* 0..255 */
#define SCSI_MAX_QUEUES 254u    /* for requests: control and events have one each */

struct scsi_controller;
struct scsi_unit;

struct scsi_controller_opts {
        const char *name;       /* for log lines */
        const char *connect;    /* path of a front end that listens; NULL: listen */
        unsigned num_queues;    /* for requests, 1..254; 0: 64 */
        bool parked;            /* begin parked: nobody may come before scsi_controller_resume() */
        struct qthread **threads; /* queues are dealt out over these, round robin from start_thread on */
        unsigned nthreads;
        unsigned start_thread;
};

/**
 * scsi_controller_new - without units, on @listen_fd (a listening Unix stream socket; taken, also on failure; -1 with
 * opts->connect). Returns 0 or -errno with a sentence.
 */
int scsi_controller_new(struct loop *l, int listen_fd, const struct scsi_controller_opts *opts,
                        struct scsi_controller **ret);

/* In place of stop, in the turn of the loop in which it was made, when no unit could be added. */
void scsi_controller_drop(struct scsi_controller *c);

/* Is a change of its units on its way to queue threads? It cannot go to another process now. */
bool scsi_controller_is_changing(const struct scsi_controller *c);

unsigned scsi_controller_num_queues(const struct scsi_controller *c);
bool scsi_controller_in_use(const struct scsi_controller *c); /* is a front end connected? */

/* Hang up, finish what is in flight, let go of all volumes; then @stopped, and controller and units are freed. */
void scsi_controller_stop(struct scsi_controller *c, void (*stopped)(void *opaque), void *opaque);

/* As export_park() and its like (vhost_user_blk/export.h); scsi_unit_follow() names the volumes between park and
 * resume. */
void scsi_controller_park(struct scsi_controller *c, void (*parked)(void *opaque), void *opaque);
bool scsi_controller_parked(const struct scsi_controller *c);
void scsi_controller_resume(struct scsi_controller *c);
bool scsi_controller_is_moving(const struct scsi_controller *c);
json_t *scsi_controller_pack(const struct scsi_controller *c, struct parcel *p);
int scsi_controller_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd);
int scsi_controller_unpack(struct scsi_controller *c, struct parcel *p, const json_t *o);

struct scsi_unit_opts {
        unsigned lun;           /* free, below SCSI_LUNS */
        const char *serial;     /* at most 36 bytes; NULL: made of @stable */
        const char *stable;     /* scsi_lu_identify() */
        bool read_only;         /* refuse writes also when the volume takes them */
        uint32_t block_size;    /* logical block size, 512 or 4096; 0: 512 */
        /* a file that is there while the guest has its write cache off (mark.h); NULL: not kept */
        const char *wce_mark;
};

/* The lowest LUN that is free; SCSI_LUNS: none is. */
unsigned scsi_free_lun(const struct scsi_controller *c);
bool scsi_lun_is_free(const struct scsi_controller *c, unsigned lun);

/* 0 or -errno with a sentence. A connected guest is told when all queue threads know the unit. */
int scsi_unit_add(struct scsi_controller *c, struct vol *v, const struct scsi_unit_opts *opts, struct scsi_unit **ret);

/*
 * No command finds it any more; when the last one has ended, on all threads, the guest is told, the unit is freed and
 * @removed called, once, from the loop. Not while the controller is parked or stops.
 */
void scsi_unit_remove(struct scsi_unit *u, void (*removed)(void *opaque), void *opaque);

/* As export_follow(), export_resized() and export_move_mark(). */
void scsi_unit_follow(struct scsi_unit *u, struct vol *v);
void scsi_unit_resized(struct scsi_unit *u);
int scsi_unit_move_mark(struct scsi_unit *u, const char *mark);

/* What the guest has set, for another process: into the same unit there. */
json_t *scsi_unit_pack(const struct scsi_unit *u);
int scsi_unit_unpack(struct scsi_unit *u, const json_t *o);
