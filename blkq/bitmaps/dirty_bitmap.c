/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_bitmap.c - bits in leaves of 4 KiB.
 *
 * A leaf is NULL (all clean), ALL (a mark: all dirty, also where there was no memory for a leaf) or a page of words.
 *
 * - Who sets bits takes no lock: a leaf is put in its place by compare and swap, a bit by an atomic OR. A leaf that is
 *   there stays until the bitmap goes, so nobody can set a bit in one that was taken away.
 * - Who reads, clears or resizes holds the lock, so that all but setting is alone.
 * - Bits beyond the end of the disk are never set.
 * - count follows the bits a moment later, and may be negative for that moment.
 */
#include "blkq/bitmaps/dirty_bitmap.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/range.h"

#define WORD_BITS 64u
#define LEAF_WORDS 512u
#define LEAF_BITS (LEAF_WORDS * WORD_BITS)

struct leaf {
        _Atomic uint64_t word[LEAF_WORDS];
};
typedef _Atomic(struct leaf *) leaf_slot;

static struct leaf all_dirty;
#define ALL (&all_dirty)

struct dirty_bitmap {
        atomic_uint refs;
        atomic_bool recording;
        unsigned shift; /* log2 of the granularity */
        pthread_mutex_t lock;
        _Atomic uint64_t size;
        _Atomic int64_t count;
        uint64_t nbits, nleaves; /* these and leaves change under the lock while nobody sets */
        leaf_slot *leaves;
};

