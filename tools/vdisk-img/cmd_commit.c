/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_commit.c - vdisk-img commit: what an overlay holds goes into the image behind it. While it goes, and if it fails
 * on the way, the overlay is as it was and hides what of the image behind it has changed. Only when all is durable
 * there the overlay is emptied.
 */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"
#include "tools/vdisk-img/copy.h"
#include "tools/vdisk-img/bitmaps.h"
#include "tools/vdisk-img/tool.h"

struct job {
        struct tool_image image;
        const char *path, *base_name;
        struct copy_opts copy;
        struct progress progress;
        unsigned depth; /* of the base in the chain */
        char *base_path;
        const char *base_format;
        const struct fmt_layer *base_layer;
        bool keep; /* do not empty the overlay */
};

static void job_finish(struct job *j)
{
        free(j->base_path);
        tool_image_finish(&j->image);
}

/* Is @img, which @above calls by its name, what -b means? */
static bool is_base(const struct job *j, const struct fmt_image *above, const struct fmt_image *img)
{
        dev_t dev;
        ino_t ino;

        if (!j->base_name || !strcmp(j->base_name, above->backing_name) || !strcmp(j->base_name, img->file->path))
                return true;
        if (file_identify(j->base_name, &dev, &ino) == 0)
                return img->file->dev == dev && img->file->ino == ino;
        err_clear();
        return false;
}

static int find_base(struct job *j, const struct fmt_image *top)
{
        const struct fmt_image *img;

        if (!top->backing)
                return err_note(-EINVAL, "'%s' has no backing file that it could be committed to", j->path);
        for (img = top; img->backing && !is_base(j, img, img->backing); img = img->backing)
                j->depth++;
        if (!img->backing)
                return err_note(-EINVAL, "'%s' is not in the backing chain of '%s'", j->base_name, j->path);
        j->depth++;
        j->base_path = strdup(img->backing->file->path);
        j->base_format = img->backing->drv->name;
        j->base_layer = j->image.layer;
        for (unsigned i = 0; i < j->depth && j->base_layer; i++)
                j->base_layer = j->base_layer->backing;
        return j->base_path ? 0 : -ENOMEM;
}

/* What lies above the base stays; the base and its own chain go. */
static void cut_chain(struct fmt_image *top, unsigned depth)
{
        while (--depth)
                top = top->backing;
        chain_close(TAKE(top->backing, NULL));
}

/* No image above the base has it. Zeros beyond the end of an image in between are not meant: they hide the base. */
static int not_ours(struct extent *ext, void *opaque)
{
        const struct job *j = opaque;

        return ext->kind == EXT_ZERO && !ext->in_image && ext->depth == j->depth - 1;
}

static int open_base(const struct job *j, uint64_t size, struct fmt_image **ret)
{
        struct fmt_open_opts how = { .format = j->base_format,
                                     .flags = FMT_KEEP_BITMAPS | (j->copy.target_cache.direct ? FMT_DIRECT : 0),
                                     .layer = j->base_layer };
        int r = chain_open(j->base_path, &how, ret);

        if (r < 0 || tool_disk_size(*ret) >= size)
                return r;
        r = (*ret)->drv->resize ? tool_resize(*ret, size, false) :
                                  err_note(-ENOTSUP, "%s images cannot grow", j->base_format);
        if (r == 0)
                r = file_sync((*ret)->file);
        chain_close(*ret); /* what it holds of its tables is stale */
        if (r < 0)
                return err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot grow to the size of the overlay: ",
                                  j->base_path);
        return chain_open(j->base_path, &how, ret);
}

/* @top: open for writing, so that nobody else has it, and cut above the base, so that the base is free for us. */
static int copy_down(struct job *j, struct fmt_image *top)
{
        struct fmt_open_opts src = tool_again(&j->image, top, FMT_RDONLY | FMT_NO_LOCK);
        struct fmt_image *source, *base;
        int r = chain_open(j->path, &src, &source);

        if (r < 0)
                return r;
        cut_chain(source, j->depth);
        r = open_base(j, tool_disk_size(top), &base);
        if (r < 0) {
                chain_close(source);
                return r;
        }
        j->copy.in_target = not_ours;
        j->copy.opaque = j;
        j->copy.stop = tool_stop_on_signals();
        return copy_disk(top, source, base, &j->copy);
}

static int commit(struct job *j)
{
        AUTO(tool_closep) struct fmt_image *top = NULL;
        int r = tool_open(&j->image, 0, &top);

        if (r == 0)
                r = find_base(j, top);
        if (r < 0)
                return r;
        cut_chain(top, j->depth);
        progress_show(&j->progress, 0);
        r = copy_down(j, top);
        progress_end(&j->progress);
        if (r < 0 || j->keep)
                return r;
        r = top->drv->empty(top);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s' is committed, but cannot be emptied: ", j->path) : 0;
}

static const struct option longs[] = {
        { "quiet", no_argument, NULL, 'q' }, { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .copy = { .jobs = 8, .sparse = 4096 } };
        const char *format = NULL;
        bool quiet = false;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_commit, argc, argv, "f:t:b:r:dpq", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 't')
                        r = tool_cache_parse("-t", optarg, &j.copy.target_cache);
                else if (c == 'b')
                        j.base_name = optarg, j.keep = true; /* as qemu-img: the overlay may be of no use then */
                else if (c == 'r')
                        r = size_parse(optarg, &j.copy.rate);
                else if (c == 'd')
                        j.keep = true;
                else if (c == 'p')
                        j.progress.on = true;
                else if (c == 'q')
                        quiet = true;
        }
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_commit, argc, 1, 1, "one file name");
        r = tool_image_set(&j.image, argv[optind], format);
        j.path = j.image.path;
        j.progress.on &= !quiet;
        j.copy.progress = &j.progress;
        j.copy.target_cache.unsafe = false; /* the order of writes to an image that was there before is kept */
        if (r == 0)
                r = commit(&j);
        if (r < 0)
                return tool_fail(r, 1);
        if (!quiet)
                printf("Image committed.\n");
        return 0;
}

const struct command cmd_commit = {
        .name = "commit", .run = run,
        .usage = "[-q] [-f FMT] [-t CACHE] [-b BASE] [-r RATE] [-d] [-p] FILE",
        .help = "Writes what the overlay FILE holds into its backing file, then empties FILE.\n\n"
                "  -f FMT    format of FILE; must be given, since its backing file is followed\n"
                "  -b BASE   an image deeper in the chain; those in between are of no use then; implies -d\n"
                "  -d        do not empty FILE\n"
                "  -r RATE   bytes a second at most\n"
                "  -t CACHE  for the backing file: none, writeback, writethrough, directsync or unsafe (writeback)\n"
                "  -p        show progress\n"
                "  -q        say nothing but errors\n",
        .examples = "  vdisk-img commit -f qcow2 overlay.qcow2\n",
};
