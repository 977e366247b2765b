/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tool.h - what the subcommands share: options, opening images, output, progress.
 * Errors go to stderr as one sentence; functions that return int for main() return the exit code.
 */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "formats/format.h"

/* Where --help shows a command. */
enum command_group { GROUP_CHANGE, GROUP_LOOK, GROUP_MAKE, COMMAND_GROUPS };

struct command {
        const char *name;
        enum command_group group;
        int (*run)(int argc, char **argv); /* argv[0] is the subcommand; returns the exit code */
        const char *usage;                 /* what follows the name */
        const char *help;                  /* a sentence, what else there is to know, lines about the options */
        const char *examples;              /* lines; NULL: none */
        bool makes_new;                    /* its file is not there yet: no --image-opts */
};
extern const struct command cmd_amend, cmd_bench, cmd_bitmap, cmd_check, cmd_commit, cmd_compare, cmd_convert, cmd_create, cmd_dd, cmd_info,
        cmd_map, cmd_measure, cmd_rebase, cmd_resize, cmd_snapshot;

/* --- options --------------------------------------------------------------------------------------------------- */

/* Values for long options without a letter; a command numbers those that only it has from OPT_OWN on. */
enum { OPT_OUTPUT = 256, OPT_BACKING_CHAIN, OPT_SHRINK, OPT_PREALLOCATION, OPT_SIZE, OPT_OWN };

/**
 * tool_option - getopt_long() that deals with what is not a valid option (one sentence, exit 1) and with what all commands
 * have alike: --help (exit 0), --object (secrets), --image-opts (for tool_image_set(); not when cmd->makes_new).
 * @letters, @longs: as for getopt_long, without 'h'. Call it before anything is open.
 */
int tool_option(const struct command *cmd, int argc, char **argv, const char *letters, const struct option *longs);

/* What stays after the options must be @min..@max words; @what says them. Exits with 1 otherwise. */
void tool_want_words(const struct command *cmd, int argc, int min, int max, const char *what);

/* "human" or "json"; anything else ends the program with a sentence. */
bool tool_output_is_json(const char *text);

/* "a=b,c=d", where ",," is a comma, as in qemu-img; more text may be added. -EINVAL with a sentence. */
struct option_list {
        struct fmt_option *opts;
        size_t n;
        bool help; /* "help" or "?" was among them */
};
int option_list_add(struct option_list *l, const char *text);
int option_list_set(struct option_list *l, const char *name, const char *value);
/* Takes the option off the list; NULL: it is not there. free() the value. */
char *option_list_take(struct option_list *l, const char *name);
void option_list_finish(struct option_list *l);

void print_option_help(const struct fmt_driver *drv);

/* --- images ---------------------------------------------------------------------------------------------------- */

/* An image as the command line names it. Zero-initialise; tool_image_finish() it when no image is open with it any
 * more. */
struct tool_image {
        const char *path;        /* of the top image's file */
        const char *format;      /* NULL: not said */
        const char *format_option; /* with which it can be said; NULL: -f */
        struct fmt_layer *layer; /* owned; NULL: no more was said than path and format */
        struct option_list words;
};

/**
 * tool_image_set - what @word means: a path, or after --image-opts "driver=qcow2,file.filename=PATH,...".
 * @format: -f; NULL: not given. Text is borrowed. 0, or -EINVAL with a sentence.
 */
int tool_image_set(struct tool_image *t, const char *word, const char *format);
/* The same with @opts instead of --image-opts: for convert's --target-image-opts. */
int tool_image_parse(struct tool_image *t, const char *word, const char *format, bool opts);
void tool_image_finish(struct tool_image *t);

/* A path as the file system knows it: without "file:", with which qemu-img's users say that a colon is no
 * protocol's. */
const char *tool_plain_path(const char *word);

/* --object TYPE,NAME=VALUE,...: only secrets. 0, or -errno with a sentence. */
int tool_object(const char *text);

