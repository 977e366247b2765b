/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_map.c - vdisk-img map: which ranges of the disk are where in which file of the chain. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

/* One line of output: what qemu-img calls MapEntry. */
struct entry {
        uint64_t start, len, offset;
        const struct fmt_image *img;
        unsigned depth;
        bool present, zero, data, has_offset;
};

static void entry_from(const struct extent *ext, struct entry *e)
{
        bool plain = (ext->kind == EXT_DATA && !ext->img->encrypted) || (ext->kind == EXT_ZERO && ext->allocated);
        /* A raw file with a hole has no data there; a format that gave the bytes a place has, if only zeros. */
        bool raw_hole = ext->hole && ext->img->cluster_size == 1;

        *e = (struct entry){
                .start = ext->off, .len = ext->len, .img = ext->img, .depth = ext->depth,
                .zero = ext->kind == EXT_ZERO || ext->hole,
                .data = (ext->kind == EXT_DATA && !raw_hole) || ext->kind == EXT_COMPRESSED,
                .has_offset = plain, .offset = plain ? ext->host : 0,
                .present = ext->kind != EXT_ZERO || ext->in_image,
        };
}

static bool can_merge(const struct entry *a, const struct entry *b)
{
        return a->len && a->img == b->img && a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
               a->data == b->data && a->has_offset == b->has_offset && (!a->has_offset || a->offset + a->len == b->offset);
}

static int print_text(const struct entry *e)
{
        if (!e->data || e->zero)
                return 0;
        if (!e->has_offset)
                return err_note(-ENOTSUP, "the range at %llu is compressed or encrypted, which only --output=json can show",
                                (unsigned long long)e->start);
        printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)e->start, (unsigned long long)e->len,
               (unsigned long long)e->offset, e->img->file->path);
        return 0;
}

static const char *word(bool yes)
{
        return yes ? "true" : "false";
}

/* One object a line, as qemu-img prints it: scripts read this line by line. */
static int print_line(const struct entry *e)
{
        printf("{ \"start\": %llu, \"length\": %llu, \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
               (unsigned long long)e->start, (unsigned long long)e->len, e->depth, word(e->present), word(e->zero),
               word(e->data));
        if (e->has_offset)
                printf(", \"offset\": %llu", (unsigned long long)e->offset);
        printf("}");
        return 0;
}

static int map(struct fmt_image *img, uint64_t off, uint64_t end, bool json)
{
        struct entry now = { 0 }, next;
        int r = 0;

        if (json)
                printf("[");
        else
                printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
        for (; off < end; off += next.len) {
                struct extent ext;

                r = chain_map_sync(img, off, end - off, &ext);
                if (r < 0)
                        return err_note(r, "cannot read the tables for the range at %llu: %s", (unsigned long long)off,
                                        strerror(-r));
                entry_from(&ext, &next);
                if (can_merge(&now, &next)) {
                        now.len += next.len;
                        continue;
                }
                if (now.len)
                        r = json ? print_line(&now) : print_text(&now);
                if (now.len && json)
                        printf(",\n");
                if (r < 0)
                        return r;
                now = next;
        }
        if (now.len)
                r = json ? print_line(&now) : print_text(&now);
        if (json)
                printf("]\n");
        return r;
}

static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },        { "output", required_argument, NULL, OPT_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },         { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' },    { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(tool_image_finish) struct tool_image image = { 0 };
        AUTO(tool_closep) struct fmt_image *img = NULL;
        uint64_t start = 0, len = UINT64_MAX, size;
        const char *format = NULL;
        unsigned flags = FMT_RDONLY | FMT_NO_KEY;
        bool json = false;
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_map, argc, argv, "f:s:l:U", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 's')
                        r = size_parse(optarg, &start);
                else if (c == 'l')
                        r = size_parse(optarg, &len);
                else if (c == 'U')
                        flags |= FMT_NO_LOCK;
                else if (c == OPT_OUTPUT)
                        json = tool_output_is_json(optarg);
        }
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_map, argc, 1, 1, "one file name");
        r = tool_image_set(&image, argv[optind], format);
        if (r == 0)
                r = tool_open(&image, flags, &img);
        if (r < 0)
                return tool_fail(r, 1);
        size = tool_disk_size(img);
        start = min_u64(start, size);
        r = map(img, start, start + min_u64(len, size - start), json);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_map = {
        .name = "map", .run = run,
        .usage = "[-f FMT] [--output=human|json] [-s OFFSET] [-l LENGTH] [-U] FILE",
        .help = "Lists which ranges of the disk are where.\n\n"
                "  -f FMT         its format; must be given to follow a backing file\n"
                "  -s OFFSET      start there\n"
                "  -l LENGTH      look at no more than this\n"
                "  --output=json  zeros, holes and compressed ranges too\n"
                "  -U             look even when another program uses the image\n",
};
