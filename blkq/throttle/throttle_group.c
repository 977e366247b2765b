/* SPDX-License-Identifier: BSD-3-Clause */
#include "throttle_group.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

struct throttle_group {
        pthread_mutex_t lock;
        struct throttle t; /* lock */
        atomic_uint refs;
        char *name;
};

struct throttle_group *throttle_group_new(const char *name, const struct throttle_limits *l)
{
        struct throttle_group *g = calloc(1, sizeof(*g));

        if (!g)
                return NULL;
        g->name = strdup(name);
        if (!g->name) {
                free(g);
                return NULL;
        }
        pthread_mutex_init(&g->lock, NULL);
        throttle_init(&g->t, clock_ns());
        throttle_set(&g->t, l, clock_ns());
        atomic_init(&g->refs, 1);
        return g;
}

struct throttle_group *throttle_group_ref(struct throttle_group *g)
{
        if (g)
                atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
        return g;
}

void throttle_group_unref(struct throttle_group *g)
{
        if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
                return;
        pthread_mutex_destroy(&g->lock);
        free(g->name);
        free(g);
}

const char *throttle_group_name(const struct throttle_group *g)
{
        return g->name;
}

struct throttle *throttle_group_lock(struct throttle_group *g)
{
        pthread_mutex_lock(&g->lock);
        return &g->t;
}

void throttle_group_unlock(struct throttle_group *g)
{
        pthread_mutex_unlock(&g->lock);
}

void throttle_group_set(struct throttle_group *g, const struct throttle_limits *l)
{
        throttle_set(throttle_group_lock(g), l, clock_ns());
        throttle_group_unlock(g);
}

void throttle_group_get(struct throttle_group *g, struct throttle_limits *ret)
{
        *ret = throttle_group_lock(g)->limits;
        throttle_group_unlock(g);
}
