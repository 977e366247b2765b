/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.c - an image and what lies behind it. A chain is opened top down: each image names the next one. What an image
 * says about its backing file is a stranger's word: it may name plain paths only, nothing it is made of itself, and not
 * more than FMT_MAX_CHAIN of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/maplog.h"
#include "common/path.h"
#include "common/range.h"
#include "formats/format.h"

#define PROBE_BYTES 4096u

/* --- one image ------------------------------------------------------------------------------------------------ */

static void close_one(struct fmt_image *img)
{
        struct file *file = img->file, *data_file = img->data_file;

        free(TAKE(img->backing_name, NULL));
        free(TAKE(img->backing_format, NULL));
        json_decref(TAKE(img->about, NULL));
        img->drv->close(img);
        file_close(data_file);
        file_close(file);
}

static void close_onep(struct fmt_image **img)
{
        chain_close(*img);
}

void chain_close(struct fmt_image *top)
{
        while (top) {
                struct fmt_image *backing = top->backing;

                close_one(top);
                top = backing;
        }
}

/* The driver for @file: the one that was named, or the one its first bytes belong to. */
static int choose_driver(struct file *file, const struct fmt_open_opts *opts, const struct fmt_driver **ret)
{
        const char *name = opts->format;
        char head[PROBE_BYTES];
        size_t len = min_u64(file->size, sizeof(head));
        int r;

        if (!name) {
                r = file_pread(file, head, len, 0);
                if (r < 0)
                        return r;
                name = fmt_probe(head, len);
                if (!name && !(opts->flags & FMT_GUESS))
                        return err_note(-EINVAL, "no known image format; if it is a raw disk, say so with format raw");
                if (!name)
                        name = "raw";
        }
        *ret = fmt_driver_find(name);
        if (!*ret)
                return err_note(-EINVAL, "unknown image format '%s'", name);
        if ((*ret)->caps & FMT_NO_FILE)
                return err_note(-EINVAL, "format '%s' has no file", name);
        return 0;
}

static int open_by_driver(const struct fmt_driver *drv, struct file *file, const struct fmt_open_opts *opts,
                          struct fmt_image **ret)
{
        if (opts->snapshot && !(drv->caps & FMT_HAS_SNAPSHOTS)) {
                file_close(file);
                return err_note(-ENOTSUP, "%s images have no internal snapshots", drv->name);
        }
        if (opts->layer && opts->layer->key_secret && !(drv->caps & FMT_HAS_KEYS)) {
                file_close(file);
                return err_note(-EINVAL, "%s images are not encrypted: secret '%s' opens nothing", drv->name,
                                opts->layer->key_secret);
        }
        return drv->open(file, opts, ret);
}

int fmt_open_file(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        const struct fmt_driver *drv;
        int r = choose_driver(file, opts, &drv);

        if (r < 0) {
                file_close(file);
                return r;
        }
        return open_by_driver(drv, file, opts, ret);
}

/* --- the file of an image's data --------------------------------------------------------------------------------- */

static unsigned file_flags(unsigned flags)
{
        return (flags & FMT_RDONLY ? FILE_RDONLY : 0) | (flags & FMT_DIRECT ? FILE_DIRECT : 0) |
               (flags & FMT_NO_LOCK ? FILE_NO_LOCK : 0);
}

/* By the operator's word, or by the image's, which leads nowhere but beside the image. */
static int open_data_at(const char *image_path, const char *name, const struct fmt_open_opts *opts, struct file **ret)
{
        AUTO(freep) char *dir = NULL, *rest = NULL;
        int r;

        if (opts->layer && opts->layer->data_path)
                return file_open(opts->layer->data_path, file_flags(opts->flags), ret);
        if (!name)
                return err_note(-EINVAL, "'%s' does not say where its external data file is: name it with data-file",
                                image_path);
        r = chain_data_path(image_path, name, &dir, &rest);
        return r < 0 ? r : file_open_beneath(dir, rest, file_flags(opts->flags), ret);
}

