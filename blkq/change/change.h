/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * change.h - several volumes changed at one instant, all or none.
 *
 *   before -> in line, all in front -> guests' requests wait, what they have under way ends -> all quiet -> works, if there are any
 *   -> all applied (or, when something failed, all undone) -> requests go on -> after -> done
 *
 * Between the last volume that became quiet and the first that goes on no guest's write is done on any of them: that is the
 * instant. No thread of the daemon waits for another; the pause that guests see has no part in which the control thread is asked.
 * One group at a time: two with a volume in common would wait for each other (the control thread sees to it).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/change/hold.h"
#include "blkq/workers.h"

struct vol_changes;

/* One volume's part; the caller's memory until done(). The first fields are the caller's to fill. */
struct vol_change {
        struct vol *v;
        bool settled; /* the image is made durable and wound down first, so that work() can treat it as one at rest */
        bool forget;  /* not settled, but ports' engines forget the files (hold.h) */
        /* Steps that take their time. Home; each ends with vol_change_go(). NULL: nothing. */
        void (*before)(struct vol_change *c); /* requests go on, nobody has the volume yet */
        void (*quiet)(struct vol_change *c);  /* all volumes are quiet, before works */
        /* it is applied, requests go on. Its result means nothing to the group's */
        void (*after)(struct vol_change *c);
        int (*work)(struct vol_change *c);   /* a worker, all volumes quiet; NULL: none. 0 or -errno with a sentence */
        /* home, when all works are done: pointers only, it cannot fail. NULL: nothing */
        void (*apply)(struct vol_change *c);
        /* a worker, when it came to nothing after all were quiet. NULL: nothing */
        void (*undo)(struct vol_change *c, bool worked);
        /* home, in place of apply(), whenever it came to nothing. NULL: nothing */
        void (*failed)(struct vol_change *c);

        struct vol_changes *all;
        struct vol_hold hold;
        struct qtask task;
        struct work job;
        bool worked;
};

struct vol_changes {
        struct vol_change **change;
        unsigned n; /* at least one; no volume twice */
        /* The home thread of one of them, or a worker; @pause_ns: how long requests waited at most. */
        void (*done)(void *opaque, int res, const char *why, uint64_t pause_ns);
        void *opaque;

        atomic_uint left;  /* of the step under way */
        void (*next)(struct vol_changes *g); /* behind before, quiet or after */
        bool held;
        atomic_int res;
        uint64_t begin_ns;
        _Atomic uint64_t pause_ns;
        char why[256];
};

/* Any thread. */
void vol_change_all(struct vol_changes *g);
/* before, quiet or after is done. Any thread; @res < 0: with a sentence. */
void vol_change_go(struct vol_change *c, int res);
