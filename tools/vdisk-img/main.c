/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - vdisk-img: images at rest, with qemu-img's syntax. Finds the subcommand and hands over. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/std_fds.h"
#include "config.h"
#include "tools/vdisk-img/tool.h"

#define LOG_NOTHING ((enum log_level)0)

static const struct command *const commands[] = {
        &cmd_amend, &cmd_bench, &cmd_check, &cmd_commit, &cmd_compare, &cmd_convert, &cmd_create, &cmd_dd, &cmd_info,
        &cmd_map, &cmd_measure, &cmd_rebase, &cmd_resize, &cmd_snapshot, NULL,
};

static void print_help(void)
{
        printf("usage: vdisk-img COMMAND [OPTION...]\n\nDisk images at rest, with qemu-img's syntax.\n\n");
        for (const struct command *const *c = commands; *c; c++)
                printf("  %s %s\n", (*c)->name, (*c)->usage);
        printf("\n'vdisk-img COMMAND --help' explains one. Formats:");
        for (const struct fmt_driver *const *d = fmt_drivers(); *d; d++)
                if (!((*d)->caps & FMT_NO_FILE))
                        printf(" %s", (*d)->name);
        printf("\n");
}

/* What was printed must have arrived. A reader that has seen enough, as head(1) does, is no failure. */
static int check_output(int code)
{
        bool bad = fflush(stdout) != 0;
        struct pollfd out = { .fd = STDOUT_FILENO };
        int r = bad ? -errno : -EIO;

        if ((!bad && !ferror(stdout)) || (poll(&out, 1, 0) == 1 && out.revents & POLLERR) || code)
                return code;
        err_clear();
        return tool_fail(err_note(r, "cannot write to standard output: %s", strerror(-r)), 1);
}

static int run(int argc, char **argv)
{
        const char *word = argc > 1 ? argv[1] : "--help";

        log_init("vdisk-img", LOG_NOTHING); /* volumes log for daemons; here each error gets its one sentence */
        if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
                printf("vdisk-img %s\n", VDISKD_VERSION);
                return 0;
        }
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
                print_help();
                return argc > 1 ? 0 : 1;
        }
        for (const struct command *const *c = commands; *c; c++)
                if (!strcmp((*c)->name, word))
                        return (*c)->run(argc - 1, argv + 1);
        return tool_fail(err_note(-1, "there is no command '%s'; 'vdisk-img --help' lists them", word), 1);
}

int main(int argc, char **argv)
{
        int r = std_fds_fill();

        if (r == 0)
                r = fault_arm_from_env();
        if (r < 0)
                return tool_fail(r, 1);
        signal(SIGPIPE, SIG_IGN);
        return check_output(run(argc, argv));
}
