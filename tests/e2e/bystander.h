/* SPDX-License-Identifier: BSD-3-Clause */
/* bystander.h - a disk with verified load, beside one that is attacked: it must not notice. Errors are -errno with a sentence. */
#pragma once

#include "back_end.h"
#include "worker.h"

struct bystander {
        unsigned disk; /* of the back end */
        struct front_end *fe;
        struct verify *verify;
        struct worker worker;
};

/* On @nunits of WORKER_UNIT bytes, from the disk's beginning. */
int bystander_start(struct bystander *b, const struct back_end *be, unsigned disk, uint64_t nunits, uint64_t seed);

/* The end of all: its data was right all the time, the daemon stops as it should, and the image is clean. @be is freed, too. */
int bystander_end(struct bystander *b, struct back_end *be);
