/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_bitmap.c - vdisk-img bitmap: the bitmaps of an image, which tell what changed on its disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"
#include "tools/vdisk-img/bitmaps.h"
#include "tools/vdisk-img/tool.h"

enum { OPT_ADD = OPT_OWN, OPT_REMOVE, OPT_CLEAR, OPT_ENABLE, OPT_DISABLE, OPT_MERGE };
#define MAX_ACTIONS 64u

static const char *const words[] = {
        [OPT_ADD - OPT_OWN] = "add", [OPT_REMOVE - OPT_OWN] = "remove", [OPT_CLEAR - OPT_OWN] = "clear",
        [OPT_ENABLE - OPT_OWN] = "enable", [OPT_DISABLE - OPT_OWN] = "disable", [OPT_MERGE - OPT_OWN] = "merge",
};

struct action {
        int what;
        const char *source; /* OPT_MERGE: the other bitmap's name */
};
struct job {
        struct tool_image image, other;
        const char *format, *other_path, *other_format, *name;
        uint64_t granularity;
        bool has_granularity;
        struct action actions[MAX_ACTIONS];
        unsigned nactions;
        struct fmt_image *img, *other_img;
        struct bitmap_set set, others; /* of both images; others: only with -b */
};

static void job_finish(struct job *j)
{
        bitmap_set_finish(&j->set);
        bitmap_set_finish(&j->others);
        chain_close(j->other_img);
        chain_close(j->img);
        tool_image_finish(&j->other);
        tool_image_finish(&j->image);
}

/* --- actions ------------------------------------------------------------------------------------------------------ */

static int add(struct job *j)
{
        struct named_bitmap *b;
        uint64_t granularity = j->has_granularity ? j->granularity : dirty_granularity_default(j->img->cluster_size);

        return bitmap_set_add(&j->set, j->img, tool_disk_size(j->img), j->name, granularity, true, NULL, &b);
}

static int merge(struct job *j, const struct named_bitmap *to, const char *source)
{
        struct dirty_bitmap *from;
        int r = tool_bitmap_bits(j->other_img ? &j->others : &j->set, source, &from);

        return r < 0 ? r : tool_bitmap_merge(to, from, source);
}

static int act(struct job *j, const struct action *a)
{
        struct named_bitmap *b = a->what == OPT_ADD ? NULL : bitmap_set_find(&j->set, j->name);
        int r;

        if (a->what == OPT_ADD)
                return add(j);
        if (!b)
                return err_note(-ENOENT, "Dirty bitmap '%s' not found", j->name);
        r = bitmap_set_check(&j->set, b, a->what == OPT_REMOVE ? BITMAP_USE_REMOVE : BITMAP_USE_CHANGE);
        if (r < 0)
                return r;
        if (a->what == OPT_REMOVE)
                bitmap_set_remove(&j->set, b);
        else if (a->what == OPT_CLEAR)
                dirty_bitmap_clear(b->bits, 0, UINT64_MAX);
        else if (a->what == OPT_MERGE)
                return merge(j, b, a->source);
        else
                dirty_bitmap_record(b->bits, a->what == OPT_ENABLE);
        return 0;
}

static int open_other(struct job *j)
{
        int r;

        if (!j->other_path)
                return 0;
        r = tool_image_parse(&j->other, j->other_path, j->other_format, false);
        if (r == 0)
                r = tool_open(&j->other, FMT_RDONLY | FMT_NO_BACKING | FMT_NO_KEY, &j->other_img);
        if (r == 0)
                r = bitmap_set_load(&j->others, j->other_img);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", j->other_path) : 0;
}

static int open_image(struct job *j)
{
        int r = tool_open(&j->image, FMT_NO_BACKING | FMT_NO_KEY, &j->img);

        if (r < 0)
                return r;
        r = j->img->drv->bitmaps_store ? bitmap_set_load(&j->set, j->img) :
            err_note(-ENOTSUP, "%s images cannot have bitmaps", j->img->drv->name);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", j->image.path) : 0;
}

