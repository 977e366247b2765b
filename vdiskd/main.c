/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/fault.h"
#include "common/std_fds.h"
#include "config.h"
#include "vdiskd/run.h"

static int act(struct options *o, char **argv)
{
        switch (o->action) {
        case OPTIONS_HELP:
                options_print_help(stdout);
                return 0;
        case OPTIONS_VERSION:
                printf("vdiskd %s\n", VDISKD_VERSION);
                return 0;
        case OPTIONS_CAPABILITIES:
                options_print_capabilities(stdout);
                return 0;
        case OPTIONS_CHECK_CONFIG:
                printf("%s: fine, %zu disk%s\n", o->config, o->ndisks, o->ndisks == 1 ? "" : "s");
                return 0;
        case OPTIONS_SERVE:
                break;
        }
        log_init("vdiskd", o->log_level);
        return daemon_run(o, argv);
}

/* A line for each mistake in the configuration, or the one sentence. */
static void say_why(const struct options *o, int r)
{
        char *rest = o->problems;

        if (!rest)
                log_err("%s", err_text(r));
        for (char *line; (line = strsep(&rest, "\n"));)
                log_err("%s", line);
}

int main(int argc, char **argv)
{
        struct options o;
        int status, r;

        log_init("vdiskd", LOG_LVL_INFO);
        r = std_fds_fill();
        if (r == 0)
                r = fault_arm_from_env();
        if (r == 0)
                r = options_parse(&o, argc, argv);
        else
                o = (struct options){ 0 };
        if (r < 0)
                say_why(&o, r);
        status = r < 0 ? 1 : act(&o, argv);
        options_finish(&o);
        return status;
}
