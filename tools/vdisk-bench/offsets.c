/* SPDX-License-Identifier: BSD-3-Clause */
#include "offsets.h"

#include <math.h>

/* The sum of 1/i^theta for i = 1..n: exact up to a million terms, the integral behind. */
static double zeta(uint64_t n, double theta)
{
        const uint64_t exact = n < 1000000 ? n : 1000000;
        double sum = 0;

        for (uint64_t i = 1; i <= exact; i++)
                sum += pow((double)i, -theta);
        if (n > exact)
                sum += (pow((double)n, 1 - theta) - pow((double)exact, 1 - theta)) / (1 - theta);
        return sum;
}

void offsets_init(struct offsets *o, uint64_t seed, bool random, uint64_t nblocks, double theta)
{
        *o = (struct offsets){ .rng = { seed }, .random = random, .nblocks = nblocks, .theta = theta };
        if (theta > 0) {
                o->zetan = zeta(nblocks, theta);
                o->half_pow = pow(0.5, theta);
                o->eta = (1 - pow(2.0 / (double)nblocks, 1 - theta)) / (1 - zeta(2, theta) / o->zetan);
        }
}

/* Rank 0 is the favourite. Gray et al., "Quickly generating billion-record synthetic databases", 1994. */
static uint64_t zipf_rank(struct offsets *o)
{
        double u = (double)(rng_next(&o->rng) >> 11) * 0x1p-53, uz = u * o->zetan, x;

        if (uz < 1)
                return 0;
        if (uz < 1 + o->half_pow)
                return 1;
        x = (double)o->nblocks * pow(o->eta * u - o->eta + 1, 1 / (1 - o->theta));
        return x >= (double)o->nblocks ? o->nblocks - 1 : (uint64_t)x;
}

/* Favourites are strewn over the disk, as fio does, not in its first blocks. */
static uint64_t strew(uint64_t rank, uint64_t nblocks)
{
        struct rng g = { rank };

        return rng_below(&g, nblocks);
}

uint64_t offsets_next(struct offsets *o, uint64_t run)
{
        uint64_t at;

        if (!o->random) {
                at = o->next + run <= o->nblocks ? o->next : 0;
                o->next = at + run;
                return at;
        }
        if (o->theta > 0)
                at = strew(zipf_rank(o), o->nblocks);
        else
                at = rng_below(&o->rng, o->nblocks);
        return at + run <= o->nblocks ? at : o->nblocks - run;
}
