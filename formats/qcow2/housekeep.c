/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * housekeep.c - work on free space that no guest waits for: drop refcounts of clusters let go, punch them, look for
 * free space that was there before us, keep the reservations filled; and at the end leave a tidy file.
 *
 * One step at a time: a punch is done before the sweep looks again, so the sweep never finds a cluster that is on a
 * list.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/err.h"
#include "space.h"

#define PUNCH_STEPS 64u
#define SWEEP_PAGES 4u /* refcount pages looked through before the file grows instead */

/* --- dropping refcounts -------------------------------------------------------------------------------------------- */

/* @run keeps its first @n clusters; the others follow it as a run of their own. */
static int split(struct qcow2_image *q, struct space_run *run, uint64_t n)
{
        struct space_run *rest = space_run_new(run->state, run->first + n, run->n - n);

        if (!rest)
                return -ENOMEM;
        rest->stamp = run->stamp;
        rest->zero = run->zero;
        list_insert_between(&rest->link, &run->link, run->link.next);
        q->space.nleaving++;
        run->n = n;
        return 0;
}

/* Counts down as many clusters from the front of @run as end up alike. */
static int drop_some(struct qcow2_image *q, struct space_run *run)
{
        uint64_t n, most = min_u64(run->n, rc_page_left(q, run->first));
        bool freed = false;
        struct page *p;
        int r = rc_page(q, run->first, &p);

        if (r == -ERANGE)
                return qcow2_contradiction(q, "cluster %" PRIu64 " was in use but has no refcount", run->first);
        if (r < 0)
                return r;
        for (n = 0; n < most; n++) {
                uint64_t was = rc_get(q, p, run->first + n);

                if (was == 0 && n == 0)
                        return qcow2_contradiction(q, "cluster %" PRIu64 " was in use but its refcount is 0", run->first);
                if (was == 0 || (n > 0 && (was == 1) != freed))
                        break;
                freed = was == 1;
        }
        if (n < run->n && split(q, run, n) < 0)
                return -ENOMEM;
        for (uint64_t c = run->first; c < run->first + n; c++)
                rc_set(q, p, c, rc_get(q, p, c) - 1);
        if (!freed || run->zero)
                space_run_forget(q, run); /* somebody else still uses it; or nothing to punch as we wind down */
        else
                space_run_move(q, run, RUN_QUARANTINED, RUN_UNPUNCHED);
        return 0;
}

static int drop_refcounts(struct qcow2_image *q)
{
        list_for_each_safe(pos, &q->space.quarantined) {
                struct space_run *run = list_entry(pos, struct space_run, link);
                int r;

                if (run->stamp > q->durable_gen)
                        continue;
                r = drop_some(q, run);
                if (r < 0)
                        return r;
                next_pos = q->space.quarantined.next; /* the list has changed: from the front */
        }
        return 0;
}

/* --- punching --------------------------------------------------------------------------------------------------------- */

static void free_or_forget(struct qcow2_image *q, struct space_run *run)
{
        struct space *s = &q->space;
        bool ahead = range_overlaps(run->first, run->n, s->sweep, s->sweep_end - s->sweep);

        if (ahead || s->winding_down || s->nfree >= FREE_RUNS_MAX)
                space_run_forget(q, run);
        else
                space_run_move(q, run, RUN_PUNCHING, RUN_FREE);
}

static void punch_done(struct fmt_batch *b, int err)
{
        struct qcow2_image *q = qcow2_of(b->img);

        list_for_each_safe(pos, &q->space.punching) {
                struct space_run *run = list_entry(pos, struct space_run, link);

                if (err == 0)
                        free_or_forget(q, run);
                else
                        space_run_forget(q, run); /* old bytes may be there: not for use until a later sweep punches it */
        }
        q->space.keeping = false;
        fmt_batch_free(b);
}

static int punch_batch(struct qcow2_image *q, struct fmt_batch **ret)
{
        struct fmt_batch *b = fmt_batch_new(&q->img, PUNCH_STEPS, sizeof(*b));

        if (!b)
                return -ENOMEM;
        b->done = punch_done;
        for (b->nsteps = 0; b->nsteps < PUNCH_STEPS && !list_empty(&q->space.unpunched); b->nsteps++) {
                struct space_run *run = list_entry(q->space.unpunched.next, struct space_run, link);

                b->step[b->nsteps] = (struct fmt_step){ .op = FMT_ZERO, .off = run->first << q->cluster_bits,
                                                        .len = run->n << q->cluster_bits };
                space_run_move(q, run, RUN_UNPUNCHED, RUN_PUNCHING);
        }
        q->space.keeping = true;
        *ret = b;
        return 0;
}

/* --- free space that was there before us ---------------------------------------------------------------------------- */

/*
 * One refcount page, or less: clusters that nobody counts go the way of those let go. Not more than @want of them: what
 * nobody needs yet is left as it is.
 */
