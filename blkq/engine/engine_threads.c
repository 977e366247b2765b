/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_threads.c - for hosts where io_uring is forbidden: a few threads that do one system call at a time.
 *
 * Invariants
 * - An io is in exactly one place: on its way to a worker (@queue), with a worker, or on @done. Both lists are
 *   guarded by @lock; a worker touches nothing else of the engine, and of the io only what engine_step() and the kernel
 *   call need.
 * - Results travel in rest[1].iov_len (steps use rest[0] only).
 * - @woken is true from a worker's eventfd write until the owner has seen it: one write a batch, not one an operation.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/err.h"
#include "common/range.h"
#include "common/thread.h"
#include "engine_impl.h"
#include "epoll_watch.h"

#define MAX_WORKERS 16u

struct threads {
        struct engine e;
        struct epoll_watches watches;
        struct engine_watch bell; /* @bell_fd: something is on @done */
        int bell_fd;

        pthread_mutex_t lock;
        pthread_cond_t work;
        struct list queue, done;
        bool woken, stop;
        unsigned idle; /* workers that wait */

        /* The owner's alone: */
        struct list outbox;   /* started this round, handed over at the wait under one lock */
        struct list bells;    /* rung at the wait, one after the other: whose write slept may be done with the next then */
        unsigned nworkers;
        pthread_t worker[MAX_WORKERS];
};

static struct threads *threads_of(struct engine *e)
{
        return container_of(e, struct threads, e);
}

static void ring_bell(struct threads *t)
{
        static const uint64_t one = 1;
        ssize_t n = write(t->bell_fd, &one, sizeof(one));

        (void)n; /* a full counter has rung already */
}

/* With the lock held; gives it up meanwhile. */
static void do_one(struct threads *t, struct io *io)
{
        struct io_step s;
        bool wake;

        pthread_mutex_unlock(&t->lock);
        s = engine_step(io);
        io->rest[1].iov_len = (size_t)engine_do_step(io, &s);
        pthread_mutex_lock(&t->lock);
        list_add_tail(&t->done, &io->link);
        wake = !t->woken;
        t->woken = true;
        if (wake) {
                pthread_mutex_unlock(&t->lock);
                ring_bell(t);
                pthread_mutex_lock(&t->lock);
        }
}

static void *worker_main(void *arg)
{
        struct threads *t = arg;

        thread_begins(THREAD_IO);
        pthread_mutex_lock(&t->lock);
        for (;;) {
                struct list *n = list_pop(&t->queue);

                if (n) {
                        do_one(t, list_entry(n, struct io, link));
                } else if (t->stop) {
                        break;
                } else {
                        t->idle++;
                        pthread_cond_wait(&t->work, &t->lock);
                        t->idle--;
                }
        }
        pthread_mutex_unlock(&t->lock);
        return NULL;
}

static void threads_start(struct engine *e, struct io *io)
{
        struct threads *t = threads_of(e);

        list_add_tail(io->op == IO_NOTIFY ? &t->bells : &t->outbox, &io->link);
}

/* Those that are here now: done() may ring again. */
static unsigned ring_bells(struct threads *t)
{
        struct list now;
        struct list *n;
        unsigned ran = 0;

        list_init(&now);
        list_splice_tail(&now, &t->bells);
        while ((n = list_pop(&now))) {
                struct io *io = list_entry(n, struct io, link);

                engine_on_result(&t->e, io, engine_notify(&t->e, io));
                ran++;
        }
        return ran;
}

static void hand_over(struct threads *t)
{
        unsigned n = 0;

        if (list_empty(&t->outbox))
                return;
        list_for_each(i, &t->outbox)
                n++;
        pthread_mutex_lock(&t->lock);
        list_splice_tail(&t->queue, &t->outbox);
        for (n = (unsigned)min_u64(n, t->idle); n; n--)
                pthread_cond_signal(&t->work);
        pthread_mutex_unlock(&t->lock);
}

static unsigned take_done(struct threads *t)
{
        struct list now;
        struct list *n;
        unsigned ran = 0;

        list_init(&now);
        pthread_mutex_lock(&t->lock);
        t->woken = false;
        list_splice_tail(&now, &t->done);
        pthread_mutex_unlock(&t->lock);
        while ((n = list_pop(&now))) {
                struct io *io = list_entry(n, struct io, link);

                engine_on_result(&t->e, io, (ssize_t)io->rest[1].iov_len);
                ran++;
        }
        return ran;
}

static void on_bell(struct engine_watch *w)
{
        (void)w; /* awake is all it takes: take_done() follows each wait */
}

static unsigned threads_wait(struct engine *e, uint64_t timeout_ns)
{
        struct threads *t = threads_of(e);
        unsigned ran;

        ran = ring_bells(t);
        hand_over(t);
        ran += take_done(t);
        hand_over(t); /* what those callbacks started */
        if (ran)
                timeout_ns = 0;
        ran += epoll_watches_wait(&t->watches, timeout_ns);
        engine_stale(e);
        return ran + take_done(t);
}

static void threads_watch(struct engine *e, struct engine_watch *w)
{
        epoll_watches_add(&threads_of(e)->watches, w);
}

static void threads_unwatch(struct engine *e, struct engine_watch *w)
{
        epoll_watches_del(&threads_of(e)->watches, w);
}

static void threads_free(struct engine *e)
{
        struct threads *t = threads_of(e);

        pthread_mutex_lock(&t->lock);
        t->stop = true;
        pthread_cond_broadcast(&t->work);
        pthread_mutex_unlock(&t->lock);
        for (unsigned i = 0; i < t->nworkers; i++)
                pthread_join(t->worker[i], NULL);
        if (t->bell.priv)
                epoll_watches_del(&t->watches, &t->bell);
        epoll_watches_finish(&t->watches);
        closep(&t->bell_fd);
        pthread_cond_destroy(&t->work);
        pthread_mutex_destroy(&t->lock);
        free(t);
}

static const struct engine_ops threads_ops = {
        .start = threads_start,
        .wait = threads_wait,
        .watch = threads_watch,
        .unwatch = threads_unwatch,
        .free = threads_free,
};

static int start_workers(struct threads *t, unsigned n)
{
        int r = 0;

        while (t->nworkers < n && r == 0) {
                r = pthread_create(&t->worker[t->nworkers], NULL, worker_main, t);
                t->nworkers += r == 0;
        }
        return t->nworkers ? 0 : err_note(-r, "cannot start an I/O thread: %s", strerror(r));
}

int engine_threads_new(const struct engine_opts *o, struct engine **ret)
{
        struct threads *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        t->e.ops = &threads_ops;
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->work, NULL);
        list_init(&t->queue);
        list_init(&t->done);
        list_init(&t->outbox);
        list_init(&t->bells);
        list_init(&t->bell.link);
        t->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        t->bell.fd = t->bell_fd;
        t->bell.ready = on_bell;
        r = t->bell_fd < 0 ? err_note(-errno, "cannot make an eventfd: %s", strerror(errno)) : 0;
        if (r == 0)
                r = epoll_watches_init(&t->watches);
        else
                t->watches.epfd = -1;
        if (r == 0) {
                epoll_watches_add(&t->watches, &t->bell);
                r = t->bell.priv ? start_workers(t, (unsigned)min_u64(o->depth, MAX_WORKERS)) : -EMFILE;
        }
        if (r < 0) {
                threads_free(&t->e);
                return r;
        }
        snprintf(t->e.about, sizeof(t->e.about), "threads (%u workers)", t->nworkers);
        *ret = &t->e;
        return 0;
}