uint32_t dirty_granularity_default(uint32_t cluster_size)
{
        return cluster_size > 1 ? (uint32_t)max_u64(cluster_size, 4096) : 64u << 10;
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static uint64_t bits_for(uint64_t size, unsigned shift)
{
        return (size >> shift) + !!(size & ((1ull << shift) - 1));
}

static uint64_t leaves_for(uint64_t nbits)
{
        return nbits / LEAF_BITS + !!(nbits % LEAF_BITS);
}

int dirty_bitmap_new(uint64_t size, uint32_t granularity, struct dirty_bitmap **ret)
{
        struct dirty_bitmap *b = calloc(1, sizeof(*b));

        assert(dirty_granularity_valid(granularity));
        if (!b)
                return -ENOMEM;
        b->refs = 1;
        b->recording = true;
        b->shift = (unsigned)__builtin_ctz(granularity);
        b->size = size;
        b->nbits = bits_for(size, b->shift);
        b->nleaves = leaves_for(b->nbits);
        b->leaves = calloc(max_u64(b->nleaves, 1), sizeof(*b->leaves));
        if (!b->leaves) {
                free(b);
                return -ENOMEM;
        }
        pthread_mutex_init(&b->lock, NULL);
        *ret = b;
        return 0;
}

struct dirty_bitmap *dirty_bitmap_ref(struct dirty_bitmap *b)
{
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
        return b;
}

static void leaf_free(struct leaf *l)
{
        if (l != ALL)
                free(l);
}

void dirty_bitmap_unref(struct dirty_bitmap *b)
{
        if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
                return;
        for (uint64_t i = 0; i < b->nleaves; i++)
                leaf_free(b->leaves[i]);
        free(b->leaves);
        pthread_mutex_destroy(&b->lock);
        free(b);
}

void dirty_bitmap_unrefp(struct dirty_bitmap **b)
{
        dirty_bitmap_unref(*b);
}

uint64_t dirty_bitmap_size(const struct dirty_bitmap *b)
{
        return b->size;
}

uint32_t dirty_bitmap_granularity(const struct dirty_bitmap *b)
{
        return 1u << b->shift;
}

uint64_t dirty_bitmap_granules(const struct dirty_bitmap *b)
{
        return bits_for(b->size, b->shift);
}

uint64_t dirty_bitmap_count(const struct dirty_bitmap *b)
{
        int64_t n = atomic_load_explicit(&b->count, memory_order_relaxed);

        return n < 0 ? 0 : (uint64_t)n;
}

bool dirty_bitmap_recording(const struct dirty_bitmap *b)
{
        return atomic_load_explicit(&b->recording, memory_order_relaxed);
}

void dirty_bitmap_record(struct dirty_bitmap *b, bool on)
{
        atomic_store_explicit(&b->recording, on, memory_order_relaxed);
}

/* --- leaves and words --------------------------------------------------------------------------------------------- */

static uint64_t leaf_bits(const struct dirty_bitmap *b, uint64_t i)
{
        return min_u64(LEAF_BITS, b->nbits - i * LEAF_BITS);
}

static struct leaf *leaf_at(const struct dirty_bitmap *b, uint64_t i)
{
        return atomic_load_explicit(&b->leaves[i], memory_order_acquire);
}

static struct leaf *leaf_new(void)
{
        return FAULT("bitmap.leaf") ? NULL : calloc(1, sizeof(struct leaf));
}

static void count_add(struct dirty_bitmap *b, int64_t n)
{
        if (n)
                atomic_fetch_add_explicit(&b->count, n, memory_order_relaxed);
}

/* The part of word @w that lies in bits [@at, @at + @n) of its leaf. */
static uint64_t mask_of(uint64_t w, uint64_t at, uint64_t n)
{
        uint64_t from = max_u64(at, w * WORD_BITS) - w * WORD_BITS;
        uint64_t to = min_u64(at + n, (w + 1) * WORD_BITS) - w * WORD_BITS;

        return (UINT64_MAX << from) & (UINT64_MAX >> (WORD_BITS - to));
}

/* Most changes hit what is dirty already: then the word stays in every thread's cache. */
static int64_t or_bits(struct leaf *l, uint64_t at, uint64_t n)
{
        int64_t added = 0;

        for (uint64_t w = at / WORD_BITS; w <= (at + n - 1) / WORD_BITS; w++) {
                uint64_t mask = mask_of(w, at, n);

                if ((atomic_load_explicit(&l->word[w], memory_order_relaxed) & mask) != mask)
                        added += __builtin_popcountll(mask & ~atomic_fetch_or(&l->word[w], mask));
        }
        return added;
}

static int64_t drop_bits(struct leaf *l, uint64_t at, uint64_t n)
{
        int64_t dropped = 0;

        for (uint64_t w = at / WORD_BITS; w <= (at + n - 1) / WORD_BITS; w++) {
                uint64_t mask = mask_of(w, at, n);

                if (atomic_load(&l->word[w]) & mask)
                        dropped += __builtin_popcountll(mask & atomic_fetch_and(&l->word[w], ~mask));
        }
        return dropped;
}

/* --- setting ------------------------------------------------------------------------------------------------------ */

static void set_in_leaf(struct dirty_bitmap *b, uint64_t i, uint64_t at, uint64_t n)
{
        struct leaf *l = leaf_at(b, i), *fresh;

        if (!l) {
                fresh = n == leaf_bits(b, i) ? ALL : leaf_new();
                if (!fresh)
                        fresh = ALL;
                if (!atomic_compare_exchange_strong(&b->leaves[i], &l, fresh)) {
                        leaf_free(fresh);
                } else if (fresh == ALL) {
                        count_add(b, (int64_t)leaf_bits(b, i));
                        return;
                } else {
                        l = fresh;
                }
        }
        if (l != ALL)
                count_add(b, or_bits(l, at, n));
}

/* The granules that a range touches: *n of them from the one returned. */
static uint64_t granules(const struct dirty_bitmap *b, uint64_t off, uint64_t len, uint64_t *n)
{
        uint64_t size = b->size, end;

        *n = 0;
        if (off >= size || !len)
                return 0;
        end = len > size - off ? size : off + len;
        *n = ((end - 1) >> b->shift) - (off >> b->shift) + 1;
        return off >> b->shift;
}

static void each_leaf(struct dirty_bitmap *b, uint64_t off, uint64_t len,
                      void (*what)(struct dirty_bitmap *b, uint64_t i, uint64_t at, uint64_t n))
{
        uint64_t n, at = granules(b, off, len, &n);

        while (n) {
                uint64_t step = min_u64(n, LEAF_BITS - at % LEAF_BITS);

                what(b, at / LEAF_BITS, at % LEAF_BITS, step);
                at += step;
                n -= step;
        }
}

void dirty_bitmap_set(struct dirty_bitmap *b, uint64_t off, uint64_t len)
{
        each_leaf(b, off, len, set_in_leaf);
}

/* --- clearing ----------------------------------------------------------------------------------------------------- */

/* A leaf of ones, but for bits [@at, @at + @n), in the place of ALL, which nobody but the holder of the lock takes
 * away. */
static int break_all(struct dirty_bitmap *b, uint64_t i, uint64_t at, uint64_t n)
{
        struct leaf *l = leaf_new();

        if (!l)
                return -ENOMEM;
        or_bits(l, 0, leaf_bits(b, i));
        if (n)
                count_add(b, -drop_bits(l, at, n));
        atomic_store(&b->leaves[i], l);
        return 0;
}

static void clear_in_leaf(struct dirty_bitmap *b, uint64_t i, uint64_t at, uint64_t n)
{
        struct leaf *l = leaf_at(b, i);

        if (!l)
                return;
        if (l != ALL) {
                count_add(b, -drop_bits(l, at, n));
        } else if (n == leaf_bits(b, i)) {
                atomic_store(&b->leaves[i], NULL);
                count_add(b, -(int64_t)n);
        } else {
                (void)break_all(b, i, at, n); /* without memory it stays dirty */
        }
}

void dirty_bitmap_clear(struct dirty_bitmap *b, uint64_t off, uint64_t len)
{
        pthread_mutex_lock(&b->lock);
        each_leaf(b, off, len, clear_in_leaf);
        pthread_mutex_unlock(&b->lock);
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

static uint64_t word_at(const struct dirty_bitmap *b, const struct leaf *l, uint64_t w)
{
        uint64_t i = w / LEAF_WORDS, left;

        if (!l)
                return 0;
        if (l != ALL)
                return atomic_load_explicit(&l->word[w % LEAF_WORDS], memory_order_acquire);
        left = leaf_bits(b, i) - w % LEAF_WORDS * WORD_BITS;
        return left >= WORD_BITS ? UINT64_MAX : (1ull << left) - 1;
}

/* The first bit at or after @at, before @end, that is set (or clear); @end: none. The lock is held. */
static uint64_t find(const struct dirty_bitmap *b, uint64_t at, uint64_t end, bool set)
{
        const struct leaf *same = set ? NULL : ALL; /* nothing to be found in it */

        while (at < end) {
                const struct leaf *l = leaf_at(b, at / LEAF_BITS);
                uint64_t word, hits;

                if (l == same) {
                        at = round_down(at, LEAF_BITS) + LEAF_BITS;
                        continue;
                }
                word = word_at(b, l, at / WORD_BITS);
                hits = (set ? word : ~word) & UINT64_MAX << at % WORD_BITS;
                at = round_down(at, WORD_BITS);
                if (hits)
                        return min_u64(at + (unsigned)__builtin_ctzll(hits), end);
                at += WORD_BITS;
        }
        return end;
}

bool dirty_bitmap_next(struct dirty_bitmap *b, uint64_t from, uint64_t end, uint64_t *off, uint64_t *len)
{
        uint64_t n, first, last, until, size;

        pthread_mutex_lock(&b->lock);
        size = b->size;
        first = granules(b, from, end > from ? end - from : 0, &n);
        until = first + n;
        first = find(b, first, until, true);
        last = first < until ? find(b, first, until, false) : first;
        pthread_mutex_unlock(&b->lock);
        if (first == last)
                return false;
        *off = max_u64(first << b->shift, from);
        *len = min_u64(last == until ? end : last << b->shift, size) - *off;
        return true;
}

/* --- as a whole --------------------------------------------------------------------------------------------------- */

int dirty_bitmap_merge(struct dirty_bitmap *to, struct dirty_bitmap *from)
{
        uint64_t off = 0, len = 0;

        if (to->size != from->size)
                return -EINVAL;
        while (to != from && dirty_bitmap_next(from, off + len, UINT64_MAX, &off, &len)) {
                pthread_mutex_lock(&to->lock); /* against a resize */
                dirty_bitmap_set(to, off, len);
                pthread_mutex_unlock(&to->lock);
        }
        return 0;
}

static void move_leaf(struct dirty_bitmap *b, struct dirty_bitmap *to, uint64_t i)
{
        struct leaf *l = leaf_at(b, i);

        if (!l)
                return;
        if (l == ALL) {
                atomic_store(&b->leaves[i], NULL);
                count_add(b, -(int64_t)leaf_bits(b, i));
                set_in_leaf(to, i, 0, leaf_bits(b, i));
                return;
        }
        for (uint64_t w = 0; w < LEAF_WORDS; w++) {
                uint64_t bits = atomic_load_explicit(&l->word[w], memory_order_relaxed) ? atomic_exchange(&l->word[w], 0) : 0;

                count_add(b, -__builtin_popcountll(bits));
                for (; bits; bits &= bits - 1)
                        set_in_leaf(to, i, w * WORD_BITS + (unsigned)__builtin_ctzll(bits), 1);
        }
}

int dirty_bitmap_split(struct dirty_bitmap *b, struct dirty_bitmap **ret)
{
        struct dirty_bitmap *to;
        int r;

        pthread_mutex_lock(&b->lock);
        r = dirty_bitmap_new(b->size, 1u << b->shift, &to);
        for (uint64_t i = 0; r == 0 && i < b->nleaves; i++)
                move_leaf(b, to, i);
        pthread_mutex_unlock(&b->lock);
        if (r < 0)
                return r;
        to->recording = false;
        *ret = to;
        return 0;
}

static int grow(struct dirty_bitmap *b, uint64_t nbits)
{
        uint64_t n = leaves_for(nbits), last = b->nleaves - 1;
        leaf_slot *leaves;

        if (b->nbits % LEAF_BITS && leaf_at(b, last) == ALL && break_all(b, last, 0, 0) < 0)
                return -ENOMEM; /* what is new in it must be clean */
        if (n > b->nleaves) {
                leaves = calloc(n, sizeof(*leaves));
                if (!leaves)
                        return -ENOMEM;
                for (uint64_t i = 0; i < b->nleaves; i++)
                        leaves[i] = leaf_at(b, i);
                free(b->leaves);
                b->leaves = leaves;
                b->nleaves = n;
        }
        b->nbits = nbits;
        return 0;
}

static void shrink(struct dirty_bitmap *b, uint64_t nbits)
{
        uint64_t n = leaves_for(nbits), cut = nbits % LEAF_BITS;

        for (uint64_t i = n; i < b->nleaves; i++) {
                clear_in_leaf(b, i, 0, leaf_bits(b, i));
                leaf_free(leaf_at(b, i));
        }
        b->nleaves = n;
        if (cut && leaf_at(b, n - 1) == ALL)
                count_add(b, -(int64_t)(leaf_bits(b, n - 1) - cut));
        else if (cut && leaf_bits(b, n - 1) > cut)
                clear_in_leaf(b, n - 1, cut, leaf_bits(b, n - 1) - cut);
        b->nbits = nbits;
}

int dirty_bitmap_resize(struct dirty_bitmap *b, uint64_t size)
{
        uint64_t nbits = bits_for(size, b->shift);
        int r = 0;

        pthread_mutex_lock(&b->lock);
        if (nbits > b->nbits)
                r = grow(b, nbits);
        else if (nbits < b->nbits)
                shrink(b, nbits);
        if (r == 0)
                b->size = size;
        pthread_mutex_unlock(&b->lock);
        return r;
}

/* --- as bytes ----------------------------------------------------------------------------------------------------- */

void dirty_bitmap_get_bytes(struct dirty_bitmap *b, uint64_t at, void *bytes, size_t len)
{
        uint8_t *out = bytes;

        assert(is_aligned(at, sizeof(uint64_t)));
        pthread_mutex_lock(&b->lock);
        while (len) {
                uint64_t w = at / sizeof(uint64_t), word = 0;
                size_t step = min_u64(len, sizeof(word));

                if (w * WORD_BITS < b->nbits)
                        word = htole64(word_at(b, leaf_at(b, w / LEAF_WORDS), w));
                memcpy(out, &word, step);
                out += step;
                at += step;
                len -= step;
        }
        pthread_mutex_unlock(&b->lock);
}

/* Bits [@bit, @bit + 64), as many as the bitmap has. */
static void or_word(struct dirty_bitmap *b, uint64_t bit, uint64_t word)
{
        if (bit >= b->nbits)
                return;
        if (b->nbits - bit < WORD_BITS)
                word &= (1ull << (b->nbits - bit)) - 1;
        for (; word; word &= word + (word & -word)) { /* run by run */
                unsigned first = (unsigned)__builtin_ctzll(word);
                uint64_t rest = ~(word >> first);
                unsigned run = rest ? (unsigned)__builtin_ctzll(rest) : WORD_BITS;

                set_in_leaf(b, bit / LEAF_BITS, bit % LEAF_BITS + first, run);
        }
}

void dirty_bitmap_or_bytes(struct dirty_bitmap *b, uint64_t at, const void *bytes, size_t len)
{
        const uint8_t *in = bytes;

        assert(is_aligned(at, sizeof(uint64_t)));
        pthread_mutex_lock(&b->lock);
        while (len) {
                size_t step = min_u64(len, sizeof(uint64_t));
                uint64_t word = 0;

                memcpy(&word, in, step);
                or_word(b, at * 8, le64toh(word));
                in += step;
                at += step;
                len -= step;
        }
        pthread_mutex_unlock(&b->lock);
}
