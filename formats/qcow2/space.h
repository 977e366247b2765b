/* SPDX-License-Identifier: BSD-3-Clause */
/* space.h - runs of clusters on their way, for space.c and housekeep.c. Home only. See space.c for the states. */
#pragma once

#include "qcow2.h"

enum run_state {
        RUN_NOTE,        /* paper only: kept by a plan for its commit */
        RUN_RESERVED,    /* counted (refcount 1), reads as zeros, no entry points to it */
        RUN_DYING,       /* unlinked; requests that looked it up before may be under way */
        RUN_QUARANTINED, /* the file's tables may still point to it */
        RUN_UNPUNCHED,   /* refcount 0, old bytes in it */
        RUN_PUNCHING,
        RUN_FREE,        /* refcount 0, reads as zeros */
};

struct space_run {
        struct list link;
        enum run_state state;
        uint64_t first, n; /* clusters */
        uint64_t stamp;    /* RESERVED, DYING, QUARANTINED: generation of the change that made it so */
        uint64_t ticket;   /* DYING */
        bool zero;         /* QUARANTINED: a reservation given back; nothing was ever written there */
};

#define FREE_RUNS_MAX 4096u
#define SPACE_CROWDED 16384u

struct space_run *space_run_new(enum run_state state, uint64_t first, uint64_t n); /* NULL: ENOMEM; on no list */
void space_run_move(struct qcow2_image *q, struct space_run *run, enum run_state from, enum run_state to);
/* off its list; the clusters are nobody's business */
void space_run_forget(struct qcow2_image *q, struct space_run *run);

/* Are there @n clusters between the end of used space and the end of the file? 0, -EAGAIN (the file must grow),
 * -ENOSPC. */
int space_room(struct qcow2_image *q, uint64_t n);
void space_advance(struct qcow2_image *q, uint64_t n); /* [end, end + n) is used from now on */

int space_reserve(struct qcow2_image *q, uint64_t want);
