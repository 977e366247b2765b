/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_info.c - vdisk-img info: what an image says about itself. Reads headers only and follows nothing, unasked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"
#include "tools/vdisk-img/usage.h"

/* One image; @backing_path (free() it): where the next of the chain is, NULL at the end. */
struct facts {
        struct fmt_image *img;
        char *backing_path;
        struct fmt_snapshot *snapshots;
        size_t nsnapshots;
        json_t *specific; /* {} when the format has nothing to say */
        uint64_t allocated;
        struct usage *usage; /* owned; NULL: nobody asked */
};

/* What shall be shown. */
struct wish {
        unsigned flags; /* FMT_NO_LOCK */
        bool chain, usage;
};

static void facts_finish(struct facts *f)
{
        fmt_snapshots_free(f->snapshots, f->nsnapshots);
        json_decref(f->specific);
        free(f->backing_path);
        if (f->usage)
                usage_finish(f->usage);
        free(f->usage);
        chain_close(f->img);
}

static int look_at_usage(struct facts *f, const struct fmt_open_opts *how)
{
        f->usage = calloc(1, sizeof(*f->usage));
        return f->usage ? usage_take(f->usage, f->img, how, f->nsnapshots) : -ENOMEM;
}

static int allocated(const struct fmt_image *img, uint64_t *bytes)
{
        int r = file_allocated(img->file, bytes);

        for (unsigned i = 0; r == 0 && i < img->nparts; i++) {
                uint64_t more;

                r = file_allocated(img->parts[i]->file, &more);
                *bytes += r == 0 ? more : 0;
        }
        return r;
}

static int look(const char *path, const char *format, const struct fmt_layer *layer, const struct wish *wish,
                struct facts *f)
{
        struct fmt_open_opts opts = {
                .format = format, .layer = layer, .flags = FMT_RDONLY | FMT_INFO_ONLY | FMT_NO_BACKING | FMT_GUESS |
                                                             wish->flags,
        };
        const struct fmt_driver *drv;
        int r = tool_looked(chain_open(path, &opts, &f->img), opts.flags);

        if (r == 0 && !format)
                r = tool_refuse_foreign(f->img);
        if (r < 0)
                return r;
        drv = f->img->drv;
        f->specific = json_object();
        r = f->specific ? allocated(f->img, &f->allocated) : -ENOMEM;
        if (r == 0 && f->img->backing_name && chain_backing_path(path, f->img->backing_name, &f->backing_path) < 0)
                err_clear(); /* a name nobody follows is no reason not to show it */
        if (r == 0 && drv->info)
                r = drv->info(f->img, f->specific);
        if (r == 0 && drv->snapshot_list)
                r = drv->snapshot_list(f->img, &f->snapshots, &f->nsnapshots);
        if (r == 0 && wish->usage)
                r = look_at_usage(f, &opts);
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "'%s': ", path) : 0;
}

/* --- JSON: QAPI's ImageInfo ------------------------------------------------------------------------------------ */

static json_t *snapshots_json(const struct facts *f)
{
        json_t *list = json_array();

        for (size_t i = 0; i < f->nsnapshots; i++) {
                const struct fmt_snapshot *s = &f->snapshots[i];
                json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", s->id, "name", s->name,
                                      "vm-state-size", (json_int_t)s->vm_state_size,
                                      "date-sec", (json_int_t)s->date_sec, "date-nsec", (json_int_t)s->date_nsec,
                                      "vm-clock-sec", (json_int_t)(s->vm_clock_ns / 1000000000u),
                                      "vm-clock-nsec", (json_int_t)(s->vm_clock_ns % 1000000000u));

                if (s->icount != UINT64_MAX)
                        json_object_set_new(o, "icount", json_integer((json_int_t)s->icount));
                json_array_append_new(list, o);
        }
        return list;
}

