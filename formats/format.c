/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format.c - the drivers there are, and the way to each of their functions. What a driver leaves out gets its natural
 * answer here: nothing to commit, nothing dirty, nothing to clean up.
 */
#include "formats/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "common/size.h"
#include "formats/drivers.h"

static const struct fmt_driver *const drivers[] = {
        &raw_driver, &qcow2_driver, &null_driver, &vdi_driver, &vhdx_driver, &vmdk_driver, &vpc_driver, NULL,
};

const struct fmt_driver *const *fmt_drivers(void)
{
        return drivers;
}

const struct fmt_driver *fmt_driver_find(const char *name)
{
        for (const struct fmt_driver *const *d = drivers; *d; d++)
                if (!strcmp((*d)->name, name))
                        return *d;
        return NULL;
}

const char *fmt_probe(const void *head, size_t len)
{
        for (const struct fmt_driver *const *d = drivers; *d; d++)
                if ((*d)->probe && (*d)->probe(head, len))
                        return (*d)->name;
        return NULL;
}

/* --- lookups: any thread -------------------------------------------------------------------------------------- */

int fmt_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        return img->drv->map(img, off, len, ext, max);
}

int fmt_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out)
{
        return img->drv->unpack ? img->drv->unpack(img, packed, packed_len, out) : -EIO;
}

int fmt_pack(struct fmt_image *img, const void *in, void *out)
{
        return img->drv->pack ? img->drv->pack(img, in, out) : 0;
}

bool fmt_can_pack(const struct fmt_image *img)
{
        /* Packed clusters are never encrypted, and in a data file each cluster has its place. */
        return img->drv->pack && img->drv->plan_packed && !img->encrypted && !img->data_file;
}

/* --- home ----------------------------------------------------------------------------------------------------- */

struct fmt_batch *fmt_want(struct fmt_image *img)
{
        return img->drv->want ? img->drv->want(img) : NULL;
}

static int may_write(const struct fmt_image *img)
{
        if (img->read_only)
                return -EROFS;
        if (img->locked)
                return err_note(-EACCES, "the image is encrypted and was opened without its key");
        return img->corrupt ? -EIO : 0;
}

int fmt_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        int r = img->drv->plan_write ? may_write(img) : -EROFS;

        return r < 0 ? r : img->drv->plan_write(img, off, len, plan);
}

int fmt_plan_packed(struct fmt_image *img, uint64_t off, uint32_t packed_len, struct fmt_plan *plan)
{
        int r = img->drv->plan_packed && !img->data_file ? may_write(img) : -ENOTSUP;

        return r < 0 ? r : img->drv->plan_packed(img, off, packed_len, plan);
}

int fmt_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan)
{
        int r = img->drv->plan_zero ? may_write(img) : -EROFS;

        return r < 0 ? r : img->drv->plan_zero(img, off, len, flags, plan);
}

void fmt_commit(struct fmt_image *img, struct fmt_plan *plan)
{
        if (img->drv->commit)
                img->drv->commit(img, plan);
}

void fmt_abort(struct fmt_image *img, struct fmt_plan *plan)
{
        if (img->drv->abort)
                img->drv->abort(img, plan);
}

uint64_t fmt_dying(struct fmt_image *img)
{
        return img->drv->dying ? img->drv->dying(img) : 0;
}

void fmt_dying_release(struct fmt_image *img, uint64_t ticket)
{
        if (img->drv->dying_release)
                img->drv->dying_release(img, ticket);
}

static void just_free(struct fmt_batch *b, int err)
{
        (void)err;
        fmt_batch_free(b);
}

