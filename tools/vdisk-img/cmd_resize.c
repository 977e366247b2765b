/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_resize.c - vdisk-img resize: a larger or smaller disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/bitmaps.h"
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

struct job {
        struct tool_image image;
        const char *format, *size;
        enum fmt_prealloc prealloc;
        bool shrink, quiet;
};

static void job_finish(struct job *j)
{
        tool_image_finish(&j->image);
}

/* The tables that @img holds are stale after a resize. */
static int open_again(const struct job *j, struct fmt_image **img)
{
        struct fmt_open_opts how = tool_again(&j->image, *img, FMT_NO_BACKING);

        chain_close(TAKE(*img, NULL));
        return chain_open(j->image.path, &how, img);
}

/* Space for what came to the disk. If there is none, the disk gets its old size again. */
static int preallocate(const struct job *j, struct fmt_image **img, uint64_t old, uint64_t size)
{
        uint64_t from = old;
        int r = open_again(j, img);

        if (r < 0)
                return r;
        if ((*img)->backing_name) /* the rest of the last cluster may come from there */
                from = round_up(old, (*img)->cluster_size);
        r = from < size ? fmt_preallocate_sync(*img, from, size - from, j->prealloc) : 0;
        if (r < 0) {
                err_note(r, "%s", strerror(-r));
                if (open_again(j, img) == 0)
                        tool_resize(*img, old, true);
        }
        return r;
}

/*
 * Behind the old end nothing of a longer backing file may show. A cluster that is partly the disk's and partly behind
 * its end cannot say so while it comes from the backing file: it becomes the image's own. (The resize itself does not
 * know the backing file, and takes it for a longer one.)
 */
static int own_last_cluster(const struct job *j, struct fmt_image **img, uint64_t old)
{
        uint64_t from = round_down(old, (*img)->cluster_size);
        AUTO(tool_closep) struct fmt_image *chain = NULL;
        AUTO(freep) char *buf = malloc((*img)->cluster_size);
        int r = buf ? 0 : -ENOMEM;

        if (r < 0 || from == old)
                return r;
        chain_close(TAKE(*img, NULL)); /* it holds the lock */
        r = tool_open(&j->image, 0, &chain);
        if (r == 0 && chain->backing)
                r = chain_read_sync(chain, buf, old - from, from);
        if (r == 0 && chain->backing)
                r = fmt_write_sync(chain, buf, old - from, from);
        if (r == 0)
                r = fmt_settle_sync(chain);
        chain_close(TAKE(chain, NULL));
        return r < 0 ? r : tool_open(&j->image, FMT_NO_BACKING, img);
}

static int resize(const struct job *j)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        const char *path = j->image.path;
        uint64_t size = 0, old;
        int r = tool_open(&j->image, FMT_NO_BACKING, &img);

        if (r < 0)
                return r;
        if (!img->drv->resize)
                return err_note(-ENOTSUP, "'%s': %s images cannot be resized", path, img->drv->name);
        old = tool_disk_size(img);
        r = new_size(j->size, old, &size);
        if (r < 0)
                return r;
        if (size < old && !j->shrink)
                return err_note(-EINVAL, "'%s' would shrink from %llu to %llu bytes and lose what lies beyond; "
                                "--shrink says that you want that", path, (unsigned long long)old, (unsigned long long)size);
        if (size < old && j->prealloc != FMT_PREALLOC_OFF)
                return err_note(-EINVAL, "Preallocation can only be used for growing images");
        r = fmt_preallocate_usable(img, j->prealloc);
        if (r == 0 && size > old && img->backing_name)
                r = own_last_cluster(j, &img, old);
        if (r == 0)
                r = tool_resize(img, size, j->shrink);
        if (r == 0)
                r = file_sync(img->file);
        if (r == 0 && j->prealloc != FMT_PREALLOC_OFF)
                r = preallocate(j, &img, old, size);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot resize: ", path) : 0;
}

static int parse_prealloc(const char *text, enum fmt_prealloc *ret)
{
        static const char *const words[] = { "off", "metadata", "falloc", "full" };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (!strcmp(text, words[i]))
                        return *ret = (enum fmt_prealloc)i, 0;
        return err_note(-EINVAL, "--preallocation '%s' is not one of off, metadata, falloc, full", text);
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
        AUTO(job_finish) struct job j = { 0 };
        int c, r = 0;

        if (argc > 1 && is_size_word(argv[argc - 1])) /* "-1G" is no option */
                j.size = argv[--argc];
        while (r == 0 && (c = tool_option(&cmd_resize, argc, argv, "f:q", longs)) != -1) {
                if (c == 'f')
                        j.format = optarg;
                else if (c == 'q')
                        j.quiet = true;
                else if (c == OPT_SHRINK)
                        j.shrink = true;
                else if (c == OPT_PREALLOCATION)
                        r = parse_prealloc(optarg, &j.prealloc);
        }
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_resize, argc, j.size ? 1 : 2, j.size ? 1 : 2, "one file name and a size");
        r = tool_image_set(&j.image, argv[optind], j.format);
        j.size = j.size ? j.size : argv[optind + 1];
        if (r == 0)
                r = resize(&j);
        if (r < 0)
                return tool_fail(r, 1);
        if (!j.quiet)
                printf("Image resized.\n");
        return 0;
}

const struct command cmd_resize = {
        .name = "resize", .run = run,
        .usage = "[-q] [-f FMT] [--shrink] [--preallocation=off|metadata|falloc|full] FILE [+|-]SIZE",
        .help = "Makes the disk larger or smaller.\n\n"
                "  -f FMT                the image's format\n"
                "  --shrink              allow a smaller size; what lies beyond is lost\n"
                "  --preallocation=MODE  space for what comes to the disk: off (none), metadata (table entries), falloc\n"
                "                        (kept by the file system) or full (written)\n"
                "  -q                    say nothing but errors\n",
        .examples = "  vdisk-img resize disk.qcow2 +20G\n",
};
