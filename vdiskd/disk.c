/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   opened -> serving -> stopping (export drains) -> closing (image settles, on its home thread) -> freed
 *        \________________________________________/^
 */
#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/size.h"
#include "vhost_user_blk/export.h"

#define LOCK_PATIENCE_NS (2 * NS_PER_SEC)
#define LOCK_PAUSE_US 10000

struct disk {
        const struct disk_opts *opts;
        const struct disk_env *env;
        unsigned home;
        struct vol *vol;
        struct export *export; /* NULL: not serving */
        struct listener listener;

        void (*closed)(void *opaque, int res);
        void *opaque;
        struct loop_task gone; /* home -> control: the image is closed */
        int res;
};

static const char *disk_name(const struct disk *d)
{
        return d->opts->path ?: "null";
}

/*
 * A daemon that was killed leaves its rings to the kernel, which closes them, and with them the image's lock, a moment
 * after the process is gone. Whoever starts it again at once must not fail for that.
 */
static int open_volume(const char *path, const struct vol_opts *vo, struct qthread *home, struct vol **ret)
{
        uint64_t deadline = clock_ns() + LOCK_PATIENCE_NS;

        for (;;) {
                int r = vol_open(path, vo, home, ret);

                if (r != -EBUSY || clock_ns() >= deadline)
                        return r;
                err_clear();
                usleep(LOCK_PAUSE_US);
        }
}

int disk_open(const struct disk_opts *opts, const struct disk_env *env, unsigned home, struct disk **ret)
{
        AUTO(freep) struct disk *d = calloc(1, sizeof(*d));
        struct vol_opts vo = {
                .format = opts->format,
                .read_only = opts->read_only,
                .writeback = opts->writeback,
                .null_size = opts->size,
                .cache_bytes = env->cache_bytes,
                .state_dir = env->state_dir,
        };
        int r;

        if (!d)
                return -ENOMEM;
        d->opts = opts;
        d->env = env;
        d->home = home;
        d->listener.fd = -1;
        r = open_volume(disk_name(d), &vo, env->threads[home], &d->vol);
        if (r < 0)
                return r;
        *ret = TAKE(d, NULL);
        return 0;
}

/* Sectors that the host can only write by reading their neighbours are a slow and untold trap: the operator decides. */
static int check_block_size(struct disk *d)
{
        uint32_t min = vol_block_size_min(d->vol), size = d->opts->block_size ?: 512;

        if (size >= min)
                return 0;
        return err_note(-EINVAL, "%s: direct I/O on this file needs blocks of %u bytes, not %u: use block-size=%u, or "
                        "cache=writeback", disk_name(d), min, size, min);
}

static void say_serving(struct disk *d)
{
        char size[32], where[160];

        if (d->listener.path)
                snprintf(where, sizeof(where), "%s", d->listener.path);
        else
                snprintf(where, sizeof(where), "descriptor %d", d->listener.fd);
        log_info("%s: serving %s, %s, %s, on %s", disk_name(d), vol_image(d->vol)->drv->name,
                 size_format(vol_size(d->vol), size, sizeof(size)), vol_read_only(d->vol) ? "read-only" : "read-write",
                 where);
}

int disk_serve(struct disk *d)
{
        struct export_opts eo = {
                .name = disk_name(d),
                .serial = d->opts->serial,
                .num_queues = d->opts->num_queues,
                .block_size = d->opts->block_size,
                .threads = d->env->threads,
                .nthreads = d->env->nthreads,
                .start_thread = d->home,
        };
        int r = check_block_size(d);

        if (r < 0)
                return r;
        r = listener_open(&d->listener, d->opts, d->env->passed);
        if (r < 0)
                return err_prefix(r, "%s: ", disk_name(d));
        say_serving(d);
        return export_new(d->env->loop, d->vol, TAKE(d->listener.fd, -1), &eo, &d->export);
}

static void on_gone(struct loop_task *task)
{
        struct disk *d = container_of(task, struct disk, gone);

        if (d->res < 0)
                log_err("%s: closed, but not all of it is on disk: %s", disk_name(d), strerror(-d->res));
        else
                log_info("%s: closed", disk_name(d));
        d->closed(d->opaque, d->res);
        free(d);
}

/* Home thread. */
static void on_vol_closed(void *opaque, int res)
{
        struct disk *d = opaque;

        d->res = res;
        d->gone.run = on_gone;
        loop_post(d->env->loop, &d->gone);
}

static void on_export_stopped(void *opaque)
{
        struct disk *d = opaque;

        vol_close(TAKE(d->vol, NULL), on_vol_closed, d);
}

void disk_close(struct disk *d, void (*closed)(void *opaque, int res), void *opaque)
{
        d->closed = closed;
        d->opaque = opaque;
        listener_close(&d->listener);
        if (d->export)
                export_stop(TAKE(d->export, NULL), on_export_stopped, d);
        else
                on_export_stopped(d);
}
