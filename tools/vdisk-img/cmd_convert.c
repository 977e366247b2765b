/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_convert.c - vdisk-img convert: the same disk in another image. What was made is removed again when it fails. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/bitmaps.h"
#include "tools/vdisk-img/copy.h"
#include "tools/vdisk-img/share.h"
#include "tools/vdisk-img/tool.h"

#define DEFAULT_JOBS 8u
#define MAX_JOBS 16u
#define DEFAULT_SPARSE 4096u
#define MAX_SPARSE (16u << 20)

struct job {
        struct tool_image *from; /* the sources, one behind the other */
        int nfrom;
        struct fmt_image **map; /* the sources, open to look at their tables */
        uint64_t size;          /* of all of them */
        struct tool_snapshot snapshot;
        const char *to, *from_format, *to_format;
        struct tool_image target;
        struct fmt_layer new_layer; /* what -o says about opening what it makes */
        char *backing, *backing_format; /* owned */
        char *data_path; /* owned; where -o data_file puts the data of the new image */
        struct option_list opts;
        struct copy_opts copy;
        struct shared shared; /* of the source that is copied now */
        struct progress progress;
        unsigned flags; /* FMT_NO_LOCK for the source */
        bool keep_target, target_is_zero, target_image_opts, bitmaps, skip_broken;
};

static void job_finish(struct job *j)
{
        option_list_finish(&j->opts);
        free(j->backing);
        free(j->data_path);
        free(j->backing_format);
        tool_snapshot_finish(&j->snapshot);
        shared_finish(&j->shared);
        for (int i = 0; j->map && i < j->nfrom; i++)
                chain_close(j->map[i]);
        for (int i = 0; j->from && i < j->nfrom; i++)
                tool_image_finish(&j->from[i]);
        free(j->map);
        free(j->from);
        tool_image_finish(&j->target);
}

/* The backing file is opened before the target is made: a wrong one must not cost what is at @to now. */
static int look_at_backing(const struct job *j, const struct fmt_driver *drv)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        AUTO(freep) char *path = NULL;
        int r;

        if (!(drv->caps & FMT_HAS_BACKING))
                return err_note(-EINVAL, "%s images cannot have a backing file", drv->name);
        if (!j->backing_format || !tool_driver(j->backing_format))
                return err_note(-EINVAL, "the backing file '%s' needs its format: -F raw, -F qcow2", j->backing);
        r = chain_backing_path(j->to, j->backing, &path);
        if (r == 0)
                r = chain_open(path, &(struct fmt_open_opts){ .format = j->backing_format, .flags = FMT_RDONLY | FMT_GUESS |
                                                              j->flags }, &img);
        if (r == 0)
                r = tool_refuse_part_of(j->to, img, "backing chain");
        return r < 0 ? r : tool_refuse_part_of(j->data_path, img, "backing chain");
}

/* Before anything is made. */
static int may_compress(const struct job *j, const struct fmt_driver *drv)
{
        if (!j->copy.compress)
                return 0;
        if (!drv->pack)
                return err_note(-EINVAL, "-c: %s images cannot be compressed; -O qcow2 can", drv->name);
        if (j->copy.any_order)
                return err_note(-EINVAL, "-c and -W exclude each other: compressed clusters follow each other anyway");
        for (size_t i = 0; i < j->opts.n; i++)
                if (!strcmp(j->opts.opts[i].name, "data_file"))
                        return err_note(-EINVAL, "-c and data_file exclude each other: in a data file every cluster has its place");
                else if (!strcmp(j->opts.opts[i].name, "encrypt.format"))
                        return err_note(-EINVAL, "-c and encryption exclude each other: compressed clusters would not be "
                                        "encrypted");
                else if (!strcmp(j->opts.opts[i].name, "preallocation") && strcmp(j->opts.opts[i].value, "off"))
                        return err_note(-EINVAL, "-c and preallocation exclude each other: compressed clusters go elsewhere");
        return 0;
}

