/* SPDX-License-Identifier: BSD-3-Clause */
/* A block device and its door: what the door (vhost_user/door) cannot know of disks is here. */
#include "vhost_user_blk/export_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/mark.h"

#define BLK_OPS                                                                                                 \
        .get_config = blk_get_config, .set_config = blk_set_config, .ring_start = blk_ring_start,               \
        .ring_stop = blk_ring_stop, .ring_hurry = blk_ring_hurry, .get = blk_get, .put = blk_put, .take = blk_take, \
        .leave = blk_leave

static const struct vu_device_ops blk_ops = { BLK_OPS };

static void export_free(struct export *x)
{
        if (!x)
                return;
        door_finish(&x->door);
        free(x->dev.port);
        free(x->dev.vu.threads);
        free(x->dev.vu.shares);
        free(x->dev.wce_mark);
        free(x->name);
        free(x);
}

static void export_freep(struct export **x)
{
        export_free(*x);
}

/* --- stopping ---------------------------------------------------------------------------------------------------- */

static void on_stopped(void *opaque)
{
        struct export *x = opaque;
        void (*stopped)(void *opaque) = x->stopped;

        opaque = x->opaque;
        export_free(x);
        stopped(opaque);
}

void export_stop(struct export *x, void (*stopped)(void *opaque), void *opaque)
{
        x->stopped = stopped;
        x->opaque = opaque;
        door_stop(&x->door, on_stopped, x);
}

void export_follow(struct export *x, struct vol *v)
{
        rcu_assign_pointer(x->dev.vol, v);
}

unsigned export_num_queues(const struct export *x)
{
        return x->dev.vu.num_queues;
}

bool export_in_use(const struct export *x)
{
        return door_in_use(&x->door);
}

/* --- size -------------------------------------------------------------------------------------------------------- */

/* In sectors: whole blocks. */
static uint64_t capacity_of(const struct blk_device *d)
{
        return vol_size(d->vol) / d->block_size * (d->block_size / SECTOR_SIZE);
}

void export_resized(struct export *x)
{
        uint64_t now = capacity_of(&x->dev);

        if (atomic_exchange(&x->dev.capacity, now) != now)
                door_config_changed(&x->door);
}

int export_move_mark(struct export *x, const char *mark)
{
        return mark_move(&x->dev.wce_mark, mark, !atomic_load(&x->dev.wce));
}

/* --- images that are used in turn --------------------------------------------------------------------------------- */

static void on_turned(struct loop_task *t)
{
        struct export *x = container_of(t, struct export, turn.task);
        struct turn *turn = &x->turn;

        export_resized(x); /* whoever had it may have made it larger */
        if (turn->res == 0 && x->dev.wce_mark)
                atomic_store(&x->dev.wce, !mark_is_set(x->dev.wce_mark));
        turn->done(turn->opaque, turn->res, turn->why);
}

/* Home thread. */
static void on_vol_turned(void *opaque, int res, const char *why)
{
        struct export *x = opaque;

        x->turn.res = res;
        snprintf(x->turn.why, sizeof(x->turn.why), "%s", why);
        loop_post(x->door.loop, &x->turn.task);
}

static struct export *begin_turn(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = container_of(vu, struct export, dev.vu);

        x->turn.task.run = on_turned;
        x->turn.done = done;
        x->turn.opaque = opaque;
        return x;
}

static void blk_wake(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = begin_turn(vu, done, opaque);
        int r = vol_wake(x->dev.vol, on_vol_turned, x);

        if (r < 0)
                on_vol_turned(x, r, strerror(-r));
}

static void blk_rest(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = begin_turn(vu, done, opaque);
        int r = vol_rest(x->dev.vol, on_vol_turned, x);

        if (r < 0)
                on_vol_turned(x, r, strerror(-r));
}

static const struct vu_device_ops blk_turns_ops = {
        BLK_OPS,
        .wake = blk_wake,
        .rest = blk_rest,
};

/* --- a new export ------------------------------------------------------------------------------------------------ */

static int check_opts(const struct export_opts *o, struct vol *v)
{
        if (o->num_queues > DOOR_MAX_QUEUES)
                return err_note(-EINVAL, "%s: %u queues; at most %d", o->name, o->num_queues, DOOR_MAX_QUEUES);
        if (o->block_size && o->block_size != 512 && o->block_size != 4096)
                return err_note(-EINVAL, "%s: a block size of %u; it is 512 or 4096", o->name, o->block_size);
        if (o->serial && strlen(o->serial) > BLK_ID_LEN)
                return err_note(-EINVAL, "%s: serial '%s' is longer than %d bytes", o->name, o->serial, BLK_ID_LEN);
        if (!o->nthreads || o->start_thread >= o->nthreads)
                return err_note(-EINVAL, "%s: thread %u of %u", o->name, o->start_thread, o->nthreads);
        return 0;
}

static int fill_device(struct blk_device *d, struct vol *v, const struct export_opts *o, const char *name)
{
        d->vol = v;
        d->block_size = o->block_size ? o->block_size : 512;
        atomic_init(&d->capacity, capacity_of(d));
        d->cluster_size = vol_cluster_size(v);
        d->read_only = o->read_only || vol_read_only(v);
        if (o->serial)
                memcpy(d->serial, o->serial, strnlen(o->serial, BLK_ID_LEN)); /* padded with zeros, perhaps with none */
        d->wce_mark = o->wce_mark ? strdup(o->wce_mark) : NULL;
        atomic_init(&d->wce, !d->wce_mark || !mark_is_set(d->wce_mark));
        d->vu = (struct vu_device){
                .ops = o->takes_turns ? &blk_turns_ops : &blk_ops,
                .name = name,
                .features = blk_features(d),
                .num_queues = o->num_queues ? o->num_queues : DOOR_QUEUES,
                .threads = calloc(o->nthreads, sizeof(*o->threads)),
                .shares = calloc(o->nthreads, sizeof(*d->vu.shares)),
                .nthreads = o->nthreads,
                .first_thread = o->start_thread,
        };
        d->port = calloc(o->nthreads, sizeof(struct vol_port *));
        if (!d->vu.threads || !d->vu.shares || !d->port || (o->wce_mark && !d->wce_mark))
                return -ENOMEM;
        memcpy(d->vu.threads, o->threads, o->nthreads * sizeof(*o->threads));
        return 0;
}

int export_new(struct loop *l, struct vol *v, int listen_fd, const struct export_opts *o, struct export **ret)
{
        AUTO(closep) int fd = listen_fd;
        AUTO(export_freep) struct export *x = NULL;
        int r = check_opts(o, v);

        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return -ENOMEM;
        x->door.fd = -1;
        x->name = strdup(o->name);
        if (!x->name)
                return -ENOMEM;
        r = fill_device(&x->dev, v, o, x->name);
        if (r == 0)
                r = door_init(&x->door, l, &x->dev.vu, TAKE(fd, -1), o->connect);
        if (r == 0 && o->parked)
                door_start_parked(&x->door);
        else if (r == 0)
                r = door_open(&x->door);
        if (r < 0)
                return r;
        *ret = TAKE(x, NULL);
        return 0;
}
