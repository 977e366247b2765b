/* SPDX-License-Identifier: BSD-3-Clause */
/* export_impl.h - what the files of an export share: export.c (life), export_park.c (stand still, other processes). */
#pragma once

#include "vhost_user/door/door.h"
#include "vhost_user_blk/blk_device.h"
#include "vhost_user_blk/export.h"

/* A wake or a rest on its way; a session gives one at a time. */
struct turn {
        struct loop_task task;
        void (*done)(void *opaque, int res, const char *why);
        void *opaque;
        int res;
        char why[256];
};
struct export {
        struct door door;
        struct blk_device dev;
        struct turn turn;
        char *name;
        void (*stopped)(void *opaque);
        void *opaque;
};
