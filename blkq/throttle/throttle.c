/* SPDX-License-Identifier: BSD-3-Clause */
#include "throttle.h"

#include <errno.h>
#include <limits.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

#define BASE_S 0.1 /* a bucket without a burst holds so much of its rate: pieces of time smaller than this even out */
#define CATCH_UP_NS (100 * NS_PER_MS) /* who came late may take back so much of its share */

const char *const throttle_kind_name[THROTTLE_KINDS] = {
        [THROTTLE_BPS_TOTAL] = "bps-total",   [THROTTLE_BPS_READ] = "bps-read",   [THROTTLE_BPS_WRITE] = "bps-write",
        [THROTTLE_IOPS_TOTAL] = "iops-total", [THROTTLE_IOPS_READ] = "iops-read", [THROTTLE_IOPS_WRITE] = "iops-write",
};

/* --- limits ------------------------------------------------------------------------------------------------------- */

static int check_limit(const struct throttle_limit *l)
{
        if (l->avg > THROTTLE_VALUE_MAX || l->max > THROTTLE_VALUE_MAX)
                return err_note(-EINVAL, "bps/iops/max values must be within [0, %llu]", THROTTLE_VALUE_MAX);
        if (!l->length)
                return err_note(-EINVAL, "the burst length cannot be 0");
        if (l->length > UINT_MAX)
                return err_note(-EINVAL, "the burst length must be in the range [1, %u]", UINT_MAX);
        if (l->length > 1 && !l->max)
                return err_note(-EINVAL, "burst length set without burst rate");
        if (l->max && l->length > THROTTLE_VALUE_MAX / l->max)
                return err_note(-EINVAL, "burst length too high for this burst rate");
        if (l->max && !l->avg)
                return err_note(-EINVAL, "bps_max/iops_max require corresponding bps/iops values");
        if (l->max && l->max < l->avg)
                return err_note(-EINVAL, "bps_max/iops_max cannot be lower than bps/iops");
        return 0;
}

/* The one for both directions, and one for a direction. */
static bool contradicts(const struct throttle_limit *total)
{
        return (total[0].avg && (total[1].avg || total[2].avg)) || (total[0].max && (total[1].max || total[2].max));
}

int throttle_limits_check(const struct throttle_limits *l)
{
        if (contradicts(&l->kind[THROTTLE_BPS_TOTAL]) || contradicts(&l->kind[THROTTLE_IOPS_TOTAL]))
                return err_note(-EINVAL, "bps/iops/max total values and read/write values cannot be used at the same time");
        if (l->iops_size && !l->kind[THROTTLE_IOPS_TOTAL].avg && !l->kind[THROTTLE_IOPS_READ].avg &&
            !l->kind[THROTTLE_IOPS_WRITE].avg)
                return err_note(-EINVAL, "iops size requires an iops value to be set");
        for (unsigned k = 0; k < THROTTLE_KINDS; k++) {
                int r = check_limit(&l->kind[k]);

                if (r < 0)
                        return r;
        }
        return 0;
}

bool throttle_limits_any(const struct throttle_limits *l)
{
        for (unsigned k = 0; k < THROTTLE_KINDS; k++)
                if (l->kind[k].avg)
                        return true;
        return false;
}

/* --- one bucket --------------------------------------------------------------------------------------------------- */

static double burst_room(const struct throttle_limit *l)
{
        return l->max ? (double)l->max * (double)l->length : (double)l->avg * BASE_S;
}

/* Seconds until it has room again. */
static double wait_of(const struct throttle_limit *l, double level, double burst)
{
        double over = level - burst_room(l), wait = over > 0 ? over / (double)l->avg : 0;

        if (l->length > 1 && burst > (double)l->max * BASE_S) {
                double pause = (burst - (double)l->max * BASE_S) / (double)l->max;

                wait = pause > wait ? pause : wait;
        }
        return wait;
}

