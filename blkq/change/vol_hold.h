/* SPDX-License-Identifier: BSD-3-Clause */
/* vol_hold.h - who wants a volume's image for himself: hold.c. */
#pragma once

#include <stdbool.h>

#include "blkq/qthread.h"
#include "common/list.h"

struct vol;

/* His memory until the release. */
struct vol_hold {
        void (*held)(struct vol_hold *h, int res); /* home; @res: the first error of settling: not all is durable */
        /* Home: nobody else has it, and nobody gets it before the release, but requests go on until vol_hold_go(). NULL: at
         * once. */
        void (*turn)(struct vol_hold *h);
        bool light; /* the image is not settled: nothing is read or written by guests, and that is all */
        bool forget; /* light, but ports' engines have forgotten all files: some of them may be closed after the release */
        struct vol *v;
        struct qtask task;
        struct list link;
};