/* What was done before something failed stays done, as with qemu-img. Returns the exit code. */
static int bitmap(struct job *j)
{
        unsigned i = 0;
        int r = 0, stored;

        while (r == 0 && i < j->nactions)
                r = act(j, &j->actions[i++]);
        if (r < 0)
                tool_fail(err_prefix(err_note(r, "%s", strerror(-r)), "Operation %s on bitmap %s failed: ",
                                     words[j->actions[i - 1].what - OPT_OWN], j->name), 1);
        err_clear();
        stored = bitmap_set_store(&j->set, j->img);
        if (stored < 0)
                tool_fail(err_prefix(err_note(stored, "%s", strerror(-stored)), "'%s': cannot store its bitmaps: ",
                                     j->image.path), 1);
        return r < 0 || stored < 0;
}

/* --- the command line --------------------------------------------------------------------------------------------- */

static const struct option longs[] = {
        { "add", no_argument, NULL, OPT_ADD },
        { "remove", no_argument, NULL, OPT_REMOVE },
        { "clear", no_argument, NULL, OPT_CLEAR },
        { "enable", no_argument, NULL, OPT_ENABLE },
        { "disable", no_argument, NULL, OPT_DISABLE },
        { "merge", required_argument, NULL, OPT_MERGE },
        { "granularity", required_argument, NULL, 'g' },
        { "source-file", required_argument, NULL, 'b' },
        { "source-format", required_argument, NULL, 'F' },
        { NULL, 0, NULL, 0 },
};

static int take_option(struct job *j, int c)
{
        switch (c) {
        case 'f':
                j->format = optarg;
                return 0;
        case 'b':
                j->other_path = optarg;
                return 0;
        case 'F':
                j->other_format = optarg;
                return 0;
        case 'g':
                j->has_granularity = true;
                return size_parse(optarg, &j->granularity);
        default:
                if (j->nactions == MAX_ACTIONS)
                        return err_note(-E2BIG, "more than %u actions at once", MAX_ACTIONS);
                j->actions[j->nactions++] = (struct action){ c, c == OPT_MERGE ? optarg : NULL };
                return 0;
        }
}

static int check_options(const struct job *j)
{
        bool adds = false, merges = false;

        for (unsigned i = 0; i < j->nactions; i++) {
                adds |= j->actions[i].what == OPT_ADD;
                merges |= j->actions[i].what == OPT_MERGE;
        }
        if (!j->nactions)
                return err_note(-EINVAL, "bitmap: need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        if (j->has_granularity && !adds)
                return err_note(-EINVAL, "bitmap: -g (granularity) only goes with --add");
        if (j->other_format && !j->other_path)
                return err_note(-EINVAL, "bitmap: -F says the format of the file of -b, which is not there");
        if (j->other_path && !merges)
                return err_note(-EINVAL, "bitmap: -b names the file whose bitmap is merged; it only goes with --merge");
        return 0;
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { 0 };
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_bitmap, argc, argv, "f:b:F:g:", longs)) != -1)
                r = take_option(&j, c);
        if (r == 0)
                r = check_options(&j);
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_bitmap, argc, 2, 2, "a file name and the name of a bitmap");
        j.name = argv[optind + 1];
        r = tool_image_set(&j.image, argv[optind], j.format);
        if (r == 0)
                r = open_other(&j);
        if (r == 0)
                r = open_image(&j);
        return r < 0 ? tool_fail(r, 1) : bitmap(&j);
}

const struct command cmd_bitmap = {
        .name = "bitmap", .run = run,
        .usage = "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b FILE [-F FMT]]\n"
                 "         [-g GRANULARITY] [-f FMT] FILE BITMAP",
        .help = "Bitmaps of an image, which tell what changed on its disk. Actions are done in the order in which they are given.\n\n"
                "  --add            make a new one, which records from now on\n"
                "  --remove         delete it\n"
                "  --clear          nothing has changed yet\n"
                "  --enable         record changes\n"
                "  --disable        record none\n"
                "  --merge SOURCE   what SOURCE says has changed, too: another bitmap of the image, or of the one of -b\n"
                "  -b FILE          the image that has SOURCE\n"
                "  -F FMT           its format\n"
                "  -g GRANULARITY   --add: how many bytes of the disk each bit is for, a power of 2 from 512 to 2G (size of a\n"
                "                   cluster)\n"
                "  -f FMT           format of FILE\n",
        .examples = "  vdisk-img bitmap --add -g 64k disk.qcow2 since-monday\n"
                    "  vdisk-img bitmap --add --merge since-monday disk.qcow2 since-sunday\n",
};
