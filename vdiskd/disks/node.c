/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   open -> closing (the image settles, on its home thread) -> gone
 *
 * A node that is closing keeps its name until it is gone, but nobody finds it any more.
 */
#include "node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "formats/format.h"
#include "common/size.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"

#define LOCK_PAUSE_US 10000

const char *node_label(const struct node *n)
{
        return n->path ?: "null";
}

const char *node_known_as(const struct node *n)
{
        if (n->name[0] != '#')
                return n->name;
        list_for_each(l, &n->disks->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n)
                        return x->id;
        }
        return node_label(n);
}

int node_is_free(const struct node *n)
{
        return n->busy ? err_note(-EBUSY, "Node '%s' is busy: %s", node_known_as(n), n->busy) : 0;
}

static void node_free(struct node *n)
{
        filter_nodes_forget(n);
        inner_nodes_free(n);
        free(n->name);
        free(n->path);
        fmt_layer_free(n->layer);
        throttle_group_unref(n->throttle);
        free(n);
}

/*
 * A daemon that was killed leaves its rings to the kernel, which closes them, and with them the image's lock, a moment
 * after the process is gone. Whoever starts it again at once must not fail for that.
 */
static int open_volume(const char *path, const struct vol_opts *vo, uint64_t patience_ns, struct qthread *home,
                       struct vol **ret)
{
        uint64_t deadline = clock_ns() + patience_ns;

        for (;;) {
                int r = vol_open(path, vo, home, ret);

                if (r != -EBUSY || clock_ns() >= deadline)
                        return r;
                err_clear();
                usleep(LOCK_PAUSE_US);
        }
}

static void on_failed(struct loop_task *task)
{
        struct node *n = container_of(task, struct node, failed);

        if (n->disks->node_failed)
                n->disks->node_failed(n->disks->opaque, n->name, n->fail_err, n->fail_what);
}

/* Home thread, at most once; its task arrives before the one of the close, and so before @n is freed. */
static void on_vol_failed(void *opaque, int err, const char *what)
{
        struct node *n = opaque;

        n->fail_err = err;
        n->fail_what = what;
        n->failed.run = on_failed;
        loop_post(n->disks->loop, &n->failed);
}

/* The thread that is home to the fewest. */
static unsigned choose_home(const struct disks *d)
{
        unsigned best = 0, least = ~0u;

        for (unsigned t = 0; t < d->nthreads; t++) {
                unsigned nodes = 0;

                list_for_each(l, &d->nodes)
                        nodes += list_entry(l, struct node, link)->home == t;
                if (nodes < least) {
                        least = nodes;
                        best = t;
                }
        }
        return best;
}

struct vol_opts node_vol_opts(const struct node *n)
{
        return (struct vol_opts){
                .format = n->format,
                .read_only = n->read_only,
                .writeback = n->writeback,
                .asleep = n->migratable && !n->awake,
                .awake = n->awake,
                .entry_with_data = n->entry_with_data,
                .null_size = n->null_size,
                .block_size = n->block_size,
                .layer = n->layer,
                .wait_for_space = !n->report_full,
                .space_timeout_s = n->full_timeout_s,
                .max_in_flight = n->max_in_flight,
                .cache_bytes = n->disks->cache_bytes,
                .slow_ms = n->disks->slow_ms,
                .state_dir = n->disks->state_dir,
        };
}

void node_set_max_in_flight(struct node *n, uint64_t bytes)
{
        n->max_in_flight = bytes;
        if (n->vol)
                vol_set_max_in_flight(n->vol, bytes);
}

/* The volume is open. */
void node_opened(struct node *n)
{
        /* Never to be found out again: a guest may have written meanwhile. */
        n->format = fmt_driver_find(vol_format(n->vol))->name;
        vol_on_fail(n->vol, on_vol_failed, n);
        vol_on_event(n->vol, node_on_vol_event, n);
        vol_set_write_threshold(n->vol, n->write_threshold);
        if (n->throttle && vol_set_throttle(n->vol, n->throttle) < 0)
                log_err("%s: there is no memory for its limits: it has none", node_label(n));
        inner_nodes_fit(n);
}

int node_start(struct node *n, uint64_t patience_ns)
{
        struct vol_opts vo = node_vol_opts(n);
        int r = open_volume(node_label(n), &vo, patience_ns, n->disks->threads[n->home], &n->vol);

        if (r == 0)
                node_opened(n);
        return r;
}

