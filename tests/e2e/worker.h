/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker.h - a thread that writes, reads and verifies on one queue, in random sizes and, if asked, with descriptors cut
 * in random places: header, data and status in any framing that VIRTIO_F_VERSION_1 allows.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "tests/lib/front_end.h"
#include "tools/vdisk-bench/offsets.h"
#include "tools/vdisk-bench/verify.h"

#define WORKER_DEPTH 16
#define WORKER_UNIT 4096u    /* bytes; requests are 1..WORKER_RUN of them */
#define WORKER_RUN 8

struct worker_slot {
        struct fe_io io;
        uint8_t *area; /* header, data and status in a row: pieces may span them */
        uint64_t area_gpa;
        uint64_t unit;
        unsigned n;
        bool write, busy, cut; /* cut: framed by us, the status is in the area */
};

struct worker {
        /* the caller's */
        struct front_end *fe;
        unsigned queue;
        struct verify *verify;
        uint64_t first, nunits; /* its units of @verify, and of the disk */
        uint64_t seed;
        bool odd;               /* random framing */

        pthread_t thread;
        struct worker_slot slots[WORKER_DEPTH];
        struct rng rng;
        atomic_bool stop, hold, held;
        atomic_ulong answered;
        atomic_ullong longest_ns; /* without an answer, since the caller set it to 0 */
        unsigned long wrong, failed; /* sectors; requests. Look after worker_stop() */
        int result;
        char why[256];
};

/* Takes guest memory for its slots; 0 or -errno. */
int worker_start(struct worker *w);

/* The worker leaves its queue alone, requests in flight stay there; until worker_go(). */
void worker_hold(struct worker *w);
void worker_go(struct worker *w);

/* Waits for what is in flight, ends. 0; -EIO with a sentence when something was wrong. */
int worker_stop(struct worker *w);

/* Waits until @more requests were answered: 0, or -ETIMEDOUT with a sentence after 60 s. */
int worker_wait(struct worker *w, unsigned long more);