static json_t *facts_json(const struct facts *f)
{
        const struct fmt_image *img = f->img;
        json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:b}", "filename", img->file->path, "format", img->drv->name,
                              "virtual-size", (json_int_t)tool_disk_size(img),
                              "actual-size", (json_int_t)f->allocated, "dirty-flag", img->dirty);

        if (!o)
                return NULL;
        if (img->encrypted)
                json_object_set_new(o, "encrypted", json_true());
        if (img->cluster_size > 1)
                json_object_set_new(o, "cluster-size", json_integer(img->cluster_size));
        if (img->backing_name)
                json_object_set_new(o, "backing-filename", json_string(img->backing_name));
        if (f->backing_path)
                json_object_set_new(o, "full-backing-filename", json_string(f->backing_path));
        if (img->backing_format)
                json_object_set_new(o, "backing-filename-format", json_string(img->backing_format));
        if (f->nsnapshots)
                json_object_set_new(o, "snapshots", snapshots_json(f));
        if (json_object_size(f->specific))
                json_object_set(o, "format-specific", f->specific);
        if (f->usage)
                json_object_set_new(o, "usage", usage_json(f->usage, f->snapshots));
        return o;
}

/* --- text ------------------------------------------------------------------------------------------------------ */

static void print_value(const char *name, json_t *v, int indent);

static void print_members(json_t *v, int indent)
{
        const char *key;
        json_t *one;
        size_t i;

        if (json_is_object(v))
                json_object_foreach(v, key, one)
                        print_value(key, one, indent);
        else
                json_array_foreach(v, i, one) {
                        char label[24];

                        snprintf(label, sizeof(label), "[%zu]", i);
                        print_value(label, one, indent);
                }
}

/* As qemu-img does: the key with blanks for dashes, one member a line, deeper ones indented by 4. */
static void print_value(const char *name, json_t *v, int indent)
{
        printf("%*s", indent * 4, "");
        for (const char *p = name; *p; p++)
                putchar(*p == '-' ? ' ' : *p);
        if (json_is_object(v) || json_is_array(v)) {
                printf(":\n");
                print_members(v, indent + 1);
        } else if (json_is_string(v)) {
                printf(": %s\n", json_string_value(v));
        } else if (json_is_integer(v)) {
                printf(": %lld\n", (long long)json_integer_value(v));
        } else if (json_is_boolean(v)) {
                printf(": %s\n", json_is_true(v) ? "true" : "false");
        } else {
                printf(":\n");
        }
}

static void print_facts(const struct facts *f)
{
        const struct fmt_image *img = f->img;
        char virt[32], disk[32];

        printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n", img->file->path,
               img->drv->name, size_format(tool_disk_size(img), virt, sizeof(virt)),
               (unsigned long long)tool_disk_size(img), size_format(f->allocated, disk, sizeof(disk)));
        if (img->encrypted)
                printf("encrypted: yes\n");
        if (img->cluster_size > 1)
                printf("cluster_size: %u\n", img->cluster_size);
        if (img->dirty)
                printf("cleanly shut down: no\n");
        if (img->backing_name && f->backing_path && strcmp(f->backing_path, img->backing_name))
                printf("backing file: %s (actual path: %s)\n", img->backing_name, f->backing_path);
        else if (img->backing_name)
                printf("backing file: %s\n", img->backing_name);
        if (img->backing_format)
                printf("backing file format: %s\n", img->backing_format);
        if (f->nsnapshots)
                print_snapshots(f->snapshots, f->nsnapshots);
        if (json_object_get(f->specific, "data")) {
                printf("Format specific information:\n");
                print_members(json_object_get(f->specific, "data"), 1);
        }
        if (f->usage)
                usage_print(f->usage, f->snapshots);
}

/* --- the command ----------------------------------------------------------------------------------------------- */

struct seen {
        dev_t dev;
        ino_t ino;
};

static bool seen_before(struct seen *seen, unsigned n, const struct file *file)
{
        seen[n] = (struct seen){ file->dev, file->ino };
        for (unsigned i = 0; i < n; i++)
                if (seen[i].dev == file->dev && seen[i].ino == file->ino)
                        return true;
        return false;
}

/* What the operator said about the next image counts more than what this one says. */
static int go_behind(struct facts *f, const struct fmt_layer *layer, char **path, char **format)
{
        free(*path);
        free(*format);
        *path = layer && layer->no_backing ? NULL : TAKE(f->backing_path, NULL);
        *format = TAKE(f->img->backing_format, NULL);
        if (!layer || !layer->backing)
                return 0;
        layer = layer->backing;
        if (layer->path) {
                free(*path);
                *path = strdup(layer->path);
        }
        if (layer->format) {
                free(*format);
                *format = strdup(layer->format);
        }
        return (layer->path && !*path) || (layer->format && !*format) ? -ENOMEM : 0;
}