/* For drivers without tables: the data itself is all that has to be durable. */
static int flush_file(struct fmt_image *img, struct fmt_batch **ret)
{
        struct fmt_batch *b = fmt_batch_new(img, 1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        if (img->file) /* of such images: img->data_file has always tables beside it */
                b->step[b->nsteps++] = (struct fmt_step){ .op = FMT_SYNC };
        b->done = just_free;
        *ret = b;
        return 0;
}

int fmt_flush(struct fmt_image *img, struct fmt_batch **ret)
{
        return img->drv->flush ? img->drv->flush(img, ret) : flush_file(img, ret);
}

bool fmt_is_dirty(const struct fmt_image *img)
{
        return img->drv->is_dirty && img->drv->is_dirty(img);
}

int fmt_housekeep(struct fmt_image *img, struct fmt_batch **ret)
{
        *ret = NULL;
        return img->drv->housekeep ? img->drv->housekeep(img, ret) : 0;
}

void fmt_wind_down(struct fmt_image *img)
{
        if (img->drv->wind_down)
                img->drv->wind_down(img);
}

void fmt_demote(struct fmt_image *img)
{
        if (img->drv->demote)
                img->drv->demote(img);
        if (img->data_file)
                file_demote(img->data_file);
        if (img->file)
                file_demote(img->file);
}

/* --- at rest -------------------------------------------------------------------------------------------------- */

/* What -o says about the file, whatever is in it. */
struct file_wishes {
        uint64_t extents; /* bytes; 0: no hint */
        bool nocow;
};

/* Takes those off the list: @rest has room for all of req->opts. 0, or -EINVAL with a sentence. */
static int take_file_wishes(const struct fmt_create *req, struct file_wishes *w, struct fmt_option *rest, size_t *nrest)
{
        for (size_t i = 0; i < req->nopts; i++) {
                const struct fmt_option *o = &req->opts[i];
                int r = 0;

                if (!strcmp(o->name, "extent_size_hint")) {
                        r = size_parse(o->value, &w->extents);
                        if (r == 0 && w->extents > UINT32_MAX)
                                r = err_note(-EINVAL, "extent_size_hint '%s' is larger than 4 GiB - 1", o->value);
                } else if (!strcmp(o->name, "nocow")) {
                        w->nocow = !strcmp(o->value, "on");
                        if (!w->nocow && strcmp(o->value, "off"))
                                r = err_note(-EINVAL, "nocow '%s' is not one of on, off", o->value);
                } else {
                        rest[(*nrest)++] = *o;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A file that is being made; what was there is emptied. */
struct new_file {
        struct file *file; /* NULL: none is to be made */
        char *path;
        bool ours; /* was not there before */
};

static int new_file_open(struct new_file *n, const char *path, const struct file_wishes *w)
{
        int r;

        n->path = strdup(path);
        r = n->path ? file_open(path, FILE_CREATE, &n->file) : -ENOMEM;
        n->ours = r == 0;
        if (r == -EEXIST) {
                err_clear();
                r = file_open(path, FILE_OVERWRITE, &n->file);
        }
        if (r < 0)
                return r;
        file_hint_extents(n->file, (uint32_t)w->extents);
        if (w->nocow)
                file_hint_nocow(n->file);
        return 0;
}

static void new_file_close(struct new_file *n, bool failed)
{
        if (failed && n->ours)
                path_unlink(n->path);
        file_close(n->file);
        free(n->path);
}

/* Option data_file, if it is there: beside the image, or where a path leads. */
static int make_data_file(const char *image_path, const struct fmt_driver *drv, const struct fmt_create *req,
                          const struct file_wishes *w, struct new_file *data)
{
        AUTO(freep) char *path = NULL;
        const char *name = NULL;
        int r;

        for (size_t i = 0; drv->caps & FMT_HAS_DATA_FILE && i < req->nopts; i++)
                if (!strcmp(req->opts[i].name, "data_file"))
                        name = req->opts[i].value;
        if (!name)
                return 0;
        r = chain_backing_path(image_path, name, &path);
        return r < 0 ? r : new_file_open(data, path, w);
}

int fmt_create_path(const char *path, const struct fmt_driver *drv, const struct fmt_create *req)
{
        AUTO(freep) struct fmt_option *opts = calloc(req->nopts + 1, sizeof(*opts));
        struct new_file image = { 0 }, data = { 0 };
        struct fmt_create own = *req;
        struct file_wishes wishes = { 0 };
        int r;

        if (!drv->create)
                return err_note(-ENOTSUP, "images of format '%s' cannot be created", drv->name);
        own.opts = opts;
        own.nopts = 0;
        r = opts ? take_file_wishes(req, &wishes, opts, &own.nopts) : -ENOMEM;
        if (r < 0)
                return r;
        r = new_file_open(&image, path, &wishes);
        if (r == 0) /* while the image is locked: a data file that is the image itself is "in use" */
                r = make_data_file(path, drv, req, &wishes, &data);
        own.data_file = data.file;
        if (r == 0)
                r = drv->create(image.file, &own);
        new_file_close(&data, r < 0);
        new_file_close(&image, r < 0);
        return r;
}

void fmt_snapshots_free(struct fmt_snapshot *s, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free(s[i].id);
                free(s[i].name);
        }
        free(s);
}
