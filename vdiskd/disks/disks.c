/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants: a node outlives its exports (nexports counts them, stopping ones too); when all are to stop, whoever goes
 * last gives the sign for the next: the last export closes its node, the last node ends it all.
 */
#include "disks.h"

#include <string.h>

#include "common/clock.h"
#include "common/err.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/config/disk_ops.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/inner_node.h"
#include "vdiskd/disks/node.h"

#define LOCK_PATIENCE_NS (2 * NS_PER_SEC)

void disks_init(struct disks *d)
{
        d->pid_fd = -1;
        list_init(&d->nodes);
        list_init(&d->exports);
        list_init(&d->scsi_hosts);
        list_init(&d->limit_groups);
        list_init(&d->endings);
        list_init(&d->files);
        list_init(&d->filters);
        list_init(&d->turns);
        list_init(&d->jobs);
}

void disks_event(struct disks *d, const char *name, json_t *data)
{
        if (d->event)
                d->event(d->opaque, name, data);
        else
                json_decref(data);
}

/* --- finding ---------------------------------------------------------------------------------------------------- */

static struct node *find(const struct disks *d, const char *name)
{
        list_for_each(l, &d->nodes)
                if (!strcmp(list_entry(l, struct node, link)->name, name))
                        return list_entry(l, struct node, link);
        return NULL;
}

struct node *disks_find_node(struct disks *d, const char *name)
{
        const struct filter_node *f = filter_node_find(d, name);
        struct node *n = f ? f->node : find(d, name);

        return n && !n->closing ? n : NULL;
}

static struct inner_node *find_inner(const struct disks *d, const char *name)
{
        list_for_each(l, &d->nodes) {
                struct inner_node *i = inner_node_find(list_entry(l, struct node, link), name);

                if (i)
                        return i;
        }
        return NULL;
}

struct inner_node *disks_find_inner(struct disks *d, const char *name)
{
        struct inner_node *i = find_inner(d, name);

        return i && !i->root->closing ? i : NULL;
}

struct node *disks_find_device(struct disks *d, const char *name)
{
        struct block_export *x = disks_find_export(d, name);

        return x && !x->stopping && !x->node->closing ? x->node : disks_find_node(d, name);
}

bool disks_name_taken(const struct disks *d, const char *name)
{
        return find(d, name) || find_inner(d, name);
}

struct block_export *disks_find_export(struct disks *d, const char *id)
{
        list_for_each(l, &d->exports)
                if (!strcmp(list_entry(l, struct block_export, link)->id, id))
                        return list_entry(l, struct block_export, link);
        return NULL;
}

size_t disks_open(const struct disks *d)
{
        size_t n = 0;

        list_for_each(l, &d->nodes)
                n++;
        return n;
}

/* --- the command line ------------------------------------------------------------------------------------------- */

static int open_disk(struct disks *d, const struct disk_opts *o)
{
        struct fmt_layer layer;
        struct node_opts no;
        struct throttle_group *throttle;
        struct node *n;
        int r = limits_choose(d, o->id, o->throttle_group, &o->limits, &throttle);

        if (r < 0)
                return r;
        disk_node_opts(o, &no, &layer);
        no.throttle = throttle;
        no.patience_ns = LOCK_PATIENCE_NS;
        r = node_open(d, &no, &n);
        throttle_group_unref(throttle);
        return r;
}

static int serve_disk(struct disks *d, const struct disk_opts *o)
{
        struct node *n = disks_find_node(d, o->id);
        struct block_export_opts xo;
        struct block_export *x;
        int r;

        disk_export_opts(o, &xo);
        r = block_export_add(n, &xo, &x);
        return r < 0 ? err_prefix(r, "%s: ", node_label(n)) : 0;
}

static bool takes_any_lun(const struct disk_opts *o)
{
        return o->scsi && o->lun == SCSI_ANY_LUN;
}

int disks_add_all(struct disks *d, const struct disk_opts *opts, size_t n)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = open_disk(d, &opts[i]);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (!takes_any_lun(&opts[i]))
                        r = serve_disk(d, &opts[i]);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (takes_any_lun(&opts[i])) /* behind those that want a certain one */
                        r = serve_disk(d, &opts[i]);
        return r;
}

/* --- stopping --------------------------------------------------------------------------------------------------- */

void disks_resized(struct disks *d, const struct node *n)
{
        list_for_each(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n && !x->stopping)
                        block_export_resized(x);
        }
}

void disks_node_gone(struct disks *d, int res)
{
        if (d->res == 0)
                d->res = res;
        if (d->exports_stopping && list_empty(&d->nodes))
                d->stopped(d->stopped_opaque, d->res);
}

void disks_export_gone(struct disks *d, struct node *n)
{
        if (!disk_export_left(d, n) && d->exports_stopping && !n->nexports)
                node_close(n, NULL, NULL);
}

/* Returns whether any image is open still. */
static bool stop_exports(struct disks *d)
{
        d->exports_stopping = true;
        list_for_each_safe(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (!x->stopping)
                        block_export_stop(x);
        }
        list_for_each_safe(l, &d->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if (!n->nexports && !n->closing)
                        node_close(n, NULL, NULL);
        }
        return !list_empty(&d->nodes);
}

/* From a task of its own: whoever called has more to do with what is freed here. */
static void on_jobs_gone(struct loop_task *task)
{
        struct disks *d = container_of(task, struct disks, jobs_gone);

        if (!stop_exports(d))
                d->stopped(d->stopped_opaque, d->res);
}

void disks_job_gone(struct disks *d)
{
        if (!d->stopping || d->exports_stopping || d->cancelling || !list_empty(&d->jobs))
                return;
        d->cancelling = true; /* once */
        d->jobs_gone.run = on_jobs_gone;
        loop_post(d->loop, &d->jobs_gone);
}

bool disks_stop(struct disks *d, void (*stopped)(void *opaque, int res), void *opaque)
{
        d->stopping = true;
        d->stopped = stopped;
        d->stopped_opaque = opaque;
        d->res = 0;
        d->cancelling = true;
        jobs_cancel_all(d);
        d->cancelling = false;
        return !list_empty(&d->jobs) || stop_exports(d);
}
