/* SPDX-License-Identifier: BSD-3-Clause */
#include "workload.h"

atomic_bool workload_interrupted;

static bool work_is_over(const struct job *j, uint64_t now)
{
        const struct options *o = j->opts;

        if (atomic_load_explicit(&workload_interrupted, memory_order_relaxed))
                return true;
        if (o->number_ios && j->issued >= o->number_ios)
                return true;
        if (o->runtime_ns)
                return now >= j->deadline_ns;
        return !o->number_ios && j->issued_bytes >= j->nunits * o->align;
}

static enum op draw_op(struct job *j)
{
        const struct options *o = j->opts;

        if (o->trim)
                return OP_TRIM;
        if (o->read_percent == 100 || (o->read_percent && rng_below(&j->mix, 100) < o->read_percent))
                return OP_READ;
        return o->zeroes_percent && rng_below(&j->mix, 100) < o->zeroes_percent ? OP_ZEROES : OP_WRITE;
}

static bool next_work(struct job *j, uint64_t now, struct request *ret)
{
        if (j->flush_due && !j->flush_busy) {
                j->flush_due = false;
                j->flush_busy = true;
                *ret = (struct request){ .op = OP_FLUSH };
                return true;
        }
        if (work_is_over(j, now))
                return false;
        ret->op = draw_op(j);
        ret->nunits = j->run_min;
        if (j->run_max > j->run_min)
                ret->nunits *= (unsigned)(1 + rng_below(&j->mix, j->run_max / j->run_min));
        ret->unit = offsets_next(&j->offsets, ret->nunits);
        j->issued++;
        j->issued_bytes += (uint64_t)ret->nunits * j->opts->align;
        if (ret->op != OP_READ && j->opts->fsync && ++j->writes_to_flush >= j->opts->fsync) {
                j->writes_to_flush = 0;
                j->flush_due = true;
        }
        return true;
}

/* Everything whose contents are known, in order, in the largest requests. */
static bool next_sweep(struct job *j, struct request *ret)
{
        unsigned n = 0;

        while (j->sweep_at < j->nunits && !verify_known(j->verify, j->first + j->sweep_at))
                j->sweep_at++;
        while (n < j->run_max && j->sweep_at + n < j->nunits && verify_known(j->verify, j->first + j->sweep_at + n))
                n++;
        if (n == 0)
                return false;
        *ret = (struct request){ .op = OP_READ, .unit = j->sweep_at, .nunits = n };
        j->sweep_at += n;
        return true;
}

static bool next_final(struct job *j, struct request *ret)
{
        if (!j->final_flushed) {
                if (j->flush_busy)
                        return false;
                j->final_flushed = j->flush_busy = true;
                *ret = (struct request){ .op = OP_FLUSH };
                return true;
        }
        return !j->flush_busy && next_sweep(j, ret);
}

bool workload_next(struct job *j, uint64_t now, struct request *ret)
{
        switch (j->phase) {
        case PHASE_WORK: return next_work(j, now, ret);
        case PHASE_FINAL: return next_final(j, ret);
        case PHASE_SWEEP: return next_sweep(j, ret);
        case PHASE_RESEND:
                if (j->nlost == 0)
                        return false;
                *ret = j->lost[--j->nlost];
                j->flush_busy = j->flush_busy || ret->op == OP_FLUSH;
                return true;
        }
        return false;
}

int workload_next_phase(struct job *j)
{
        switch (j->phase) {
        case PHASE_WORK:
        case PHASE_FINAL: return 0;
        case PHASE_SWEEP: j->phase = PHASE_RESEND; return 1;
        case PHASE_RESEND:
                j->phase = j->goal;
                j->sweep_at = 0;
                return 1;
        }
        return 0;
}