struct node *node_new(struct disks *d, const struct node_opts *o)
{
        struct node *n = calloc(1, sizeof(*n));
        const struct fmt_driver *drv;

        if (!n)
                return NULL;
        n->disks = d;
        n->name = strdup(o->name);
        n->path = o->path ? strdup(o->path) : NULL;
        drv = o->format ? fmt_driver_find(o->format) : NULL;
        n->format = drv ? drv->name : o->format; /* the driver's own word lasts */
        n->read_only = o->read_only;
        n->writeback = o->writeback;
        n->entry_with_data = o->entry_with_data;
        n->migratable = o->migratable;
        n->block_size = o->block_size;
        n->null_size = o->null_size;
        n->throttle = throttle_group_ref(o->throttle);
        n->report_full = o->report_full;
        n->full_timeout_s = o->full_timeout_s;
        n->max_in_flight = o->max_in_flight;
        n->home = choose_home(d);
        list_init(&n->below);
        if (fmt_layer_dup(o->layer, &n->layer) == 0 && n->name && (n->path || !o->path) &&
            inner_nodes_name(n, o->below, o->nbelow) == 0)
                return n;
        node_free(n);
        return NULL;
}

int node_open(struct disks *d, const struct node_opts *o, struct node **ret)
{
        struct node *n = node_new(d, o);
        int r = n ? node_start(n, o->patience_ns) : -ENOMEM;

        if (r < 0) {
                if (n)
                        node_free(n);
                return r;
        }
        list_add_tail(&d->nodes, &n->link);
        *ret = n;
        return 0;
}

/* --- opening by a worker ------------------------------------------------------------------------------------------ */

struct opening {
        struct node *n, *base;
        struct vol_opts vo;
        struct vol_image img;
        struct work work;
        struct loop_task task;
        void (*done)(void *opaque, int res, const char *why);
        void *opaque;
        int res;
        char why[256];
};

static void load_on_worker(struct work *w)
{
        struct opening *p = container_of(w, struct opening, work);

        rcu_register_thread(); /* an image that turns out to be none is closed again */
        p->res = vol_load(node_label(p->n), &p->vo, &p->img);
        rcu_unregister_thread();
        if (p->res < 0)
                snprintf(p->why, sizeof(p->why), "%s", err_text(p->res));
        err_clear();
        loop_post(p->n->disks->loop, &p->task);
}

/* It is part of the chain now, or a node as before. */
static void settle_base(struct opening *p)
{
        struct node *base = TAKE(p->base, NULL);

        if (!base)
                return;
        if (p->res == 0) {
                node_drop(base);
                return;
        }
        base->closing = false;
        if (node_start(base, 0) == 0)
                return;
        log_err("%s: cannot be opened again: %s", node_label(base), err_text(-EIO));
        err_clear();
        node_drop(base);
}

/* The lock tells only that somebody has the image. */
static void blame_ourselves(struct opening *p)
{
        const struct node *n = p->n;

        list_for_each(l, &n->disks->nodes) {
                const struct node *other = list_entry(l, struct node, link);

                if (other != n && other->path && n->path && !strcmp(other->path, n->path))
                        snprintf(p->why, sizeof(p->why), "'%s' is in use by this daemon, as '%s'", n->path, node_known_as(other));
        }
}

static void on_loaded(struct loop_task *task)
{
        struct opening *p = container_of(task, struct opening, task);
        struct node *n = p->n;
        struct disks *d = n->disks;

        if (p->res == 0) {
                p->res = vol_open_loaded(node_label(n), &p->vo, &p->img, d->threads[n->home], &n->vol);
                snprintf(p->why, sizeof(p->why), "%s", p->res < 0 ? err_text(p->res) : "");
                err_clear();
        }
        settle_base(p);
        workers_release(); /* an open volume holds them itself */
        if (p->res == 0)
                node_opened(n);
        if (p->res == -EBUSY)
                blame_ourselves(p);
        if (p->res < 0) {
                p->done(p->opaque, p->res, p->why);
                node_drop(n);
        } else if (d->stopping) {
                node_close(n, NULL, NULL);
                p->done(p->opaque, -EBUSY, "The daemon is stopping");
        } else {
                n->closing = false;
                p->done(p->opaque, 0, "");
        }
        free(p);
}

static int load(struct opening *p)
{
        return workers_run(&p->work);
}

