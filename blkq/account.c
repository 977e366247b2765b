/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * account.c - a port's requests from their coming to their going, and the time they took. Port's thread.
 *
 *   begin -> (stages: request.c, home.c) -> end -> the end of the round, after the rings have shown their answers
 *
 * The clock is looked at once for all that comes in a round, once for all completions that the kernel had for us, once
 * at the end of a round: what was started in it goes to the kernel then, what was done in it was shown. So three looks
 * a round, not two a request.
 */
#include <assert.h>

#include "blkq/port_impl.h"
#include "blkq/throttle/port_throttle.h"
#include "blkq/vol_impl.h"
#include "common/probes.h"

static const uint8_t stats_of[] = {
        [BLK_READ] = STATS_READ, [BLK_WRITE] = STATS_WRITE, [BLK_FLUSH] = STATS_FLUSH,
        [BLK_DISCARD] = STATS_DISCARD, [BLK_WRITE_ZEROES] = STATS_WRITE_ZEROES,
};

static void put(_Atomic uint64_t *gauge, uint64_t n)
{
        atomic_store_explicit(gauge, n, memory_order_relaxed);
}

static uint64_t past(uint64_t from, uint64_t to)
{
        return to > from ? to - from : 0;
}

/* --- the end of a round ------------------------------------------------------------------------------------------- */

static void show_answered(struct vol_port *p, uint64_t now)
{
        for (unsigned i = 0; i < p->nanswered; i++) {
                const struct answered *a = &p->answered[i];

                stats_time(a->op, STAGE_NOTIFY, past(a->done, now));
                stats_time(a->op, STAGE_TOTAL, past(a->arrived, now));
        }
        if (p->nanswered)
                put(&p->stats.last_ns, now);
        p->nanswered = 0;
}

/* Those of this round are the last on the list. */
static void hand_over(struct vol_port *p, uint64_t now)
{
        for (struct list *l = p->requests.prev; l != &p->requests; l = l->prev) {
                struct blk_req *req = list_entry(l, struct blk_req, p.link);

                if (req->p.round != p->round)
                        break;
                if (!req->p.home && stage_now(&req->p.clock) == STAGE_MAP) {
                        stage_to(&req->p.clock, STAGE_DISK, now);
                        PROBE1(request__submitted, req);
                }
        }
        p->round++;
}

static void on_round_end(struct qhook *h)
{
        struct vol_port *p = container_of(h, struct vol_port, round_end);
        uint64_t now = port_now(p);

        hand_over(p, now);
        show_answered(p, now);
        put(&p->stats.in_flight, p->nrequests);
        put(&p->stats.throttled, port_throttle_has_waiters(p));
        put(&p->stats.oldest_ns,
            p->nrequests ? list_entry(p->requests.next, struct blk_req, p.link)->p.clock.arrived : 0);
        if (p->v->slow_ns && p->nrequests)
                slow_watch(p);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

void account_begin(struct vol_port *p, struct blk_req *req)
{
        stage_begin(&req->p.clock, port_now(p));
        req->p.round = p->round;
        req->p.slow = false;
        list_add_tail(&p->requests, &req->p.link);
        p->nrequests++;
        qthread_after_round_end(p->thread, &p->round_end);
}

void account_moves(struct vol_port *p, struct blk_req *req)
{
        if (req->p.round != p->round) { /* it waited: it is somewhere on the list, where hand_over() does not look */
                req_stage(req, STAGE_DISK);
                PROBE1(request__submitted, req);
        }
}

static void note_highest(struct blk_stats *s, const struct blk_req *req)
{
        uint64_t end = req->off + req->len;

        if (end > atomic_load_explicit(&s->highest_write, memory_order_relaxed))
                put(&s->highest_write, end);
}

void account_end(struct vol_port *p, struct blk_req *req, int res)
{
        struct op_stats *op = &p->stats.op[stats_of[req->op]];
        uint64_t now = port_now(p);

        stage_to(&req->p.clock, STAGE_NOTIFY, now);
        stats_account(op, req->len, &req->p.clock, res);
        PROBE2(request__done, req, res);
        if (p->v->slow_ns && past(req->p.clock.arrived, now) >= p->v->slow_ns)
                slow_done(p, req, past(req->p.clock.arrived, now), res);
        if (!req->p.home)
                stats_count(&p->stats.fast, 1);
        if (res == 0 && (req->op == BLK_WRITE || req->op == BLK_WRITE_ZEROES))
                note_highest(&p->stats, req);
        if (p->nanswered == PORT_ANSWERED)
                show_answered(p, now); /* not shown yet, but soon */
        p->answered[p->nanswered++] = (struct answered){ req->p.clock.arrived, now, op };
        list_del(&req->p.link);
        p->nrequests--;
        qthread_after_round_end(p->thread, &p->round_end);
}

void port_refused(struct vol_port *p, enum blk_op op)
{
        stats_count(&p->stats.op[stats_of[op]].invalid, 1);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

void account_init(struct vol_port *p)
{
        list_init(&p->requests);
        list_init(&p->round_end.link);
        p->round_end.run = on_round_end;
        slow_init(p);
}

void account_finish(struct vol_port *p)
{
        assert(!p->nrequests);
        slow_finish(p);
        list_del(&p->round_end.link);
        on_round_end(&p->round_end);
}
