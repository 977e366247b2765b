/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * door.h - where the front ends of a device come in, one at a time.
 *
 * It listens and takes one front end (a second one is accepted, told nothing and closed, with a log line), and when that
 * one goes away the rings drain and it waits for the next. Or it connects to a front end that listens, again and again.
 * What lies behind it (disks) it does not know. Control thread only.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/loop.h"
#include "common/pace.h"
#include "common/parcel.h"
#include "vhost_user/device.h"
#include "vhost_user/door/dialer.h"
#include "vhost_user/session/session.h"

#define DOOR_QUEUES 64      /* to offer when nobody said: QEMU asks for one a vCPU and gives up when there are fewer */
#define DOOR_MAX_QUEUES 256 /* the index in SET_VRING_KICK has eight bits */

struct door_leave;
struct door {
        struct loop *loop;
        struct vu_device *vu;
        int fd; /* listening; -1 when stopping, or we dial */
        struct loop_watch watch;
        struct dialer dialer;    /* path NULL: we listen */
        struct loop_timer pause; /* out of file descriptors, or too many came: accept again later */
        struct pace accepts;     /* of front ends */
        uint64_t shut_until_ns;  /* nobody is let in before (clock_ns()): a front end held up a queue thread */
        unsigned held;           /* how often that was so */
        struct session *session; /* NULL: nobody is connected */
        pid_t peer;              /* whose process it is */
        char *connect;
        struct door_leave *leave; /* one a thread */
        unsigned leaving;
        void (*stopped)(void *opaque);   /* NULL: not stopping */
        void (*park_done)(void *opaque); /* door_park() was asked and is not done; NULL: not so */
        bool parked;
        void *opaque;
};

/**
 * door_init - @d (all zeros) for @vu, which stays where it is, filled in, name and all. @listen_fd: a listening Unix stream
 * socket (taken, also on failure); -1 with @connect, the path of a front end that listens. Nobody comes before
 * door_open(); then, 0 or -errno with a sentence. finish: takes what init left half done, too; nobody is connected.
 */
int door_init(struct door *d, struct loop *l, struct vu_device *vu, int listen_fd, const char *connect);
int door_open(struct door *d);
void door_finish(struct door *d);

/* Is a front end connected? */
bool door_in_use(const struct door *d);
bool door_has_woken(const struct door *d); /* its device, which sleeps while no ring runs */
bool door_is_moving(const struct door *d); /* its guest, to another host: it cannot go to another process now */

/* The config space of the device is another one now. */
void door_config_changed(struct door *d);

/*
 * Stop popping, finish what is in flight, close the session and the sockets, let the device leave its threads
 * (device.h); then @stopped, which finishes the door.
 */
void door_stop(struct door *d, void (*stopped)(void *opaque), void *opaque);
bool door_is_stopping(const struct door *d);
void door_shut(struct door *d); /* nobody is connected: only let nobody in any more */

/*
 * Stand still, as a session does (session.h), with the device on no thread any more; @parked is called once, from the
 * loop or from here. door_resume() goes on. Not while stopping. start_parked: in place of door_open().
 */
void door_park(struct door *d, void (*parked)(void *opaque), void *opaque);
void door_start_parked(struct door *d);
void door_resume(struct door *d);

/*
 * A parked door for another process: its socket and its session. unpack: into one that is parked, with a listen_fd from
 * here; -EBADMSG or -EPROTO with a sentence, and it can only be stopped then. pack: NULL: no memory.
 */
json_t *door_pack(const struct door *d, struct parcel *p);
int door_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd);
int door_unpack(struct door *d, struct parcel *p, const json_t *o);
