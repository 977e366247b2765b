/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.h - the control thread's event loop: fds, timers and messages from other threads. Never on the way of a request.
 * All calls on the loop's thread except loop_post().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/list.h"

struct loop;
int loop_new(struct loop **ret);
void loop_free(struct loop *l);

/* Level-triggered. @events: EPOLLIN, EPOLLOUT. The struct is the caller's until loop_unwatch(); safe inside
 * callbacks. */
struct loop_watch {
        int fd;
        void (*ready)(struct loop_watch *w, uint32_t events);
        uint32_t events;
        bool on;
};
int loop_watch(struct loop *l, struct loop_watch *w);
int loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events); /* change the events asked for */
/* The same for a connection. If it cannot be, the connection is shut down, which ready() is always told: it would hang
 * otherwise. */
void loop_rewatch_or_hang_up(struct loop *l, struct loop_watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct loop_watch *w);                 /* a watch that is off is fine */

struct loop_timer {
        void (*fire)(struct loop_timer *t);
        uint64_t at_ns;
        struct list link; /* list_init() it */
};
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t in_ns);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);

/* Any thread. The task is the poster's until run() starts; tasks run in the order posted. */
struct loop_task {
        void (*run)(struct loop_task *task);
        struct list link;
};
void loop_post(struct loop *l, struct loop_task *task);

int loop_run(struct loop *l); /* until loop_stop(); 0 or -errno */
void loop_stop(struct loop *l);
