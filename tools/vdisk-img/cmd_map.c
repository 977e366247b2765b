/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_map.c - vdisk-img map: which ranges of the disk are where in which file of the chain, as a list or as a
 * picture. */
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/picture.h"
#include "tools/vdisk-img/tool.h"

/* One line of output: what qemu-img calls MapEntry. */
struct entry {
        uint64_t start, len, offset;
        const struct fmt_image *img;
        const struct file *file; /* where offset is in */
        unsigned depth;
        bool present, zero, data, has_offset;
};

static void entry_from(const struct extent *ext, struct entry *e)
{
        bool plain = (ext->kind == EXT_DATA && !ext->img->encrypted) || (ext->kind == EXT_ZERO && ext->allocated);
        /* A raw file with a hole has no data there; a format that gave the bytes a place has, if only zeros. */
        bool raw_hole = ext->hole && !strcmp(ext->img->drv->name, "raw");

        *e = (struct entry){
                .start = ext->off, .len = ext->len, .img = ext->img, .file = ext->file, .depth = ext->depth,
                .zero = ext->kind == EXT_ZERO || ext->hole,
                .data = (ext->kind == EXT_DATA && !raw_hole) || ext->kind == EXT_COMPRESSED,
                .has_offset = plain, .offset = plain ? ext->host : 0,
                .present = ext->kind != EXT_ZERO || ext->in_image,
        };
}

static bool can_merge(const struct entry *a, const struct entry *b)
{
        return a->len && a->img == b->img && a->file == b->file && a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
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
               (unsigned long long)e->offset, e->file->path);
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
        static char lines[1 << 18]; /* until stdout is closed */
        struct entry now = { 0 }, next;
        int r = 0;

        if (!isatty(STDOUT_FILENO))
                setvbuf(stdout, lines, _IOFBF, sizeof(lines)); /* a disk may have some hundred thousand */
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

/* --- pictures -------------------------------------------------------------------------------------------------- */

#define DEFAULT_COLUMNS 80u
#define MIN_COLUMNS 16u
#define MAX_COLUMNS 1000u

static unsigned columns_of_stdout(void)
{
        const char *text = getenv("COLUMNS");
        unsigned long n = text ? strtoul(text, NULL, 10) : 0;
        struct winsize ws;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
                n = ws.ws_col;
        return n < MIN_COLUMNS || n > MAX_COLUMNS ? DEFAULT_COLUMNS : (unsigned)n;
}

/* https://no-color.org: set and not empty. */
static bool wants_colour(void)
{
        const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

        return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb");
}

static int print_picture(struct fmt_image *img)
{
        AUTO(picture_finish) struct picture p;
        int r = picture_take(&p, img, columns_of_stdout());

        setlocale(LC_CTYPE, "");
        return r < 0 ? r : picture_print(&p, stdout, wants_colour(), !strcmp(nl_langinfo(CODESET), "UTF-8"));
}

/* The name must say that it is a picture: so nobody overwrites a disk by a slip. */
static int write_picture(struct fmt_image *img, const char *path)
{
        AUTO(picture_finish) struct picture p = { 0 };
        const char *dot = strrchr(path, '.');
        FILE *out;
        int r;

        if (!dot || strcmp(dot, ".svg"))
                return err_note(-EINVAL, "--image=%s: the picture's name must end in .svg; without a name it goes to the terminal",
                                path);
        r = picture_take(&p, img, PICTURE_SVG_CELLS);
        if (r < 0)
                return r;
        out = fopen(path, "we");
        if (!out)
                return err_note(-errno, "'%s': cannot create: %s", path, strerror(errno));
        r = picture_write_svg(&p, out);
        if (fclose(out) != 0)
                r = -EIO;
        if (r < 0) {
                unlink(path);
                return err_note(r, "'%s': cannot write", path);
        }
        return 0;
}

/* --- the command ----------------------------------------------------------------------------------------------- */

struct job {
        struct tool_image image;
        const char *format, *picture; /* picture "": to the terminal */
        uint64_t start, len;
        unsigned flags;
        bool json;
};

static void job_finish(struct job *j)
{
        tool_image_finish(&j->image);
}

static int show(const struct job *j)
{
        AUTO(tool_closep) struct fmt_image *img = NULL;
        unsigned flags = FMT_RDONLY | FMT_NO_KEY | j->flags;
        int r = tool_looked(tool_open(&j->image, flags, &img), flags);
        uint64_t size, start;

        if (r < 0)
                return r;
        if (j->picture)
                return *j->picture ? write_picture(img, j->picture) : print_picture(img);
        size = tool_disk_size(img);
        start = min_u64(j->start, size);
        return map(img, start, start + min_u64(j->len, size - start), j->json);
}

enum { OPT_IMAGE = OPT_OWN };
static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },     { "output", required_argument, NULL, OPT_OUTPUT },
        { "force-share", no_argument, NULL, 'U' },      { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' }, { "image", optional_argument, NULL, OPT_IMAGE },
        { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .len = UINT64_MAX };
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_map, argc, argv, "f:s:l:U", longs)) != -1) {
                if (c == 'f')
                        j.format = optarg;
                else if (c == 's')
                        r = size_parse(optarg, &j.start);
                else if (c == 'l')
                        r = size_parse(optarg, &j.len);
                else if (c == 'U')
                        j.flags |= FMT_NO_LOCK;
                else if (c == OPT_IMAGE)
                        j.picture = optarg ? optarg : "";
                else if (c == OPT_OUTPUT)
                        j.json = tool_output_is_json(optarg);
        }
        if (r == 0 && j.picture && (j.json || j.start || j.len != UINT64_MAX))
                r = err_note(-EINVAL, "map: --image shows all of the disk: not with --output, -s or -l");
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_map, argc, 1, 1, "one file name");
        r = tool_image_set(&j.image, argv[optind], j.format);
        if (r == 0)
                r = show(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_map = {
        .name = "map", .run = run, .group = GROUP_LOOK,
        .usage = "[-f FMT] [--output=human|json] [-s OFFSET] [-l LENGTH] [--image[=FILE.svg]] [-U] FILE",
        .help = "Lists which ranges of the disk are where.\n\n"
                "  -f FMT            its format; must be given to follow a backing file\n"
                "  -s OFFSET         start there\n"
                "  -l LENGTH         look at no more than this\n"
                "  --output=json     zeros, holes and compressed ranges too\n"
                "  --image           draw it in the terminal: what each image of the chain holds\n"
                "  --image=FILE.svg  the same and how fragmented the files are, as a picture for a browser or a bug report\n"
                "  -U                look even when another program uses the image\n",
        .examples = "  vdisk-img map -f qcow2 --image overlay.qcow2\n"
                    "  vdisk-img map -f qcow2 --image=chain.svg overlay.qcow2\n",
};
