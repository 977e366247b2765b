/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reopen.c - another image in the place of the one that is open, while guests' requests wait.
 *
 *   vol_resize   held -> the format's resize, as for an image at rest -> its tables are read again -> released
 *   vol_wake     asleep: held -> the image is locked and opened, so what is read is what its last user left -> released
 *   vol_rest     held (all is durable) -> opened to be looked at, then the one in use is closed and unlocked -> asleep
 *
 * The work itself waits for the disk, so a worker does it. A volume that is asleep has an image with a header and no
 * tables, without locks: enough for its size and name. Whatever fails, the image that was there stays, with one
 * exception: an image that cannot be read again after a resize is gone, and all requests fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/bitmaps/dirty_list.h"
#include "blkq/bitmaps/vol_bitmaps.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define LOCK_PATIENCE_NS (2 * NS_PER_SEC) /* who had the image may be on the way out */
#define LOCK_PAUSE_NS (20 * NS_PER_MS)

struct reopen {
        struct vol *v;
        struct vol_hold hold;
        struct work work;
        struct qtask back;    /* worker -> home */
        struct qtimer pause;
        uint64_t deadline_ns;
        int (*run)(struct reopen *c); /* worker, volume held: 0 or -errno with a sentence */
        uint64_t size;        /* resize */
        void (*done)(void *opaque, int res, const char *why);
        void *opaque;
        int res;
        char why[256];
};

void vol_put_image(struct vol *v, struct fmt_image *top, bool asleep)
{
        pthread_mutex_lock(&v->lock);
        v->top = top;
        if (v->writer)
                v->writer->img = top;
        v->asleep = asleep;
        if (top)
                v->size = round_up(top->size, VOL_SECTOR);
        pthread_mutex_unlock(&v->lock);
}

struct fmt_open_opts vol_how(const struct vol *v)
{
        return (struct fmt_open_opts){
                .format = v->format, .flags = v->open_flags, .cache_bytes = v->cache_bytes, .state_dir = v->state_dir,
                .layer = v->layer,
        };
}

/* --- on a worker -------------------------------------------------------------------------------------------------- */

static int run_resize(struct reopen *c)
{
        struct fmt_open_opts opts = vol_how(c->v);
        struct fmt_image *top = c->v->top;
        int r = dirty_resize(c->v, c->size), again;

        if (r < 0)
                return r;
        r = top->drv->resize(top, c->size, false);
        vol_put_image(c->v, NULL, false);
        again = chain_reload(&top, &opts);
        vol_put_image(c->v, top, false);
        (void)dirty_resize(c->v, c->v->size); /* back, if it did not grow: that needs no memory */
        return again < 0 ? err_prefix(again, "the image could not be opened again: ") : r;
}

static int run_wake(struct reopen *c)
{
        struct fmt_image *old = c->v->top, *top;
        struct fmt_open_opts opts = vol_how(c->v);
        struct bitmap_set bitmaps;
        int r = vol_open_image(c->v->path, &opts, c->v->block_size, &top);

        if (r < 0)
                return r;
        r = bitmaps_load(top, &bitmaps);
        if (r == 0)
                r = dirty_resize(c->v, round_up(top->size, VOL_SECTOR));
        if (r == 0) {
                dirty_set_all(c->v); /* nobody recorded what the other process wrote */
                r = bitmaps_join(c->v, &bitmaps);
        }
        bitmap_set_finish(&bitmaps);
        if (r < 0) {
                chain_close(top);
                return r;
        }
        vol_put_image(c->v, top, false);
        chain_close(old);
        return 0;
}

static int run_rest(struct reopen *c)
{
        struct fmt_image *old = c->v->top, *top;
        struct fmt_open_opts opts = vol_how(c->v);
        int r;

        opts.flags |= VOL_ASLEEP_FLAGS;
        r = chain_open(c->v->path, &opts, &top);
        if (r < 0)
                return r;
        r = bitmaps_leave(c->v);
        if (r < 0) {
                chain_close(top);
                return r;
        }
        vol_put_image(c->v, top, true);
        chain_close(old);
        return 0;
}

static void on_worker(struct work *w)
{
        struct reopen *c = container_of(w, struct reopen, work);

        rcu_register_thread(); /* closing an image frees what others may be looking at */
        c->res = c->run(c);
        rcu_unregister_thread();
        if (c->res < 0)
                snprintf(c->why, sizeof(c->why), "%s", err_text(c->res));
        err_clear();
        qthread_post(c->v->home, &c->back);
}

