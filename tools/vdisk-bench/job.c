/* SPDX-License-Identifier: BSD-3-Clause */
#include "job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "workload.h"

#define DESCS_EACH 3 /* header, data, status: what a request takes without indirect tables */

const char *const op_names[OPS] = { "read", "write", "trim", "zeroes", "flush" };

static const enum fe_type fe_types[OPS] = { FE_READ, FE_WRITE, FE_DISCARD, FE_WRITE_ZEROES, FE_FLUSH };
static const enum verify_change changes[OPS] = {
        [OP_WRITE] = VERIFY_WRITE, [OP_ZEROES] = VERIFY_ZEROES, [OP_TRIM] = VERIFY_TRIM,
};

static bool is_change(enum op op)
{
        return op == OP_WRITE || op == OP_TRIM || op == OP_ZEROES;
}

int job_init(struct job *j, uint64_t seed)
{
        unsigned depth = j->opts->iodepth;

        j->slots = calloc(depth, sizeof(*j->slots));
        j->done = calloc(depth, sizeof(struct fe_io *));
        j->lost = calloc(depth, sizeof(*j->lost));
        if (!j->slots || !j->done || !j->lost)
                return -ENOMEM;
        j->mix.state = seed;
        for (unsigned i = 0; i < depth; i++) {
                struct slot *s = &j->slots[i];

                s->buf = fe_alloc(j->fe, j->opts->bs_max, 4096);
                if (!s->buf)
                        return err_note(-ENOMEM, "no guest memory for %u requests of %u bytes", depth, j->opts->bs_max);
                s->gpa = fe_gpa(j->fe, s->buf);
                s->next = TAKE(j->free, s);
                for (uint32_t at = 0; at < j->opts->bs_max; at += 8)
                        *(uint64_t *)(s->buf + at) = rng_next(&j->mix); /* nothing that compresses or is zero */
        }
        offsets_init(&j->offsets, seed, j->opts->random, j->nunits, j->opts->zipf_theta);
        return 0;
}

void job_finish(struct job *j)
{
        free(j->slots);
        free(j->done);
        free(j->lost);
        free(j->log.e);
}

static int job_fail(struct job *j, int r)
{
        snprintf(j->why, sizeof(j->why), "%s", err_text(r));
        return j->result = r;
}

/* Puts @s with its request on the ring; -EAGAIN: the ring has no room now. */
static int slot_send(struct job *j, struct slot *s, uint64_t now, bool again)
{
        const struct request *rq = &s->rq;
        uint32_t len = (uint32_t)(rq->nunits * j->opts->align);

        if (rq->op == OP_TRIM || rq->op == OP_ZEROES || rq->op == OP_WRITE || rq->op == OP_READ)
                s->io.len = len;
        s->io.type = fe_types[rq->op];
        s->io.sector = (j->base + (j->first + rq->unit) * j->opts->align) / 512;
        s->io.gpa = s->gpa;
        s->io.unmap = rq->op == OP_ZEROES;
        if (j->verify && is_change(rq->op)) {
                if (!again)
                        verify_change_begin(j->verify, changes[rq->op], j->first + rq->unit, rq->nunits);
                if (rq->op == OP_WRITE)
                        verify_fill(j->verify, j->first + rq->unit, rq->nunits, s->buf);
        }
        if (rq->op == OP_FLUSH)
                verify_flush_begin(&j->log);
        s->start_ns = now;
        return fe_submit(j->q, &s->io);
}

/* A sweep goes alone, also over units whose lost change waits to be sent again; what is sent again kept its claim. */
static bool takes_claims(const struct job *j)
{
        return j->verify && (j->phase == PHASE_WORK || j->phase == PHASE_FINAL);
}

/* May the request go now? Otherwise it waits in j->pending until an answer makes room. */
static bool job_claim(struct job *j, const struct request *rq)
{
        if (!takes_claims(j) || rq->op == OP_FLUSH)
                return true;
        return verify_claim(j->verify, j->first + rq->unit, rq->nunits, is_change(rq->op));
}

/* Fills the ring as far as slots, the phase and overlaps allow. @more: false when the phase has nothing to send now. */
static int job_submit(struct job *j, uint64_t now, bool *more)
{
        struct request *rq = &j->pending[j->phase];
        bool *pending = &j->has_pending[j->phase];
        int r;

        *more = true;
        while (j->free && fe_free_descs(j->q) >= DESCS_EACH) {
                if (!*pending) {
                        *more = *pending = workload_next(j, now, rq);
                        if (!*more)
                                return 0;
                }
                if (!job_claim(j, rq))
                        return 0;
                j->free->rq = *rq;
                r = slot_send(j, j->free, now, j->phase == PHASE_RESEND);
                if (r < 0)
                        return r;
                *pending = false;
                j->free = j->free->next;
        }
        return 0;
}

static void account(struct job *j, const struct slot *s, uint64_t now, bool ok)
{
        enum op op = s->rq.op;

        if (j->phase != PHASE_WORK)
                return;
        j->end_ns = now;
        hist_add(&j->lat[op], now - s->start_ns);
        if (ok && op != OP_FLUSH)
                j->bytes[op] += (uint64_t)s->rq.nunits * j->opts->align;
}

