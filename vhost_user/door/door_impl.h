/* SPDX-License-Identifier: BSD-3-Clause */
/* door_impl.h - what door.c (life, front ends) and door_park.c (stand still, other processes) share. */
#pragma once

#include "vhost_user/door/door.h"

struct door_leave {
        struct door *door;
        struct qtask task;      /* on the thread: leave */
        struct loop_task back;  /* on control: it is done */
        unsigned thread;
};

void door_leave_threads(struct door *d); /* then stopped(), or park_done() */
void door_on_ended(void *opaque);        /* what a session of it calls */
