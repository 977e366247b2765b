/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export_impl.h - what the files of an export share: export.c (life, front ends), export_park.c (stand still, other
 * processes).
 */
#pragma once

#include "common/pace.h"
#include "vhost_user/session/session.h"
#include "vhost_user_blk/blk_device.h"
#include "vhost_user_blk/dialer.h"
#include "vhost_user_blk/export.h"

struct leave {
        struct export *x;
        struct qtask task;      /* on the thread: detach */
        struct loop_task back;  /* on control: it is done */
        unsigned thread;
};
/* A wake or a rest on its way; a session gives one at a time. */
struct turn {
        struct loop_task task;
        void (*done)(void *opaque, int res, const char *why);
        void *opaque;
        int res;
        char why[256];
};
struct export {
        struct loop *loop;
        int fd; /* listening; -1 when stopping, or we dial */
        struct loop_watch watch;
        struct dialer dialer;    /* path NULL: we listen */
        struct loop_timer pause; /* out of file descriptors, or too many came: accept again later */
        struct pace accepts;     /* of front ends */
        struct blk_device dev;
        struct turn turn;
        struct session *session; /* NULL: nobody is connected */
        pid_t peer;              /* whose process it is */
        char *name, *connect;
        struct leave *leave;     /* one a thread */
        unsigned leaving;
        void (*stopped)(void *opaque); /* NULL: not stopping */
        void (*park_done)(void *opaque); /* export_park() was asked and is not done; NULL: not so */
        bool parked;
        void *opaque;
};

void export_leave_threads(struct export *x); /* then stopped(), or park_done() */
int export_open_door(struct export *x);      /* somebody may come from now on; again: go on with that */
void export_on_ended(void *opaque);          /* what a session of it calls */
