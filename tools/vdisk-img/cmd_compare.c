/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_compare.c - vdisk-img compare: do two images hold the same disk? Exit codes as qemu-img's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tools/vdisk-img/tool.h"
#include "tools/vdisk-img/zeros.h"

#define BUF_ALIGN 4096u /* copies to odd addresses are several times slower */
#define BUF_BYTES (256u << 10)

enum { SAME = 0, DIFFERENT = 1, CANNOT_OPEN = 2, CANNOT_MAP = 3, CANNOT_READ = 4 };

struct side {
        const char *format;
        struct tool_image image;
        struct fmt_image *img;
        uint64_t size;
        struct extent ext; /* of the bytes that are compared now */
        char *buf;
};

struct job {
        struct side a, b;
        bool strict, quiet;
        struct progress progress;
};

static void job_finish(struct job *j)
{
        chain_close(j->a.img);
        chain_close(j->b.img);
        free(j->a.buf);
        free(j->b.buf);
        tool_image_finish(&j->a.image);
        tool_image_finish(&j->b.image);
}

static void say(const struct job *j, const char *text, uint64_t off)
{
        if (!j->quiet)
                printf(text, (unsigned long long)off);
}

static bool reads_zero(const struct extent *ext)
{
        return ext->kind == EXT_ZERO || ext->hole;
}

/* What -s compares besides the contents: are there zeros by table, data, or nothing at all? */
static unsigned status_of(const struct extent *ext)
{
        return (unsigned)reads_zero(ext) | (ext->kind == EXT_DATA || ext->kind == EXT_COMPRESSED) << 1 |
               (ext->kind != EXT_ZERO || ext->in_image) << 2;
}

/* What is left of the extent that was looked up before, from @off on: false, nothing. */
static bool still_there(struct side *s, uint64_t off)
{
        uint64_t done = off - s->ext.off;

        if (off < s->ext.off || done >= s->ext.len || s->ext.kind == EXT_COMPRESSED)
                return false;
        s->ext.off = off;
        s->ext.len -= done;
        s->ext.host += done;
        return true;
}

/* Past the end of the shorter disk there are zeros. */
static int look(struct side *s, uint64_t off, uint64_t len)
{
        if (still_there(s, off))
                return 0;
        if (off < s->size)
                return chain_map_sync(s->img, off, min_u64(len, s->size - off), &s->ext);
        s->ext = (struct extent){ .kind = EXT_ZERO, .off = off, .len = len };
        return 0;
}

/* Where two buffers differ first; @len: nowhere. */
static size_t first_difference(const char *a, const char *b, size_t len)
{
        size_t i = 0;

        if (!memcmp(a, b, len))
                return len;
        while (a[i] == b[i])
                i++;
        return i;
}

/* @len bytes at @off, inside the extent. */
static int read_side(struct side *s, uint64_t off, size_t len)
{
        struct extent part = s->ext;

        part.len = len;
        if (part.kind == EXT_DATA)
                return extent_read_sync(&part, s->buf);
        return chain_read_sync(s->img, s->buf, len, off);
}

/* @len bytes at @off of both sides. Sets *at to the first difference (a sector, as qemu-img tells), *at = len: none. */
static int compare_piece(struct job *j, uint64_t off, size_t len, size_t *at)
{
        bool za = reads_zero(&j->a.ext), zb = reads_zero(&j->b.ext);
        int r = 0;

        *at = len;
        if (za && zb)
                return 0;
        if (!za)
                r = read_side(&j->a, off, len);
        if (r == 0 && !zb)
                r = read_side(&j->b, off, len);
        if (r < 0)
                return r;
        if (za || zb)
                *at = zeros_prefix(za ? j->b.buf : j->a.buf, len);
        else
                *at = first_difference(j->a.buf, j->b.buf, len);
        return 0;
}

