/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_resize.c - vdisk-img resize: a larger or smaller disk. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u

/* "10G" is the new size, "+1G" and "-1G" are changes. */
static int new_size(const char *text, uint64_t old, uint64_t *ret)
{
        uint64_t n;
        int r = size_parse(text + (text[0] == '+' || text[0] == '-'), &n);

        if (r < 0)
                return r;
        if (text[0] == '-' && n >= old)
                return err_note(-EINVAL, "'%s' leaves nothing of a disk of %llu bytes", text, (unsigned long long)old);
        if (n > INT64_MAX - SECTOR || (text[0] == '+' && n > INT64_MAX - SECTOR - old))
                return err_note(-EFBIG, "'%s' makes the disk too large: the limit is 8 EiB - 1 KiB", text);
        *ret = text[0] == '+' ? old + n : text[0] == '-' ? old - n : n;
        if (*ret == 0)
                return err_note(-EINVAL, "the new size must be more than 0 bytes");
        *ret = round_up(*ret, SECTOR);
        return 0;
}

static int resize(const struct tool_image *image, const char *text, bool shrink)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        const char *path = image->path;
        uint64_t size = 0;
        int r = tool_open(image, FMT_NO_BACKING, &img);

        if (r < 0)
                return r;
        if (!img->drv->resize)
                return err_note(-ENOTSUP, "'%s': %s images cannot be resized", path, img->drv->name);
        r = new_size(text, tool_disk_size(img), &size);
        if (r < 0)
                return r;
        if (size < tool_disk_size(img) && !shrink)
                return err_note(-EINVAL, "'%s' would shrink from %llu to %llu bytes and lose what lies beyond; "
                                "--shrink says that you want that", path, (unsigned long long)tool_disk_size(img),
                                (unsigned long long)size);
        r = img->drv->resize(img, size, shrink);
        if (r == 0)
                r = file_sync(img->file);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot resize: ", path) : 0;
}

static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },
        { "shrink", no_argument, NULL, OPT_SHRINK },
        { "preallocation", required_argument, NULL, OPT_PREALLOCATION },
        { "quiet", no_argument, NULL, 'q' },
        { NULL, 0, NULL, 0 },
};

static bool is_size_word(const char *word)
{
        return (word[0] == '-' || word[0] == '+') && word[1] >= '0' && word[1] <= '9';
}

static int run(int argc, char **argv)
{
        AUTO(tool_image_finish) struct tool_image image = { 0 };
        const char *format = NULL, *size = NULL;
        bool shrink = false, quiet = false;
        int c, r;

        if (argc > 1 && is_size_word(argv[argc - 1])) /* "-1G" is no option */
                size = argv[--argc];
        while ((c = tool_option(&cmd_resize, argc, argv, "f:q", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 'q')
                        quiet = true;
                else if (c == OPT_SHRINK)
                        shrink = true;
                else if (c == OPT_PREALLOCATION && strcmp(optarg, "off"))
                        return tool_fail(err_note(-EINVAL, "--preallocation '%s' is not possible here, only off", optarg), 1);
        }
        tool_want_words(&cmd_resize, argc, size ? 1 : 2, size ? 1 : 2, "one file name and a size");
        r = tool_image_set(&image, argv[optind], format);
        if (r == 0)
                r = resize(&image, size ? size : argv[optind + 1], shrink);
        if (r < 0)
                return tool_fail(r, 1);
        if (!quiet)
                printf("Image resized.\n");
        return 0;
}

const struct command cmd_resize = {
        .name = "resize", .run = run,
        .usage = "[-q] [-f FMT] [--shrink] [--preallocation=off] FILE [+|-]SIZE",
        .help = "Makes the disk larger or smaller.\n\n"
                "  -f FMT     the image's format\n"
                "  --shrink   allow a smaller size; what lies beyond is lost\n"
                "  -q         say nothing but errors\n",
};