/* *ret: NULL when the image has none, or is only looked at. */
static int open_data_file(const struct fmt_driver *drv, struct file *image, const struct fmt_open_opts *opts,
                          struct file **ret)
{
        AUTO(freep) char *name = NULL;
        int r = 0;

        *ret = NULL;
        if (opts->flags & (FMT_INFO_ONLY | FMT_REPAIRING))
                return 0;
        if (drv->data_name)
                r = drv->data_name(image, &name);
        if (r == 0 && opts->layer && opts->layer->data_path)
                return err_note(-EINVAL, "'%s' keeps its data itself: it has no use for the data file '%s'", image->path,
                                opts->layer->data_path);
        if (r <= 0)
                return r;
        r = open_data_at(image->path, name, opts, ret);
        if (r == 0 && (*ret)->dev == image->dev && (*ret)->ino == image->ino) {
                file_close(TAKE(*ret, NULL));
                r = err_note(-EINVAL, "'%s' names itself as its data file", image->path);
        }
        return r < 0 ? err_prefix(err_note(r, "%s", strerror(-r)), "data file of '%s': ", image->path) : 0;
}

/* The image in @file, with its data file. Takes @file. */
static int open_with_data(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        struct fmt_open_opts how = *opts;
        const struct fmt_driver *drv;
        int r = choose_driver(file, opts, &drv);

        if (r == 0)
                r = open_data_file(drv, file, opts, &how.data_file);
        if (r < 0) {
                file_close(file);
                return r;
        }
        r = open_by_driver(drv, file, &how, ret);
        if (r < 0)
                file_close(how.data_file);
        return r;
}

/* Sentences about the file name it already, those of the drivers do not. */
static int name_path(int r, const char *path)
{
        size_t len = strlen(path);
        const char *text = err_text(r);

        if (text[0] == '\'' && !strncmp(text + 1, path, len) && text[1 + len] == '\'')
                return r;
        err_note(r, "%s", strerror(-r));
        return err_prefix(r, "'%s': ", path);
}

/* @named_by: the image whose word @path is; NULL: the operator's. */
static int open_one(const char *path, const char *named_by, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        const struct fmt_driver *drv = opts->format ? fmt_driver_find(opts->format) : NULL;
        struct file *file;
        int r;

        if (drv && drv->caps & FMT_NO_FILE) {
                r = drv->open(NULL, opts, ret);
        } else {
                if (named_by)
                        r = file_open_named(path, named_by, file_flags(opts->flags), &file);
                else
                        r = file_open(path, file_flags(opts->flags), &file);
                if (r == 0)
                        r = open_with_data(file, opts, ret);
        }
        if (r == 0 && opts->flags & FMT_TELL)
                fmt_tell(*ret);
        return r < 0 ? name_path(r, path) : 0;
}

/* --- the chain ------------------------------------------------------------------------------------------------ */

/* "nbd://host", "json:{...}": a colon before the first slash. */
static bool has_protocol(const char *name)
{
        return name[strcspn(name, ":/")] == ':';
}

int chain_backing_path(const char *image_path, const char *name, char **ret)
{
        const char *slash = strrchr(image_path, '/');

        *ret = NULL;
        if (!strncmp(name, "file:", 5))
                name += 5; /* says that what follows is a path, whatever colons it has */
        else if (has_protocol(name))
                return err_note(-EINVAL, "'%s': file name '%s' is not a plain path; protocols are not followed",
                                image_path, name);
        if (name[0] == '/' || !slash)
                *ret = strdup(name);
        else if (asprintf(ret, "%.*s/%s", (int)(slash - image_path), image_path, name) < 0)
                *ret = NULL;
        return *ret ? 0 : -ENOMEM;
}

bool fmt_is_made_of(const struct fmt_image *img, dev_t dev, ino_t ino)
{
        for (unsigned i = 0; i < img->nparts; i++)
                if (fmt_is_made_of(img->parts[i], dev, ino))
                        return true;
        if (img->data_file && img->data_file->dev == dev && img->data_file->ino == ino)
                return true;
        return img->file && img->file->dev == dev && img->file->ino == ino;
}

