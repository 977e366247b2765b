/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workers.c - a few threads of the process for work that takes long (packing, unpacking, ciphers), so that queue
 * threads never do it. They are started when first needed and end with the last volume. How much work is queued is
 * bounded by who gives it: each volume unpacks a few clusters at a time, a request packs one.
 *
 * Work has an owner, since what it costs may be a stranger's choice (a cluster whose unpacking takes as long as ten
 * others). Who has the fewest workers is next, among those who has had them for the least time; and nobody has all of
 * them: one is there for the others.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/thread.h"

#define WORKERS_MIN 2u
#define WORKERS_MAX 16u

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER; /* holders, and threads coming and going */
static unsigned holders;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* everything below */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_t thread[WORKERS_MAX + 1];
static unsigned nthreads, nidle;
static bool stopping;

struct work_owner {
        struct list link;  /* in waiting, while it has works */
        struct list works;
        unsigned running;
        uint64_t used_ns;  /* of workers' time */
        bool gone;         /* freed when nothing of it runs */
};
static struct work_owner nobody = { .link = { &nobody.link, &nobody.link }, .works = { &nobody.works, &nobody.works } };
static struct list waiting = { &waiting, &waiting };
static uint64_t served_ns; /* used_ns of who was served last: who comes has had as much */

/* --- whose turn it is ------------------------------------------------------------------------------------------------- */

/* As many as there are processors for us, and one that an owner never gets. Under lock. */
static unsigned most_workers(void)
{
        static unsigned most;
        cpu_set_t cpus;

        if (!most) {
                most = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : WORKERS_MIN;
                most = (most < WORKERS_MIN ? WORKERS_MIN : most > WORKERS_MAX ? WORKERS_MAX : most) + 1;
        }
        return most;
}

static bool goes_before(const struct work_owner *a, const struct work_owner *b)
{
        return a->running != b->running ? a->running < b->running : a->used_ns < b->used_ns;
}

static struct work_owner *next_owner(void)
{
        struct work_owner *best = NULL;

        list_for_each(n, &waiting) {
                struct work_owner *o = list_entry(n, struct work_owner, link);

                if (o->running < most_workers() - 1 && (!best || goes_before(o, best)))
                        best = o;
        }
        return best;
}

static struct work *take_from(struct work_owner *o)
{
        struct work *w = list_entry(list_pop(&o->works), struct work, link);

        if (list_empty(&o->works))
                list_del(&o->link);
        o->running++;
        served_ns = o->used_ns;
        return w;
}

static void give_back(struct work_owner *o, uint64_t ns)
{
        pthread_mutex_lock(&lock);
        o->running--;
        o->used_ns += ns;
        if (o->gone && !o->running)
                free(o);
        pthread_mutex_unlock(&lock);
}

struct work_owner *work_owner_new(void)
{
        struct work_owner *o = calloc(1, sizeof(*o));

        if (o) {
                list_init(&o->link);
                list_init(&o->works);
        }
        return o;
}

void work_owner_free(struct work_owner *o)
{
        if (!o)
                return;
        pthread_mutex_lock(&lock);
        assert(list_empty(&o->works));
        o->gone = true;
        if (!o->running)
                free(o);
        pthread_mutex_unlock(&lock);
}

/* --- workers ---------------------------------------------------------------------------------------------------------- */

/* NULL: it is over. */
static struct work *next_work(struct work_owner **owner)
{
        struct work *w = NULL;

        pthread_mutex_lock(&lock);
        nidle++;
        while ((*owner = next_owner()) == NULL && !stopping)
                pthread_cond_wait(&wake, &lock);
        nidle--;
        if (*owner)
                w = take_from(*owner);
        pthread_mutex_unlock(&lock);
        return w;
}

static void *worker(void *arg)
{
        struct work_owner *o;
        struct work *w;

        (void)arg;
        pthread_setname_np(pthread_self(), "worker");
        thread_begins(THREAD_WORKER);
        while ((w = next_work(&o)) != NULL) {
                uint64_t start = clock_ns();

                w->run(w);
                give_back(o, clock_ns() - start);
        }
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

unsigned workers_most(void)
{
        unsigned most;

        pthread_mutex_lock(&lock);
        most = most_workers();
        pthread_mutex_unlock(&lock);
        return most;
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

int workers_run_for(struct work_owner *owner, struct work *w)
{
        struct work_owner *o = owner ? owner : &nobody;
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
                if (list_empty(&o->works))
                        list_add_tail(&waiting, &o->link);
                if (list_empty(&o->works) && !o->running && o->used_ns < served_ns)
                        o->used_ns = served_ns;
                list_add_tail(&o->works, &w->link);
                pthread_cond_signal(&wake);
        }
        pthread_mutex_unlock(&lock);
        return r;
}

int workers_run(struct work *w)
{
        return workers_run_for(NULL, w);
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