static int sweep_page(struct qcow2_image *q, uint64_t want)
{
        struct space *s = &q->space;
        uint64_t end = min_u64(s->sweep + rc_page_left(q, s->sweep), s->sweep_end);
        struct page *p;
        int r = rc_page(q, s->sweep, &p);

        if (r == -ERANGE) { /* no block: nothing there can be used without making one */
                s->sweep = min_u64(((s->sweep >> q->rc_block_bits) + 1) << q->rc_block_bits, s->sweep_end);
                return 0;
        }
        while (r == 0 && want && s->sweep < end) {
                uint64_t first = s->sweep;
                struct space_run *run;

                while (s->sweep < end && s->sweep - first < want && rc_get(q, p, s->sweep) == 0 &&
                       !meta_has(&q->meta, s->sweep))
                        s->sweep++;
                if (s->sweep == first) {
                        if (rc_get(q, p, first) == 0)
                                return qcow2_contradiction(q, "the table in cluster %" PRIu64 " has refcount 0", first);
                        s->sweep++;
                        continue;
                }
                run = space_run_new(RUN_UNPUNCHED, first, s->sweep - first);
                if (!run) {
                        s->sweep = first;
                        return -ENOMEM;
                }
                list_add_tail(&s->unpunched, &run->link);
                s->nleaving++;
                want -= run->n;
        }
        return r;
}

static int sweep_some(struct qcow2_image *q, uint64_t want)
{
        struct space *s = &q->space;
        int r = 0;

        for (unsigned i = 0; r == 0 && i < SWEEP_PAGES && s->sweep < s->sweep_end && list_empty(&s->unpunched); i++)
                r = sweep_page(q, want);
        return r;
}

/* --- keeping reservations filled ------------------------------------------------------------------------------------- */

static int refill(struct qcow2_image *q)
{
        struct space *s = &q->space;

        while (s->nreserved < div_round_up(s->target, 2)) {
                int r = list_empty(&s->free) ? sweep_some(q, s->target) : 0;

                if (r == 0 && !list_empty(&s->unpunched))
                        return 0; /* punch them first, then use them */
                if (r == 0)
                        r = space_reserve(q, s->target - s->nreserved);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

void qcow2_wind_down(struct fmt_image *img)
{
        struct qcow2_image *q = qcow2_of(img);
        struct space *s = &q->space;

        s->winding_down = true;
        qcow2_dying_release(img, s->last_ticket); /* no more requests: nothing can be under way */
        packed_end(q);
        list_for_each_safe(pos, &s->reserved) {
                struct space_run *run = list_entry(pos, struct space_run, link);

                run->stamp = 0;
                run->zero = true;
                space_run_move(q, run, RUN_RESERVED, RUN_QUARANTINED);
        }
        s->nreserved = 0;
}

static void cut_done(struct fmt_batch *b, int err)
{
        struct qcow2_image *q = qcow2_of(b->img);

        if (err == 0)
                q->space.file_end = b->step[0].off >> q->cluster_bits;
        q->space.keeping = false;
        fmt_batch_free(b);
}

/* The file ends with its last used cluster (never before the end it had when it was opened). */
static int cut_tail(struct qcow2_image *q, struct fmt_batch **ret)
{
        struct space *s = &q->space;
        struct fmt_batch *b;

        while (s->end > s->sweep_end) {
                struct page *p;
                int r = rc_page(q, s->end - 1, &p);

                if (r < 0 && r != -ERANGE)
                        return r;
                if (r == 0 && rc_get(q, p, s->end - 1) != 0)
                        break;
                s->end--;
        }
        s->tail_cut = true;
        if (!s->grown || s->end == s->file_end)
                return 0;
        b = fmt_batch_new(&q->img, 2, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->step[0] = (struct fmt_step){ .op = FMT_TRUNCATE, .off = s->end << q->cluster_bits };
        b->step[1] = (struct fmt_step){ .op = FMT_SYNC };
        b->nsteps = 2;
        b->done = cut_done;
        s->keeping = true;
        *ret = b;
        return 0;
}

/* --- one step after another ------------------------------------------------------------------------------------------- */

static int keep(struct qcow2_image *q, struct fmt_batch **ret)
{
        struct space *s = &q->space;
        int r = drop_refcounts(q);

        if (r == 0 && list_empty(&s->unpunched) && s->started && !s->winding_down)
                r = refill(q);
        if (r == 0 && !list_empty(&s->unpunched))
                return punch_batch(q, ret);
        if (r == 0 && s->winding_down && !s->tail_cut && list_empty(&s->quarantined) && !qcow2_is_dirty(&q->img))
                r = cut_tail(q, ret);
        return r;
}

int qcow2_housekeep(struct fmt_image *img, struct fmt_batch **ret)
{
        struct qcow2_image *q = qcow2_of(img);
        int r;

        *ret = NULL;
        if (q->img.read_only || q->space.keeping || qcow2_is_corrupt(q))
                return 0;
        r = keep(q, ret);
        if (r == -EAGAIN) {
                *ret = qcow2_want(img);
                if (*ret && (*ret)->started)
                        *ret = NULL; /* on its way for somebody else; we are asked again when it is done */
                return 0;
        }
        if (r == -ENOSPC || r == -EFBIG) /* the guest that needs the space will hear of it */
                r = 0;
        if (r == -EIO)
                r = 0; /* marked corrupt; the flush that follows says so in the file */
        return r;
}
