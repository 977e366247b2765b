/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_create.c - vdisk-img create: a new, empty image. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u

struct job {
        const struct fmt_driver *drv;
        const char *path;
        char *size, *backing, *backing_format; /* owned */
        struct option_list opts;
        bool unchecked, quiet;
};

static void job_finish(struct job *j)
{
        option_list_finish(&j->opts);
        free(j->size);
        free(j->backing);
        free(j->backing_format);
}

/* -o knows size, backing_file and backing_fmt too; -b and -F win. Which of two sizes is meant, nobody can know. */
static int take_common(struct job *j)
{
        char *size = option_list_take(&j->opts, "size");
        char *file = option_list_take(&j->opts, "backing_file");
        char *format = option_list_take(&j->opts, "backing_fmt");

        j->backing = j->backing ? (free(file), j->backing) : file;
        j->backing_format = j->backing_format ? (free(format), j->backing_format) : format;
        if (j->size && size) {
                free(size);
                return err_note(-EINVAL, "'%s' got two sizes, %s and one in -o: give one", j->path, j->size);
        }
        j->size = j->size ?: size;
        return 0;
}

/* With -u the backing file need not be there; if it is, it is not the file that is about to be made. */
static int refuse_own_backing(const struct job *j, const char *backing)
{
        struct stat made, behind;

        if (stat(j->path, &made) < 0 || stat(backing, &behind) < 0 || made.st_dev != behind.st_dev ||
            made.st_ino != behind.st_ino)
                return 0;
        return err_note(-EINVAL, "'%s' cannot be its own backing file", j->path);
}

/* The backing file must be there and be what it is said to be; without a size of its own the image gets its size. */
static int look_at_backing(const struct job *j, uint64_t *size)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        AUTO(freep) char *path = NULL, *data = NULL;
        int r;

        if (!(j->drv->caps & FMT_HAS_BACKING))
                return err_note(-EINVAL, "%s images cannot have a backing file", j->drv->name);
        if (!j->backing_format)
                return err_note(-EINVAL, "the backing file '%s' needs its format: -F raw, -F qcow2", j->backing);
        if (!tool_driver(j->backing_format))
                return -EINVAL;
        r = chain_backing_path(j->path, j->backing, &path);
        if (r < 0 || j->unchecked)
                return r < 0 ? r : refuse_own_backing(j, path);
        r = chain_open(path, &(struct fmt_open_opts){ .format = j->backing_format, .flags = FMT_RDONLY | FMT_GUESS | FMT_NO_KEY },
                       &img);
        if (r == 0)
                r = tool_refuse_part_of(j->path, img, "backing chain");
        if (r == 0)
                r = tool_data_path(&j->opts, j->path, &data);
        if (r == 0)
                r = tool_refuse_part_of(data, img, "backing chain");
        if (r < 0)
                return r;
        if (!j->size)
                *size = tool_disk_size(img);
        return 0;
}

static void say_it(const struct job *j, uint64_t size)
{
        if (j->quiet)
                return;
        printf("Formatting '%s', fmt=%s size=%llu", j->path, j->drv->name, (unsigned long long)size);
        if (j->backing)
                printf(" backing_file=%s backing_fmt=%s", j->backing, j->backing_format);
        for (size_t i = 0; i < j->opts.n; i++)
                printf(" %s=%s", j->opts.opts[i].name, j->opts.opts[i].value);
        printf("\n");
        fflush(stdout);
}

/* --- interrupted -------------------------------------------------------------------------------------------------- */

/* What was not there before goes when we are told to end: preallocation takes long, and leaves as much as the disk
 * has. */
static struct { char *image, *data; } unfinished;

static void on_signal(int sig)
{
        if (unfinished.image)
                unlink(unfinished.image);
        if (unfinished.data)
                unlink(unfinished.data);
        raise(sig); /* when we have returned: SA_RESETHAND */
}

