/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workers.c - a few threads of the process for work that takes long (packing, unpacking, ciphers), so that queue threads never do it.
 * They are started when first needed and end with the last volume. How much work is queued is bounded by who gives it:
 * each volume unpacks a few clusters at a time, a request packs one.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/thread.h"

#define WORKERS_MIN 2u
#define WORKERS_MAX 16u

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER; /* holders, and threads coming and going */
static unsigned holders;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* everything below */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_t thread[WORKERS_MAX];
static unsigned nthreads, nidle;
static bool stopping;
static struct list queue = { &queue, &queue };

static struct work *next_work(void)
{
        struct list *n;

        pthread_mutex_lock(&lock);
        nidle++;
        while ((n = list_pop(&queue)) == NULL && !stopping)
                pthread_cond_wait(&wake, &lock);
        nidle--;
        pthread_mutex_unlock(&lock);
        return n ? list_entry(n, struct work, link) : NULL;
}

static void *worker(void *arg)
{
        struct work *w;

        (void)arg;
        pthread_setname_np(pthread_self(), "worker");
        thread_begins(THREAD_WORKER);
        while ((w = next_work()) != NULL)
                w->run(w);
        return NULL;
}

/* Signals are for the control thread. */
static int start_worker(pthread_t *t)
{
        sigset_t all, old;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        r = pthread_create(t, NULL, worker, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return -r;
}

/* As many as there are processors for us. */
static unsigned most_workers(void)
{
        static unsigned most; /* under lock */
        cpu_set_t cpus;

        if (!most)
                most = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : WORKERS_MIN;
        return most < WORKERS_MIN ? WORKERS_MIN : most > WORKERS_MAX ? WORKERS_MAX : most;
}

int workers_start_all(void)
{
        int r = 0;

        pthread_mutex_lock(&lock);
        while (r == 0 && nthreads < most_workers()) {
                r = start_worker(&thread[nthreads]);
                nthreads += r == 0;
        }
        pthread_mutex_unlock(&lock);
        return r < 0 ? err_note(r, "cannot start a worker: %s", strerror(-r)) : 0;
}

int workers_run(struct work *w)
{
        int r = 0;

        pthread_mutex_lock(&lock);
        if (!nidle && nthreads < most_workers()) {
                r = start_worker(&thread[nthreads]);
                if (r == 0)
                        nthreads++;
                else if (nthreads)
                        r = 0; /* the others will do it */
        }
        if (r == 0) {
                list_add_tail(&queue, &w->link);
                pthread_cond_signal(&wake);
        }
        pthread_mutex_unlock(&lock);
        return r;
}

void workers_hold(void)
{
        pthread_mutex_lock(&life_lock);
        holders++;
        pthread_mutex_unlock(&life_lock);
}

void workers_release(void)
{
        pthread_mutex_lock(&life_lock);
        assert(holders);
        if (--holders == 0) {
                pthread_mutex_lock(&lock);
                stopping = true;
                pthread_cond_broadcast(&wake);
                pthread_mutex_unlock(&lock);
                for (unsigned i = 0; i < nthreads; i++) /* nobody starts more: no volume is left */
                        pthread_join(thread[i], NULL);
                nthreads = 0;
                stopping = false;
        }
        pthread_mutex_unlock(&life_lock);
}
