/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_rebase.c - vdisk-img rebase: another backing file for an overlay, the same disk. First the overlay gets what the
 * new backing file would show differently, while it still stands on the old one; when that is durable the header
 * changes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tools/vdisk-img/copy.h"
#include "tools/vdisk-img/tool.h"

#define MAX_UNIT (64u << 10)

struct job {
        struct tool_image image;
        const char *path, *name, *name_format; /* name "": no backing file */
        struct copy_opts copy;
        struct progress progress;
        struct fmt_image *new; /* what the overlay shall stand on; NULL: nothing */
        char *buf;             /* copy.unit bytes of it */
        unsigned shared; /* FMT_NO_LOCK for the backing file */
        bool unchecked;
};

static void job_finish(struct job *j)
{
        chain_close(j->new);
        free(j->buf);
        tool_image_finish(&j->image);
}

static bool reads_zero(const struct extent *ext)
{
        return ext->kind == EXT_ZERO || ext->hole;
}

/* What the new backing file shows at @off; zeros beyond its end. */
static int look_at_new(const struct job *j, uint64_t off, uint64_t len, struct extent *ext)
{
        if (j->new && off < j->new->size)
                return chain_map_sync(j->new, off, min_u64(len, j->new->size - off), ext);
        *ext = (struct extent){ .kind = EXT_ZERO, .off = off, .len = len };
        return 0;
}

/* Old and new chain often have images in common. */
static bool same_place(const struct extent *a, const struct extent *b)
{
        return a->kind == EXT_DATA && b->kind == EXT_DATA && a->host == b->host &&
               a->img->file->dev == b->img->file->dev && a->img->file->ino == b->img->file->ino;
}

static int stays(struct extent *ext, void *opaque)
{
        const struct job *j = opaque;
        struct extent new;
        int r;

        if (ext->depth == 0 && ext->in_image)
                return 1; /* the overlay's own */
        r = look_at_new(j, ext->off, ext->len, &new);
        if (r < 0)
                return r;
        ext->len = min_u64(ext->len, new.len);
        return (reads_zero(ext) && reads_zero(&new)) || same_place(ext, &new);
}

static int reads_same(const void *buf, uint64_t off, size_t len, void *opaque)
{
        struct job *j = opaque;
        size_t there = j->new && off < j->new->size ? min_u64(len, j->new->size - off) : 0;
        int r = there ? chain_read_sync(j->new, j->buf, there, off) : 0;

        if (r < 0)
                return r;
        memset(j->buf + there, 0, len - there);
        return !memcmp(buf, j->buf, len);
}

static int open_new(struct job *j, const struct fmt_image *top)
{
        AUTO(freep) char *path = NULL;
        dev_t dev;
        ino_t ino;
        int r;

        if (!*j->name)
                return 0;
        r = tool_driver(j->name_format) ? chain_backing_path(j->path, j->name, &path) : -EINVAL;
        if (r == 0)
                r = file_identify(path, &dev, &ino);
        if (r == 0 && top->file->dev == dev && top->file->ino == ino)
                return err_note(-ELOOP, "'%s' cannot be its own backing file", j->path);
        if (r < 0)
                return r;
        return chain_open(path, &(struct fmt_open_opts){ .format = j->name_format, .flags = FMT_RDONLY | FMT_GUESS | j->shared |
                                                         (j->copy.source_cache.direct ? FMT_DIRECT : 0) }, &j->new);
}

/* All that the new backing file shows differently goes into the overlay. @top: taken. */
static int fill(struct job *j, struct fmt_image *top)
{
        struct fmt_open_opts src = tool_again(&j->image, top, FMT_RDONLY | FMT_NO_LOCK);
        AUTO(tool_closep) struct fmt_image *map = NULL;
        struct fmt_image *source;
        int r = open_new(j, top);

        j->copy.unit = (uint32_t)min_u64(max_u64(top->cluster_size, 512), MAX_UNIT);
        if (r == 0)
                r = (j->buf = malloc(j->copy.unit)) ? chain_open(j->path, &src, &map) : -ENOMEM;
        if (r == 0)
                r = chain_open(j->path, &src, &source);
        if (r < 0) {
                chain_close(top);
                return r;
        }
        j->copy.in_target = stays;
        j->copy.reads_same = reads_same;
        j->copy.opaque = j;
        j->copy.stop = tool_stop_on_signals();
        progress_show(&j->progress, 0);
        r = copy_disk(map, source, top, &j->copy);
        progress_end(&j->progress);
        return r;
}