/* The exit code; errors are printed by the caller with *err. */
static int compare(struct job *j, int *err)
{
        uint64_t end = max_u64(j->a.size, j->b.size), both = min_u64(j->a.size, j->b.size), len;

        progress_show(&j->progress, 0);
        if (j->a.size != j->b.size && j->strict)
                return say(j, "Strict mode: Image size mismatch!\n", 0), DIFFERENT;
        for (uint64_t off = 0; off < end; off += len) {
                size_t at;

                if (off == both)
                        say(j, "Warning: Image size mismatch!\n", 0);
                *err = look(&j->a, off, end - off);
                if (*err == 0)
                        *err = look(&j->b, off, end - off);
                if (*err < 0)
                        return CANNOT_MAP;
                len = min_u64(j->a.ext.len, j->b.ext.len); /* ends where the shorter disk does, at the latest */
                if (!reads_zero(&j->a.ext) || !reads_zero(&j->b.ext))
                        len = min_u64(len, BUF_BYTES);
                if (j->strict && status_of(&j->a.ext) != status_of(&j->b.ext))
                        return say(j, "Strict mode: Offset %llu block status mismatch!\n", off), DIFFERENT;
                *err = compare_piece(j, off, len, &at);
                if (*err < 0)
                        return CANNOT_READ;
                if (at < len)
                        return say(j, "Content mismatch at offset %llu!\n", round_down(off + at, 512)), DIFFERENT;
                progress_show(&j->progress, (double)(off + len) / (double)end);
        }
        return say(j, "Images are identical.\n", 0), SAME;
}

static int open_side(struct side *s, const char *word, const char *format_option, unsigned flags)
{
        int r = tool_image_set(&s->image, word, s->format);

        s->image.format_option = format_option;
        if (r == 0)
                r = tool_open(&s->image, flags, &s->img);
        if (r < 0)
                return r;
        s->size = tool_disk_size(s->img);
        s->buf = aligned_alloc(BUF_ALIGN, BUF_BYTES);
        return s->buf ? 0 : -ENOMEM;
}

static const struct option longs[] = {
        { "force-share", no_argument, NULL, 'U' }, { "quiet", no_argument, NULL, 'q' }, { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { 0 };
        struct tool_cache cache = { 0 };
        unsigned flags = FMT_RDONLY;
        int c, r = 0, code;

        while (r == 0 && (c = tool_option(&cmd_compare, argc, argv, "f:F:pqsT:U", longs)) != -1) {
                if (c == 'f')
                        j.a.format = optarg;
                else if (c == 'F')
                        j.b.format = optarg;
                else if (c == 'p')
                        j.progress.on = true;
                else if (c == 'q')
                        j.quiet = true;
                else if (c == 's')
                        j.strict = true;
                else if (c == 'T')
                        r = tool_cache_parse("-T", optarg, &cache);
                else if (c == 'U')
                        flags |= FMT_NO_LOCK;
        }
        if (r < 0)
                return tool_fail(r, CANNOT_OPEN);
        flags |= cache.direct ? FMT_DIRECT : 0;
        if (argc - optind != 2)
                return tool_fail(err_note(-EINVAL, "compare: expecting two file names"), CANNOT_OPEN);
        j.progress.on &= !j.quiet;
        r = open_side(&j.a, argv[optind], "-f", flags);
        if (r == 0)
                r = open_side(&j.b, argv[optind + 1], "-F", flags);
        if (r < 0)
                return tool_fail(r, CANNOT_OPEN);
        code = compare(&j, &r);
        progress_end(&j.progress);
        return code > DIFFERENT ? tool_fail(r, code) : code;
}

const struct command cmd_compare = {
        .name = "compare", .run = run, .group = GROUP_LOOK,
        .usage = "[-f FMT] [-F FMT] [-s] [-T CACHE] [-p] [-q] [-U] FILE1 FILE2",
        .help = "Compares the disks in two images.\n\n"
                "  -f FMT   format of the first image\n"
                "  -F FMT   format of the second image\n"
                "  -s       strict: sizes and allocation must be the same too\n"
                "  -T CACHE for both: none, writeback, writethrough, directsync or unsafe (writeback)\n"
                "  -p       show progress\n"
                "  -q       say nothing but errors\n"
                "  -U       compare even when another program uses the images\n\n"
                "Exit code: 0 same, 1 different, 2 cannot open, 3 cannot read the tables, 4 cannot read data.\n",
        .examples = "  vdisk-img compare -f raw -F qcow2 disk.raw disk.qcow2\n",
};
