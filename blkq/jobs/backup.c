/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backup.c - the kind of job that copies what cbw.h keeps from being overwritten.
 *
 *   pieces from the beginning to the end -> all copied -> the target is flushed -> guests need not come home any more
 *   -> the port goes -> over
 *
 * On failure the same way out without the flush. What a guest's write broke (cbw.h) is a failure of the job.
 */
#include "blkq/jobs/backup.h"

#include <errno.h>
#include <stdlib.h>

#include "blkq/jobs/cbw.h"
#include "blkq/bitmaps/dirty_bitmap.h"
#include "common/cleanup.h"
#include "common/range.h"

struct backup {
        struct copy_job job;
        struct vol *target;
        enum backup_sync sync;
        struct dirty_bitmap *bitmap;
        struct dirty_bitmap *taken; /* what was dirty at the instant; owned */
        struct cbw cbw;
        uint64_t at;     /* the loop has looked up to here */
        uint64_t spared; /* bytes that need no copy */
        bool armed, flushed;
        struct blk_req flush;
        struct waiter grace;
        int res, arm_res;
};

struct backup_chunk {
        struct copy_chunk ch;
        struct copy_range range;
};

static struct backup *backup_of(struct copy_job *c)
{
        return container_of(c, struct backup, job);
}

static void show_progress(struct backup *b)
{
        atomic_store_explicit(&b->job.done, b->cbw.ncopied - b->spared, memory_order_relaxed);
}

/* --- the end --------------------------------------------------------------------------------------------------------- */

static void on_nobody_looks(struct waiter *w, int err)
{
        struct backup *b = container_of(w, struct backup, grace);

        (void)err;
        port_detach(TAKE(b->cbw.to, NULL));
        b->job.after--;
        copy_job_end(&b->job, b->res);
}

/* Nothing is under way. */
static void let_go(struct backup *b, int res)
{
        b->res = res;
        if (!b->armed) {
                if (b->cbw.to)
                        port_detach(TAKE(b->cbw.to, NULL));
                copy_job_end(&b->job, res);
                return;
        }
        b->job.after++;
        list_init(&b->grace.link);
        b->grace.wake = on_nobody_looks;
        cbw_disarm(&b->cbw, &b->grace);
}

static void on_flushed(struct blk_req *req, int res)
{
        struct backup *b = container_of(req, struct backup, flush);

        b->job.after--;
        if (res < 0)
                copy_job_error(&b->job, false, res); /* once more, if the policy says so */
        b->flushed = res == 0;
        copy_job_kick(&b->job);
}

static void backup_idle(struct copy_job *c)
{
        struct backup *b = backup_of(c);

        if (b->cbw.ncopied < b->cbw.size || b->sync == BACKUP_NONE) {
                b->at = 0; /* pieces that failed, or that guests are copying: see again */
                return;
        }
        if (b->flushed) {
                b->job.ending = true;
                let_go(b, 0);
                return;
        }
        c->after++;
        b->flush = (struct blk_req){ .op = BLK_FLUSH, .done = on_flushed };
        port_submit(b->cbw.to, &b->flush);
}

/* Guests' copies are waited for: they use the port. */
static void backup_ending(struct copy_job *c, int res)
{
        struct backup *b = backup_of(c);

        b->res = res;
        if (b->armed)
                cbw_break(&b->cbw, res);
        if (!b->cbw.nbusy)
                let_go(b, res);
}

static void on_guest_copied(struct cbw *cbw)
{
        struct backup *b = container_of(cbw, struct backup, cbw);

        show_progress(b);
        if (b->job.ending && b->res < 0 && !cbw->nbusy && !b->job.after)
                let_go(b, b->res);
        else
                copy_job_kick(&b->job);
}

static void on_broken(struct cbw *cbw, int err, bool read)
{
        struct backup *b = container_of(cbw, struct backup, cbw);

        copy_job_broken(&b->job, read, err);
}

/* --- pieces ---------------------------------------------------------------------------------------------------------- */

static bool backup_next(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len)
{
        struct backup *b = backup_of(c);

        if (b->arm_res < 0) {
                copy_job_fail(c, b->arm_res);
                return false;
        }
        if (b->sync == BACKUP_NONE || !cbw_take(&b->cbw, b->at, max, off, len))
                return false;
        b->at = *off + *len;
        return true;
}

static void on_copied(struct copy_range *r, int res, bool read)
{
        struct backup_chunk *bc = container_of(r, struct backup_chunk, range);
        struct backup *b = backup_of(bc->ch.c);

        cbw_done(&b->cbw, bc->ch.off, bc->ch.len, res == 0);
        show_progress(b);
        copy_chunk_end(&bc->ch, res, read, r->moved);
}