int chain_data_path(const char *image_path, const char *name, char **dir, char **rest)
{
        const char *slash = strrchr(image_path, '/');
        AUTO(freep) char *real = NULL;
        size_t len;
        int r;

        *rest = NULL;
        *dir = slash ? strndup(image_path, max_u64(slash - image_path, 1)) : strdup(".");
        r = *dir ? path_real(*dir, &real) : -ENOMEM;
        if (r < 0)
                return err_note(r, "'%s': %s", *dir ?: name, strerror(-r));
        if (has_protocol(name))
                return err_note(-EINVAL, "'%s': file name '%s' is not a plain path; protocols are not followed", image_path,
                                name);
        len = strlen(real);
        if (name[0] == '/' && strcmp(real, "/") && !strncmp(name, real, len) && name[len] == '/')
                name += len + strspn(name + len, "/");
        if (name[0] == '/' || !name[0])
                return err_note(-EPERM, "'%s' names the data file '%s', which is not in its own directory: whoever trusts that "
                                "says so with data-file", image_path, name);
        *rest = strdup(name);
        return *rest ? 0 : -ENOMEM;
}

/* Before it is opened: our own lock on the same file would hide the loop behind "in use". */
static int refuse_loop(const struct fmt_image *top, const char *path)
{
        dev_t dev;
        ino_t ino;
        int r = file_identify(path, &dev, &ino);

        if (r < 0)
                return r;
        for (const struct fmt_image *img = top; img; img = img->backing)
                if (fmt_is_made_of(img, dev, ino))
                        return err_note(-ELOOP, "the backing chain is a loop: it comes back to '%s'", path);
        return 0;
}

/*
 * A process that was killed just after a snapshot leaves the log of the image that guests wrote to until then, and it
 * is a backing image now. Opening an image for writing puts its log into it.
 */
static int put_log_in(const char *path, const char *named_by, const struct fmt_open_opts *opts)
{
        struct fmt_open_opts how = *opts;
        struct fmt_image *img;
        struct stat st;
        int r;

        if (!opts->state_dir || opts->flags & FMT_NO_LOCK || path_look(path, true, &st) < 0 ||
            !maplog_is_left(opts->state_dir, st.st_dev, st.st_ino, st.st_mtime))
                return 0;
        how.flags &= ~(unsigned)FMT_RDONLY;
        r = open_one(path, named_by, &how, &img);
        if (r < 0)
                return err_prefix(r, "a process that was killed left changes of it: ");
        r = fmt_settle_sync(img);
        chain_close(img);
        return r;
}

/* @layer: what the operator says about the backing image; NULL: nothing. */
static int open_backing(struct fmt_image *top, struct fmt_image *img, const struct fmt_open_opts *opts,
                        const struct fmt_layer *layer)
{
        struct fmt_open_opts how = *opts;
        bool ours = layer && layer->path;
        AUTO(freep) char *path = NULL;
        int r = 0;

        if (ours)
                path = strdup(layer->path);
        else
                r = chain_backing_path(img->file->path, img->backing_name, &path);
        if (r < 0 || !path)
                return r < 0 ? r : -ENOMEM;
        how.format = layer && layer->format ? layer->format : img->backing_format;
        how.layer = layer;
        how.snapshot = NULL;
        how.data_file = NULL;
        how.flags = FMT_RDONLY | (opts->flags & (FMT_DIRECT | FMT_NO_LOCK | FMT_GUESS | FMT_TELL));
        if (!how.format && !(opts->flags & FMT_GUESS))
                return err_note(-EINVAL, "'%s' does not say which format its backing file '%s' has; "
                                "'qemu-img rebase -u -F' can write it down", img->file->path, path);
        r = refuse_loop(top, path);
        if (r == 0)
                r = put_log_in(path, ours ? NULL : img->file->path, &how);
        if (r == 0)
                r = open_one(path, ours ? NULL : img->file->path, &how, &img->backing);
        if (r == 0 && img->drv->adopt)
                r = img->drv->adopt(img);
        return r < 0 ? err_prefix(r, "backing file of '%s': ", img->file->path) : 0;
}

