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
#include "common/similar.h"
#include "common/std_fds.h"
#include "config.h"
#include "tools/vdisk-img/tool.h"

#define LOG_NOTHING ((enum log_level)0)

static const struct command *const commands[] = {
        &cmd_amend, &cmd_bench, &cmd_bitmap, &cmd_check, &cmd_commit, &cmd_compare, &cmd_convert, &cmd_create, &cmd_dd, &cmd_info,
        &cmd_map, &cmd_measure, &cmd_rebase, &cmd_resize, &cmd_snapshot, NULL,
};

static void print_formats(void)
{
        printf("Supported formats:"); /* scripts look for this line */
        for (const struct fmt_driver *const *d = fmt_drivers(); *d; d++)
                if (!((*d)->caps & FMT_NO_FILE))
                        printf(" %s", (*d)->name);
        printf("\n");
}

/* Each with the first sentence of its own help. */
static void print_help(void)
{
        static const char *const titles[] = { [GROUP_MAKE] = "New images", [GROUP_LOOK] = "Looking", [GROUP_CHANGE] = "Changing" };

        printf("Disk images at rest, with qemu-img's syntax.\n\nusage: vdisk-img COMMAND [OPTION...]\n");
        for (int g = COMMAND_GROUPS - 1; g >= 0; g--) {
                printf("\n%s:\n", titles[g]);
                for (const struct command *const *c = commands; *c; c++)
                        if ((int)(*c)->group == g)
                                printf("  %-9s %.*s\n", (*c)->name, (int)strcspn((*c)->help, ".:;"), (*c)->help);
        }
        if (tool_is_qemu_img()) { /* scripts look here for an option, to learn whether they may use it */
                printf("\nCommand syntax:\n");
                for (const struct command *const *c = commands; *c; c++)
                        printf("  %s %s\n", (*c)->name, (*c)->usage);
        }
        printf("\n'vdisk-img COMMAND --help' explains one, 'man vdisk-img' all of them.\n");
        print_formats();
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

static int no_command(const char *word)
{
        struct similar s = similar_to(word);
        char hint[64];

        for (const struct command *const *c = commands; *c; c++)
                similar_look(&s, (*c)->name);
        return err_note(-EINVAL, "there is no command '%s'%s", word,
                        s.best ? similar_hint(&s, hint, sizeof(hint)) : "; 'vdisk-img --help' lists them");
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
        return tool_fail(no_command(word), 1);
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
