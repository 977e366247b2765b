/* SPDX-License-Identifier: BSD-3-Clause */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define EVENTS_A_ROUND 64

struct loop {
        int epfd;
        struct loop_watch inbox_watch;
        pthread_mutex_t lock; /* guards inbox */
        struct list inbox;
        struct list timers; /* earliest first */
        struct epoll_event events[EVENTS_A_ROUND];
        int nevents, at; /* of the round that runs now: loop_unwatch() blanks what is still to come */
        bool stop;
};

static void inbox_ready(struct loop_watch *w, uint32_t events)
{
        struct loop *l = container_of(w, struct loop, inbox_watch);
        struct list todo, *n;
        uint64_t count;
        ssize_t ignored = read(w->fd, &count, sizeof(count));

        (void)ignored;
        (void)events;
        list_init(&todo);
        pthread_mutex_lock(&l->lock);
        list_splice_tail(&todo, &l->inbox);
        pthread_mutex_unlock(&l->lock);
        while ((n = list_pop(&todo))) {
                struct loop_task *task = list_entry(n, struct loop_task, link);

                task->run(task);
        }
}

int loop_new(struct loop **ret)
{
        struct loop *l = calloc(1, sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        pthread_mutex_init(&l->lock, NULL);
        list_init(&l->inbox);
        list_init(&l->timers);
        l->inbox_watch = (struct loop_watch){ .ready = inbox_ready, .events = EPOLLIN };
        l->epfd = epoll_create1(EPOLL_CLOEXEC);
        l->inbox_watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = l->epfd < 0 || l->inbox_watch.fd < 0 ? -errno : loop_watch(l, &l->inbox_watch);
        if (r < 0) {
                loop_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

void loop_free(struct loop *l)
{
        if (!l)
                return;
        closep(&l->inbox_watch.fd);
        closep(&l->epfd);
        pthread_mutex_destroy(&l->lock);
        free(l);
}

static int control(struct loop *l, int what, struct loop_watch *w)
{
        struct epoll_event ev = { .events = w->events, .data.ptr = w };

        return epoll_ctl(l->epfd, what, w->fd, &ev) < 0 ? -errno : 0;
}

int loop_watch(struct loop *l, struct loop_watch *w)
{
        int r = control(l, EPOLL_CTL_ADD, w);

        w->on = r == 0;
        return r;
}

int loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events)
{
        w->events = events;
        return control(l, EPOLL_CTL_MOD, w);
}

void loop_rewatch_or_hang_up(struct loop *l, struct loop_watch *w, uint32_t events)
{
        if (loop_rewatch(l, w, events) < 0)
                shutdown(w->fd, SHUT_RDWR);
}

void loop_unwatch(struct loop *l, struct loop_watch *w)
{
        if (!w->on)
                return;
        w->on = false;
        control(l, EPOLL_CTL_DEL, w);
        for (int i = l->at + 1; i < l->nevents; i++)
                if (l->events[i].data.ptr == w)
                        l->events[i].data.ptr = NULL;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t in_ns)
{
        struct list *before = &l->timers;

        list_del(&t->link);
        t->at_ns = clock_ns() + in_ns;
        list_for_each(n, &l->timers)
                if (list_entry(n, struct loop_timer, link)->at_ns > t->at_ns) {
                        before = n;
                        break;
                }
        list_add_tail(before, &t->link);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
        (void)l;
        list_del(&t->link);
}

void loop_post(struct loop *l, struct loop_task *task)
{
        uint64_t one = 1;
        ssize_t ignored;

        pthread_mutex_lock(&l->lock);
        list_add_tail(&l->inbox, &task->link);
        pthread_mutex_unlock(&l->lock);
        ignored = write(l->inbox_watch.fd, &one, sizeof(one));
        (void)ignored;
}

/* Fires what is due; returns the milliseconds to the next, -1 without one. */
static int run_timers(struct loop *l)
{
        while (!list_empty(&l->timers) && !l->stop) {
                struct loop_timer *t = list_entry(l->timers.next, struct loop_timer, link);
                uint64_t now = clock_ns();

                if (t->at_ns > now)
                        return (int)((t->at_ns - now) / NS_PER_MS + 1);
                list_del(&t->link);
                t->fire(t);
        }
        return -1;
}

int loop_run(struct loop *l)
{
        l->stop = false;
        while (!l->stop) {
                int wait_ms = run_timers(l);

                if (l->stop)
                        break;
                l->nevents = epoll_wait(l->epfd, l->events, EVENTS_A_ROUND, wait_ms);
                if (l->nevents < 0 && errno != EINTR)
                        return -errno;
                for (l->at = 0; l->at < l->nevents; l->at++) {
                        struct loop_watch *w = l->events[l->at].data.ptr;

                        if (w)
                                w->ready(w, l->events[l->at].events);
                }
                l->nevents = 0;
        }
        return 0;
}

void loop_stop(struct loop *l)
{
        l->stop = true;
}