static int create_target(const struct job *j, const struct fmt_driver *drv)
{
        struct fmt_create req = {
                .size = j->size, .backing_name = j->backing, .backing_format = j->backing_format,
                .opts = j->opts.opts, .nopts = j->opts.n,
        };
        int r;

        r = j->backing ? look_at_backing(j, drv) : 0;
        if (r < 0)
                return r;
        return tool_create(j->to, drv, &req);
}

/* Is nothing to do for this extent? With -B the target has what comes from the source's backing file. */
static int is_there(struct extent *ext, void *opaque)
{
        const struct job *j = opaque;

        return (j->backing && ext->depth > 0) || shared_has(&j->shared, ext);
}

static int is_mine(struct extent *ext, void *opaque)
{
        const struct job *j = opaque;

        return !(j->backing && ext->depth > 0);
}

/* Blocks are shared by default where nothing was asked for that only a copy of the bytes can do. -C asks for it. */
static bool may_share(const struct job *j)
{
        for (size_t i = 0; i < j->opts.n; i++)
                if (!strcmp(j->opts.opts[i].name, "preallocation") && strcmp(j->opts.opts[i].value, "off"))
                        return false;
        return !j->copy.compress && !j->copy.rate && (j->copy.sparse || j->shared.offload);
}

/* What of source @i the target can have without a copy through us. */
static int share_one(struct job *j, int i, uint64_t off, const struct fmt_driver *drv)
{
        AUTO(tool_closep) struct fmt_image *target = NULL;
        struct fmt_open_opts how = { .format = drv->name, .flags = FMT_NO_KEY | FMT_KEEP_BITMAPS, .layer = j->target.layer };
        int r = chain_open(j->to, &how, &target);

        shared_finish(&j->shared);
        j->shared.progress = j->shared.offload ? &j->progress : NULL; /* sharing takes no time */
        if (r < 0 || tool_disk_size(target) < j->size || tool_has_bitmaps(target)) /* they are to record what is written */
                return r;
        r = share_disk(&j->shared, j->map[i], target, off, is_mine, j, j->copy.stop);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", j->to) : 0;
}

/* Opens both sides for the copy of source @i to @off; the target is there already. */
static int copy_one(struct job *j, int i, uint64_t off, const struct fmt_driver *drv)
{
        struct fmt_open_opts src = { .format = j->map[i]->drv->name, .flags = FMT_RDONLY | FMT_GUESS | j->flags |
                                             (j->copy.source_cache.direct ? FMT_DIRECT : 0),
                                     .layer = j->from[i].layer,
                                     .snapshot = j->snapshot.given ? &j->snapshot.which : NULL };
        struct fmt_open_opts dst = { .format = drv->name,
                                     .flags = FMT_KEEP_BITMAPS | (j->copy.target_cache.direct ? FMT_DIRECT : 0),
                                     .layer = j->target.layer ?: &j->new_layer };
        struct fmt_image *source, *target;
        int r = may_share(j) ? share_one(j, i, off, drv) : 0;

        if (r == 0)
                r = chain_open(j->from[i].path, &src, &source);
        if (r < 0)
                return r;
        r = chain_open(j->to, &dst, &target);
        if (r == 0 && tool_disk_size(target) < j->size) {
                r = err_note(-ENOSPC, "'%s' holds %llu bytes, too few for the %llu of '%s'", j->to,
                             (unsigned long long)tool_disk_size(target), (unsigned long long)j->size, j->from[i].path);
                chain_close(target);
        }
        if (r < 0) {
                chain_close(source);
                return r;
        }
        j->copy.in_target = is_there;
        j->copy.opaque = j;
        j->copy.target_is_zero = (!j->keep_target || j->target_is_zero) && !j->backing && !target->file->is_blkdev;
        j->copy.target_off = off;
        return copy_disk(j->map[i], source, target, &j->copy);
}

static int copy(struct job *j, const struct fmt_driver *drv)
{
        uint64_t off = 0;
        int r = 0;

        for (int i = 0; r == 0 && i < j->nfrom; i++) {
                uint64_t len = tool_disk_size(j->map[i]);

                j->progress.from = j->size ? (double)off / (double)j->size : 0;
                j->progress.part = j->size ? (double)len / (double)j->size : 1;
                r = copy_one(j, i, off, drv);
                off += len;
        }
        return r;
}

