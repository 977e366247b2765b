/* SPDX-License-Identifier: BSD-3-Clause */
/* iov.h - cutting, copying and clearing scatter lists. @skip is in bytes from the start; ranges are inside (caller). */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "common/range.h"

/* Moves *iov on to the entry that holds byte @skip; returns how far into it. */
static inline uint64_t iov_seek(const struct iovec **iov, uint64_t skip)
{
        while (skip && skip >= (*iov)->iov_len)
                skip -= (*iov)++->iov_len;
        return skip;
}

/* How many entries [skip, skip + len) touches. */
static inline unsigned iov_count(const struct iovec *iov, uint64_t skip, uint64_t len)
{
        unsigned n = 0;

        for (skip = iov_seek(&iov, skip), len += skip; len; n++, iov++)
                len -= min_u64(len, iov->iov_len);
        return n;
}

/* [skip, skip + len) of @iov as a list of its own in @out, which has room for iov_count() entries. Returns how many. */
static inline unsigned iov_cut(const struct iovec *iov, uint64_t skip, uint64_t len, struct iovec *out)
{
        unsigned n = 0;

        for (skip = iov_seek(&iov, skip); len; iov++, skip = 0) {
                size_t part = min_u64(len, iov->iov_len - skip);

                if (part)
                        out[n++] = (struct iovec){ (char *)iov->iov_base + skip, part };
                len -= part;
        }
        return n;
}

enum iov_way { IOV_GATHER, IOV_SCATTER, IOV_CLEAR };

/* GATHER: list to @buf. SCATTER: @buf to list. CLEAR: zeros to list. */
static inline void iov_copy(enum iov_way way, const struct iovec *iov, uint64_t skip, void *buf, uint64_t len)
{
        char *flat = buf;

        for (skip = iov_seek(&iov, skip); len; iov++, skip = 0) {
                size_t part = min_u64(len, iov->iov_len - skip);
                void *at = (char *)iov->iov_base + skip;

                if (way == IOV_CLEAR)
                        memset(at, 0, part);
                else if (way == IOV_SCATTER)
                        memcpy(at, flat, part);
                else
                        memcpy(flat, at, part);
                if (flat)
                        flat += part;
                len -= part;
        }
}

/* Are all addresses and lengths multiples of @align? */
static inline bool iov_is_aligned(const struct iovec *iov, unsigned niov, uint32_t align)
{
        uint64_t bits = 0;

        for (unsigned i = 0; i < niov; i++)
                bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
        return is_aligned(bits, align);
}
