/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   disk_start: a worker opens the image -> the socket is made -> done;  no socket: the image is closed -> done(error)
 *   disk_end:   exports stop -> the last one is gone -> the image is closed -> done
 *
 * An ending node is "closing" from the first: nobody finds it, so nobody exports it again.
 */
#include "disk_ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/disks/limit_groups.h"

void disk_node_opts(const struct disk_opts *o, struct node_opts *no, struct fmt_layer *layer)
{
        *layer = (struct fmt_layer){ .key_secret = o->key_secret, .data_path = o->data_path };
        *no = (struct node_opts){
                .name = o->id,
                .path = o->path,
                .format = o->format,
                .read_only = o->read_only,
                .writeback = o->writeback,
                .migratable = o->migratable,
                .entry_with_data = o->entry_with_data,
                .report_full = o->report_full,
                .full_timeout_s = o->full_timeout,
                .max_in_flight = o->max_in_flight,
                .block_size = o->block_size,
                .null_size = o->size,
                .layer = o->key_secret || o->data_path ? layer : NULL,
        };
}

void disk_export_opts(const struct disk_opts *o, struct block_export_opts *xo)
{
        *xo = (struct block_export_opts){
                .id = o->id,
                .at = {
                        .path = o->socket, .mode = o->socket_mode, .owner = o->socket_owner, .group = o->socket_group,
                        .fd = o->fd, .fdname = o->fdname,
                },
                .connect = o->connect,
                .serial = o->serial,
                .num_queues = o->num_queues,
                .block_size = o->block_size,
                .scsi = o->scsi,
                .lun = o->lun,
        };
}

/* --- a disk comes ------------------------------------------------------------------------------------------------- */

struct starting {
        struct disks *disks;
        const struct disk_opts *o;
        disk_done *done;
        void *opaque;
        int res;
        char why[512];
};

static void started(struct starting *s, int res, const char *why)
{
        s->done(s->opaque, res, why);
        free(s);
}

static void on_given_up(void *opaque, int res)
{
        struct starting *s = opaque;

        (void)res; /* nobody has written to it */
        started(s, s->res, s->why);
}

static void on_opened(void *opaque, int res, const char *why)
{
        struct starting *s = opaque;
        struct node *n = res == 0 ? disks_find_node(s->disks, s->o->id) : NULL;
        struct block_export_opts xo;
        struct block_export *x;

        if (res < 0)
                return started(s, res, why);
        err_clear();
        disk_export_opts(s->o, &xo);
        res = block_export_add(n, &xo, &x);
        if (res == 0)
                return started(s, 0, "");
        s->res = err_prefix(res, "%s: ", node_label(n));
        snprintf(s->why, sizeof(s->why), "%s", err_text(res));
        err_clear();
        node_close(n, on_given_up, s);
}

int disk_start(struct disks *d, const struct disk_opts *o, disk_done *done, void *opaque)
{
        struct starting *s;
        struct node_opts no;
        struct fmt_layer layer;
        int r;

        if (d->stopping)
                return err_note(-EBUSY, "the daemon is stopping");
        if (disks_name_taken(d, o->id) || disks_find_export(d, o->id))
                return err_note(-EEXIST, "there is a disk '%s' already", o->id);
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (struct starting){ .disks = d, .o = o, .done = done, .opaque = opaque };
        disk_node_opts(o, &no, &layer);
        r = limits_choose(d, o->id, o->throttle_group, &o->limits, &no.throttle);
        if (r == 0)
                r = node_open_start(d, &no, on_opened, s);
        throttle_group_unref(no.throttle);
        if (r < 0)
                free(s);
        return r;
}

/* --- a disk goes -------------------------------------------------------------------------------------------------- */

struct ending {
        struct list link; /* disks->endings */
        struct node *n;
        disk_done *done;
        void *opaque;
};

static void on_closed(void *opaque, int res)
{
        struct ending *e = opaque;
        char why[160] = "";

        if (res < 0)
                snprintf(why, sizeof(why), "it is gone, but not all of its data could be made durable: %s", strerror(-res));
        e->done(e->opaque, res, why);
        free(e);
}

static void close_it(struct ending *e)
{
        list_del(&e->link);
        node_close(e->n, on_closed, e);
}

bool disk_export_left(struct disks *d, struct node *n)
{
        list_for_each_safe(l, &d->endings) {
                struct ending *e = list_entry(l, struct ending, link);

                if (e->n != n)
                        continue;
                if (!n->nexports)
                        close_it(e);
                return true;
        }
        return false;
}

static bool in_use(struct disks *d, const struct node *n)
{
        list_for_each(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n && block_export_in_use(x))
                        return true;
        }
        return false;
}

struct node *disk_node(struct disks *d, const char *id)
{
        const struct block_export *x = disks_find_export(d, id);

        if (x && !x->node->closing)
                return x->node;
        return disks_find_node(d, id);
}

bool disk_in_use(struct disks *d, const char *id)
{
        struct node *n = disk_node(d, id);

        return n && in_use(d, n);
}

int disk_end(struct disks *d, const char *id, bool force, disk_done *done, void *opaque)
{
        struct node *n = disk_node(d, id);
        struct ending *e;

        if (d->stopping)
                return err_note(-EBUSY, "the daemon is stopping");
        if (!n)
                return err_note(-ENOENT, "there is no disk '%s'", id);
        if (n->nexports > 1) /* others are served by it, under other names */
                return err_note(-EBUSY, "disk '%s': its image has %u exports: delete the others first", id, n->nexports);
        if (!force && in_use(d, n))
                return err_note(-EBUSY, "disk '%s' is in use: a front end is connected", id);
        if (node_is_free(n) < 0)
                return -EBUSY;
        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        *e = (struct ending){ .n = n, .done = done, .opaque = opaque };
        list_init(&e->link);
        list_add_tail(&d->endings, &e->link);
        n->closing = true;
        list_for_each_safe(l, &d->exports) {
                struct block_export *x = list_entry(l, struct block_export, link);

                if (x->node == n && !x->stopping)
                        block_export_stop(x);
        }
        if (!n->nexports)
                close_it(e);
        return 0;
}