static void backup_copy(struct copy_chunk *ch)
{
        struct backup_chunk *bc = container_of(ch, struct backup_chunk, ch);
        struct cbw *cbw = &backup_of(ch->c)->cbw;

        bc->range = (struct copy_range){
                .v = cbw->v, .to = cbw->to, .buf = ch->buf, .off = ch->off, .end = ch->off + ch->len, .flags = cbw->flags,
                .done = on_copied,
        };
        copy_range_start(&bc->range);
}

static void backup_again(struct copy_job *c, uint64_t off, uint64_t len)
{
        struct backup *b = backup_of(c);

        (void)len;
        b->at = min_u64(b->at, off);
}

static void backup_free(struct copy_job *c);

static const struct copy_kind backup_kind = {
        .next = backup_next, .copy = backup_copy, .again = backup_again, .idle = backup_idle, .ending = backup_ending,
        .free = backup_free,
};

/* --- the instant ----------------------------------------------------------------------------------------------------- */

/* Only what is dirty is wanted. */
static void take_bitmap(struct backup *b)
{
        uint64_t at = 0, off, len;

        if (!b->bitmap)
                return;
        b->arm_res = dirty_bitmap_split(b->bitmap, &b->taken);
        if (b->sync != BACKUP_BITMAP)
                return;
        cbw_want_nothing(&b->cbw);
        while (b->arm_res == 0 && dirty_bitmap_next(b->taken, at, UINT64_MAX, &off, &len)) {
                cbw_want(&b->cbw, off, len);
                at = off + len;
        }
}

void backup_arm(struct copy_job *c)
{
        struct backup *b = backup_of(c);

        b->arm_res = port_attach(b->target, b->job.v->home, &b->cbw.to);
        if (b->arm_res == 0) {
                b->cbw.to->impatient = true;
                take_bitmap(b);
        }
        b->spared = b->cbw.ncopied;
        atomic_store_explicit(&b->job.total, b->cbw.size - b->spared, memory_order_relaxed);
        if (b->arm_res < 0)
                return;
        b->armed = true;
        cbw_arm(&b->cbw);
}

/* --- memory ---------------------------------------------------------------------------------------------------------- */

int backup_new(const struct backup_opts *o, struct copy_job **ret)
{
        uint32_t granule = (uint32_t)max_u64(COPY_UNIT, vol_cluster_size(o->target));
        struct backup *b = calloc(1, sizeof(*b));
        int r;

        if (!b)
                return -ENOMEM;
        b->target = o->target;
        b->sync = o->sync;
        b->bitmap = o->bitmap;
        b->cbw = (struct cbw){
                .v = o->v, .flags = (o->sync == BACKUP_TOP ? COPY_TOP : 0) | (o->compress ? COPY_PACK : 0), .granule = granule,
                .chunk = (uint32_t)max_u64(COPY_CHUNK, granule), .size = vol_size(o->v), .copied_some = on_guest_copied,
                .broke = on_broken,
        };
        b->job = (struct copy_job){
                .v = o->v, .kind = &backup_kind, .owner = o->owner, .chunk = b->cbw.chunk, .step = granule,
                .depth = COPY_DEPTH, .chunk_size = sizeof(struct backup_chunk), .total = b->cbw.size,
        };
        r = cbw_init(&b->cbw);
        if (r == 0) {
                r = copy_job_init(&b->job);
                if (r < 0)
                        cbw_finish(&b->cbw);
        }
        if (r < 0)
                free(b);
        else
                *ret = &b->job;
        return r;
}

static void backup_free(struct copy_job *c)
{
        struct backup *b = backup_of(c);

        dirty_bitmap_unref(b->taken);
        cbw_finish(&b->cbw);
        free(b);
}

static void give_back_rest(struct backup *b)
{
        for (uint64_t at = 0; at < b->cbw.size; at += b->cbw.granule)
                if (!cbw_is_copied(&b->cbw, at, 1))
                        dirty_bitmap_set(b->bitmap, at, b->cbw.granule);
}

void backup_bitmap_end(struct copy_job *c, bool success, enum backup_bitmap_mode mode)
{
        struct backup *b = backup_of(c);

        if (!b->taken || (success && mode != BITMAP_NEVER))
                return;
        if (mode == BITMAP_ALWAYS)
                give_back_rest(b);
        else
                dirty_bitmap_merge(b->bitmap, b->taken);
}
