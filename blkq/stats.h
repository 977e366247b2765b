/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats.h - what a port counts: requests, bytes, errors, and where the time of each went, as histograms.
 * Written by one thread with relaxed atomics, read by any; a reader may see counters that are a request apart.
 *
 *   arrives -QUEUE-> started -MAP-> (-TURN->) handed to the kernel -DISK-> done -NOTIFY-> the guest can see it
 *
 * A stage_clock is a stop-watch that is always running for one stage; a request may come to MAP, TURN and DISK more
 * than once. Its times come from engine_now(), so all requests of a batch have the same.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { STATS_READ, STATS_WRITE, STATS_FLUSH, STATS_DISCARD, STATS_WRITE_ZEROES, STATS_OPS };
enum stats_stage {
        STAGE_QUEUE,  /* waits to be started: held, over a limit, for an overlapping change */
        STAGE_MAP,    /* where is it, what must be written: lookups, table pages, the way to home and back */
        STAGE_TURN,   /* some of it waits until the kernel has less of this disk (in_flight.h) */
        STAGE_DISK,   /* its bytes are on their way to or from the file; flushes: all of it */
        STAGE_NOTIFY, /* done, until the end of the round, in which the guest is shown and told all answers together */
        STAGE_TOTAL,  /* all of it */
        STAGES,
};
extern const char *const stats_op_names[STATS_OPS]; /* "read", "write", "flush", "discard", "write_zeroes" */
extern const char *const stats_stage_names[STAGES]; /* "queue", "map", "turn", "disk", "notify", "total" */

/*
 * Log-linear: four buckets for each power of two, so a quantile is at most a quarter too high. Bucket 0 holds what took
 * less than 256 ns, the last one all from 2 minutes on.
 */
#define STATS_BUCKETS 112u
unsigned stats_bucket(uint64_t ns);
uint64_t stats_bucket_end(unsigned b); /* ns; the first that is above it */

struct stage_stats {
        _Atomic uint64_t total_ns;
        _Atomic uint64_t bucket[STATS_BUCKETS];
};
struct op_stats {
        _Atomic uint64_t count, bytes, errors;
        _Atomic uint64_t invalid; /* asked for what the disk does not have; not in count */
        struct stage_stats stage[STAGES];
};
struct blk_stats {
        struct op_stats op[STATS_OPS];
        _Atomic uint64_t fast;           /* served on their own thread, never through home */
        _Atomic uint64_t flushes_joined; /* flushes that another flush already did */
        _Atomic uint64_t lookups, table_misses; /* of tables, on their own thread; those that must wait for one */
        _Atomic uint64_t highest_write;  /* the end of the write that was furthest behind, bytes */
        /* As of the end of the last round: */
        _Atomic uint64_t in_flight;      /* requests, also those that are held */
        _Atomic uint64_t oldest_ns;      /* when the first of them came; 0: there are none */
        _Atomic uint64_t throttled;      /* not 0: some of them wait for limits */
        _Atomic uint64_t last_ns;        /* when one was answered; 0: none was */
};

/* What several ports counted, as plain numbers (nothing but uint64_t). */
struct stage_totals {
        uint64_t total_ns;
        uint64_t bucket[STATS_BUCKETS];
};
struct op_totals {
        uint64_t count, bytes, errors, invalid;
        struct stage_totals stage[STAGES];
};
struct blk_totals {
        struct op_totals op[STATS_OPS];
        uint64_t fast, flushes_joined, lookups, table_misses;
        uint64_t copied_up;     /* bytes that a write had to copy because they share a cluster with it */
        uint64_t highest_write; /* bytes */
};
void stats_add(struct blk_totals *sum, const struct blk_stats *s); /* any thread */

/* What is now. */
struct blk_gauges {
        uint64_t in_flight;
        uint64_t oldest_ns, last_ns; /* clock_ns() times; 0: none */
        bool throttled;              /* some wait for limits */
        unsigned full;               /* so many wait for space on the host's disk */
        bool held;                   /* requests wait until somebody is done with the image */
};
void stats_gauge(struct blk_gauges *sum, const struct blk_stats *s); /* any thread */

/* --- the one writer ----------------------------------------------------------------------------------------------- */

/* One writer, so a plain load and store does: no locked instruction on the way of a request. */
static inline void stats_count(_Atomic uint64_t *counter, uint64_t n)
{
        uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

        atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

struct stage_clock {
        uint64_t arrived, since;
        uint64_t spent[STAGE_NOTIFY];
        _Atomic uint8_t stage; /* the running one; others may look */
};

static inline void stage_begin(struct stage_clock *c, uint64_t now)
{
        c->arrived = c->since = now;
        c->spent[STAGE_QUEUE] = c->spent[STAGE_MAP] = c->spent[STAGE_TURN] = c->spent[STAGE_DISK] = 0;
        atomic_store_explicit(&c->stage, STAGE_QUEUE, memory_order_relaxed);
}

static inline enum stats_stage stage_now(const struct stage_clock *c)
{
        return atomic_load_explicit(&c->stage, memory_order_relaxed);
}

/* On with another stage. Not from STAGE_NOTIFY. */
static inline void stage_to(struct stage_clock *c, enum stats_stage stage, uint64_t now)
{
        if (now > c->since) {
                c->spent[stage_now(c)] += now - c->since;
                c->since = now;
        }
        atomic_store_explicit(&c->stage, stage, memory_order_relaxed);
}

/* A request is done: all but NOTIFY and TOTAL, which follow when they are known. */
void stats_account(struct op_stats *s, uint64_t bytes, const struct stage_clock *c, int res);

static inline void stats_time(struct op_stats *s, enum stats_stage stage, uint64_t ns)
{
        struct stage_stats *t = &s->stage[stage];

        if (ns) /* most stages of most requests begin and end within one look at the clock */
                stats_count(&t->total_ns, ns);
        stats_count(&t->bucket[ns ? stats_bucket(ns) : 0], 1);
}

/* The time that @fraction (0..1) of all requests stayed below, in ns: the upper bound of its bucket. 0: none. */
uint64_t stats_quantile(const struct stage_totals *t, double fraction);
uint64_t stats_samples(const struct stage_totals *t); /* how many there are */
