/* SPDX-License-Identifier: BSD-3-Clause */
/* blockdev-backup: the way from its arguments to blkq/jobs/backup.h. */
#include "job_backup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/jobs/backup.h"
#include "blkq/bitmaps/dirty_bitmap.h"
#include "blkq/change/unlog.h"
#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/jobs/job_copy.h"
#include "vdiskd/jobs/job_target.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/json_member.h"

struct backup_job {
        struct vol_job vj;
        struct node *source, *target;
        struct dirty_bitmap *bits; /* of the source, in use by us; NULL: none */
        enum backup_bitmap_mode mode;
        bool compress;
        struct unlog unlog;      /* of the target */
        struct loop_task logged; /* it came back */
        void (*ready)(void *opaque, int res, const char *why);
        void *opaque;
        bool dropped;
};

static struct backup_job *backup_of(struct job *j)
{
        return container_of(j, struct backup_job, vj.job);
}

/* --- the target's log of table changes: not while compressed data is written ------------------------------------------ */

/* Home of the target. */
static void on_unlog(struct unlog *u, int res)
{
        struct backup_job *b = container_of(u, struct backup_job, unlog);

        (void)res;
        loop_post(b->vj.job.disks->loop, &b->logged);
}

static void on_left_out(struct loop_task *task)
{
        struct backup_job *b = container_of(task, struct backup_job, logged);

        b->ready(b->opaque, b->unlog.res, b->unlog.res < 0 ? "The target could not be made durable, or not be opened again" : "");
}

void backup_get_ready(struct backup_job *b, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        if (!b->compress) {
                done(opaque, 0, "");
                return;
        }
        b->ready = done;
        b->opaque = opaque;
        b->logged.run = on_left_out;
        unlog_start(&b->unlog, b->target->vol, on_unlog);
}

/* The copy is there, whatever became of the log. */
static void on_logged_again(struct loop_task *task)
{
        struct backup_job *b = container_of(task, struct backup_job, logged);

        if (b->unlog.res < 0)
                log_err("%s: could not be opened again after the backup: %s", node_label(b->target), strerror(-b->unlog.res));
        if (b->dropped)
                job_drop(&b->vj.job);
        else
                job_finalized(&b->vj.job, b->unlog.res, NULL);
}

/* True: it was left out, and on_logged_again() comes. */
static bool log_again(struct backup_job *b)
{
        if (!b->unlog.state_dir)
                return false;
        b->logged.run = on_logged_again;
        unlog_end(&b->unlog, on_unlog);
        return true;
}

/* --- the job --------------------------------------------------------------------------------------------------------- */

static void backup_finalize(struct job *j, int res)
{
        struct backup_job *b = backup_of(j);

        if (b->bits)
                backup_bitmap_end(b->vj.copy, res == 0, b->mode);
        if (!log_again(b))
                job_finalized(j, 0, NULL);
}

static void backup_free(struct job *j)
{
        struct backup_job *b = backup_of(j);

        vol_job_finish(&b->vj);
        if (b->bits)
                vol_bitmap_release(b->source->vol, b->bits);
        free(b);
}

static const struct job_driver backup_driver = {
        .type = "backup",
        .block = true,
        .start = vol_job_start,
        .pause = vol_job_pause,
        .resume = vol_job_resume,
        .cancel = vol_job_cancel,
        .set_speed = vol_job_set_speed,
        .progress = vol_job_progress,
        .finalize = backup_finalize,
        .free = backup_free,
};

/* --- its arguments ----------------------------------------------------------------------------------------------------- */