static char *if_new(const char *path)
{
        struct stat st;

        return path && lstat(path, &st) < 0 && errno == ENOENT ? strdup(path) : NULL;
}

static int watch_signals(const struct job *j)
{
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
        struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, was;
        AUTO(freep) char *data = NULL;
        int r = tool_data_path(&j->opts, j->path, &data);

        if (r < 0)
                return r;
        unfinished.image = if_new(tool_plain_path(j->path));
        unfinished.data = if_new(data);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
                        sigaction(signals[i], &sa, NULL);
        return 0;
}

static int create_watched(const struct job *j, const struct fmt_create *req)
{
        int r = watch_signals(j);

        if (r == 0)
                r = tool_create(j->path, j->drv, req);
        free(TAKE(unfinished.image, NULL));
        free(TAKE(unfinished.data, NULL));
        return r;
}

/* --- the image ---------------------------------------------------------------------------------------------------- */

static int create(struct job *j)
{
        struct fmt_create req = { 0 };
        uint64_t size = 0;
        int r = take_common(j);

        if (r < 0)
                return r;
        if (!j->backing && j->backing_format)
                return err_note(-EINVAL, "-F names the format of a backing file, and there is none (-b)");
        if (!j->size && (!j->backing || j->unchecked))
                return err_note(-EINVAL, "'%s' needs a size", j->path);
        if (j->size)
                r = size_parse(j->size, &size);
        if (r == 0 && j->backing)
                r = look_at_backing(j, &size);
        if (r < 0)
                return r;
        if (size > INT64_MAX - SECTOR)
                return err_note(-EFBIG, "size '%s' is too large: the limit is 8 EiB - 1 KiB", j->size);
        req = (struct fmt_create){
                .size = round_up(size, SECTOR), .backing_name = j->backing, .backing_format = j->backing_format,
                .opts = j->opts.opts, .nopts = j->opts.n,
        };
        say_it(j, size);
        return create_watched(j, &req);
}

static const struct option longs[] = {
        { "quiet", no_argument, NULL, 'q' }, { NULL, 0, NULL, 0 },
};

static void set_text(char **where, const char *text)
{
        free(*where);
        *where = strdup(text);
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { 0 };
        const char *format = "raw";
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_create, argc, argv, "f:b:F:o:uq", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 'b')
                        set_text(&j.backing, optarg);
                else if (c == 'F')
                        set_text(&j.backing_format, optarg);
                else if (c == 'o')
                        r = option_list_add(&j.opts, optarg);
                else if (c == 'u')
                        j.unchecked = true;
                else if (c == 'q')
                        j.quiet = true;
        }
        if (r == 0)
                r = (j.drv = tool_driver(format)) ? 0 : -EINVAL;
        if (r < 0)
                return tool_fail(r, 1);
        if (j.opts.help) {
                print_option_help(j.drv);
                return 0;
        }
        tool_want_words(&cmd_create, argc, 1, 2, "a file name and a size");
        j.path = argv[optind];
        if (optind + 1 < argc)
                set_text(&j.size, argv[optind + 1]);
        r = create(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_create = {
        .name = "create", .run = run, .group = GROUP_MAKE, .makes_new = true,
        .usage = "[-q] [-f FMT] [-b BACKING -F BACKING_FMT] [-u] [-o OPTIONS] FILE [SIZE]",
        .help = "Makes a new, empty image.\n\n"
                "  -f FMT      format of the image (raw)\n"
                "  -b BACKING  backing file; a relative name is relative to FILE\n"
                "  -F FMT      format of the backing file\n"
                "  -u          do not look at the backing file\n"
                "  -o OPTIONS  name=value,...; '-o help' lists those of the format\n"
                "  -q          say nothing but errors\n"
                "  SIZE        bytes, or with k, M, G, T, P, E; may be left out with -b\n",
        .examples = "  vdisk-img create -f qcow2 disk.qcow2 100G\n"
                    "  vdisk-img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2\n",
};
