/* SPDX-License-Identifier: BSD-3-Clause */
/* hold.h - a volume's image for one alone: who wants it, and what ports and home do meanwhile. Home only unless it says
 * otherwise. */
#pragma once

#include <stdbool.h>

#include "blkq/qthread.h"
#include "common/list.h"

struct vol;
struct vol_port;
struct blk_req;

/* His memory until the release. */
struct vol_hold {
        void (*held)(struct vol_hold *h, int res); /* home; @res: the first error of settling: not all is durable */
        /* Home: nobody else has it, and nobody gets it before the release, but requests go on until vol_hold_go().
         * NULL: at once. */
        void (*turn)(struct vol_hold *h);
        bool light; /* the image is not settled: nothing is read or written by guests, and that is all */
        /* light, but ports' engines have forgotten all files: some of them may be closed after the release */
        bool forget;
        struct vol *v;
        struct qtask task;
        struct list link;
};

void hold_init(struct vol *v);
void hold_port_init(struct vol_port *p);

/* Wait in line for the image (any thread). From held() to vol_release() (home) nobody else touches it; the engines have
 * forgotten its files. It is wound down: whoever keeps it in use opens it anew (reopen.c) before the release.
 * A light hold: guests read and write nothing, but flushes and housekeeping go on, and the image stays in use. */
void vol_hold(struct vol *v, struct vol_hold *h);
void vol_hold_go(struct vol_hold *h); /* home, after turn() */
void vol_release(struct vol *v);

void hold_park(struct vol_port *p, struct blk_req *req); /* port's thread: it waits for the release */
void hold_port_idle(struct vol_port *p);                 /* port's thread: a request has ended */
void hold_port_go(struct vol_port *p);                   /* port's thread: its requests go on, unless p->held */
void hold_home_idle(struct vol *v);                      /* changing is 0 */