/**
 * tool_open - chain_open() for a tool.
 * Without a format the image is probed: only to read, and its backing file is not followed then (a guest can write any
 * header into a raw disk; whoever trusts it says -f); to write, a raw disk that was only guessed costs a warning.
 * Called by the name qemu-img it follows what it has guessed, since scripts written for qemu-img rely on it.
 */
int tool_open(const struct tool_image *t, unsigned flags, struct fmt_image **ret);

/* How to open it again, when it was @img the first time: for chain_open(t->path, ...). */
struct fmt_open_opts tool_again(const struct tool_image *t, const struct fmt_image *img, unsigned flags);

/* Were we called as "qemu-img" (a link, so that scripts find us)? */
bool tool_is_qemu_img(void);

/* -l: "snapshot.id=..,snapshot.name=.." or an id or a name. */
struct tool_snapshot {
        struct option_list words;
        struct fmt_snapshot_which which;
        bool given;
};
int tool_snapshot_parse(const char *text, struct tool_snapshot *s); /* -EINVAL with a sentence */
void tool_snapshot_finish(struct tool_snapshot *s);

/* tool_open() to read the disk as it was at a snapshot; the one that is there now when none was given. */
int tool_open_snapshot(const struct tool_image *t, unsigned flags, const struct tool_snapshot *s, struct fmt_image **ret);
void tool_closep(struct fmt_image **img); /* for AUTO() */

/* Passes on what an open with @flags returned; when somebody uses the image, the sentence also says that -U looks at
 * it. */
int tool_looked(int r, unsigned flags);

/* fmt_create_path() with a sentence that names @path. */
int tool_create(const char *path, const struct fmt_driver *drv, const struct fmt_create *req);

/* What was made and did not get finished goes away; a block device stays. */
void tool_remove(const char *path);

/* Where option data_file of a new image at @image leads; *path NULL: there is no such option. 0, or -EINVAL with a
 * sentence. */
int tool_data_path(const struct option_list *opts, const char *image, char **path);

/* -EINVAL with a sentence when @target (NULL: never) is one of the files of @chain, which is "part of @what". */
int tool_refuse_part_of(const char *target, const struct fmt_image *chain, const char *what);

/* -ENOTSUP with a sentence when @img was guessed to be raw, and its first bytes are those of a format we do not
 * have. */
int tool_refuse_foreign(const struct fmt_image *img);

/* A driver by name, or a sentence and NULL. */
const struct fmt_driver *tool_driver(const char *name);

/* What a guest sees: rounded up to whole sectors of 512 bytes. */
uint64_t tool_disk_size(const struct fmt_image *img);

/* --- output ---------------------------------------------------------------------------------------------------- */

/* Prints the sentence of @r as "vdisk-img: ..."; returns @code. */
int tool_fail(int r, int code);
void tool_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Prints the value with qemu-img's layout (4 blanks, keys in order) and drops the reference. 0, or -EIO. */
int print_json(json_t *value);

void print_snapshots(const struct fmt_snapshot *s, size_t n);

/* From now on SIGINT and SIGTERM end nothing, they make *result other than 0. */
const volatile int *tool_stop_on_signals(void);

/* A cache mode of qemu-img. -EINVAL with a sentence that names @option. */
struct tool_cache {
        bool direct;  /* none, directsync: O_DIRECT */
        bool through; /* writethrough, directsync: each write is durable when it is done */
        bool unsafe;  /* nothing need ever be durable */
};
int tool_cache_parse(const char *option, const char *text, struct tool_cache *ret);

/* "    (12.34/100%)" on one line of stdout, at most when it changes visibly. Zero-initialise; on: -p was given. */
struct progress {
        bool on;
        int shown; /* hundredths of a percent, plus 1 */
        double from, part; /* 0..1: of the whole work this piece is [from, from + part); part 0: it is all of it */
};
void progress_show(struct progress *p, double done);
void progress_end(struct progress *p);
