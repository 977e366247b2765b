/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_begin.c - the base of a commit becomes an image that is written to.
 *
 *   images that retire are waited for -> worker: the base is opened once more, for writing, and made as large as the disk
 *   -> guests wait for a moment: it stands where the old one stood -> that is closed
 */
#include <errno.h>
#include <inttypes.h>
#include <urcu.h>

#include "blkq/change/retire.h"
#include "blkq/jobs/chain_job_impl.h"
#include "blkq/port_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/image_lock.h"

/* --- images -------------------------------------------------------------------------------------------------------- */

static const struct fmt_layer *layer_at(const struct vol *v, unsigned depth)
{
        const struct fmt_layer *l = v->layer;

        while (l && depth--)
                l = l->backing;
        return l;
}

struct fmt_open_opts chain_how_at(const struct vol *v, unsigned depth, const struct fmt_image *img)
{
        struct fmt_open_opts how = vol_how(v);

        how.format = img->drv->name;
        how.flags = (how.flags & ~(unsigned)FMT_RDONLY) | FMT_NO_BACKING;
        how.layer = layer_at(v, depth);
        return how;
}

void chain_unlock_files(const struct fmt_image *img)
{
        image_unlock(img->file->fd);
        if (img->data_file)
                image_unlock(img->data_file->fd);
}

void chain_lock_files(const struct fmt_image *img)
{
        int r = image_lock(img->file->fd, img->file->path, false);

        if (r == 0 && img->data_file)
                r = image_lock(img->data_file->fd, img->data_file->path, false);
        if (r < 0)
                log_err("%s", err_text(r));
}

void chain_set_backing(struct vol *v, struct fmt_image *over, struct fmt_image *below)
{
        pthread_mutex_lock(&v->lock);
        over->backing = below;
        pthread_mutex_unlock(&v->lock);
}

/* --- workers ------------------------------------------------------------------------------------------------------- */

void chain_on_worker(struct chain_job *j, void (*run)(struct work *w), bool must)
{
        int r;

        j->work.run = run;
        r = workers_run(&j->work);
        if (r < 0 && must)
                run(&j->work); /* it waits for the disk, but it must be done */
        else if (r < 0)
                vol_change_go(&j->change, r);
}

/* Closing an image frees what others may be looking at. Home is registered already. */
static void register_here(const struct chain_job *j, bool on)
{
        if (qthread_is_current(j->job.v->home))
                return;
        if (on)
                rcu_register_thread();
        else
                rcu_unregister_thread();
}

static void close_out(struct work *w)
{
        struct chain_job *j = container_of(w, struct chain_job, work);

        register_here(j, true);
        chain_close(TAKE(j->out, NULL));
        register_here(j, false);
        vol_change_go(&j->change, 0);
}

void chain_close_out(struct vol_change *c)
{
        chain_on_worker(chain_job_of_change(c), close_out, true);
}

/* --- before -------------------------------------------------------------------------------------------------------- */

static int make_fit(struct chain_job *j, struct fmt_image **img, const struct fmt_open_opts *how)
{
        uint64_t size = j->over_size;
        int r;

        if ((*img)->size > size && j->active)
                return err_note(-EINVAL, "'%s' has a disk of %" PRIu64 " bytes, more than the one of %" PRIu64 " that would go on "
                                "with it", (*img)->file->path, (*img)->size, size);
        if ((*img)->size >= size)
                return 0;
        if (!(*img)->drv->resize)
                return err_note(-ENOTSUP, "%s images cannot be resized", (*img)->drv->name);
        r = (*img)->drv->resize(*img, size, false);
        return r < 0 ? r : chain_reload(img, how);
}

static int open_base(struct chain_job *j)
{
        struct vol *v = j->job.v;
        struct fmt_image *old = j->old, *img = NULL;
        struct fmt_open_opts how = chain_how_at(v, j->base, old);
        int r;

        chain_unlock_files(old);
        r = vol_open_image(old->file->path, &how, v->block_size, &img);
        if (r == 0 && img->drv->bitmaps_take) /* nobody records what is written to it now: its own bitmaps mean nothing from here on */
                r = img->drv->bitmaps_take(img);
        if (r == 0)
                r = make_fit(j, &img, &how);
        if (r == 0) {
                j->to = writer_new(v, img, false);
                r = j->to ? 0 : -ENOMEM;
        }
        if (r == 0) {
                j->opened = img;
                return 0;
        }
        chain_close(img);
        chain_lock_files(old);
        return r;
}

static void on_worker(struct work *w)
{
        struct chain_job *j = container_of(w, struct chain_job, work);
        int r;

        register_here(j, true);
        r = open_base(j);
        register_here(j, false);
        vol_change_go(&j->change, r);
}

static void on_retired(struct waiter *w, int err)
{
        struct chain_job *j = container_of(w, struct chain_job, wait);
        struct fmt_image *top = j->job.v->top;
        int r = err < 0 ? err_note(err, "an image of the chain is not whole on its disk yet") : 0;

        j->old = chain_at(top, j->base);
        if (r == 0 && !j->old)
                r = err_note(-ENOENT, "there is no such base");
        if (r == 0 && (!j->old->file || !(j->old->drv->caps & FMT_CAN_WRITE)))
                r = err_note(-ENOTSUP, "%s images cannot be written to", j->old->drv->name);
        if (r == 0) {
                j->over_size = chain_at(top, j->top)->size;
                chain_on_worker(j, on_worker, false);
        } else {
                vol_change_go(&j->change, r);
        }
}

static void before(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);

        j->wait = (struct waiter){ .wake = on_retired };
        list_init(&j->wait.link);
        retire_wait(c->v, &j->wait);
}

/* --- with guests waiting ------------------------------------------------------------------------------------------- */

static void apply(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);
        struct vol *v = c->v;

        image_files(j->old, v->mover.engine, engine_del_file);
        if (v->uses_files)
                image_files(j->opened, v->mover.engine, engine_add_file);
        j->opened->backing = j->old->backing;
        chain_set_backing(v, chain_at(v->top, j->base - 1), TAKE(j->opened, NULL));
        j->old->backing = NULL;
        j->out = TAKE(j->old, NULL);
        j->begun = true;
        writer_join(j->to);
}

static void failed(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);

        writer_free(TAKE(j->to, NULL));
        if (!j->opened)
                return;
        chain_close(TAKE(j->opened, NULL));
        chain_lock_files(j->old);
}

struct vol_change *chain_job_begin(struct copy_job *c)
{
        struct chain_job *j = chain_job_of(c);

        j->change = (struct vol_change){
                .v = c->v, .forget = true, .before = before, .apply = apply, .after = chain_close_out, .failed = failed,
        };
        return &j->change;
}
