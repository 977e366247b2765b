/* SPDX-License-Identifier: BSD-3-Clause */
/* node.h - a node: an open image with a name, as QEMU's block layer calls it. Control thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/vol.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/parcel.h"
#include "vdiskd/disks/disks.h"

struct node_opts {
        const char *name;     /* unique among the nodes (the caller looked), id.h */
        const char *path;     /* NULL for format=null */
        const char *format;   /* NULL: find out, but never take it for raw */
        bool read_only, writeback;
        bool migratable;      /* lock and read the image only while rings run */
        bool entry_with_data; /* format.h: FMT_ENTRY_WITH_DATA */
        uint32_t block_size;  /* smallest request that will come; 0: 512 */
        uint64_t null_size;   /* format=null only, bytes */
        const struct fmt_layer *layer; /* keys of encrypted images, other backing files; copied. NULL: none */
        struct throttle_group *throttle; /* a reference of its own is taken; NULL: no limits */
        bool report_full;     /* vol.h: do not wait for space; else so long: */
        unsigned full_timeout_s;
        uint64_t max_in_flight; /* vol.h */
        const char *const *below; /* names of its backing images, the nearest first; NULL among them: to be made up, and so for
                                     those behind the last of nbelow */
        unsigned nbelow;
        struct node *base; /* node_open_start() only: a node that nobody uses. It is closed, its image is one of the chain, and the
                              node is gone; or it is as before when this fails. NULL: none */
        /* how long to wait, on this thread, for a lock that a killed daemon's kernel half holds */
        uint64_t patience_ns;
};

/* Others read it; node.c and block_export.c change it. */
struct node {
        struct disks *disks;
        struct list link;   /* disks->nodes */
        char *name, *path;  /* path NULL: null */
        const char *format; /* the driver's name */
        struct fmt_layer *layer; /* owned; NULL: nothing was said about the chain */
        bool read_only;
        uint32_t block_size;
        uint64_t null_size;
        struct throttle_group *throttle; /* of the next opening: the open volume knows its own. NULL: none */
        bool report_full;
        unsigned full_timeout_s;
        uint64_t max_in_flight;   /* of the next opening, too: node_set_max_in_flight() */
        uint64_t write_threshold; /* likewise */
        struct vol *vol;    /* NULL when opening or closing, or shelved */
        unsigned awake;     /* exports that had woken it when it was shelved */
        struct file_shelf shelf;  /* its open files while it is shelved, */
        struct blk_totals totals; /* and what it had counted */
        unsigned home;      /* index of the thread that changes its tables */
        bool writeback, migratable, entry_with_data;
        unsigned nexports;  /* that are not gone yet */
        unsigned resizing;  /* changes of size that are not done */
        struct list below;  /* struct inner_node: its backing images, the nearest first (inner_node.h) */
        unsigned pins;      /* changes under way that need it; it closes when they are over */
        /* why nothing of it may be changed: a job or another change uses it. NULL: free. Borrowed */
        const char *busy;
        bool written;       /* and a job writes to it: nobody exports it */
        bool closing;       /* or not open yet: nobody finds it, but its name is taken */
        bool close_due;     /* when the last pin is gone */

        void (*closed)(void *opaque, int res); /* may be NULL */
        void *opaque;
        struct loop_task gone, failed; /* home -> control */
        int res, fail_err;
        const char *fail_what;

        void (*done)(void *opaque, int res); /* node_flush, node_shelve: on the way; a close may begin meanwhile */
        void *done_opaque;
        int done_res;
        struct loop_task done_task;
};

/* 0, or -EBUSY with QEMU's sentence that says who uses it. */
int node_is_free(const struct node *n);

/* It stays open in between, also when somebody closes it. */
void node_pin(struct node *n);
void node_unpin(struct node *n);

/* For sentences: its name; or, if that was made up, its disk (the export) or its file. */
const char *node_known_as(const struct node *n);
const char *node_label(const struct node *n); /* for log lines: the image's path, or "null" */

/* Open the image, take its lock, enter the node in @d. Returns 0 or -errno with a sentence, and nothing is left
 * then. */
int node_open(struct disks *d, const struct node_opts *o, struct node **ret);

/**
 * node_open_start - the same without waiting on this thread: a worker opens the image, which takes seconds when it is
 * encrypted. Until then nobody finds the node, and its name is taken. @done: once, from the loop; @why: the sentence
 * when
 * @res is -errno, borrowed. Returns 0, or -errno with a sentence when it could not even start (no @done then).
 */
int node_open_start(struct disks *d, const struct node_opts *o, void (*done)(void *opaque, int res, const char *why),
                    void *opaque);

/**
 * node_resize - make the disk larger; guests that are connected are told. @size: a multiple of 512.
 * @done: once, from the loop; @why: the sentence when @res is -errno, borrowed. Returns 0, or -ENOMEM.
 */
int node_resize(struct node *n, uint64_t size, void (*done)(void *opaque, int res, const char *why), void *opaque);

/*
 * No exports: make everything durable, close the image, free the node. @closed is called once from the loop, when the
 * node is off all lists; @res is 0 or the error that kept data from becoming durable.
 */
void node_close(struct node *n, void (*closed)(void *opaque, int res), void *opaque);

/* Make durable what was written so far; requests may go on meanwhile. @done is called from the loop, once. */
void node_flush(struct node *n, void (*done)(void *opaque, int res), void *opaque);

/*
 * No port uses it: close the image, but keep its files open and locked on the node's shelf. @done is called from the
 * loop;
 * @res < 0: not all could be made durable. unshelve: open it again from there; 0 or -errno with a sentence.
 */
void node_shelve(struct node *n, void (*done)(void *opaque, int res), void *opaque);
int node_unshelve(struct node *n);

/* A shelved node for another process. NULL: no memory. unpack: shelved, too, and entered in @d. */
json_t *node_pack(const struct node *n, struct parcel *p);
int node_unpack(struct disks *d, struct parcel *p, const json_t *o, struct node **ret);

/* node_events.c: for vol_on_event(), with the node. */
void node_on_vol_event(void *opaque, const struct vol_event *ev);
/* Its volume is gone (vol_take()): so is the node, without a word. */
void node_drop(struct node *n);
/* For snapshots: what @n's volume is opened with. */
struct vol_opts node_vol_opts(const struct node *n);
/* Another volume, or the same image opened again. */
void node_opened(struct node *n);
void node_set_max_in_flight(struct node *n, uint64_t bytes); /* vol.h; from now on */

/* For node_shelf.c. A node that is on no list yet, NULL: no memory; and its image opened. */
struct node *node_new(struct disks *d, const struct node_opts *o);
int node_start(struct node *n, uint64_t patience_ns);
