/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_measure.c - vdisk-img measure: how large would the file of a new image be? */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u

struct job {
        const char *format, *to_format;
        struct tool_image image; /* no path: --size */
        struct option_list opts;
        struct tool_snapshot snapshot;
        unsigned flags;
        uint64_t size;
        bool has_size, json;
};

static void job_finish(struct job *j)
{
        option_list_finish(&j->opts);
        tool_snapshot_finish(&j->snapshot);
        tool_image_finish(&j->image);
}

static int measure(const struct job *j, struct fmt_measure *ret)
{
        AUTO(tool_closep) struct fmt_image *source = NULL;
        const struct fmt_driver *drv = tool_driver(j->to_format);
        struct fmt_create req = { .size = j->size, .opts = j->opts.opts, .nopts = j->opts.n };
        int r = drv ? 0 : -EINVAL;

        if (r == 0 && j->image.path)
                r = tool_open_snapshot(&j->image, FMT_RDONLY | j->flags, &j->snapshot, &source);
        if (r < 0)
                return r;
        if (source)
                req.size = tool_disk_size(source);
        if (req.size > INT64_MAX - SECTOR)
                return err_note(-EFBIG, "size %llu is too large: the limit is 8 EiB - 1 KiB", (unsigned long long)req.size);
        if (!drv->measure)
                return err_note(-ENOTSUP, "the size of %s images cannot be told", drv->name);
        return drv->measure(&req, source, ret);
}

static int print_result(const struct fmt_measure *m, bool json)
{
        json_t *o;

        if (!json) {
                printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)m->required,
                       (unsigned long long)m->fully_allocated);
                if (m->has_bitmaps)
                        printf("bitmaps size: %llu\n", (unsigned long long)m->bitmaps);
                return 0;
        }
        o = json_object();
        if (m->has_bitmaps)
                json_object_set_new(o, "bitmaps", json_integer((json_int_t)m->bitmaps));
        json_object_set_new(o, "required", json_integer((json_int_t)m->required));
        json_object_set_new(o, "fully-allocated", json_integer((json_int_t)m->fully_allocated));
        return print_json(o);
}

static const struct option longs[] = {
        { "output", required_argument, NULL, OPT_OUTPUT },
        { "size", required_argument, NULL, OPT_SIZE },
        { "force-share", no_argument, NULL, 'U' },
        { NULL, 0, NULL, 0 },
};

static int take_option(struct job *j, int c)
{
        switch (c) {
        case 'f':
                j->format = optarg;
                return 0;
        case 'O':
                j->to_format = optarg;
                return 0;
        case 'l':
                return tool_snapshot_parse(optarg, &j->snapshot);
        case 'o':
                return option_list_add(&j->opts, optarg);
        case 'U':
                j->flags |= FMT_NO_LOCK;
                return 0;
        case OPT_SIZE:
                j->has_size = true;
                return size_parse(optarg, &j->size);
        default:
                j->json = tool_output_is_json(optarg);
                return 0;
        }
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .to_format = "raw" };
        struct fmt_measure m = { 0 };
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_measure, argc, argv, "f:O:l:o:U", longs)) != -1)
                r = take_option(&j, c);
        if (r == 0 && j.opts.help) {
                const struct fmt_driver *drv = tool_driver(j.to_format);

                if (drv)
                        print_option_help(drv);
                return drv ? 0 : tool_fail(-EINVAL, 1);
        }
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_measure, argc, !j.has_size, !j.has_size, "either --size or one file name");
        if (!j.has_size)
                r = tool_image_set(&j.image, argv[optind], j.format);
        if (r == 0)
                r = measure(&j, &m);
        if (r < 0)
                return tool_fail(r, 1);
        return print_result(&m, j.json) < 0;
}

const struct command cmd_measure = {
        .name = "measure", .run = run, .group = GROUP_LOOK,
        .usage = "[--output=human|json] [-O FMT] [-o OPTIONS] (--size SIZE | [-f FMT] [-l SNAPSHOT] [-U] FILE)",
        .help = "Says how large the file of a new image would be: one with SIZE bytes, or what convert would make of FILE.\n\n"
                "  -O FMT         format of the new image (raw)\n"
                "  -o OPTIONS     its options: name=value,...; '-o help' lists them\n"
                "  --size SIZE    bytes of an empty disk\n"
                "  -f FMT         format of FILE; must be given to follow a backing file\n"
                "  -l SNAPSHOT    FILE as it was at a snapshot: its id or name, or snapshot.id=..,snapshot.name=..\n"
                "  --output=json  for programs\n"
                "  -U             look at FILE even when another program uses it\n",
};
