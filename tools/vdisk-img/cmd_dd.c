/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_dd.c - vdisk-img dd: a range of blocks of one disk as a new image, with the operands of dd(1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/copy.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u
#define ODD_BYTES (1u << 20) /* at once; whole sectors */

struct job {
        const char *from, *to, *from_format, *to_format;
        struct tool_image source;
        uint64_t bs, count, skip; /* count: UINT64_MAX: up to the end */
        unsigned flags;           /* FMT_NO_LOCK for the source */
};

static void job_finish(struct job *j)
{
        tool_image_finish(&j->source);
}

static int parse_blocks(const char *word, const char *text, uint64_t *ret)
{
        int r = size_parse(text, ret);

        return r < 0 ? err_prefix(r, "dd: '%s': ", word) : 0;
}

static int parse_block_size(const char *word, const char *text, uint64_t *ret)
{
        int r = size_parse(text, ret);

        if (r == 0 && (*ret == 0 || *ret > INT32_MAX))
                r = err_note(-EINVAL, "%s is not from 1 to 2147483647", word);
        return r < 0 ? err_prefix(r, "dd: '%s': ", word) : 0;
}

/* "if=FILE" and so on. */
static int take_operand(struct job *j, const char *word)
{
        const char *eq = strchr(word, '=');
        size_t n = eq ? (size_t)(eq - word) : 0;

        if (n == 2 && !strncmp(word, "if", n))
                return j->from = eq + 1, 0;
        if (n == 2 && !strncmp(word, "of", n))
                return j->to = tool_plain_path(eq + 1), 0;
        if (n == 2 && !strncmp(word, "bs", n))
                return parse_block_size(word, eq + 1, &j->bs);
        if (n == 5 && !strncmp(word, "count", n))
                return parse_blocks(word, eq + 1, &j->count);
        if (n == 4 && !strncmp(word, "skip", n))
                return parse_blocks(word, eq + 1, &j->skip);
        return err_note(-EINVAL, "dd: '%s' is none of if=FILE, of=FILE, bs=SIZE, count=N, skip=N", word);
}

/* The bytes of the disk that are meant; past its end there are none. */
static void range_of(const struct job *j, uint64_t size, struct copy_opts *copy)
{
        uint64_t off, len;

        if (__builtin_mul_overflow(j->skip, j->bs, &off) || off > size) {
                tool_warn("%s: cannot skip to specified offset", j->from);
                off = size;
        }
        if (__builtin_mul_overflow(j->count, j->bs, &len) || len > size - off)
                len = size - off;
        copy->source_off = off;
        copy->source_len = len;
}

/* A range that is not of whole sectors: piece by piece, and zeros up to the end of the last sector. */
static int copy_odd_range(struct fmt_image *map, struct fmt_image *target, const struct copy_opts *copy)
{
        AUTO(freep) char *buf = malloc(ODD_BYTES);
        int r = buf ? 0 : -ENOMEM;

        for (uint64_t done = 0; r == 0 && done < copy->source_len && !*copy->stop; done += ODD_BYTES) {
                size_t n = min_u64(ODD_BYTES, copy->source_len - done), sectors = round_up(n, SECTOR);

                memset(buf + n, 0, sectors - n);
                r = chain_read_sync(map, buf, n, copy->source_off + done);
                if (r == 0)
                        r = fmt_write_sync(target, buf, sectors, done);
        }
        if (r == 0)
                r = *copy->stop ? err_note(-EINTR, "interrupted") : fmt_settle_sync(target);
        chain_close(target);
        return r < 0 ? err_note(r, "dd: cannot copy: %s", strerror(-r)) : 0;
}

static int copy_range(const struct job *j, struct fmt_image *map, const struct fmt_driver *drv, struct copy_opts *copy)
{
        struct fmt_open_opts again = tool_again(&j->source, map, FMT_RDONLY | FMT_GUESS | j->flags);
        struct fmt_image *source, *target;
        int r = chain_open(j->to, &(struct fmt_open_opts){ .format = drv->name, .flags = FMT_KEEP_BITMAPS }, &target);

        if (r < 0)
                return r;
        if (!is_aligned(copy->source_off | copy->source_len, SECTOR))
                return copy_odd_range(map, target, copy);
        r = chain_open(j->source.path, &again, &source);
        if (r < 0) {
                chain_close(target);
                return r;
        }
        copy->target_is_zero = !target->file->is_blkdev;
        return copy_disk(map, source, target, copy);
}

static int dd(const struct job *j)
{
        const struct fmt_driver *drv = tool_driver(j->to_format);
        AUTO(tool_closep) struct fmt_image *map = NULL;
        struct progress progress = { 0 };
        struct copy_opts copy = { .jobs = 8, .sparse = 4096, .target_cache.unsafe = true, .progress = &progress };
        int r = drv ? tool_open(&j->source, FMT_RDONLY | j->flags, &map) : -EINVAL;

        if (r == 0)
                r = tool_refuse_part_of(j->to, map, "source");
        if (r < 0)
                return r;
        range_of(j, tool_disk_size(map), &copy);
        r = tool_create(j->to, drv, &(struct fmt_create){ .size = round_up(copy.source_len, SECTOR) });
        if (r < 0 || copy.source_len == 0)
                return r;
        copy.stop = tool_stop_on_signals();
        r = copy_range(j, map, drv, &copy);
        if (r < 0)
                tool_remove(j->to);
        return r;
}

static const struct option longs[] = {
        { "force-share", no_argument, NULL, 'U' }, { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .to_format = "raw", .bs = SECTOR, .count = UINT64_MAX };
        int c, r = 0;

        while ((c = tool_option(&cmd_dd, argc, argv, "f:O:U", longs)) != -1) {
                if (c == 'f')
                        j.from_format = optarg;
                else if (c == 'O')
                        j.to_format = optarg;
                else if (c == 'U')
                        j.flags |= FMT_NO_LOCK;
        }
        for (int i = optind; r == 0 && i < argc; i++)
                r = take_operand(&j, argv[i]);
        if (r == 0 && (!j.from || !j.to))
                r = err_note(-EINVAL, "dd: both if=FILE and of=FILE must be given");
        if (r == 0)
                r = tool_image_set(&j.source, j.from, j.from_format);
        if (r == 0)
                r = dd(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_dd = {
        .name = "dd", .run = run, .group = GROUP_MAKE,
        .usage = "[-f FMT] [-O FMT] [-U] if=FILE of=FILE [bs=SIZE] [count=N] [skip=N]",
        .help = "Copies blocks of the disk in one image into a new image, with the operands of dd(1).\n\n"
                "  if=FILE   where from\n"
                "  of=FILE   the new image\n"
                "  bs=SIZE   bytes of a block, the unit of count and skip (512)\n"
                "  count=N   copy N blocks; up to the end of the disk when it is left out\n"
                "  skip=N    leave out N blocks at the start\n"
                "  -f FMT    format of if; must be given to follow a backing file\n"
                "  -O FMT    format of of (raw)\n"
                "  -U        read if even when another program uses it\n",
        .examples = "  vdisk-img dd -f qcow2 -O raw bs=1M count=1 if=disk.qcow2 of=first-megabyte.raw\n",
};
