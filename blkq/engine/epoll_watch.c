/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll_watch.c - see epoll_watch.h.
 *
 * An unwatched struct stays the set's until gone(), which is called at the end of a wait: an event of it that was
 * fetched before finds it going, never freed. Each watch has its own dup() of the fd (kept in w->priv as fd + 1),
 * because a front end may give the same eventfd for two rings and epoll takes an fd only once.
 */
#include "epoll_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"

#define EVENTS_AT_ONCE 32

int epoll_watches_init(struct epoll_watches *s)
{
        list_init(&s->gone);
        s->epfd = epoll_create1(EPOLL_CLOEXEC);
        return s->epfd < 0 ? err_note(-errno, "cannot make an epoll set: %s", strerror(errno)) : 0;
}

void epoll_watches_finish(struct epoll_watches *s)
{
        closep(&s->epfd);
}

void epoll_watches_add(struct epoll_watches *s, struct engine_watch *w)
{
        struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = w };
        int fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);

        if (fd >= 0 && epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) == 0) {
                w->priv = (void *)(intptr_t)(fd + 1);
                return;
        }
        log_err("cannot watch fd %d: %s", w->fd, strerror(errno));
        closep(&fd);
}

void epoll_watches_del(struct epoll_watches *s, struct engine_watch *w)
{
        int fd = (int)(intptr_t)w->priv - 1;

        if (fd >= 0)
                epoll_ctl(s->epfd, EPOLL_CTL_DEL, fd, NULL); /* explicitly: others may hold the same description */
        closep(&fd);
        w->priv = NULL;
        list_add_tail(&s->gone, &w->link);
}

static int timeout_ms(uint64_t ns)
{
        if (ns == UINT64_MAX)
                return -1;
        return (int)min_u64(div_round_up(ns, NS_PER_MS), INT_MAX);
}

static unsigned call_gone(struct epoll_watches *s)
{
        struct list now;
        struct list *n;
        unsigned ran = 0;

        list_init(&now);
        list_splice_tail(&now, &s->gone);
        while ((n = list_pop(&now))) {
                struct engine_watch *w = list_entry(n, struct engine_watch, link);

                w->gone(w);
                ran++;
        }
        return ran;
}

unsigned epoll_watches_wait(struct epoll_watches *s, uint64_t timeout_ns)
{
        struct epoll_event ev[EVENTS_AT_ONCE];
        unsigned ran = 0;
        int n;

        n = epoll_wait(s->epfd, ev, EVENTS_AT_ONCE, timeout_ms(list_empty(&s->gone) ? timeout_ns : 0));
        for (int i = 0; i < n; i++) {
                struct engine_watch *w = ev[i].data.ptr;

                if (w->going)
                        continue;
                w->ready(w);
                ran++;
        }
        return ran + call_gone(s);
}