static void on_base_closed(struct loop_task *task)
{
        struct opening *p = container_of(task, struct opening, task);

        int r = p->res;

        p->task.run = on_loaded;
        if (r < 0)
                snprintf(p->why, sizeof(p->why), "not all of '%s' could be made durable", p->base->name);
        else
                r = load(p);
        if (r == 0)
                return; /* the worker has it, and may be done */
        p->res = r;
        on_loaded(task);
}

/* Home thread of the base. */
static void on_base_vol_closed(void *opaque, int res)
{
        struct opening *p = opaque;

        p->res = res;
        p->task.run = on_base_closed;
        loop_post(p->n->disks->loop, &p->task);
}

int node_open_start(struct disks *d, const struct node_opts *o, void (*done)(void *opaque, int res, const char *why),
                    void *opaque)
{
        struct opening *p = calloc(1, sizeof(*p));
        int r;

        if (p)
                p->n = node_new(d, o);
        if (!p || !p->n) {
                free(p);
                return -ENOMEM;
        }
        p->vo = node_vol_opts(p->n);
        p->work.run = load_on_worker;
        p->task.run = on_loaded;
        p->done = done;
        p->opaque = opaque;
        p->n->closing = true;
        workers_hold();
        list_add_tail(&d->nodes, &p->n->link);
        if (o->base) {
                p->base = o->base;
                p->base->closing = true;
                vol_close(TAKE(p->base->vol, NULL), on_base_vol_closed, p);
                return 0;
        }
        r = load(p);
        if (r == 0)
                return 0;
        list_del(&p->n->link);
        workers_release();
        node_free(p->n);
        free(p);
        return r;
}

static void on_gone(struct loop_task *task)
{
        struct node *n = container_of(task, struct node, gone);
        struct disks *d = n->disks;
        int res = n->res;

        if (res < 0)
                log_err("%s: closed, but not all of it is on disk: %s", node_label(n), strerror(-res));
        else
                log_info("%s: closed", node_label(n));
        list_del(&n->link);
        if (n->closed)
                n->closed(n->opaque, res);
        node_free(n);
        disks_node_gone(d, res);
}

/* Home thread. */
static void on_vol_closed(void *opaque, int res)
{
        struct node *n = opaque;

        n->res = res;
        n->gone.run = on_gone;
        loop_post(n->disks->loop, &n->gone);
}

static void really_close(struct node *n)
{
        vol_close(TAKE(n->vol, NULL), on_vol_closed, n);
}

void node_close(struct node *n, void (*closed)(void *opaque, int res), void *opaque)
{
        n->closing = true;
        n->closed = closed;
        n->opaque = opaque;
        n->close_due = n->pins;
        if (!n->pins)
                really_close(n);
}

void node_pin(struct node *n)
{
        n->pins++;
}

void node_unpin(struct node *n)
{
        if (--n->pins || !n->close_due)
                return;
        n->close_due = false;
        really_close(n);
}

void node_drop(struct node *n)
{
        struct disks *d = n->disks;

        list_del(&n->link);
        node_free(n);
        disks_node_gone(d, 0);
}

/* --- another size ------------------------------------------------------------------------------------------------ */

struct resizing {
        struct node *n; /* outlives us: closing it waits in line behind us */
        struct loop_task task;
        void (*done)(void *opaque, int res, const char *why);
        void *opaque;
        int res;
        char why[256];
};

static void on_resized(struct loop_task *task)
{
        struct resizing *z = container_of(task, struct resizing, task);
        char size[32];

        z->n->resizing--;
        if (z->res == 0 && !z->n->closing) {
                log_info("%s: has %s now", node_label(z->n), size_format(vol_size(z->n->vol), size, sizeof(size)));
                disks_resized(z->n->disks, z->n);
        }
        z->done(z->opaque, z->res, z->why);
        free(z);
}

/* Home thread. */
static void on_vol_resized(void *opaque, int res, const char *why)
{
        struct resizing *z = opaque;

        z->res = res;
        snprintf(z->why, sizeof(z->why), "%s", why);
        loop_post(z->n->disks->loop, &z->task);
}

int node_resize(struct node *n, uint64_t size, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct resizing *z = calloc(1, sizeof(*z));
        int r;

        if (!z)
                return -ENOMEM;
        z->n = n;
        z->task.run = on_resized;
        z->done = done;
        z->opaque = opaque;
        r = vol_resize(n->vol, size, on_vol_resized, z);
        if (r < 0)
                free(z);
        else
                n->resizing++;
        return r;
}
