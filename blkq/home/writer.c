/* SPDX-License-Identifier: BSD-3-Clause */
#include "blkq/home/work.h"
#include "blkq/home/writer.h"

#include <assert.h>
#include <stdlib.h>

#include "blkq/vol_impl.h"

struct img_writer *writer_of(struct vol *v, const struct fmt_image *img)
{
        list_for_each(n, &v->writers) {
                struct img_writer *w = list_entry(n, struct img_writer, link);

                if (w->img == img)
                        return w;
        }
        return NULL;
}

int writer_may_write(const struct img_writer *w)
{
        return w->failed ? w->failed : w->guests ? vol_may_write(w->v) : 0;
}

void writer_fail(struct img_writer *w, int err, const char *what)
{
        if (!w->failed)
                w->failed = err;
        if (w->guests)
                vol_fail(w->v, err, what);
}

bool writer_is_clean(const struct img_writer *w)
{
        return !fmt_is_dirty(w->img) && !fmt_dying(w->img);
}

/* --- work that waits for no guest --------------------------------------------------------------------------------- */

static void on_housekept(struct waiter *waiter, int err)
{
        struct img_writer *w = container_of(waiter, struct img_writer, housekept);

        struct list tidied, *n;

        w->housekeeping = false; /* the end of the batch asks for the next piece */
        list_init(&tidied);
        list_splice_tail(&tidied, &w->tidied);
        if (err == 0 && !list_empty(&tidied))
                writer_housekeep(w); /* so that they wait for that, if they must, and not for a flush */
        while ((n = list_pop(&tidied)) != NULL) {
                struct waiter *who = list_entry(n, struct waiter, link);

                if (err == 0) /* else the driver knows; what is grave was said by writer_fail() */
                        who->dry = 1;
                who->wake(who, 0);
        }
}

void writer_housekeep(struct img_writer *w)
{
        struct fmt_batch *b = NULL;

        if (w->housekeeping || writer_may_write(w) < 0 || fmt_housekeep(w->img, &b) < 0 || !b)
                return;
        w->housekeeping = true;
        list_init(&w->housekept.link);
        w->housekept.wake = on_housekept;
        list_add_tail(&b->waiters, &w->housekept.link);
        batch_start(w->v, b);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct img_writer *writer_new(struct vol *v, struct fmt_image *img, bool guests)
{
        struct img_writer *w = calloc(1, sizeof(*w));

        if (!w)
                return NULL;
        w->v = v;
        w->img = img;
        w->guests = guests;
        list_init(&w->link);
        list_init(&w->tidied);
        flush_init(w);
        return w;
}

void writer_join(struct img_writer *w)
{
        list_add_tail(&w->v->writers, &w->link);
}

void writer_free(struct img_writer *w)
{
        if (!w)
                return;
        assert(!w->batches && !w->flush.running);
        writer_stop_timer(w);
        list_del(&w->link);
        free(w);
}
