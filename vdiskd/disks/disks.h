/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disks.h - all disks of the daemon: nodes (open images) and the exports that offer them. The command line and the
 * control socket put them here. Control thread only.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "blkq/qthread.h"
#include "common/list.h"
#include "common/loop.h"
#include "vdiskd/config/options.h"
#include "vdiskd/socket.h"

struct node;
struct inner_node;
struct block_export;
struct reload;

struct disks {
        /* Filled by the caller, kept while there are disks: */
        struct loop *loop;
        struct qthread **threads;
        unsigned nthreads;
        unsigned slow_ms;   /* see vol.h */
        size_t cache_bytes; /* table cache of each image; 0: the default */
        const char *state_dir; /* see vol.h; NULL: none */
        struct passed_sockets *passed;
        struct reload *configuration; /* reload.h */
        int pid_fd; /* holds the lock of --pidfile (pid_file.h); -1: none */
        /* Told what happens by itself; each may be NULL. */
        void (*export_gone)(void *opaque, const char *id);
        void (*node_failed)(void *opaque, const char *node, int err, const char *what);
        void (*event)(void *opaque, const char *name, json_t *data); /* disks_event() */
        void *opaque;

        struct list nodes, exports, jobs; /* node.h, block_export.h, job.h */
        struct list scsi_hosts;   /* scsi_host.h */
        struct list limit_groups; /* limit_groups.h */
        struct list endings;             /* disk_ops.c */
        struct list files;               /* file_node.h */
        struct list filters;             /* filter_node.h */
        struct list turns;       /* changes of the graph that wait, the first one under way: transaction.h */
        unsigned names_made_up;  /* of nodes */
        bool stopping, exports_stopping; /* the second when no job is left */
        bool cancelling;                 /* jobs_cancel_all() runs, or jobs_gone is on its way */
        struct loop_task jobs_gone;
        void (*stopped)(void *opaque, int res);
        void *stopped_opaque;
        int res; /* stopping: the first error */
};

void disks_init(struct disks *d);

/* Tell those on the control socket. @data: taken; NULL leaves the member out. */
void disks_event(struct disks *d, const char *name, json_t *data);

/* The disks of the command line. All images are opened before the first socket is made. 0 or -errno with a sentence. */
int disks_add_all(struct disks *d, const struct disk_opts *opts, size_t n);

/* NULL: there is none, or it is closing. Roots only: who has a volume. */
struct node *disks_find_node(struct disks *d, const char *name);
/* The node that an export offers, or else one by name: what a guest has, however often its top image changed. */
struct node *disks_find_device(struct disks *d, const char *name);
struct inner_node *disks_find_inner(struct disks *d, const char *name); /* inner_node.h. NULL: there is none */
bool disks_name_taken(const struct disks *d, const char *name); /* also by a node that is closing */
struct block_export *disks_find_export(struct disks *d, const char *id); /* also one that is stopping */

/**
 * disks_stop - cancel all jobs, then stop all exports, make everything durable and close all images.
 * Returns whether there is anything to wait for; if so @stopped is called once from the loop, with the first error.
 */
bool disks_stop(struct disks *d, void (*stopped)(void *opaque, int res), void *opaque);
size_t disks_open(const struct disks *d); /* how many images are */

/* From node.c: the exports of @n have another size now. */
void disks_resized(struct disks *d, const struct node *n);

/* From node.c, block_export.c and job.c: it is off its list. */
void disks_node_gone(struct disks *d, int res);
void disks_job_gone(struct disks *d);
void disks_export_gone(struct disks *d, struct node *n);
