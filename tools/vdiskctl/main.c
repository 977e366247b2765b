/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - options and commands. Exit status: 0 done; 1 the daemon refused, or cannot be reached; 2 wrong usage. */
#include "vdiskctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "config.h"

#define DEFAULT_CONTROL "/run/vdiskd/control.sock"

static const struct command {
        const char *name, *words, *help;
        int min, max; /* words */
        int (*run)(struct ctl *c);
} commands[] = {
        { "list", "", "the disks that there are", 0, 0, cmd_list },
        { "add", "NAME path=FILE format=raw|qcow2 socket=PATH [KEY=VALUE ...]", "serve an image; KEY is any of 'vdiskd --disk':\n"
          "        serial=TEXT, read-only, connect=PATH in place of socket, socket-mode=MODE, socket-group=GROUP, key-secret=ID,\n"
          "        iops-total=N, ... ('vdiskd --help' has them all); --save: also into the daemon's configuration", 1, MANY_WORDS,
          cmd_add },
        { "remove", "NAME", "stop serving a disk and close its image; --force: also when it is in use", 1, 1, cmd_remove },
        { "resize", "NAME SIZE", "make a disk larger; its guest sees it at once. SIZE: bytes, 20G, or +5G for more", 2, 2, cmd_resize },
        { "limit", "NAME [LIMIT=N ...|none]", "what a disk may do in a second: iops=1000 bps-write=50M ...; LIMIT=0: without it; without words\n"
          "        print the limits. -read, -write, -max, -max-length behind iops and bps; iops-size; group=GROUP", 1, MAX_WORDS,
          cmd_limit },
        { "snapshot", "NAME... [file=FILE|dir=DIR|name=NAME]", "keep disks as they are now, all at the same instant: their guests go on in\n"
          "        new qcow2 files (FILE, or in DIR; else beside the image); name: inside their qcow2 images instead", 1,
          MANY_WORDS, cmd_snapshot },
        { "list-snapshots", "NAME", "the snapshots inside a disk's image and inside those behind it", 1, 1, cmd_list_snapshots },
        { "revert", "NAME SNAPSHOT", "back to what a snapshot inside the image has; what came later is lost", 2, 2, cmd_revert },
        { "delete-snapshot", "NAME SNAPSHOT", "delete a snapshot inside the image", 2, 2, cmd_delete_snapshot },
        { "stats", "[NAME]", "what disks have done since they were added; of one disk also where its requests spent their time",
          0, 1, cmd_stats },
        { "top", "", "what disks do just now, once a second; --batch prints plain tables", 0, 0, cmd_top },
        { "backup", "DISK FILE [format=raw|qcow2] [compress=on] [speed=BYTES]", "copy a disk as it is now into a new image, while its\n"
          "        guest goes on; interrupted, the copy goes again; --force: overwrite FILE", 2, 5, cmd_backup },
        { "mirror", "DISK FILE [format=raw|qcow2] [speed=BYTES] [copy-mode=write-blocking]", "move a disk into a new image, while\n"
          "        its guest goes on; write-blocking: what it writes waits for both images, so that even the busiest is caught up with;\n"
          "        interrupted, it stays where it is; --force: overwrite FILE", 2, 5, cmd_mirror },
        { "job", "list | wait|pause|resume|complete|cancel|finalize|dismiss JOB | set-speed JOB BYTES", "background jobs", 1, 3,
          cmd_job },
        { "reload", "", "read the configuration again and do what differs", 0, 0, cmd_reload },
        { "upgrade", "[PROGRAM]", "replace the running daemon by PROGRAM (default: the file it was started from, which may be\n"
          "        newer by now); guests see a short pause", 0, 1, cmd_upgrade },
        { "events", "", "print events as they come, until interrupted", 0, 0, cmd_events },
        { "query", "COMMAND [JSON]", "any command of the control socket, with its arguments", 1, 2, cmd_query },
};

static void usage(FILE *to)
{
        fprintf(to, "usage: vdiskctl [--control=PATH] [--json] COMMAND ...\n\n"
                    "Control a running vdiskd.\n\n"
                    "  --control=PATH   the daemon's control socket (default " DEFAULT_CONTROL ")\n"
                    "  --json           print JSON, for programs\n"
                    "  --force          remove: disconnect the front end; job cancel: also a mirror that is ready;\n"
                    "                   backup, mirror: overwrite FILE\n"
                    "  --save           add: also into the daemon's configuration; remove: also out of it\n"
                    "  -b, --batch      top: print tables, for scripts; -n, --iterations=N: so many\n"
                    "  -d, --interval=SECONDS, --sort=COLUMN   top: how often, and by what\n"
                    "  --help, --version\n\ncommands:\n");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                fprintf(to, "  %s%s%s\n        %s\n", commands[i].name, *commands[i].words ? " " : "", commands[i].words,
                        commands[i].help);
        fprintf(to, "\n'vdiskctl COMMAND --help' tells of one, 'man vdiskctl' of all.\n");
}

