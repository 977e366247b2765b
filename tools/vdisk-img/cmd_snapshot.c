/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_snapshot.c - vdisk-img snapshot: the internal snapshots of an image. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tools/vdisk-img/tool.h"

static int list(struct fmt_image *img)
{
        struct fmt_snapshot *s = NULL;
        size_t n = 0;
        int r = img->drv->snapshot_list(img, &s, &n);

        if (r == 0 && n)
                print_snapshots(s, n);
        fmt_snapshots_free(s, n);
        return r;
}

static int act(struct fmt_image *img, int action, const char *name)
{
        switch (action) {
        case 'c':
                return img->drv->snapshot_create(img, name);
        case 'a':
                return img->drv->snapshot_apply(img, name);
        case 'd':
                return img->drv->snapshot_delete(img, name);
        default:
                return list(img);
        }
}

static const char *const words[] = { ['c'] = "create", ['a'] = "apply", ['d'] = "delete" };

static int snapshot(const struct tool_image *image, unsigned flags, int action, const char *name)
{
        const char *path = image->path;
        AUTO(tool_closep) struct fmt_image *img = NULL;
        int r;

        flags |= FMT_NO_BACKING | FMT_NO_KEY | (action == 'l' ? FMT_RDONLY : 0);
        r = tool_looked(tool_open(image, flags, &img), flags);
        if (r < 0)
                return r;
        if (!img->drv->snapshot_list || !img->drv->snapshot_create)
                return err_note(-ENOTSUP, "'%s': %s images have no internal snapshots", path, img->drv->name);
        r = act(img, action, name);
        if (r < 0 && name)
                return err_prefix(err_note(r, "%s", strerror(-r)), "'%s': cannot %s snapshot '%s': ", path, words[action],
                                  name);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", path) : 0;
}

static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },
        { "force-share", no_argument, NULL, 'U' },
        { "quiet", no_argument, NULL, 'q' },
        { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(tool_image_finish) struct tool_image image = { 0 };
        const char *format = NULL, *name = NULL;
        unsigned flags = 0;
        int action = 0, c, r;

        while ((c = tool_option(&cmd_snapshot, argc, argv, "f:la:c:d:qU", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 'U')
                        flags |= FMT_NO_LOCK;
                else if (c == 'q')
                        continue; /* there is nothing to keep quiet about; scripts pass it */
                else if (action)
                        return tool_fail(err_note(-EINVAL, "snapshot: only one of -l, -a, -c, -d at a time"), 1);
                else
                        action = c, name = optarg;
        }
        tool_want_words(&cmd_snapshot, argc, 1, 1, "one file name");
        action = action ? action : 'l';
        if (flags && action != 'l')
                return tool_fail(err_note(-EINVAL, "snapshot: -U only goes with -l, never with a change"), 1);
        r = tool_image_set(&image, argv[optind], format);
        if (r == 0)
                r = snapshot(&image, flags, action, action == 'l' ? NULL : name);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_snapshot = {
        .name = "snapshot", .run = run,
        .usage = "[-q] [-f FMT] [-U] [-l | -c NAME | -a NAME | -d NAME] FILE",
        .help = "Internal snapshots of an image that no other program uses.\n\n"
                "  -l        list them (default)\n"
                "  -c NAME   take one\n"
                "  -a NAME   go back to one; what was written since is lost\n"
                "  -d NAME   delete one\n"
                "  -f FMT    the image's format\n"
                "  -U        list even when another program uses the image\n",
        .examples = "  vdisk-img snapshot -c before-upgrade disk.qcow2\n"
                    "  vdisk-img snapshot -a before-upgrade disk.qcow2\n",
};
