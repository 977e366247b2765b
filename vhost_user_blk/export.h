/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.h - one disk offered on one vhost-user socket. The face of vhost_user_blk to the daemon.
 *
 * Who comes in, and how, is the door's (vhost_user/door/door.h). Control thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "blkq/vol.h"
#include "common/loop.h"
#include "common/parcel.h"

struct export;

struct export_opts {
        const char *name;       /* for log lines: the disk's path or name */
        const char *connect;    /* path of a front end that listens; NULL: listen */
        const char *serial;     /* GET_ID, at most 20 bytes; NULL: "" */
        unsigned num_queues;    /* offered to the front end, 1..256; 0: 64 */
        bool takes_turns;       /* the volume is asleep: wake it while rings run (vol.h) */
        bool read_only;         /* refuse writes also when the volume takes them */
        uint32_t block_size;    /* logical block size, 512 or 4096; 0: 512 */
        /* a file that is there while the guest has its write cache off (mark.h); NULL: not kept */
        const char *wce_mark;
        bool parked;            /* begin parked: nobody may come before export_resume() */
        struct qthread **threads; /* queues are dealt out over these, round robin from home on */
        unsigned nthreads;
        unsigned start_thread;  /* index of the volume's home in threads[] */
};

/**
 * export_new - serve @v on @listen_fd (a listening Unix stream socket; taken, also on failure; -1 with opts->connect).
 * Returns 0 or -errno with a sentence.
 */
int export_new(struct loop *l, struct vol *v, int listen_fd, const struct export_opts *opts, struct export **ret);

/* Its ports are @v's now, and those of rings that start will be (blkq/change/exchange.h). */
void export_follow(struct export *x, struct vol *v);

/* The volume has another size: serve it, and tell the front end. */
void export_resized(struct export *x);

/* Its volume shows another image: @mark, as in opts, is the name of the mark from now on. 0, or -errno with a
 * sentence. */
int export_move_mark(struct export *x, const char *mark);

unsigned export_num_queues(const struct export *x);

/* Is a front end connected? */
bool export_in_use(const struct export *x);

/*
 * Stop popping, finish what is in flight, close the session and the sockets, then call @stopped (control thread) and
 * free.
 */
void export_stop(struct export *x, void (*stopped)(void *opaque), void *opaque);

/*
 * Stand still, as a session does (session.h), with nobody using the volume any more; @parked is called once, from the
 * loop or from here. Then the volume may be closed; export_resume() goes on with @v, the same disk opened again. Not
 * while stopping.
 */
void export_park(struct export *x, void (*parked)(void *opaque), void *opaque);
void export_resume(struct export *x, struct vol *v);
bool export_parked(const struct export *x);
bool export_has_woken(const struct export *x);  /* its volume (opts.takes_turns) */
bool export_is_moving(const struct export *x); /* its guest, to another host: it cannot go to another process now */

/*
 * A parked export for another process: its socket, what the guest set, its session. unpack: into an export_new() one
 * that is parked, with a listen_fd from here; -EBADMSG or -EPROTO with a sentence, and it can only be stopped then.
 * pack: NULL: no memory.
 */
json_t *export_pack(const struct export *x, struct parcel *p);
int export_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd);
int export_unpack(struct export *x, struct parcel *p, const json_t *o);
