/* SPDX-License-Identifier: BSD-3-Clause */
/* vdisk-bench: a vhost-user-blk load generator without a VM. Exit 0: every request went well and all data was right. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "common/err.h"
#include "common/std_fds.h"
#include "report.h"
#include "run.h"
#include "workload.h"

static int complain(int r)
{
        fprintf(stderr, "vdisk-bench: %s\n", err_text(r));
        return 1;
}

/* The first Ctrl-C ends the load, and results are still printed; the second ends us. */
static void on_interrupt(int sig)
{
        atomic_store(&workload_interrupted, true);
}

int main(int argc, char **argv)
{
        static struct results res; /* histograms are too large for a stack */
        struct options o;
        uint64_t errors = 0;
        int r = std_fds_fill();

        if (r == 0)
                r = options_parse(argc, argv, &o);
        if (r != 0)
                return r < 0 ? complain(r) : 0;
        sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND }, NULL);
        sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND }, NULL);
        r = run_bench(&o, &res);
        if (r < 0)
                return complain(r);
        r = report(&o, &res);
        if (r < 0)
                return complain(r);
        for (enum op op = 0; op < OPS; op++)
                errors += res.errors[op];
        if (res.wrong)
                fprintf(stderr, "vdisk-bench: %" PRIu64 " sectors hold wrong data (--randseed=%" PRIu64 ")\n", res.wrong,
                        o.randseed);
        if (errors)
                fprintf(stderr, "vdisk-bench: %" PRIu64 " requests failed\n", errors);
        return res.wrong || errors;
}
