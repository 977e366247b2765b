/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_amend.c - vdisk-img amend: other options for an image that is there. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

struct job {
        const char *path, *format; /* -f */
        struct tool_image image;
        struct option_list opts;
        char *size; /* owned; NULL: it stays */
        bool force;
};

static void job_finish(struct job *j)
{
        option_list_finish(&j->opts);
        tool_image_finish(&j->image);
        free(j->size);
}

static int print_options(const struct job *j)
{
        const struct fmt_driver *drv = j->format ? tool_driver(j->format) : NULL;

        if (!j->format)
                return err_note(-EINVAL, "amend: -o help needs a format: -f qcow2");
        if (!drv || !drv->amend)
                return err_note(-ENOTSUP, "%s images have no options that could be amended", j->format);
        printf("Amend options for '%s':\n", drv->name);
        for (const struct fmt_option_doc *o = drv->amend_options; o->name; o++) {
                char head[64];

                snprintf(head, sizeof(head), "%s=<%s>", o->name, o->type);
                printf("  %-22s - %s\n", head, o->help);
        }
        printf("  %-22s - %s\n", "size=<size>", "Virtual disk size");
        return 0;
}

static int open_image(const struct job *j, unsigned flags, struct fmt_image **ret)
{
        int r = tool_open(&j->image, FMT_NO_BACKING | flags, ret);

        if (r == 0 && !(*ret)->drv->amend)
                r = err_note(-ENOTSUP, "'%s': %s images have no options that could be amended", j->path, (*ret)->drv->name);
        return r;
}

static int name_path(int r, const char *path)
{
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", path) : 0;
}

static int change_options(const struct job *j)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        int r = open_image(j, FMT_NO_KEY, &img);

        for (size_t i = 0; r == 0 && i < j->opts.n; i++)
                if (!strcmp(j->opts.opts[i].name, "backing_file") &&
                    strcmp(j->opts.opts[i].value, img->backing_name ? img->backing_name : ""))
                        r = err_note(-ENOTSUP, "amend does not change the backing file, rebase does");
        return r < 0 ? r : name_path(img->drv->amend(img, j->opts.opts, j->opts.n, j->force), j->path);
}

static int change_size(const struct job *j)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        uint64_t size;
        int r = size_parse(j->size, &size);

        if (r == 0)
                r = open_image(j, 0, &img);
        if (r < 0)
                return r;
        if (size < tool_disk_size(img))
                return err_note(-EINVAL, "'%s' would shrink to %llu bytes; resize --shrink does that", j->path,
                                (unsigned long long)size);
        if (size > INT64_MAX - 512)
                return err_note(-EFBIG, "size '%s' is too large: the limit is 8 EiB - 1 KiB", j->size);
        r = img->drv->resize(img, size, false);
        if (r == 0)
                r = file_sync(img->file);
        return name_path(r, j->path);
}

static const struct option longs[] = {
        { "force", no_argument, NULL, OPT_OWN }, { "quiet", no_argument, NULL, 'q' }, { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { 0 };
        struct tool_cache cache;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_amend, argc, argv, "f:o:pqt:", longs)) != -1) {
                if (c == 'f')
                        j.format = optarg;
                else if (c == 'o')
                        r = option_list_add(&j.opts, optarg);
                else if (c == OPT_OWN)
                        j.force = true;
                else if (c == 't')
                        r = tool_cache_parse("-t", optarg, &cache);
                /* -p, -q: done before it could be shown, nothing to silence */
        }
        if (r == 0 && j.opts.help)
                return (r = print_options(&j)) < 0 ? tool_fail(r, 1) : 0;
        if (r == 0 && !j.opts.n)
                r = err_note(-EINVAL, "amend: -o says which options; '-o help' lists them");
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_amend, argc, 1, 1, "one file name");
        r = tool_image_set(&j.image, argv[optind], j.format);
        if (r < 0)
                return tool_fail(r, 1);
        j.path = j.image.path;
        j.size = option_list_take(&j.opts, "size");
        if (j.opts.n)
                r = change_options(&j);
        if (r == 0 && j.size)
                r = change_size(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_amend = {
        .name = "amend", .run = run,
        .usage = "[-q] [-p] [-f FMT] [-t CACHE] [--force] -o OPTIONS FILE",
        .help = "Changes options of an image.\n\n"
                "  -f FMT      its format\n"
                "  -o OPTIONS  name=value,...; '-o help' lists those of the format\n"
                "  -t CACHE    any of qemu-img's; the change is durable in the end\n"
                "  -p          nothing: it takes no time\n"
                "  --force     also write over a key slot in use, or take the last password away\n"
                "  -q          say nothing but errors\n",
};