static int open_sources(struct job *j)
{
        int r = 0;

        j->map = calloc((size_t)j->nfrom, sizeof(struct fmt_image *));
        if (!j->map)
                return -ENOMEM;
        for (int i = 0; r == 0 && i < j->nfrom; i++) {
                r = tool_open_snapshot(&j->from[i], FMT_RDONLY | j->flags, &j->snapshot, &j->map[i]);
                if (r == 0)
                        r = tool_refuse_part_of(j->to, j->map[i], "source");
                if (r == 0)
                        r = tool_refuse_part_of(j->data_path, j->map[i], "source");
                if (r == 0 && tool_disk_size(j->map[i]) > INT64_MAX - j->size)
                        r = err_note(-EFBIG, "'%s': the disks together are larger than 8 EiB", j->from[i].path);
                if (r == 0)
                        j->size += tool_disk_size(j->map[i]);
        }
        return r;
}

/* Before anything is made. */
static int may_copy_bitmaps(const struct job *j, const struct fmt_driver *drv)
{
        if (!j->bitmaps)
                return j->skip_broken ? err_note(-EINVAL, "--skip-broken-bitmaps only goes with --bitmaps") : 0;
        if (j->nfrom > 1)
                return err_note(-EINVAL, "--bitmaps goes with one source only");
        if (j->snapshot.given)
                return err_note(-EINVAL, "--bitmaps and -l exclude each other: bitmaps are about the disk as it is now");
        return tool_may_copy_bitmaps(j->map[0], drv, j->skip_broken);
}

static int copy_bitmaps(struct job *j, const struct fmt_driver *drv)
{
        AUTO(tool_closep) struct fmt_image *target = NULL;
        int r = chain_open(j->to, &(struct fmt_open_opts){
                .format = drv->name, .flags = FMT_NO_BACKING | FMT_NO_KEY | FMT_KEEP_BITMAPS,
                .layer = j->target.layer ?: &j->new_layer }, &target);

        if (r == 0)
                r = tool_copy_bitmaps(j->map[0], target, j->skip_broken);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot copy the bitmaps: ", j->to) : 0;
}

static int convert(struct job *j)
{
        const struct fmt_driver *drv = tool_driver(j->to_format);
        int r = drv ? tool_data_path(&j->opts, j->to, &j->data_path) : -EINVAL;

        j->new_layer.data_path = j->data_path;
        if (r == 0)
                r = open_sources(j);
        if (r == 0)
                r = may_compress(j, drv);
        if (r == 0)
                r = may_copy_bitmaps(j, drv);
        if (r == 0 && !j->keep_target)
                r = create_target(j, drv);
        if (r < 0)
                return r;
        j->copy.stop = tool_stop_on_signals();
        progress_show(&j->progress, 0);
        r = copy(j, drv);
        if (r == 0 && j->bitmaps)
                r = copy_bitmaps(j, drv);
        if (r < 0 && !j->keep_target)
                tool_remove(j->to);
        if (r < 0 && j->data_path)
                tool_remove(j->data_path);
        progress_end(&j->progress);
        return r;
}

/* --- the command line ------------------------------------------------------------------------------------------ */

static int parse_count(const char *text, unsigned *ret)
{
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        if (*end || end == text || n < 1 || n > MAX_JOBS)
                return err_note(-EINVAL, "-m '%s' is not a number from 1 to %u", text, MAX_JOBS);
        *ret = (unsigned)n;
        return 0;
}

static int parse_sparse(const char *text, uint32_t *ret)
{
        uint64_t n;
        int r = size_parse(text, &n);

        if (r < 0)
                return r;
        if (n % 512 || n > MAX_SPARSE)
                return err_note(-EINVAL, "-S '%s' is not a multiple of 512 up to 16M", text);
        *ret = (uint32_t)n;
        return 0;
}

static int set_text(char **where, const char *text)
{
        free(*where);
        *where = strdup(text);
        return *where ? 0 : -ENOMEM;
}

