/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll_watch.h - engine_watch for engines without a ring: an edge-triggered epoll set. One thread.
 */
#pragma once

#include "engine.h"

struct epoll_watches {
        int epfd;
        struct list gone; /* unwatched, gone() not yet called */
};
int epoll_watches_init(struct epoll_watches *s);
void epoll_watches_finish(struct epoll_watches *s);
void epoll_watches_add(struct epoll_watches *s, struct engine_watch *w);
void epoll_watches_del(struct epoll_watches *s, struct engine_watch *w);

/* Wait (@timeout_ns as in engine_wait(), rounded up to ms) and call ready() and gone(). Returns how many. */
unsigned epoll_watches_wait(struct epoll_watches *s, uint64_t timeout_ns);
