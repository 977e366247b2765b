/* SPDX-License-Identifier: BSD-3-Clause */
/* batch.c - batches: made and freed for everybody, and run to their end on one thread for images at rest. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "formats/format.h"

struct fmt_batch *fmt_batch_new(struct fmt_image *img, unsigned max_steps, size_t struct_size)
{
        struct fmt_batch *b;

        assert(struct_size >= sizeof(*b));
        b = calloc(1, struct_size);
        if (!b)
                return NULL;
        b->img = img;
        list_init(&b->waiters);
        b->step = calloc(max_steps ? max_steps : 1, sizeof(*b->step));
        if (!b->step) {
                free(b);
                return NULL;
        }
        return b;
}

void fmt_batch_free(struct fmt_batch *b)
{
        if (!b)
                return;
        free(b->step);
        free(b);
}

static int run_step(struct file *file, const struct fmt_step *s)
{
        switch (s->op) {
        case FMT_READ:
                return file_pread(file, s->buf, s->len, s->off);
        case FMT_WRITE:
                return file_pwrite(file, s->buf, s->len, s->off);
        case FMT_ZERO:
                return file_zero(file, s->off, s->len, false);
        case FMT_TRUNCATE:
                return file_truncate(file, s->off);
        case FMT_SYNC:
                return file_sync(file);
        }
        return -EINVAL;
}

int fmt_batch_run_sync(struct fmt_batch *b)
{
        int r = 0;

        assert(!b->started);
        b->started = true;
        for (unsigned i = 0; r == 0 && i < b->nsteps; i++)
                r = run_step(fmt_step_file(b->img, &b->step[i]), &b->step[i]);
        b->done(b, r);
        return r;
}
