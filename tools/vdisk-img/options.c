/* SPDX-License-Identifier: BSD-3-Clause */
/* options.c - the command line: getopt with clear sentences, and the "name=value,..." lists of -o. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tools/vdisk-img/tool.h"

#define MAX_LONGS 24

enum { OPT_OBJECT = 1024, OPT_IMAGE_OPTS }; /* of all commands: above what a command's own are */

static bool image_opts;

static void usage_error(const struct command *cmd) __attribute__((noreturn));
static void usage_error(const struct command *cmd)
{
        err_prefix(-1, "%s: ", cmd->name);
        fprintf(stderr, "%s: %s; see 'vdisk-img %s --help'\n", program_invocation_short_name, err_text(-EINVAL), cmd->name);
        exit(1);
}

static void print_command_help(const struct command *cmd) __attribute__((noreturn));
static void print_command_help(const struct command *cmd)
{
        printf("usage: vdisk-img %s %s\n          [--object OBJECT]%s\n\n%s", cmd->name, cmd->usage,
               cmd->makes_new ? "" : " [--image-opts]", cmd->help);
        printf("\nAll commands:\n  --object secret,id=ID,file=PATH[,format=base64]\n"
               "                    the password for an encrypted image; fd=N instead of file=: from an open file\n");
        if (!cmd->makes_new)
                printf("  --image-opts      FILE is a list: driver=qcow2,file.filename=PATH,encrypt.key-secret=ID,\n"
                       "                    and the same behind 'backing.' for the backing image\n");
        if (cmd->examples)
                printf("\nFor example:\n%s", cmd->examples);
        exit(0);
}

/* What all commands understand. */
static const struct option common_longs[] = {
        { "help", no_argument, NULL, 'h' },
        { "object", required_argument, NULL, OPT_OBJECT },
        { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS },
};

static int next_option(const struct command *cmd, int argc, char **argv, const char *letters, const struct option *longs)
{
        struct option all[MAX_LONGS + ARRAY_SIZE(common_longs) + 1] = { 0 };
        size_t n = ARRAY_SIZE(common_longs) - cmd->makes_new; /* the last one is not for all */
        char with_help[64];

        memcpy(all, common_longs, sizeof(common_longs));
        for (int i = 0; i < MAX_LONGS && longs[i].name; i++)
                all[n++] = longs[i];
        all[n] = (struct option){ 0 };
        snprintf(with_help, sizeof(with_help), ":h%s", letters); /* ':' first: getopt tells what is wrong, we say it */
        return getopt_long(argc, argv, with_help, all, NULL);
}

int tool_option(const struct command *cmd, int argc, char **argv, const char *letters, const struct option *longs)
{
        int c;

        opterr = 0;
        while ((c = next_option(cmd, argc, argv, letters, longs)) == OPT_OBJECT || c == OPT_IMAGE_OPTS) {
                image_opts |= c == OPT_IMAGE_OPTS;
                if (c == OPT_OBJECT && tool_object(optarg) < 0)
                        exit(tool_fail(-EINVAL, 1));
        }
        if (c == 'h')
                print_command_help(cmd);
        if (c == ':')
                err_note(-EINVAL, "option '%s' needs a value", argv[optind - 1]);
        if (c == '?' && optopt && optopt < 256 && strchr(letters, optopt) == NULL && argv[optind - 1][1] != '-')
                err_note(-EINVAL, "unknown option '-%c'", optopt);
        else if (c == '?')
                err_note(-EINVAL, "unknown option '%s'", argv[optind - 1]);
        if (c == ':' || c == '?')
                usage_error(cmd);
        return c;
}

int tool_image_set(struct tool_image *t, const char *word, const char *format)
{
        return tool_image_parse(t, word, format, image_opts);
}

void tool_want_words(const struct command *cmd, int argc, int min, int max, const char *what)
{
        int n = argc - optind;

        if (n >= min && (max < 0 || n <= max))
                return;
        err_note(-EINVAL, "%s %s", n < min ? "expecting" : "too many words, expecting", what);
        usage_error(cmd);
}

bool tool_output_is_json(const char *text)
{
        if (!strcmp(text, "json"))
                return true;
        if (strcmp(text, "human"))
                exit(tool_fail(err_note(-EINVAL, "--output '%s' is not one of human, json", text), 1));
        return false;
}

/* --- name=value lists ------------------------------------------------------------------------------------------ */

static int add_pair(struct option_list *l, char *name, char *value)
{
        struct fmt_option *more = realloc(l->opts, (l->n + 1) * sizeof(*more));

        if (!more || !name || !value) {
                l->opts = more ? more : l->opts;
                free(name);
                free(value);
                return -ENOMEM;
        }
        l->opts = more;
        l->opts[l->n++] = (struct fmt_option){ name, value };
        return 0;
}

int option_list_set(struct option_list *l, const char *name, const char *value)
{
        free(option_list_take(l, name));
        return add_pair(l, strdup(name), strdup(value));
}

/* One element of the list, with ",," made ","; *text moves behind it. */
static char *next_element(const char **text)
{
        char *out = malloc(strlen(*text) + 1), *to = out;
        const char *p = *text;

        if (!out)
                return NULL;
        for (; *p && (*p != ',' || p[1] == ','); p++) {
                if (*p == ',')
                        p++;
                *to++ = *p;
        }
        *to = '\0';
        *text = *p ? p + 1 : p;
        return out;
}

int option_list_add(struct option_list *l, const char *text)
{
        while (*text) {
                AUTO(freep) char *one = next_element(&text);
                char *eq = one ? strchr(one, '=') : NULL;
                int r;

                if (!one)
                        return -ENOMEM;
                if (!strcmp(one, "help") || !strcmp(one, "?")) {
                        l->help = true;
                        continue;
                }
                if (!eq || eq == one)
                        return err_note(-EINVAL, "'%s': write name=value", one);
                *eq = '\0';
                r = option_list_set(l, one, eq + 1);
                if (r < 0)
                        return r;
        }
        return 0;
}

char *option_list_take(struct option_list *l, const char *name)
{
        for (size_t i = 0; i < l->n; i++)
                if (!strcmp(l->opts[i].name, name)) {
                        char *value = (char *)l->opts[i].value;

                        free((char *)l->opts[i].name);
                        memmove(&l->opts[i], &l->opts[i + 1], (--l->n - i) * sizeof(l->opts[0]));
                        return value;
                }
        return NULL;
}

void option_list_finish(struct option_list *l)
{
        for (size_t i = 0; i < l->n; i++) {
                free((char *)l->opts[i].name);
                free((char *)l->opts[i].value);
        }
        free(l->opts);
        *l = (struct option_list){ 0 };
}

void print_option_help(const struct fmt_driver *drv)
{
        bool backing = drv->caps & FMT_HAS_BACKING;

        printf("Supported %s options:\n", drv->name);
        if (backing)
                printf("  %-22s - %s\n  %-22s - %s\n", "backing_file=<str>", "File name of a base image",
                       "backing_fmt=<str>", "Image format of the base image");
        for (const struct fmt_option_doc *o = drv->create_options; o && o->name; o++) {
                char head[64];

                if (!strncmp(o->name, "backing_", 8) || !strcmp(o->name, "size"))
                        continue; /* said here for every format */
                snprintf(head, sizeof(head), "%s=<%s>", o->name, o->type);
                printf("  %-22s - %s\n", head, o->help);
        }
        printf("  %-22s - %s\n", "size=<size>", "Virtual disk size");
}
