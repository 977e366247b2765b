/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slow.c - a line in the log for a request that takes too long (vol_opts.slow_ms): when it ends, and once while it does
 * not. Port's thread. The timer is set while there are requests, and once more after the last one.
 */
#include <inttypes.h>
#include <stdio.h>

#include "blkq/port_impl.h"
#include "blkq/vol_impl.h"

static const char *const what[] = {
        [BLK_READ] = "read", [BLK_WRITE] = "write", [BLK_FLUSH] = "flush", [BLK_DISCARD] = "discard",
        [BLK_WRITE_ZEROES] = "zero write",
};
static const char *const where[STAGES] = {
        [STAGE_QUEUE] = "waiting to be started", [STAGE_MAP] = "finding its place (tables)",
        [STAGE_TURN] = "waiting for earlier ones of this disk", [STAGE_DISK] = "at the disk",
        [STAGE_NOTIFY] = "being answered",
};

static double ms(uint64_t ns)
{
        return (double)ns / NS_PER_MS;
}

static const char *describe(const struct blk_req *req, char *buf, size_t len)
{
        if (req->op == BLK_FLUSH)
                snprintf(buf, len, "flush");
        else
                snprintf(buf, len, "%s of %" PRIu64 " bytes at %" PRIu64, what[req->op], req->len, req->off);
        return buf;
}

void slow_done(struct vol_port *p, const struct blk_req *req, uint64_t ns, int res)
{
        const struct stage_clock *c = &req->p.clock;
        enum stats_stage worst = STAGE_QUEUE;
        char buf[96];

        for (unsigned s = STAGE_QUEUE; s < STAGE_NOTIFY; s++)
                if (c->spent[s] > c->spent[worst])
                        worst = s;
        log_limited(&p->slow_done, LOG_LVL_WARN, "%s: slow %s: %.1f ms, %.1f of them %s%s", vol_label(p->v),
                    describe(req, buf, sizeof(buf)), ms(ns), ms(c->spent[worst]), where[worst], res < 0 ? "; it failed" : "");
}

/* The first that was not mentioned yet speaks for those behind it. */
static void look_for_stuck(struct vol_port *p, uint64_t now)
{
        struct blk_req *first = NULL;
        unsigned more = 0;
        char buf[96];

        list_for_each(l, &p->requests) {
                struct blk_req *req = list_entry(l, struct blk_req, p.link);

                if (now - req->p.clock.arrived < p->v->slow_ns)
                        break;
                if (req->p.slow)
                        continue;
                req->p.slow = true;
                more += first != NULL;
                first = first ? first : req;
        }
        if (!first)
                return;
        log_limited(&p->slow_stuck, LOG_LVL_WARN, "%s: a %s is not done after %.1f ms, it is %s%s", vol_label(p->v),
                    describe(first, buf, sizeof(buf)), ms(now - first->p.clock.arrived), where[stage_now(&first->p.clock)],
                    more ? "; so are others behind it" : "");
}

static void on_timer(struct qtimer *t)
{
        struct vol_port *p = container_of(t, struct vol_port, slow_timer);

        if (!p->nrequests)
                return; /* the next one sets it */
        look_for_stuck(p, port_now(p));
        qthread_timer_set(p->thread, t, p->v->slow_ns);
}

void slow_watch(struct vol_port *p)
{
        if (list_empty(&p->slow_timer.link))
                qthread_timer_set(p->thread, &p->slow_timer, p->v->slow_ns);
}

void slow_init(struct vol_port *p)
{
        list_init(&p->slow_timer.link);
        p->slow_timer.fire = on_timer;
}

void slow_finish(struct vol_port *p)
{
        qthread_timer_cancel(p->thread, &p->slow_timer);
}
