/* SPDX-License-Identifier: BSD-3-Clause */
#include "blkq/bitmaps/dirty_list.h"
#include "blkq/change/rework.h"

#include <errno.h>

#include "blkq/vol_impl.h"
#include "common/err.h"

int vol_rework(struct vol *v, bool rewrites, int (*run)(struct fmt_image *top, void *opaque), void *opaque)
{
        struct fmt_open_opts opts = vol_how(v);
        struct fmt_image *top = v->top;
        int r, again;

        if (v->asleep || !top)
                return err_note(-EBUSY, "the image is not in use here");
        if (v->read_only)
                return err_note(-EROFS, "the image is open for reading only");
        if (v->failed)
                return err_note(-EIO, "the disk failed: nothing can be written to it until it is opened again");
        r = run(top, opaque);
        vol_put_image(v, NULL, false);
        again = chain_reload(&top, &opts);
        vol_put_image(v, top, false);
        if (again < 0) {
                vol_fail(v, again, "the image could not be opened again");
                return err_prefix(again, "the image could not be opened again: ");
        }
        if (dirty_resize(v, v->size) < 0)
                vol_fail(v, -ENOMEM, "no memory for what its bitmaps record");
        if (r == 0 && rewrites)
                dirty_set_all(v);
        return r;
}

void vol_set_layer(struct vol *v, const struct fmt_layer *layer)
{
        v->layer = layer;
}