static const char *const syncs[] = { "full", "top", "none", "incremental", "bitmap", NULL };
static const char *const bitmap_modes[] = { "never", "on-success", "always", NULL };
const struct qmp_arg backup_args[] = {
        { "device", QMP_STR },
        { "target", QMP_STR },
        { "sync", QMP_STR, .values = syncs },
        { "bitmap", QMP_STR, .optional = true },
        { "bitmap-mode", QMP_STR, .optional = true, .values = bitmap_modes },
        { "job-id", QMP_STR, .optional = true },
        { "speed", QMP_INT, .optional = true },
        { "compress", QMP_BOOL, .optional = true },
        { "on-source-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "on-target-error", QMP_STR, .optional = true, .values = job_on_error_words },
        { "auto-finalize", QMP_BOOL, .optional = true },
        { "auto-dismiss", QMP_BOOL, .optional = true },
        { "filter-node-name", QMP_STR, .optional = true }, /* there is no such node here */
        { NULL },
};

static enum backup_sync sync_of(const char *word)
{
        static const enum backup_sync of[] = { BACKUP_FULL, BACKUP_TOP, BACKUP_NONE, BACKUP_BITMAP, BACKUP_BITMAP };
        unsigned i = 0;

        while (strcmp(word, syncs[i]))
                i++;
        return of[i];
}

static enum backup_bitmap_mode mode_of(const char *word)
{
        unsigned i = 0;

        while (word && strcmp(word, bitmap_modes[i]))
                i++;
        return word ? (enum backup_bitmap_mode)i : BITMAP_ON_SUCCESS;
}

/* QEMU's rules about what goes with what. */
static int check_bitmap(json_t *args)
{
        const char *sync = text_of(args, "sync"), *bitmap = text_of(args, "bitmap"), *mode = text_of(args, "bitmap-mode");
        enum backup_sync s = sync_of(sync);

        if (s == BACKUP_BITMAP && !bitmap)
                return err_note(-EINVAL, "must provide a valid bitmap name for '%s' sync mode", sync);
        if (!strcmp(sync, "incremental") && mode && strcmp(mode, "on-success"))
                return err_note(-EINVAL, "Bitmap sync mode must be 'on-success' when using sync mode '%s'", sync);
        if (!bitmap)
                return mode ? err_note(-EINVAL, "Cannot specify bitmap sync mode without a bitmap") : 0;
        if (!mode && strcmp(sync, "incremental"))
                return err_note(-EINVAL, "Bitmap sync mode must be given when providing a bitmap");
        if (s == BACKUP_NONE)
                return err_note(-EINVAL, "sync mode '%s' does not produce meaningful bitmap outputs", sync);
        if (s != BACKUP_BITMAP && !strcmp(mode, "never"))
                return err_note(-EINVAL, "Bitmap sync mode '%s' has no meaningful effect when combined with sync mode '%s'", mode,
                                sync);
        return 0;
}

/* It is ours until the end. */
static int take_bitmap(struct backup_job *b, json_t *args)
{
        const char *name = text_of(args, "bitmap");
        int r;

        if (!name)
                return 0;
        r = vol_bitmap_use(b->source->vol, name, BITMAP_USE_CHANGE, "a backup", &b->bits);
        b->mode = mode_of(text_of(args, "bitmap-mode"));
        if (r != -ENOENT)
                return r;
        err_clear();
        return err_note(r, "Bitmap '%s' could not be found", name);
}

static int check_compress(const struct node *target)
{
        struct fmt_image *img = vol_image_get(target->vol);
        bool can = img && fmt_can_pack(img), direct = img && img->file && img->file->direct;

        vol_image_put(target->vol);
        if (!can)
                return err_note(-ENOTSUP, "Compression is not supported for this drive %s", node_known_as(target));
        if (direct)
                return err_note(-ENOTSUP, "Compressed data is written through the page cache, and node '%s' was added with "
                                "cache.direct", node_known_as(target));
        return 0;
}

static int find_nodes(struct disks *d, json_t *args, struct backup_opts *bo, struct node **source, struct node **target)
{
        int r = job_source_find(d, text_of(args, "device"), source);

        if (r == 0)
                r = check_bitmap(args);
        if (r == 0)
                r = job_target_find(d, *source, text_of(args, "target"), target);
        if (r == 0 && json_is_true(json_object_get(args, "compress")))
                r = check_compress(*target);
        if (r < 0)
                return r;
        bo->v = (*source)->vol;
        bo->target = (*target)->vol;
        bo->sync = sync_of(text_of(args, "sync"));
        bo->compress = json_is_true(json_object_get(args, "compress"));
        return 0;
}

static int enter(struct backup_job *b, struct disks *d, struct backup_opts *bo, const struct job_opts *o, json_t *args)
{
        int r = job_create(&b->vj.job, &backup_driver, d, o);

        if (r < 0) {
                free(b);
                return r;
        }
        r = job_use_node(&b->vj.job, b->source);
        if (r == 0)
                r = job_write_node(&b->vj.job, b->target);
        if (r == 0)
                r = take_bitmap(b, args);
        if (r == 0) {
                bo->bitmap = b->bits;
                bo->owner = vol_job_owner(&b->vj);
                r = backup_new(bo, &b->vj.copy);
        }
        if (r < 0)
                job_drop(&b->vj.job);
        return r;
}

int backup_prepare(struct disks *d, json_t *args, struct job_group *g, struct backup_job **ret)
{
        struct backup_opts bo = { 0 };
        struct node *source, *target;
        struct backup_job *b;
        struct job_opts o;
        int r = find_nodes(d, args, &bo, &source, &target);

        if (r == 0)
                r = job_common_opts(args, &o);
        if (r < 0)
                return r;
        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->source = source;
        b->target = target;
        b->compress = bo.compress;
        vol_job_on_errors(&b->vj, args);
        o.group = g;
        r = enter(b, d, &bo, &o, args);
        if (r == 0)
                *ret = b;
        return r;
}

struct node *backup_source(struct backup_job *b)
{
        return b->source;
}

void backup_at_instant(struct backup_job *b)
{
        backup_arm(b->vj.copy);
}

void backup_begin(struct backup_job *b)
{
        job_start(&b->vj.job);
}

void backup_drop(struct backup_job *b)
{
        b->dropped = true;
        if (!log_again(b))
                job_drop(&b->vj.job);
}