/* Shows @image and, when asked, what is behind it. @list: collects JSON; NULL: print text. */
static int show(const struct tool_image *image, const struct wish *wish, json_t *list)
{
        const char *path = image->path;
        AUTO(freep) char *next_path = strdup(path), *next_format = image->format ? strdup(image->format) : NULL;
        const struct fmt_layer *layer = image->layer;
        struct seen seen[FMT_MAX_CHAIN];

        for (unsigned n = 0; next_path; n++) {
                AUTO(facts_finish) struct facts f = { 0 };
                int r;

                if (n == FMT_MAX_CHAIN)
                        return err_note(-ELOOP, "'%s': the backing chain has more than %u images", path, FMT_MAX_CHAIN);
                r = look(next_path, next_format, layer, wish, &f);
                if (r < 0)
                        return r;
                if (seen_before(seen, n, f.img->file))
                        return err_note(-ELOOP, "'%s': the backing chain is a loop: it comes back to '%s'", path, next_path);
                if (!list && n)
                        printf("\n");
                if (!list)
                        print_facts(&f);
                else if (json_array_append_new(list, facts_json(&f)) < 0)
                        return -ENOMEM;
                if (wish->chain && f.img->backing_name && !f.backing_path) /* say why it cannot be followed */
                        return chain_backing_path(next_path, f.img->backing_name, &f.backing_path);
                if (!wish->chain)
                        break;
                r = go_behind(&f, layer, &next_path, &next_format);
                if (r < 0)
                        return r;
                layer = layer ? layer->backing : NULL;
        }
        return 0;
}

static const struct option longs[] = {
        { "format", required_argument, NULL, 'f' },
        { "output", required_argument, NULL, OPT_OUTPUT },
        { "backing-chain", no_argument, NULL, OPT_BACKING_CHAIN },
        { "force-share", no_argument, NULL, 'U' },
        { "usage", no_argument, NULL, OPT_OWN },
        { NULL, 0, NULL, 0 },
};

static int run(int argc, char **argv)
{
        AUTO(tool_image_finish) struct tool_image image = { 0 };
        const char *format = NULL;
        struct wish wish = { 0 };
        bool json = false;
        json_t *list;
        int c, r;

        while ((c = tool_option(&cmd_info, argc, argv, "f:U", longs)) != -1) {
                if (c == 'f')
                        format = optarg;
                else if (c == 'U')
                        wish.flags |= FMT_NO_LOCK;
                else if (c == OPT_OUTPUT)
                        json = tool_output_is_json(optarg);
                else if (c == OPT_BACKING_CHAIN)
                        wish.chain = true;
                else if (c == OPT_OWN)
                        wish.usage = true;
        }
        tool_want_words(&cmd_info, argc, 1, 1, "one file name");
        if (format && !tool_driver(format))
                return tool_fail(-EINVAL, 1);
        list = json ? json_array() : NULL;
        r = tool_image_set(&image, argv[optind], format);
        if (r == 0)
                r = show(&image, &wish, list);
        if (r == 0 && json)
                r = print_json(wish.chain ? json_incref(list) : json_incref(json_array_get(list, 0)));
        json_decref(list);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_info = {
        .name = "info", .run = run, .group = GROUP_LOOK,
        .usage = "[-f FMT] [--output=human|json] [--backing-chain] [--usage] [-U] FILE",
        .help = "Says what an image is.\n\n"
                "  -f FMT            its format; without it the header is believed, for this command only\n"
                "  --backing-chain   the images behind it too\n"
                "  --usage           what it holds, in how many pieces, and what deleting each snapshot would free;\n"
                "                    this reads all its tables\n"
                "  --output=json     for programs\n"
                "  -U                look even when another program uses the image; what is shown may be old\n",
        .examples = "  vdisk-img info --backing-chain -f qcow2 overlay.qcow2\n"
                    "  vdisk-img info --usage disk.qcow2\n",
};
