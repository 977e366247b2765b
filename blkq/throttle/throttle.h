/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * throttle.h - how many operations and bytes a second are allowed: leaky buckets with QEMU's meaning. Arithmetic only:
 * no clock, no threads, no waiting.
 *
 * A bucket leaks @avg units a second and holds a tenth of a second's worth of them; with @max it holds @max units for
 * each second of @length, and with a @length over 1 no more than @max a second go in. What is taken is put in at once,
 * and due when the bucket has room for it: who comes next is due later. So several *flows* (those who take; each asks
 * for one thing at a time) take turns by themselves. A flow's own time keeps them fair where one of them looks at the
 * clock earlier or more often than others: what it takes moves its time on by as many shares as there are flows
 * waiting.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum throttle_kind {
        THROTTLE_BPS_TOTAL, THROTTLE_BPS_READ, THROTTLE_BPS_WRITE,    /* bytes a second */
        THROTTLE_IOPS_TOTAL, THROTTLE_IOPS_READ, THROTTLE_IOPS_WRITE, /* operations a second */
        THROTTLE_KINDS,
};
extern const char *const throttle_kind_name[THROTTLE_KINDS]; /* "bps-total", ... */
#define THROTTLE_VALUE_MAX 1000000000000000ull

/* 0: no limit. @length: seconds, at least 1. */
struct throttle_limit {
        uint64_t avg, max, length;
};
struct throttle_limits {
        struct throttle_limit kind[THROTTLE_KINDS];
        uint64_t iops_size; /* bytes that count as one operation; larger ones are several. 0: size does not matter */
};
#define THROTTLE_NO_LIMITS_INIT                                                                                       \
        { .kind = { { .length = 1 }, { .length = 1 }, { .length = 1 }, { .length = 1 }, { .length = 1 }, { .length = 1 } } }
#define THROTTLE_NO_LIMITS ((struct throttle_limits)THROTTLE_NO_LIMITS_INIT)

/* Do they make sense together? 0, or -EINVAL with a sentence (QEMU's words). */
int throttle_limits_check(const struct throttle_limits *l);
bool throttle_limits_any(const struct throttle_limits *l); /* is anything limited? */

/* Who takes. Zero-initialise. */
struct throttle_flow {
        uint64_t time_ns; /* it has had its share up to here */
        unsigned epoch;
        bool waiting;
};
struct throttle {
        struct throttle_limits limits;
        double level[THROTTLE_KINDS], burst[THROTTLE_KINDS]; /* units that have not leaked yet */
        uint64_t leaked_ns;   /* up to when they have */
        unsigned waiting[2];  /* flows: [0] reading, [1] writing */
        unsigned epoch;       /* of the limits: what was taken under others does not count, and is to be taken anew */
};

void throttle_init(struct throttle *t, uint64_t now_ns); /* no limits */
/* all buckets are empty then */
void throttle_set(struct throttle *t, const struct throttle_limits *l, uint64_t now_ns);

/* The flow has something that waits, or no longer. Twice is once. */
void throttle_wait(struct throttle *t, struct throttle_flow *f, bool write, bool waiting);

/* Take one operation of @len bytes. Returns when it is due, in the past or now: at once. */
uint64_t throttle_take(struct throttle *t, struct throttle_flow *f, bool write, uint64_t len, uint64_t now_ns);
