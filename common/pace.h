/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pace.h - so many at once, then one every so often. Who comes too soon waits: nobody is refused anything. The caller's
 * lock or thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pace {
        uint32_t at_once;  /* that may come together after a rest */
        uint64_t every_ns; /* > 0 */
        /* its own; zero it */
        uint32_t used;     /* of at_once, as of */
        uint64_t as_of_ns;
};

/* May one more come at @now_ns, which never goes back (clock_ns())? Then it counts. Otherwise ask again in every_ns. */
static inline bool pace_take(struct pace *p, uint64_t now_ns)
{
        uint64_t more = (now_ns - p->as_of_ns) / p->every_ns;

        p->as_of_ns += more * p->every_ns; /* what is left over counts next time */
        p->used = more < p->used ? p->used - (uint32_t)more : 0;
        if (p->used >= p->at_once)
                return false;
        p->used++;
        return true;
}
