/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_cut.c - the end of jobs on a chain: images that were copied go out of it. What takes time is done while guests go on:
 *
 *   stream, commit of inner images:
 *     images that retire are waited for -> all is flushed -> worker: the header says another backing file
 *     -> guests wait for a moment: pointers -> the images that are out are closed
 *   active commit:
 *     ... -> rounds over what guests changed, until little is left -> guests wait: the rest is copied, pointers -> the base is flushed
 *
 * The order in which things become durable: the data that was copied, then the header that leaves images out; and only then is
 * what is written treated as if there were nothing behind it. Whatever happens in between, the chain that headers tell shows the
 * same disk. Of an active commit both ends are whole until its end is told: the old top image as it was when guests left it, and the base
 * as soon as it has been flushed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/change/retire.h"
#include "blkq/home/work.h"
#include "blkq/jobs/chain_job_impl.h"
#include "blkq/port_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

static void go(struct chain_job *j, int res)
{
        vol_change_go(&j->change, res);
}

static void wait_with(struct chain_job *j, void (*wake)(struct waiter *w, int err))
{
        j->wait = (struct waiter){ .wake = wake };
        list_init(&j->wait.link);
}

/* --- another backing file in a header: a worker ----------------------------------------------------------------------- */

static int write_names(struct chain_job *j, struct fmt_image *img, struct file *file)
{
        const struct fmt_option opts[] = {
                { "backing_file", j->end.backing_name }, { "backing_fmt", j->end.backing_format },
        };
        size_t n = *j->end.backing_name ? 2 : 1;

        if (!img->drv->rename)
                return err_note(-ENOTSUP, "%s images cannot have another backing file", img->drv->name);
        return img->drv->rename(img, file, opts, n);
}

/* An image that is open for reading only. */
static int write_below(struct chain_job *j)
{
        struct fmt_open_opts how = chain_how_at(j->job.v, j->top - 1, j->over);
        struct fmt_image *again;
        int r;

        how.state_dir = NULL;
        chain_unlock_files(j->over);
        r = chain_open(j->over->file->path, &how, &again);
        if (r == 0) {
                r = write_names(j, again, again->file);
                chain_close(again);
        }
        chain_lock_files(j->over);
        return r;
}

static bool is_top(const struct chain_job *j)
{
        return j->over == j->job.v->top;
}

static void on_worker(struct work *w)
{
        struct chain_job *j = container_of(w, struct chain_job, work);

        rcu_register_thread();
        if (j->gated)
                j->named = write_names(j, j->over, j->header_file.fd < 0 ? j->over->file : &j->header_file);
        else
                j->named = write_below(j);
        rcu_unregister_thread();
        if (j->named < 0)
                snprintf(j->why, sizeof(j->why), "%s", err_text(j->named));
        err_clear();
        qthread_post(j->job.v->home, &j->back);
}

static void swap_text(char **a, char **b)
{
        char *was = *a;

        *a = *b;
        *b = was;
}

static void on_named(struct qtask *task)
{
        struct chain_job *j = container_of(task, struct chain_job, back);
        struct vol *v = j->job.v;

        if (j->named == 0) {
                pthread_mutex_lock(&v->lock);
                swap_text(&j->over->backing_name, &j->names[0]);
                swap_text(&j->over->backing_format, &j->names[1]);
                pthread_mutex_unlock(&v->lock);
        }
        if (TAKE(j->gated, false))
                writer_ungate(v->writer);
        go(j, j->named < 0 ? err_note(j->named, "%s", j->why) : 0);
}

static void write_header(struct chain_job *j)
{
        int r;

        j->back.run = on_named;
        j->work.run = on_worker;
        r = workers_run(&j->work);
        if (r < 0) {
                j->named = r;
                snprintf(j->why, sizeof(j->why), "no worker");
                on_named(&j->back);
        }
}

/* The top image's header is also a flush's to write. */
static void on_top_flushed(struct waiter *w, int err)
{
        struct chain_job *j = container_of(w, struct chain_job, wait);
        struct img_writer *top = j->job.v->writer;

        if (err < 0) {
                go(j, err_note(err, "what was copied could not be made durable"));
                return;
        }
        wait_with(j, on_top_flushed);
        if (top->flush.running) { /* somebody who was woken before us wants another one */
                writer_flush(top, &j->wait);
                return;
        }
        writer_gate(top);
        j->gated = true;
        j->header_file = *j->over->file;
        write_header(j);
}

/* --- before: requests go on --------------------------------------------------------------------------------------------- */

static void on_little_left(struct copy_job *c, int res)
{
        go(chain_job_of(c), res < 0 ? err_note(res, "what was written last could not be copied") : 0);
}

