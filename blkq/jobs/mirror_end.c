/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror_end.c - the end of a mirror. All at the source's home:
 *
 *   the target is flushed -> rounds over what is dirty, until little is -> the source is held, lightly -> the rest is copied
 *   -+-> (SAME) the source goes on ----------------------+-> the target is flushed
 *    +-> guests go on with the target: their ports move -+
 *
 * Guests wait for the rest and for messages, not for a disk. The target is durable before anybody hears that the job is over: until
 * then the source is the disk, whole as it was when guests left it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blkq/jobs/mirror_impl.h"
#include "common/cleanup.h"

static void fail(struct mirror *m, int res, const char *why)
{
        if (m->res == 0) {
                m->res = res;
                snprintf(m->why, sizeof(m->why), "%s: %s", why, strerror(-res));
        }
}

/* --- the last steps --------------------------------------------------------------------------------------------------- */

static void over(struct mirror *m)
{
        if (m->to)
                port_detach(TAKE(m->to, NULL));
        m->done(m->opaque, m->res, m->why, m->pause_ns);
}

static void flush_target(struct mirror *m, void (*done)(struct blk_req *req, int res))
{
        m->flush = (struct blk_req){ .op = BLK_FLUSH, .done = done };
        port_submit(m->to, &m->flush);
}

/* Guests are there already: a disk that cannot be flushed says so itself. */
static void on_last_flush(struct blk_req *req, int res)
{
        struct mirror *m = container_of(req, struct mirror, flush);

        if (res < 0 && m->how == MIRROR_EXCHANGE)
                log_warn("%s: what was copied is not durable yet: %s", vol_path(m->target), strerror(-res));
        else if (res < 0)
                fail(m, res, "the target cannot be flushed");
        over(m);
}

/* Nothing is being copied any more, nor will be. */
static void on_twin_gone(struct waiter *w, int err)
{
        struct mirror *m = container_of(w, struct mirror, twin_gone);
        bool whole = m->held && m->res == 0;

        (void)err;
        vol_detach_bitmap(m->job.v, m->dirty);
        if (m->held)
                vol_release(m->job.v);
        m->pause_ns = m->held ? clock_ns() - m->held_at_ns : 0;
        if (whole)
                flush_target(m, on_last_flush);
        else
                over(m);
}

/* The loop is over. While the source is held nothing is copied for guests. */
static void let_go(struct mirror *m)
{
        list_init(&m->twin_gone.link);
        m->twin_gone.wake = on_twin_gone;
        if (twin_disarm(&m->twin, &m->twin_gone))
                on_twin_gone(&m->twin_gone, 0);
}

static void on_moved(struct ports_move *move)
{
        let_go(container_of(move, struct mirror, move));
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

static void on_rest_copied(struct copy_job *c, int res)
{
        struct mirror *m = mirror_of(c);

        if (res < 0)
                fail(m, res, "what was written last could not be copied");
        if (res < 0 || m->how != MIRROR_EXCHANGE) {
                let_go(m);
                return;
        }
        m->move = (struct ports_move){ .from = m->job.v, .to = m->target, .done = on_moved };
        vol_move_ports(&m->move);
}

static void on_held(struct vol_hold *h, int res)
{
        struct mirror *m = container_of(h, struct mirror, hold);

        (void)res; /* of a light hold it is 0 */
        m->held = true;
        copy_rest(&m->job, &m->rest, 0, on_rest_copied);
}

static void on_turn(struct vol_hold *h)
{
        struct mirror *m = container_of(h, struct mirror, hold);

        m->held_at_ns = clock_ns();
        vol_hold_go(h);
}

static void on_little_left(struct copy_job *c, int res)
{
        struct mirror *m = mirror_of(c);

        if (res < 0) {
                fail(m, res, "what was written last could not be copied");
                let_go(m);
                return;
        }
        m->hold.turn = on_turn;
        m->hold.held = on_held;
        m->hold.light = true;
        vol_hold(m->job.v, &m->hold);
}

static void on_target_flushed(struct blk_req *req, int res)
{
        struct mirror *m = container_of(req, struct mirror, flush);

        if (res < 0) {
                fail(m, res, "the target cannot be flushed");
                let_go(m);
        } else {
                copy_rest(&m->job, &m->rest, COPY_REST_HELD, on_little_left);
        }
}

static void begin(struct qtask *task)
{
        struct mirror *m = container_of(task, struct mirror, step);
        int r = 0;

        if (m->how != MIRROR_DROP && !m->to)
                r = mirror_attach(m);
        if (r < 0)
                fail(m, r, "the target");
        if (r < 0 || m->how == MIRROR_DROP)
                let_go(m);
        else
                flush_target(m, on_target_flushed);
}

void mirror_end(struct copy_job *c, enum mirror_how how,
                void (*done)(void *opaque, int res, const char *why, uint64_t pause_ns), void *opaque)
{
        struct mirror *m = mirror_of(c);

        m->how = how;
        m->done = done;
        m->opaque = opaque;
        m->step.run = begin;
        qthread_post(m->job.v->home, &m->step);
}
