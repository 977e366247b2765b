/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - the whole measurement: connect, start the jobs, watch them, reconnect, verify, add up. */
#pragma once

#include "job.h"
#include "options.h"
#include "process.h"

struct results {
        double seconds;
        struct hist lat[OPS];
        uint64_t bytes[OPS], errors[OPS];
        uint64_t compared, wrong;   /* sectors */
        unsigned reconnects;
        bool has_cost;
        struct process_cost cost;   /* of the back end, from start to the last answer */
        char no_syscalls[128];      /* why they are not in cost; "": they are */
};

/* 0, also when requests failed or data was wrong (see @res); or -errno with a sentence. */
int run_bench(const struct options *o, struct results *res);