/* --- at home ------------------------------------------------------------------------------------------------------ */

static void finish(struct reopen *c, int res)
{
        void (*done)(void *opaque, int res, const char *why) = c->done;
        struct vol *v = c->v;

        if (res < 0 && !c->why[0])
                snprintf(c->why, sizeof(c->why), "%s", err_text(res));
        err_clear();
        vol_release(v);
        done(c->opaque, res, c->why);
        free(c);
}

static void work(struct reopen *c)
{
        int r = workers_run(&c->work);

        if (r < 0)
                finish(c, r);
}

static void on_pause_over(struct qtimer *t)
{
        work(container_of(t, struct reopen, pause));
}

static void on_back(struct qtask *task)
{
        struct reopen *c = container_of(task, struct reopen, back);
        struct vol *v = c->v;

        if (c->res == -EBUSY && c->run == run_wake && clock_ns() < c->deadline_ns) {
                c->why[0] = 0;
                qthread_timer_set(v->home, &c->pause, LOCK_PAUSE_NS);
                return;
        }
        if (!v->top)
                vol_fail(v, c->res, "the image could not be opened again");
        if (c->run == run_wake && c->res == 0)
                v->awake = 1;
        if (c->res == 0 && c->run != run_resize)
                log_info("%s: the image is %s", v->path, v->asleep ? "whole and free" : "ours now");
        finish(c, c->res);
}

static int check_resize(const struct reopen *c)
{
        const struct vol *v = c->v;

        if (v->asleep || !v->top)
                return err_note(-EBUSY, "the image is not in use here");
        if (v->read_only)
                return err_note(-EROFS, "the image is open for reading only");
        if (!v->top->drv->resize)
                return err_note(-ENOTSUP, "%s images cannot be resized", v->top->drv->name);
        if (c->size < v->size)
                return err_note(-EINVAL, "%" PRIu64 " bytes are less than the disk has (%" PRIu64 "): a disk that is in use "
                                "does not shrink", c->size, v->size);
        if (v->top->file && v->top->file->direct && !is_aligned(c->size, fmt_off_align(v->top)))
                return err_note(-EINVAL, "direct I/O on this file needs a size that is a multiple of %" PRIu32,
                                fmt_off_align(v->top));
        return 0;
}

static void on_held_to_resize(struct vol_hold *h, int res)
{
        struct reopen *c = container_of(h, struct reopen, hold);
        int r = res < 0 ? err_note(res, "not all of the image could be made durable") : check_resize(c);

        if (r < 0)
                finish(c, r);
        else
                work(c);
}

static void on_held_to_wake(struct vol_hold *h, int res)
{
        struct reopen *c = container_of(h, struct reopen, hold);

        (void)res;
        if (c->v->asleep) {
                c->deadline_ns = clock_ns() + LOCK_PATIENCE_NS;
                work(c);
        } else {
                c->v->awake++;
                finish(c, 0);
        }
}

/* An image that is not whole on its disk is kept: nobody else shall believe that it is. */
static void on_held_to_rest(struct vol_hold *h, int res)
{
        struct reopen *c = container_of(h, struct reopen, hold);
        struct vol *v = c->v;

        if (--v->awake)
                finish(c, 0);
        else if (res < 0 || v->failed || !v->top)
                finish(c, err_note(res < 0 ? res : -EIO, "not all of the image could be made durable: it stays locked"));
        else
                work(c);
}

/* --- the door ----------------------------------------------------------------------------------------------------- */

static int begin(struct vol *v, void (*held)(struct vol_hold *h, int res), int (*run)(struct reopen *c), uint64_t size,
                 void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct reopen *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        c->v = v;
        c->hold.held = held;
        c->run = run;
        c->work.run = on_worker;
        c->back.run = on_back;
        c->pause.fire = on_pause_over;
        list_init(&c->pause.link);
        c->size = size;
        c->done = done;
        c->opaque = opaque;
        vol_hold(v, &c->hold);
        return 0;
}

int vol_resize(struct vol *v, uint64_t size, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        return begin(v, on_held_to_resize, run_resize, size, done, opaque);
}

int vol_wake(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        return begin(v, on_held_to_wake, run_wake, 0, done, opaque);
}

int vol_rest(struct vol *v, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        return begin(v, on_held_to_rest, run_rest, 0, done, opaque);
}
