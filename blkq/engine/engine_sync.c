/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_sync.c - the engine of the tests: everything on the caller's thread, also on memory files, and always the same
 * for the same seed.
 *
 * A step is carried out at the moment it is chosen to complete. With a seed, each wait takes some of the pending
 * steps in random order, so a test sees late writes, overtaking and half-done batches; with seed 0 it takes all, in
 * order. With slow_steps some, with slow_ops those of a kind wait until nothing else does: whatever does not depend on
 * them goes on for long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/range.h"
#include "engine_impl.h"
#include "epoll_watch.h"

#define SLOW_ONE_IN 16u

struct sync_engine {
        struct engine e;
        struct epoll_watches watches;
        struct list pending, slow;
        unsigned npending, nslow;
        uint64_t rnd; /* 0: in order */
        bool slow_steps;
        unsigned slow_ops;
        const bool *hold;
};

static struct sync_engine *sync_of(struct engine *e)
{
        return container_of(e, struct sync_engine, e);
}

/* splitmix64 (Steele, Lea, Flood 2014): every seed is a good one. */
static uint64_t next_random(struct sync_engine *s)
{
        uint64_t z = s->rnd += 0x9e3779b97f4a7c15ull;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
}

static void sync_start(struct engine *e, struct io *io)
{
        struct sync_engine *s = sync_of(e);

        if (s->slow_ops & 1u << io->op || (s->slow_steps && next_random(s) % SLOW_ONE_IN == 0)) {
                list_add_tail(&s->slow, &io->link);
                s->nslow++;
                return;
        }
        list_add_tail(&s->pending, &io->link);
        s->npending++;
}

/* Nothing else is left to do: one slow step gets its turn. */
static void wake_slow(struct sync_engine *s)
{
        if (s->npending || !s->nslow || (s->hold && *s->hold))
                return;
        list_add_tail(&s->pending, list_pop(&s->slow));
        s->nslow--;
        s->npending++;
}

static struct io *choose(struct sync_engine *s)
{
        uint64_t skip = s->rnd ? next_random(s) % s->npending : 0;
        struct list *n = s->pending.next;

        while (skip--)
                n = n->next;
        list_del(n);
        s->npending--;
        return list_entry(n, struct io, link);
}

static unsigned sync_wait(struct engine *e, uint64_t timeout_ns)
{
        struct sync_engine *s = sync_of(e);
        unsigned n;

        wake_slow(s);
        n = s->npending;
        if (n == 0)
                return epoll_watches_wait(&s->watches, timeout_ns);
        if (s->rnd)
                n = (unsigned)(1 + next_random(s) % n);
        for (unsigned i = 0; i < n; i++) {
                struct io *io = choose(s);
                struct io_step step = engine_step(io);
                int64_t res;

                res = engine_do_step(io, &step);
                engine_stale(e);
                engine_on_result(e, io, res);
        }
        return n + epoll_watches_wait(&s->watches, 0);
}

static void sync_watch(struct engine *e, struct engine_watch *w)
{
        epoll_watches_add(&sync_of(e)->watches, w);
}

static void sync_unwatch(struct engine *e, struct engine_watch *w)
{
        epoll_watches_del(&sync_of(e)->watches, w);
}

static void sync_free(struct engine *e)
{
        epoll_watches_finish(&sync_of(e)->watches);
        free(sync_of(e));
}

static const struct engine_ops sync_ops = {
        .start = sync_start,
        .wait = sync_wait,
        .watch = sync_watch,
        .unwatch = sync_unwatch,
        .free = sync_free,
};

int engine_sync_new(const struct engine_opts *o, struct engine **ret)
{
        struct sync_engine *s = calloc(1, sizeof(*s));
        int r = s ? epoll_watches_init(&s->watches) : -ENOMEM;

        if (r < 0) {
                free(s);
                return r;
        }
        s->e.ops = &sync_ops;
        s->rnd = o->seed;
        s->slow_steps = o->seed && o->slow_steps;
        s->slow_ops = o->slow_ops;
        s->hold = o->hold;
        list_init(&s->pending);
        list_init(&s->slow);
        snprintf(s->e.about, sizeof(s->e.about), "synchronous (seed %llu)", (unsigned long long)o->seed);
        *ret = &s->e;
        return 0;
}