static int change_header(const struct job *j)
{
        struct fmt_option opts[] = { { "backing_file", j->name }, { "backing_fmt", *j->name ? j->name_format : "" } };
        AUTO(tool_closep) struct fmt_image *img = NULL;
        int r = tool_open(&j->image, FMT_NO_BACKING | FMT_NO_KEY, &img);

        if (r < 0)
                return r;
        if (!img->drv->amend || !(img->drv->caps & FMT_HAS_BACKING))
                return err_note(-ENOTSUP, "'%s': %s images cannot have a backing file", j->path, img->drv->name);
        r = img->drv->amend(img, opts, ARRAY_SIZE(opts), false);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot change the header: ", j->path) : 0;
}

static int rebase(struct job *j)
{
        struct fmt_image *top;
        const char *format;
        int r;

        if (*j->name && !j->name_format)
                return err_note(-EINVAL, "the backing file '%s' needs its format: -F raw, -F qcow2", j->name);
        if (j->unchecked)
                return change_header(j);
        r = tool_open(&j->image, j->copy.target_cache.direct ? FMT_DIRECT : 0, &top);
        if (r < 0)
                return r;
        format = j->image.format = top->drv->name;
        if (!(top->drv->caps & FMT_HAS_BACKING)) {
                chain_close(top);
                return err_note(-ENOTSUP, "'%s': %s images cannot have a backing file", j->path, format);
        }
        r = fill(j, top);
        return r < 0 ? r : change_header(j);
}

static const struct option longs[] = {
        { "force-share", no_argument, NULL, 'U' }, { "quiet", no_argument, NULL, 'q' }, { NULL, 0, NULL, 0 },
};

static int take_option(struct job *j, int c)
{
        switch (c) {
        case 'f':
                j->image.format = optarg;
                return 0;
        case 'b':
                j->name = optarg;
                return 0;
        case 'F':
                j->name_format = optarg;
                return 0;
        case 't':
                return tool_cache_parse("-t", optarg, &j->copy.target_cache);
        case 'T':
                return tool_cache_parse("-T", optarg, &j->copy.source_cache);
        case 'p':
                j->progress.on = true;
                return 0;
        case 'u':
                j->unchecked = true;
                return 0;
        case 'U':
                j->shared = FMT_NO_LOCK;
                return 0;
        default:
                return 0;
        }
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .copy = { .jobs = 8 } };
        bool quiet = false;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_rebase, argc, argv, "f:b:F:t:T:upqU", longs)) != -1) {
                quiet |= c == 'q';
                r = take_option(&j, c);
        }
        if (r == 0 && !j.name)
                r = err_note(-EINVAL, "rebase: -b says the new backing file; -b '' means none");
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_rebase, argc, 1, 1, "one file name");
        r = tool_image_set(&j.image, argv[optind], j.image.format);
        if (r < 0)
                return tool_fail(r, 1);
        j.path = j.image.path;
        j.progress.on &= !quiet;
        j.copy.progress = &j.progress;
        j.copy.target_cache.unsafe = false; /* the order of writes to an image that was there before is kept */
        r = rebase(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_rebase = {
        .name = "rebase", .run = run,
        .usage = "[-q] [-f FMT] [-t CACHE] [-T CACHE] [-p] [-u] [-U] -b BACKING [-F FMT] FILE",
        .help = "Gives the overlay FILE another backing file. Its disk stays the same: what the new backing file shows\n"
                "differently is written into FILE first.\n\n"
                "  -f FMT       format of FILE; must be given, since its backing file is followed\n"
                "  -b BACKING   the new backing file; a relative name is relative to FILE; '' means none\n"
                "  -F FMT       its format\n"
                "  -u           only change the name; for a backing file that was moved. Nothing is compared\n"
                "  -U           read BACKING even when another program uses it\n"
                "  -t, -T CACHE for FILE and BACKING: none, writeback, writethrough, directsync or unsafe (writeback)\n"
                "  -p           show progress\n"
                "  -q           say nothing but errors\n",
        .examples = "  vdisk-img rebase -f qcow2 -b new-base.qcow2 -F qcow2 overlay.qcow2\n"
                    "  vdisk-img rebase -u -f qcow2 -b /new/place/base.qcow2 -F qcow2 overlay.qcow2\n",
};