static int verify_answer(struct job *j, const struct slot *s, bool ok)
{
        const struct request *rq = &s->rq;
        uint64_t unit = j->first + rq->unit;

        if (rq->op == OP_FLUSH) {
                verify_flush_done(j->verify, &j->log, ok);
                return 0;
        }
        if (rq->op == OP_READ && ok) {
                j->wrong += verify_compare(j->verify, unit, rq->nunits, s->buf);
                j->compared += rq->nunits * (uint64_t)j->opts->align / 512;
        }
        if (is_change(rq->op))
                verify_change_done(j->verify, changes[rq->op], unit, rq->nunits, ok);
        if (is_change(rq->op) || takes_claims(j))
                verify_release(j->verify, unit, rq->nunits, is_change(rq->op));
        if (is_change(rq->op) && ok && j->opts->reconnect == RECONNECT_CRASH)
                return verify_log_add(j->verify, &j->log, changes[rq->op], unit, rq->nunits);
        return 0;
}

static int slot_answered(struct job *j, struct slot *s, uint64_t now)
{
        bool ok = s->io.status == FE_OK;
        int r = 0;

        if (!ok) {
                if (j->errors[s->rq.op]++ == 0)
                        fprintf(stderr, "vdisk-bench: %s at sector %" PRIu64 ": status %u\n", op_names[s->rq.op],
                                s->io.sector, s->io.status);
        }
        account(j, s, now, ok);
        if (s->rq.op == OP_FLUSH)
                j->flush_busy = false;
        if (j->verify)
                r = verify_answer(j, s, ok);
        s->next = j->free;
        j->free = s;
        return r;
}

/* How many were answered, or -errno. */
static int job_reap(struct job *j)
{
        int n = fe_reap(j->q, j->done, j->opts->iodepth), r = 0;
        uint64_t now;

        if (n <= 0)
                return n;
        now = clock_ns();
        for (int i = 0; i < n && r == 0; i++)
                r = slot_answered(j, container_of(j->done[i], struct slot, io), now);
        atomic_store_explicit(&j->answered, j->answered + (unsigned)n, memory_order_relaxed);
        return r < 0 ? r : n;
}

/* One request that was not answered. Changes keep their claims and are sent again, reads are simply drawn anew. */
static void take_back_slot(struct job *j, struct slot *s)
{
        const struct request *rq = &s->rq;

        if (rq->op == OP_READ && takes_claims(j))
                verify_release(j->verify, j->first + rq->unit, rq->nunits, false);
        if (rq->op == OP_READ && j->phase == PHASE_WORK)
                j->issued--;
        if (is_change(rq->op) || (rq->op == OP_FLUSH && j->phase == PHASE_WORK))
                j->lost[j->nlost++] = *rq;
        if (rq->op == OP_FLUSH)
                j->flush_busy = false;
        s->next = j->free;
        j->free = s;
}

/* The connection is gone: what was answered counts, what was not is remembered. */
static int job_take_back(struct job *j)
{
        struct fe_io *io;
        int r;

        while ((r = job_reap(j)) > 0)
                ;
        if (r < 0)
                return r;
        while ((io = fe_queue_unanswered(j->q)))
                take_back_slot(j, container_of(io, struct slot, io));
        if (j->has_pending[PHASE_RESEND])
                j->lost[j->nlost++] = j->pending[PHASE_RESEND];
        if (j->phase == PHASE_FINAL)
                j->flush_busy = j->final_flushed = false;
        for (enum phase p = PHASE_FINAL; p < PHASES; p++)
                j->has_pending[p] = false;
        j->sweep_at = 0;
        j->phase = PHASE_RESEND;
        if (j->opts->reconnect == RECONNECT_CRASH && j->verify) {
                verify_crash(j->verify, &j->log, j->first, j->nunits);
                j->phase = PHASE_SWEEP;
        }
        return 0;
}

/* Held: give up what is in flight, wait, begin anew. */
static int job_hold(struct job *j)
{
        int r = atomic_load(&j->gate->state) == GATE_QUIT ? -ECANCELED : job_take_back(j);

        if (r == 0)
                r = gate_wait(j->gate);
        return r;
}

/* One round: send, look, sleep. 1 while there is something to do. */
static int job_round(struct job *j)
{
        bool more;
        int r;

        if (atomic_load_explicit(&j->gate->state, memory_order_relaxed) != GATE_OPEN) {
                r = job_hold(j);
                return r < 0 ? r : 1;
        }
        r = job_submit(j, clock_ns(), &more);
        if (r < 0)
                return r;
        fe_kick(j->q);
        r = job_reap(j);
        if (r != 0)
                return r < 0 ? r : 1;
        if (fe_in_flight(j->q) == 0)
                return more ? 1 : workload_next_phase(j);
        if (!j->opts->poll)
                fe_wait(j->q, -1);
        return 1;
}

void *job_main(void *opaque)
{
        struct job *j = opaque;
        int r;

        j->phase = j->goal;
        do
                r = job_round(j);
        while (r > 0);
        if (r < 0 && j->result == 0)
                job_fail(j, r);
        gate_leave(j->gate, r < 0);
        return NULL;
}