static void on_all_flushed(struct waiter *w, int err)
{
        struct chain_job *j = container_of(w, struct chain_job, wait);

        if (err < 0) {
                go(j, err_note(err, "what was copied could not be made durable"));
                return;
        }
        if (j->active) {
                copy_rest(&j->job, &j->rest, COPY_REST_HELD, on_little_left);
                return;
        }
        j->over = chain_at(j->job.v->top, j->stream ? 0 : j->top - 1);
        if (is_top(j)) {
                wait_with(j, on_top_flushed);
                writer_flush(j->job.v->writer, &j->wait);
        } else {
                write_header(j);
        }
}

static void on_retired(struct waiter *w, int err)
{
        struct chain_job *j = container_of(w, struct chain_job, wait);

        if (err < 0) {
                go(j, err_note(err, "an image of the chain is not whole on its disk yet"));
                return;
        }
        wait_with(j, on_all_flushed);
        flush_all(j->job.v, &j->wait);
}

static void before(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);

        wait_with(j, on_retired);
        retire_wait(c->v, &j->wait);
}

/* --- guests wait: pointers ------------------------------------------------------------------------------------------------ */

static void let_base_go(struct chain_job *j)
{
        struct img_writer *to = TAKE(j->to, NULL);

        if (to)
                retire_start(TAKE(j->retire, NULL), to);
        vol_detach_bitmap(j->job.v, j->todo);
}

/* What lies between j->over and the base is out, and its names are those of the header. */
static void cut(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);
        struct vol *v = c->v;
        struct fmt_image *out = j->over->backing, *below = chain_at(v->top, j->base);

        if (out != below) {
                chain_set_backing(v, j->over, below);
                for (struct fmt_image *img = out, *next; img; img = next) {
                        image_files(img, v->mover.engine, engine_del_file);
                        next = img->backing == below ? NULL : img->backing;
                        if (!next)
                                img->backing = NULL;
                }
                j->out = out;
        }
        pthread_mutex_lock(&v->lock);
        v->layer = j->end.layer;
        pthread_mutex_unlock(&v->lock);
        let_base_go(j);
}

/* The old top image is tidied in the background, like any that guests have left; then it is closed, and all down to the
 * base. */
static void base_becomes_top(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);
        struct vol *v = c->v;
        struct img_writer *was = v->writer;
        struct fmt_image *over = chain_at(v->top, j->base - 1);

        log_info("%s: its guests go on with %s", v->path, j->path);
        pthread_mutex_lock(&v->lock);
        v->top = TAKE(over->backing, NULL);
        v->layer = j->end.layer;
        vol_rename(v, &j->path, TAKE(j->keep, NULL));
        swap_text(&v->format, &j->format);
        pthread_mutex_unlock(&v->lock);
        v->writer = TAKE(j->to, NULL);
        v->writer->guests = true;
        was->guests = false;
        retire_then_close(j->retire);
        retire_start(TAKE(j->retire, NULL), was);
        vol_detach_bitmap(v, j->todo);
}

static void copy_all(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);

        copy_rest(&j->job, &j->rest, 0, on_little_left);
}

/* --- after ------------------------------------------------------------------------------------------------------------------ */

/* When it failed for good the volume has said so. */
static void on_base_flushed(struct waiter *w, int err)
{
        struct chain_job *j = container_of(w, struct chain_job, wait);

        if (err < 0)
                log_warn("%s: what was committed is not durable yet: %s", j->job.v->path, strerror(-err));
        go(j, 0);
}

static void flush_base(struct vol_change *c)
{
        struct chain_job *j = chain_job_of_change(c);

        wait_with(j, on_base_flushed);
        writer_flush(c->v->writer, &j->wait);
}

/* --- the door --------------------------------------------------------------------------------------------------------------- */

static void leave(struct vol_change *c)
{
        let_base_go(chain_job_of_change(c));
}

static bool keep_texts(struct chain_job *j)
{
        const struct chain_end *end = &j->end;

        if (!j->active) {
                j->names[0] = *end->backing_name ? strdup(end->backing_name) : NULL;
                j->names[1] = *end->backing_name ? strdup(end->backing_format) : NULL;
                return !*end->backing_name || (j->names[0] && j->names[1]);
        }
        j->path = strdup(end->path);
        j->format = strdup(end->format);
        j->keep = calloc(1, sizeof(*j->keep));
        return j->path && j->format && j->keep;
}

static void no_memory(struct vol_change *c)
{
        vol_change_go(c, -ENOMEM);
}

struct vol_change *chain_job_end(struct copy_job *c, const struct chain_end *end)
{
        struct chain_job *j = chain_job_of(c);

        j->end = *end;
        j->change = (struct vol_change){ .v = c->v, .apply = leave, .failed = leave };
        if (!end->cut)
                return &j->change;
        j->change.forget = true;
        j->change.before = keep_texts(j) ? before : no_memory;
        if (j->active) {
                j->change.quiet = copy_all;
                j->change.apply = base_becomes_top;
                j->change.after = flush_base;
        } else {
                j->change.apply = cut;
                j->change.after = chain_close_out;
        }
        return &j->change;
}
