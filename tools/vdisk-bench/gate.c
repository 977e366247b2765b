/* SPDX-License-Identifier: BSD-3-Clause */
/* running + held + jobs that left == jobs started. Whoever opens the gate counts the held as running again. */
#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "job.h"

int gate_init(struct gate *g)
{
        *g = (struct gate){ .state = GATE_OPEN, .left_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
        if (g->left_fd < 0)
                return -errno;
        pthread_mutex_init(&g->lock, NULL);
        pthread_cond_init(&g->changed, NULL);
        return 0;
}

void gate_finish(struct gate *g)
{
        close(g->left_fd);
        pthread_cond_destroy(&g->changed);
        pthread_mutex_destroy(&g->lock);
}

void gate_start(struct gate *g, unsigned n)
{
        pthread_mutex_lock(&g->lock);
        g->running = n;
        pthread_mutex_unlock(&g->lock);
}

bool gate_all_left(struct gate *g, bool *failed)
{
        bool all;

        pthread_mutex_lock(&g->lock);
        all = g->running == 0;
        *failed = g->failed;
        pthread_mutex_unlock(&g->lock);
        return all;
}

void gate_leave(struct gate *g, bool failed)
{
        uint64_t one = 1;

        pthread_mutex_lock(&g->lock);
        g->running--;
        g->failed = g->failed || failed;
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
        if (write(g->left_fd, &one, sizeof(one)) < 0)
                assert(errno == EAGAIN);
}

/* Held by the main thread until it opens the gate again. -ECANCELED: quit. */
int gate_wait(struct gate *g)
{
        unsigned round;

        pthread_mutex_lock(&g->lock);
        round = g->round;
        g->running--;
        g->held++;
        pthread_cond_broadcast(&g->changed);
        while (g->state == GATE_HOLD && g->round == round)
                pthread_cond_wait(&g->changed, &g->lock);
        if (g->round == round) { /* the gate was not held any more when we came */
                g->running++;
                g->held--;
        }
        pthread_mutex_unlock(&g->lock);
        return g->state == GATE_QUIT ? -ECANCELED : 0;
}

static void gate_set(struct gate *g, enum gate_state state)
{
        pthread_mutex_lock(&g->lock);
        g->state = state;
        if (state != GATE_HOLD) {
                g->round++;
                g->running += TAKE(g->held, 0); /* they run from now on, even if they wake up later */
        }
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
}

void gate_hold(struct gate *g, struct job *jobs, unsigned n)
{
        gate_set(g, GATE_HOLD);
        for (unsigned i = 0; i < n; i++)
                fe_wake(jobs[i].q);
        pthread_mutex_lock(&g->lock);
        while (g->running)
                pthread_cond_wait(&g->changed, &g->lock);
        pthread_mutex_unlock(&g->lock);
}

void gate_open(struct gate *g)
{
        gate_set(g, GATE_OPEN);
}

void gate_quit(struct gate *g, struct job *jobs, unsigned n)
{
        gate_set(g, GATE_QUIT);
        for (unsigned i = 0; i < n; i++)
                fe_wake(jobs[i].q);
}

