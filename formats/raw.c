/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw.c - the file is the disk. Guest offset and file offset are the same, there are no tables, nothing is ever absent.
 * A file whose size is no multiple of 512 is served up to the next one: what lies past its end reads as zeros, and a
 * write there makes it longer. Holes are the file system's business; who wants to see them asks chain_map_sync().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/drivers.h"

#define SECTOR 512u

static int raw_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        struct fmt_image *img;

        if (file->size > INT64_MAX - SECTOR) {
                file_close(file);
                return err_note(-EFBIG, "the file is larger than a disk can be (8 EiB - 1 KiB)");
        }
        img = calloc(1, sizeof(*img));
        if (!img) {
                file_close(file);
                return -ENOMEM;
        }
        img->drv = &raw_driver;
        img->file = file;
        img->size = round_up(file->size, SECTOR);
        img->cluster_size = img->subcluster_size = 1;
        img->read_only = opts->flags & FMT_RDONLY || file->read_only;
        *ret = img;
        return 0;
}

static void raw_close(struct fmt_image *img)
{
        free(img);
}

static int raw_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        (void)max;
        ext[0] = (struct extent){
                .kind = EXT_DATA, .writable = !img->read_only, .off = off, .len = len, .host = off, .img = img,
        };
        return 1;
}

static int raw_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        (void)img;
        *plan = (struct fmt_plan){ .kind = PLAN_IN_PLACE, .off = off, .len = len, .host = off };
        return 0;
}

/* The file system zeroes partial blocks itself, so no edge is left over. */
static int raw_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan)
{
        (void)img;
        *plan = (struct fmt_plan){
                .kind = PLAN_PUNCH, .off = off, .len = len, .host = off,
                .keep = !(flags & (ZERO_MAY_UNMAP | ZERO_DISCARD)),
        };
        return 0;
}

/* --- at rest -------------------------------------------------------------------------------------------------- */

static int raw_create(struct file *file, const struct fmt_create *req)
{
        const char *prealloc = "off";
        int r;

        for (size_t i = 0; i < req->nopts; i++) {
                if (!strcmp(req->opts[i].name, "preallocation"))
                        prealloc = req->opts[i].value;
                else
                        return err_note(-EINVAL, "raw images have no option '%s'", req->opts[i].name);
        }
        if (strcmp(prealloc, "off") && strcmp(prealloc, "falloc") && strcmp(prealloc, "full"))
                return err_note(-EINVAL, "preallocation '%s' is not one of off, falloc, full", prealloc);
        if (req->backing_name)
                return err_note(-EINVAL, "raw images cannot have a backing file");
        if (file->is_blkdev && req->size > file->size)
                return err_note(-ENOSPC, "'%s' has %llu bytes, too few for a disk of %llu", file->path,
                                (unsigned long long)file->size, (unsigned long long)req->size);
        r = file_truncate(file, req->size);
        if (r == 0 && !strcmp(prealloc, "falloc"))
                r = file_zero(file, 0, req->size, true);
        else if (r == 0 && !strcmp(prealloc, "full"))
                r = file_write_zeros(file, 0, req->size);
        return r;
}

/* Holes come and go in the file system; the file's size is the disk's. */
static int raw_measure(const struct fmt_create *req, struct fmt_image *source, struct fmt_measure *ret)
{
        (void)source;
        ret->required = ret->fully_allocated = round_up(req->size, SECTOR);
        return 0;
}

static int raw_resize(struct fmt_image *img, uint64_t size, bool shrink_ok)
{
        int r = file_refresh_size(img->file);

        if (r < 0)
                return r;
        if (img->file->is_blkdev && size != img->file->size)
                return err_note(-ENOTSUP, "'%s' is a block device of %llu bytes: its size cannot be changed here",
                                img->file->path, (unsigned long long)img->file->size);
        if (size < img->size && !shrink_ok)
                return err_note(-EINVAL, "shrinking from %llu to %llu bytes would delete what lies beyond",
                                (unsigned long long)img->size, (unsigned long long)size);
        r = img->file->is_blkdev ? 0 : file_truncate(img->file, size);
        if (r == 0)
                img->size = round_up(size, SECTOR);
        return r;
}

static const struct fmt_option_doc raw_options[] = {
        { "preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)" },
        { NULL, NULL, NULL },
};

const struct fmt_driver raw_driver = {
        .name = "raw",
        .caps = FMT_CAN_WRITE,
        .open = raw_open,
        .close = raw_close,
        .map = raw_map,
        .plan_write = raw_plan_write,
        .plan_zero = raw_plan_zero,
        .create = raw_create,
        .create_options = raw_options,
        .measure = raw_measure,
        .resize = raw_resize,
};
