/* SPDX-License-Identifier: BSD-3-Clause */
/* workers.h - threads of the process for what takes long and needs no thread in particular. Any thread. */
#pragma once

#include "common/list.h"

struct work {
        void (*run)(struct work *w); /* on a worker; posts its result itself */
        struct list link;
};
void workers_hold(void);    /* each volume, while it is open */
void workers_release(void); /* the last one: workers end */
int workers_start_all(void); /* now, and not when work comes: by somebody who holds them. 0 or -errno with a sentence */
int workers_run(struct work *w); /* 0, or -errno when there is no worker to run it and none can be had */
unsigned workers_most(void);

/*
 * Somebody whose work has a share of the workers: a volume. Others' work does not wait behind his, however much it is
 * and long it takes. NULL, in all calls: nobody in particular. new: NULL when there is no memory. free: when no work of
 * his is left; one may be ending.
 */
struct work_owner;
struct work_owner *work_owner_new(void);
void work_owner_free(struct work_owner *o);
int workers_run_for(struct work_owner *o, struct work *w);