/* Does the chain go on behind @img? The operator's word counts more than the image's. */
static bool has_backing(const struct fmt_image *img, const struct fmt_layer *layer)
{
        if (layer && (layer->no_backing || (layer->backing && layer->backing->path)))
                return !layer->no_backing && img->drv->caps & FMT_HAS_BACKING;
        return img->backing_name && img->backing_name[0];
}

int chain_open(const char *path, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        AUTO(close_onep) struct fmt_image *top = NULL;
        const struct fmt_layer *layer = opts->layer;
        unsigned images = 1;
        int r = open_one(path, NULL, opts, &top);

        if (r < 0)
                return r;
        for (struct fmt_image *img = top; !(opts->flags & FMT_NO_BACKING) && has_backing(img, layer); img = img->backing) {
                if (++images > FMT_MAX_CHAIN)
                        return err_note(-ELOOP, "'%s': the backing chain has more than %u images", path, FMT_MAX_CHAIN);
                layer = layer ? layer->backing : NULL;
                r = open_backing(top, img, opts, layer);
                if (r < 0)
                        return r;
        }
        *ret = TAKE(top, NULL);
        return 0;
}

int chain_reload(struct fmt_image **top, const struct fmt_open_opts *opts)
{
        struct fmt_image *old = *top, *backing = old->backing;
        const struct fmt_driver *drv = old->drv;
        struct file *file = old->file, *data_file = old->data_file;
        AUTO(freep) char *path = strdup(file->path);
        struct fmt_open_opts how = *opts;
        int r;

        how.cipher = TAKE(old->cipher, NULL); /* the key is the same, and to derive it takes seconds */
        *top = NULL;
        free(TAKE(old->backing_name, NULL));
        free(TAKE(old->backing_format, NULL));
        json_decref(TAKE(old->about, NULL));
        drv->close(old);
        how.data_file = data_file;
        r = drv->open(file, &how, top);
        if (r < 0) {
                file_close(data_file);
                chain_close(backing);
                return name_path(r, path ? path : "");
        }
        (*top)->backing = backing;
        if (opts->flags & FMT_TELL)
                fmt_tell(*top);
        return 0;
}

/* --- lookups through the chain: any thread -------------------------------------------------------------------- */

/*
 * Walks down only for the first extent: what an image says before its first absent extent is an answer already, and the
 * caller asks again from there. So there is no recursion, and -EAGAIN is always about @off.
 */
int chain_map(struct fmt_image *top, uint64_t off, uint64_t len, struct extent *ext, unsigned max,
              struct fmt_image **missing)
{
        struct fmt_image *img = top;

        for (unsigned depth = 0;; depth++) {
                int n = fmt_map(img, off, len, ext, max);

                if (n < 0) {
                        *missing = img;
                        return n;
                }
                for (int i = 0; i < n; i++) {
                        if (ext[i].kind == EXT_ABSENT && i > 0)
                                return i;
                        if (ext[i].kind == EXT_ABSENT)
                                break;
                        ext[i].img = ext[i].img ? ext[i].img : img; /* or one of its parts */
                        ext[i].file = ext[i].file ?: ext[i].img->file;
                        ext[i].depth = depth;
                        ext[i].writable = ext[i].writable && depth == 0; /* a backing image may be open for writing, too */
                        ext[i].in_image = true;
                }
                if (ext[0].kind != EXT_ABSENT)
                        return n;
                len = ext[0].len;
                if (!img->backing || off >= img->backing->size) {
                        ext[0] = (struct extent){ .kind = EXT_ZERO, .off = off, .len = len, .img = img, .depth = depth,
                                                  .allocated = ext[0].allocated, .host = ext[0].host };
                        return 1;
                }
                img = img->backing;
                len = min_u64(len, img->size - off);
        }
}
