/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * l2e.h - one entry of an L2 table: 8 bytes, or 16 in an image with extended L2 entries. The one room that knows which.
 *
 * With extended entries a cluster has 32 sub-clusters; the second word says of each whether it lies at the offset (low
 * half), reads as zeros (high half), or neither: then it is not in this image. Both at once is nonsense. A cluster of
 * an image without them counts as one sub-cluster, so that nobody else needs to ask: its masks have one bit.
 *
 * Specification: "L2 table entry", "Extended L2 Entries" of QEMU's docs/interop/qcow2. Tables here are bytes as in the
 * file.
 */
#pragma once

#include "common/bytes.h"
#include "header.h"

struct l2e {
        uint64_t desc; /* the descriptor: all there is without sub-clusters */
        uint64_t subs; /* 0 without */
};

static inline bool qcow2_has_subclusters(const struct qcow2_header *h)
{
        return h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
}

/* Words of 8 bytes in an entry. */
static inline unsigned l2e_words(const struct qcow2_header *h)
{
        return qcow2_has_subclusters(h) ? 2 : 1;
}

static inline uint64_t l2_entries(const struct qcow2_header *h)
{
        return h->cluster_size / QCOW2_ENTRY_SIZE / l2e_words(h);
}

static inline unsigned subclusters(const struct qcow2_header *h)
{
        return qcow2_has_subclusters(h) ? QCOW2_SUBCLUSTERS : 1;
}

/* A mask with the bits of sub-clusters @from to @to. */
static inline uint32_t sub_mask(unsigned from, unsigned to)
{
        return (uint32_t)((2ull << to) - (1ull << from));
}

static inline uint32_t sub_mask_all(const struct qcow2_header *h)
{
        return sub_mask(0, subclusters(h) - 1);
}

static inline struct l2e l2e_get(const struct qcow2_header *h, const void *l2, uint64_t i)
{
        const uint8_t *at = (const uint8_t *)l2 + i * l2e_words(h) * QCOW2_ENTRY_SIZE;

        return (struct l2e){ be64_get(at), qcow2_has_subclusters(h) ? be64_get(at + QCOW2_ENTRY_SIZE) : 0 };
}

static inline void l2e_put(const struct qcow2_header *h, void *l2, uint64_t i, struct l2e e)
{
        uint8_t *at = (uint8_t *)l2 + i * l2e_words(h) * QCOW2_ENTRY_SIZE;

        be64_put(at, e.desc);
        if (qcow2_has_subclusters(h))
                be64_put(at + QCOW2_ENTRY_SIZE, e.subs);
}

static inline bool l2e_equal(struct l2e a, struct l2e b)
{
        return a.desc == b.desc && a.subs == b.subs;
}

static inline bool l2e_is_empty(struct l2e e)
{
        return e.desc == 0 && e.subs == 0;
}

static inline struct l2e l2e_make_subs(uint64_t desc, uint32_t data, uint32_t zero)
{
        return (struct l2e){ desc, data | (uint64_t)zero << 32 };
}

/* Offset 0 is a place only in an external data file, for the first cluster; COPIED says then that it is meant. */
static inline bool l2e_has_offset(const struct qcow2_header *h, struct l2e e)
{
        return l2e_offset(e.desc) || (qcow2_has_data_file(h) && e.desc & QCOW2_COPIED);
}

/* The next three: the entry is not compressed. Which sub-clusters lie at the offset, which read as zeros. */
static inline uint32_t l2e_data(const struct qcow2_header *h, struct l2e e)
{
        if (qcow2_has_subclusters(h))
                return (uint32_t)e.subs;
        return l2e_has_offset(h, e) && !l2e_is_zero(e.desc, h->version);
}

static inline uint32_t l2e_zero(const struct qcow2_header *h, struct l2e e)
{
        return qcow2_has_subclusters(h) ? (uint32_t)(e.subs >> 32) : l2e_is_zero(e.desc, h->version);
}

/* Is there a cluster, in use or not? */
static inline bool l2e_has_place(const struct qcow2_header *h, struct l2e e)
{
        return l2e_offset(e.desc) || (l2e_has_offset(h, e) && l2e_data(h, e));
}

/*
 * An entry with a cluster at @host (0: none), of which @data lies there and @zero reads as zeros. Without sub-clusters
 * @zero hides @data, and one of the two is set when there is a host. Version 2 has no @zero.
 */
static inline struct l2e l2e_make(const struct qcow2_header *h, uint64_t host, bool copied, uint32_t data, uint32_t zero)
{
        uint64_t desc = host | (copied && (host || qcow2_has_data_file(h)) ? QCOW2_COPIED : 0);

        if (qcow2_has_subclusters(h))
                return l2e_make_subs(desc, data, zero);
        return (struct l2e){ desc | (zero ? QCOW2_L2_ZERO : 0), 0 };
}

/* Reads as zeros, has no place. Version 2 can only say that nothing is there. */
static inline struct l2e l2e_zeros(const struct qcow2_header *h)
{
        return l2e_make(h, 0, false, 0, h->version >= 3 ? sub_mask_all(h) : 0);
}

/* Bits of the descriptor that must not be there. The entry is not compressed. */
static inline uint64_t l2e_wrong_bits(const struct qcow2_header *h, struct l2e e)
{
        /* as in version 2, zero is no bit of it */
        return l2e_reserved(e.desc, qcow2_has_subclusters(h) ? 2 : h->version);
}

/* What is wrong with the second word? NULL: nothing. *fixed: the nearest that is right (bytes at hand are kept). */
static inline const char *l2e_subs_flaw(const struct qcow2_header *h, struct l2e e, uint64_t *fixed)
{
        uint32_t data = (uint32_t)e.subs, zero = (uint32_t)(e.subs >> 32);

        *fixed = e.subs;
        if (!qcow2_has_subclusters(h) || e.subs == 0)
                return NULL;
        if (l2e_is_compressed(e.desc)) {
                *fixed = 0;
                return "is of a compressed cluster and has sub-clusters";
        }
        if (data && !l2e_has_offset(h, e)) {
                *fixed = l2e_make_subs(0, 0, data | zero).subs;
                return "has sub-clusters with data, but no cluster that they could lie in";
        }
        if (data & zero) {
                *fixed = l2e_make_subs(0, data, zero & ~data).subs;
                return "has sub-clusters that are data and zeros at once";
        }
        return NULL;
}