static void usage_of(const struct command *cmd)
{
        printf("usage: vdiskctl [--control=PATH] [--json] %s%s%s\n\n        %s\n", cmd->name, *cmd->words ? " " : "", cmd->words,
               cmd->help);
}

static int wrong_usage(const char *fmt, const char *what)
{
        fprintf(stderr, "vdiskctl: ");
        fprintf(stderr, fmt, what);
        fprintf(stderr, "; vdiskctl --help tells more\n");
        return 1;
}

static const struct command *find_command(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (!strcmp(commands[i].name, name))
                        return &commands[i];
        return NULL;
}

static int run(const struct command *cmd, const char *control, struct ctl *c)
{
        int r = qmp_client_open(control, &c->client);

        if (r == 0)
                r = cmd->run(c);
        qmp_client_close(c->client);
        if (r < 0)
                fprintf(stderr, "vdiskctl: %s\n", err_text(r));
        if (r == 0 && (fflush(stdout) || ferror(stdout))) {
                fprintf(stderr, "vdiskctl: cannot write the output\n");
                return 1;
        }
        return r < 0;
}

/* Returns the exit status, 0: go on. */
static int read_top_option(struct ctl *c, int opt)
{
        char *end = "";

        c->for_top = true;
        c->batch |= opt == 'b';
        if (opt == 'n')
                c->count = strtol(optarg, &end, 10);
        if (opt == 'd')
                c->interval = strtod(optarg, &end);
        if (opt == 'o')
                c->sort = optarg;
        if (opt == 'n' && (*end || c->count < 1))
                return wrong_usage("'%s' is no number of tables", optarg);
        if (opt == 'd' && (*end || !(c->interval >= 0.1 && c->interval <= 3600)))
                return wrong_usage("'%s' is no interval; expected 0.1 to 3600 seconds", optarg);
        return 0;
}

int main(int argc, char **argv)
{
        static const struct option longs[] = {
                { "control", required_argument, NULL, 'c' }, { "json", no_argument, NULL, 'j' },
                { "force", no_argument, NULL, 'f' }, { "save", no_argument, NULL, 's' }, { "batch", no_argument, NULL, 'b' },
                { "iterations", required_argument, NULL, 'n' }, { "interval", required_argument, NULL, 'd' },
                { "sort", required_argument, NULL, 'o' }, { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'v' }, { NULL },
        };
        const char *control = DEFAULT_CONTROL;
        const struct command *cmd;
        struct ctl c = { 0 };
        bool help = false;
        int opt;

        while ((opt = getopt_long(argc, argv, "bn:d:", longs, NULL)) != -1) {
                help |= opt == 'h';
                if (opt == 'v')
                        return printf("vdiskctl %s\n", VDISKD_VERSION) < 0;
                if (opt == '?')
                        return 1;
                c.json |= opt == 'j';
                c.force |= opt == 'f';
                c.save |= opt == 's';
                if (strchr("bndo", opt)) {
                        int r = read_top_option(&c, opt);

                        if (r)
                                return r;
                }
                control = opt == 'c' ? optarg : control;
        }
        if (optind == argc && help)
                return usage(stdout), 0;
        if (optind == argc)
                return wrong_usage("%s", "a command is missing");
        cmd = find_command(argv[optind]);
        if (!cmd)
                return wrong_usage("'%s' is no command", argv[optind]);
        if (help)
                return usage_of(cmd), 0;
        c.words = argv + optind + 1;
        c.nwords = argc - optind - 1;
        if (c.nwords < cmd->min || c.nwords > cmd->max)
                return wrong_usage(c.nwords < cmd->min ? "%s: a word is missing" : "%s: too many words", cmd->name);
        if (c.force && cmd->run != cmd_remove && cmd->run != cmd_backup && cmd->run != cmd_mirror && (cmd->run != cmd_job || strcmp(c.words[0], "cancel") != 0))
                return wrong_usage("--force does not go with %s", cmd->name);
        if (c.save && cmd->run != cmd_add && cmd->run != cmd_remove)
                return wrong_usage("--save does not go with %s", cmd->name);
        if (c.for_top && cmd->run != cmd_top)
                return wrong_usage("--batch, --iterations, --interval and --sort do not go with %s", cmd->name);
        if (c.count && !c.batch)
                return wrong_usage("%s", "--iterations is for --batch");
        return run(cmd, control, &c);
}
