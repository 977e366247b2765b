/* SPDX-License-Identifier: BSD-3-Clause */
/* null.c - a size and nothing else: writes vanish, reads leave the buffer as it is. Measures the software alone. */
#include <errno.h>
#include <stdlib.h>

#include "common/err.h"
#include "common/range.h"
#include "formats/drivers.h"

#define SECTOR 512u

static int null_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        struct fmt_image *img;

        file_close(file);
        if (opts->null_size == 0 || opts->null_size > INT64_MAX - SECTOR)
                return err_note(-EINVAL, "a null disk needs a size between 1 byte and 8 EiB - 1 KiB, not %llu",
                                (unsigned long long)opts->null_size);
        img = calloc(1, sizeof(*img));
        if (!img)
                return -ENOMEM;
        img->drv = &null_driver;
        img->size = round_up(opts->null_size, SECTOR);
        img->cluster_size = img->subcluster_size = 1;
        img->read_only = opts->flags & FMT_RDONLY;
        *ret = img;
        return 0;
}

static void null_close(struct fmt_image *img)
{
        free(img);
}

static int null_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        (void)max;
        ext[0] = (struct extent){ .kind = EXT_NOWHERE, .writable = !img->read_only, .off = off, .len = len, .img = img };
        return 1;
}

static int null_plan_write(struct fmt_image *img, uint64_t off, uint64_t len, struct fmt_plan *plan)
{
        (void)img;
        *plan = (struct fmt_plan){ .kind = PLAN_NOTHING, .off = off, .len = len };
        return 0;
}

static int null_plan_zero(struct fmt_image *img, uint64_t off, uint64_t len, unsigned flags, struct fmt_plan *plan)
{
        (void)flags;
        return null_plan_write(img, off, len, plan);
}

const struct fmt_driver null_driver = {
        .name = "null",
        .caps = FMT_CAN_WRITE | FMT_NO_FILE,
        .open = null_open,
        .close = null_close,
        .map = null_map,
        .plan_write = null_plan_write,
        .plan_zero = null_plan_zero,
};