/*
 * Seconds that one unit takes at the rate that holds just now; 0: a burst without a rate of its own. Who looks late
 * finds room in a bucket that is in use all the time: that is no burst.
 */
static double unit_time(const struct throttle_limit *l, double level, double burst)
{
        if (!l->max || level > burst_room(l) - (double)l->avg * BASE_S)
                return 1 / (double)l->avg;
        return l->length > 1 && burst > 0 ? 1 / (double)l->max : 0;
}

static double leak_from(double level, double units)
{
        return level > units ? level - units : 0;
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static void leak(struct throttle *t, uint64_t now_ns)
{
        double s;

        if (now_ns <= t->leaked_ns) /* another thread looked at the clock later and came before us */
                return;
        s = (double)(now_ns - t->leaked_ns) / 1e9;
        t->leaked_ns = now_ns;
        for (unsigned k = 0; k < THROTTLE_KINDS; k++) {
                t->level[k] = leak_from(t->level[k], (double)t->limits.kind[k].avg * s);
                t->burst[k] = leak_from(t->burst[k], (double)t->limits.kind[k].max * s);
        }
}

static double operations(const struct throttle_limits *l, uint64_t len)
{
        return l->iops_size && len > l->iops_size ? (double)len / (double)l->iops_size : 1;
}

static void empty(struct throttle *t, uint64_t now_ns)
{
        for (unsigned k = 0; k < THROTTLE_KINDS; k++)
                t->level[k] = t->burst[k] = 0;
        t->leaked_ns = now_ns;
        t->epoch++;
}

void throttle_init(struct throttle *t, uint64_t now_ns)
{
        *t = (struct throttle){ .limits = THROTTLE_NO_LIMITS };
        empty(t, now_ns);
}

void throttle_set(struct throttle *t, const struct throttle_limits *l, uint64_t now_ns)
{
        t->limits = *l;
        empty(t, now_ns);
}

void throttle_wait(struct throttle *t, struct throttle_flow *f, bool write, bool waiting)
{
        if (f->waiting == waiting)
                return;
        f->waiting = waiting;
        if (waiting)
                t->waiting[write]++;
        else
                t->waiting[write]--;
}

uint64_t throttle_take(struct throttle *t, struct throttle_flow *f, bool write, uint64_t len, uint64_t now_ns)
{
        const enum throttle_kind kinds[] = {
                THROTTLE_BPS_TOTAL, write ? THROTTLE_BPS_WRITE : THROTTLE_BPS_READ,
                THROTTLE_IOPS_TOTAL, write ? THROTTLE_IOPS_WRITE : THROTTLE_IOPS_READ,
        };
        uint64_t from = now_ns > CATCH_UP_NS ? now_ns - CATCH_UP_NS : 0, due;
        double wait = 0, share = 0;

        leak(t, now_ns);
        for (unsigned i = 0; i < 4; i++) {
                enum throttle_kind k = kinds[i];
                const struct throttle_limit *l = &t->limits.kind[k];
                double units = i < 2 ? (double)len : operations(&t->limits, len), s;
                unsigned flows = t->waiting[write] + !f->waiting;

                if (!l->avg)
                        continue;
                if (i % 2 == 0) /* both directions share it */
                        flows += t->waiting[!write];
                s = wait_of(l, t->level[k], t->burst[k]);
                wait = s > wait ? s : wait;
                s = unit_time(l, t->level[k], t->burst[k]) * units * flows;
                share = s > share ? s : share;
                t->level[k] += units;
                t->burst[k] += l->length > 1 ? units : 0;
        }
        if (f->epoch != t->epoch)
                *f = (struct throttle_flow){ .epoch = t->epoch, .waiting = f->waiting };
        f->time_ns = max_u64(f->time_ns, from);
        due = max_u64(f->time_ns, now_ns + (uint64_t)(wait * 1e9));
        f->time_ns += (uint64_t)(share * 1e9);
        return due;
}
