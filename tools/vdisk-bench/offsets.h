/* SPDX-License-Identifier: BSD-3-Clause */
/* offsets.h - which block next: in order, at random, or with favourites. Blocks are numbered from 0. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rng {
        uint64_t state;
};

/* splitmix64: every seed is a good seed. */
static inline uint64_t rng_next(struct rng *g)
{
        uint64_t z = g->state += 0x9e3779b97f4a7c15ull;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        return z ^ z >> 31;
}

/* Evenly from [0, n), n > 0. */
static inline uint64_t rng_below(struct rng *g, uint64_t n)
{
        return (uint64_t)((unsigned __int128)rng_next(g) * n >> 64);
}

struct offsets {
        struct rng rng;
        bool random;
        uint64_t nblocks, next;
        double theta, zetan, eta, half_pow; /* zipf only */
};

/* @theta: 0 or the exponent of a zipf distribution. */
void offsets_init(struct offsets *o, uint64_t seed, bool random, uint64_t nblocks, double theta);

/* The next place for a run of @run blocks (<= nblocks): its first block. */
uint64_t offsets_next(struct offsets *o, uint64_t run);