enum { OPT_TARGET_IS_ZERO = OPT_OWN, OPT_SALVAGE, OPT_TARGET_IMAGE_OPTS, OPT_BITMAPS, OPT_SKIP_BROKEN };
static const struct option longs[] = {
        { "bitmaps", no_argument, NULL, OPT_BITMAPS },
        { "force-share", no_argument, NULL, 'U' },
        { "quiet", no_argument, NULL, 'q' },
        { "skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN },
        { "salvage", no_argument, NULL, OPT_SALVAGE },
        { "target-image-opts", no_argument, NULL, OPT_TARGET_IMAGE_OPTS },
        { "target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO },
        { NULL, 0, NULL, 0 },
};

static int take_option(struct job *j, int c)
{
        switch (c) {
        case 'f':
                j->from_format = optarg;
                return 0;
        case 'O':
                j->to_format = optarg;
                return 0;
        case 'o':
                return option_list_add(&j->opts, optarg);
        case 'B':
                return set_text(&j->backing, optarg);
        case 'F':
                return set_text(&j->backing_format, optarg);
        case 'l':
                return tool_snapshot_parse(optarg, &j->snapshot);
        case 'r':
                return size_parse(optarg, &j->copy.rate);
        case OPT_BITMAPS:
                j->bitmaps = true;
                return 0;
        case OPT_SKIP_BROKEN:
                j->skip_broken = true;
                return 0;
        case OPT_SALVAGE:
                j->copy.salvage = true;
                return 0;
        case 'm':
                return parse_count(optarg, &j->copy.jobs);
        case 'S':
                return parse_sparse(optarg, &j->copy.sparse);
        case 't':
                return tool_cache_parse("-t", optarg, &j->copy.target_cache);
        case 'T':
                return tool_cache_parse("-T", optarg, &j->copy.source_cache);
        case 'c':
                j->copy.compress = true;
                return 0;
        case 'C':
                j->shared.offload = true;
                return 0;
        case 'W':
                j->copy.any_order = true;
                return 0;
        case 'n':
                j->keep_target = true;
                return 0;
        case 'p':
                j->progress.on = true;
                return 0;
        case 'U':
                j->flags |= FMT_NO_LOCK;
                return 0;
        case OPT_TARGET_IMAGE_OPTS:
                j->target_image_opts = true;
                return 0;
        case OPT_TARGET_IS_ZERO:
                j->target_is_zero = true;
                return 0;
        default:
                return 0;
        }
}

/* -o knows backing_file and backing_fmt too; -B and -F win. */
static void take_common(struct job *j)
{
        char *file = option_list_take(&j->opts, "backing_file");
        char *format = option_list_take(&j->opts, "backing_fmt");

        j->backing = j->backing ? (free(file), j->backing) : file;
        j->backing_format = j->backing_format ? (free(format), j->backing_format) : format;
}

static int name_images(struct job *j, char **words, int nfrom)
{
        int r = 0;

        if (j->target_image_opts && !j->keep_target)
                return err_note(-EINVAL, "convert: --target-image-opts describes an image that is there: it goes with -n only");
        j->from = calloc((size_t)nfrom, sizeof(*j->from));
        if (!j->from)
                return -ENOMEM;
        j->nfrom = nfrom;
        for (int i = 0; r == 0 && i < nfrom; i++)
                r = tool_image_set(&j->from[i], words[i], j->from_format);
        if (r == 0)
                r = tool_image_parse(&j->target, words[nfrom], j->to_format, j->target_image_opts);
        j->to = j->target.path;
        j->to_format = j->target.format ?: "raw";
        return r;
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = {
                /* A new image is thrown away when we fail, so it is left to the host when it gets to the disk: as
                 * qemu-img. */
                .copy = { .jobs = DEFAULT_JOBS, .target_cache.unsafe = true, .sparse = DEFAULT_SPARSE },
        };
        bool quiet = false;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_convert, argc, argv, "cCf:O:o:B:F:l:m:r:S:t:T:WnpqU", longs)) != -1) {
                quiet |= c == 'q';
                r = take_option(&j, c);
        }
        if (r == 0 && j.opts.help) {
                const struct fmt_driver *drv = tool_driver(j.to_format ?: "raw");

                if (drv)
                        print_option_help(drv);
                return drv ? 0 : tool_fail(-EINVAL, 1);
        }
        take_common(&j);
        for (size_t i = 0; i < j.opts.n; i++)
                if (!strcmp(j.opts.opts[i].name, "encrypt.key-secret"))
                        j.new_layer.key_secret = j.opts.opts[i].value;
        if (r == 0 && j.keep_target && j.opts.n)
                r = err_note(-EINVAL, "convert: -n makes no new image, so -o has nothing to say");
        if (r == 0 && j.target_is_zero && !j.keep_target)
                r = err_note(-EINVAL, "convert: --target-is-zero only goes with -n");
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_convert, argc, 2, -1, "a source and a target");
        r = name_images(&j, argv + optind, argc - optind - 1);
        if (r < 0)
                return tool_fail(r, 1);
        if (j.nfrom > 1 && (j.backing || j.snapshot.given))
                return tool_fail(err_note(-EINVAL, "convert: %s only goes with one source", j.backing ? "-B" : "-l"), 1);
        j.progress.on &= !quiet;
        j.copy.progress = &j.progress;
        j.copy.target_cache.unsafe &= !j.keep_target; /* an image that was there before keeps its order of writes */
        j.copy.target_cache.direct &= !j.copy.compress; /* packed clusters begin at any byte */
        r = convert(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_convert = {
        .name = "convert", .run = run, .group = GROUP_MAKE,
        .usage = "[-c] [-C] [-f FMT] [-O FMT] [-o OPTIONS] [-B BACKING -F FMT] [-n] [--target-is-zero]\n"
                 "          [--target-image-opts] [-l SNAPSHOT] [-m N] [-W] [-S SIZE] [-r RATE] [-t CACHE] [-T CACHE]\n"
                 "          [--bitmaps [--skip-broken-bitmaps]] [--salvage] [-p] [-q] [-U] SOURCE... TARGET",
        .help = "Copies the disk in SOURCE into a new image TARGET; several are put one behind the other.\n"
                "Holes and zeros stay holes.\n\n"
                "  -c                compress (qcow2); -o compression_type=zlib or zstd says how\n"
                "  -C                let the file system copy (copy_file_range), zeros included. Where it can share blocks\n"
                "                    (XFS, Btrfs) they are shared without asking, unless -S 0, -r or preallocation say no\n"
                "  -f FMT            format of SOURCE; must be given to follow a backing file\n"
                "  -O FMT            format of TARGET (raw)\n"
                "  -o OPTIONS        of the new image: name=value,...; '-o help' lists them\n"
                "  -B BACKING -F FMT TARGET gets a backing file, which holds what SOURCE has from its own\n"
                "  -n                TARGET is there already: write into it\n"
                "  --target-is-zero  with -n: it reads as zeros, so zeros need not be written\n"
                "  --target-image-opts  with -n: TARGET is a list of image options (see below)\n"
                "  -l SNAPSHOT       SOURCE as it was then: id or name, or snapshot.id=..,snapshot.name=..\n"
                "  --bitmaps         copy dirty bitmaps, too; --skip-broken-bitmaps: without those that mean nothing any more\n"
                "  --salvage         what cannot be read becomes zeros, with a warning for each sector\n"
                "  -r RATE           bytes a second at most\n"
                "  -m N              requests in flight, 1 to 16 (8)\n"
                "  -W                write in any order: faster, but scatters the target\n"
                "  -S SIZE           so many zero bytes become a hole (4k); 0: write everything\n"
                "  -t CACHE          for TARGET: none, writeback, writethrough, directsync, or unsafe: a new image is not\n"
                "                    synced (unsafe)\n"
                "  -T CACHE          for SOURCE: the same (writeback)\n"
                "  -p                show progress\n"
                "  -q                say nothing but errors\n"
                "  -U                read SOURCE even when another program uses it\n",
        .examples = "  vdisk-img convert -p -O qcow2 disk.raw disk.qcow2\n"
                    "  vdisk-img convert -c -O qcow2 -o compression_type=zstd disk.raw small.qcow2\n"
                    "  vdisk-img convert -f qcow2 -O raw -l before-upgrade disk.qcow2 then.raw\n",
};
