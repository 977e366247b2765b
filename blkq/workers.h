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
