/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * full.h - requests that found no space on the host's disk (-ENOSPC, -EDQUOT), and wait for it. Home only, unless it
 * says otherwise.
 *
 * A request that waits has nothing under way: its plan was taken back, no range is locked for it. All others go on;
 * whoever finds no space joins. One is tried again every second, and when that succeeds all are. What had to wait
 * longer than the volume's options say gets its errno.
 */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "common/list.h"

struct vol;
struct vol_port;

/* In the request's job. Zero-initialise. */
struct full_wait {
        struct list link;
        struct vol_port *port;
        uint64_t since_ns;  /* of its first try; 0: it never waited */
        bool again;         /* this is another try */
        int err;
        void (*retry)(struct full_wait *w);
        /* the errno it met; or -EAGAIN: back to its port, as not started */
        void (*give_up)(struct full_wait *w, int err);
};
struct full_state {
        bool hold;            /* options: wait at all? */
        uint64_t timeout_ns;  /* how long; 0: for ever */
        struct list waiting;  /* full_wait */
        unsigned trying;      /* of those that waited, */
        struct full_wait *first; /* this one before the others; NULL: not so */
        struct qtimer timer;
        bool timer_set;
        uint64_t since_ns;    /* the first one began to wait; 0: nobody does */
        atomic_uint count;    /* of waiting and trying; any thread reads */
};

void full_init(struct vol *v, bool hold, unsigned timeout_s);
static inline bool full_is(int err)
{
        return err == -ENOSPC || err == -EDQUOT;
}

/*
 * @w ends with @res (its port and callbacks are filled in). True: it does not; it waits, and will be called. False: it
 * does, and is forgotten here.
 */
bool full_waits(struct vol *v, struct full_wait *w, int res);
void full_freed(struct vol *v);                /* there may be space now: try at once, if somebody waits */
void full_yield(struct vol *v);                /* all go back to their ports: these are held now */
void full_port_hurries(struct vol_port *p);    /* port's thread: all of it that wait get their errno */
void full_port_init(struct vol_port *p);
void full_finish(struct vol *v);               /* nobody waits any more */
