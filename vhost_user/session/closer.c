/* SPDX-License-Identifier: BSD-3-Clause */
#include "vhost_user/session/closer.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"

#define ROOM 1024u /* a descriptor that finds none stays open until the process ends */
#define PATIENCE_NS NS_PER_SEC

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static int line[ROOM];
static unsigned first, n;
static bool started;
static uint64_t since; /* it has been at one; 0: it is not */

static void *closer(void *arg)
{
        (void)arg;
        pthread_setname_np(pthread_self(), "closer");
        thread_begins(THREAD_WORKER);
        pthread_mutex_lock(&lock);
        for (;;) {
                int fd;

                while (!n)
                        pthread_cond_wait(&wake, &lock);
                fd = line[first++ % ROOM];
                n--;
                since = clock_ns();
                pthread_mutex_unlock(&lock);
                close(fd);
                pthread_mutex_lock(&lock);
                since = 0;
        }
        return NULL;
}

/* Signals are for other threads. Never joined: it may never come back. */
static bool start(void)
{
        sigset_t all, old;
        pthread_t t;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        r = pthread_create(&t, NULL, closer, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r == 0)
                pthread_detach(t);
        return r == 0;
}

void closer_start(void)
{
        pthread_mutex_lock(&lock);
        started = started || start();
        pthread_mutex_unlock(&lock);
}

void closer_take(int fd)
{
        pthread_mutex_lock(&lock);
        started = started || start();
        if (n < ROOM)
                line[(first + n++) % ROOM] = fd;
        else
                log_warn("fd %d of a front end stays open: too many cannot be closed", fd);
        pthread_cond_signal(&wake);
        pthread_mutex_unlock(&lock);
}

bool closer_is_stuck(void)
{
        bool stuck;

        pthread_mutex_lock(&lock);
        stuck = since ? clock_ns() - since > PATIENCE_NS : n && !started;
        pthread_mutex_unlock(&lock);
        return stuck;
}
