/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest_mem.h - the only room that touches a guest's memory.
 *
 * The guest writes to all of it while we look. So: a guest address becomes host memory only together with its length;
 * bytes are copied out once and the copy is used; ring indices are single atomic loads and stores. Any thread that
 * holds the table. With GM_FETCH_HOOK (test builds) every read is told to gm_fetch_hook, so a test sees a byte
 * fetched twice.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vhost_user/memory/iotlb.h"
#include "vhost_user/memory/mem_table.h"

#ifdef GM_FETCH_HOOK
extern void (*gm_fetch_hook)(const void *host, size_t len);
#endif

/**
 * gm_translate - host memory of guest bytes [addr, addr + len), in guest order, cut where regions meet. With an IOMMU
 * (mt->iotlb) @addr is an address of its, and the device must be allowed to read there, or to write (@write).
 * Returns how many of iov[@max] were filled (>= 1 when len > 0), -EFAULT (not all of it is guest memory), -E2BIG, or
 * -EAGAIN: not all of its translation is here yet; what is missing was noted (iotlb.h).
 */
int gm_translate(const struct mem_table *mt, uint64_t addr, uint64_t len, bool write, struct iovec *iov, unsigned max);

/*
 * Host memory of [user, user + len) in the front end's address space, all in one piece and aligned. With an IOMMU @user
 * is an address of its. NULL: errno is EFAULT, there is none, or EAGAIN, as above.
 */
void *gm_ring_part(const struct mem_table *mt, uint64_t user, size_t len, bool write, size_t align);

/* Copy bytes out, once. */
void gm_fetch(void *dst, const void *host, size_t len);
void gm_store(void *host, const void *src, size_t len);

/**
 * gm_copy_in - the next @len bytes of *iov[*n]; they are consumed: the array moves on behind them.
 * gm_copy_out - likewise the other way, at most what fits. Both return how many bytes there were.
 */
size_t gm_copy_in(void *dst, size_t len, struct iovec **iov, unsigned *n);
size_t gm_copy_out(const void *src, size_t len, struct iovec **iov, unsigned *n);

/* Ring indices, flags and events: little endian, naturally aligned (gm_ring_part saw to it), one access each. */
static inline uint16_t gm_load16(const void *p)
{
        return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

static inline uint16_t gm_load16_acquire(const void *p)
{
        return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline void gm_store16(void *p, uint16_t v)
{
        __atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELAXED);
}

static inline void gm_store16_release(void *p, uint16_t v)
{
        __atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE);
}

static inline uint32_t gm_load32(const void *p)
{
        return le32toh(__atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
}

static inline void gm_store32(void *p, uint32_t v)
{
        __atomic_store_n((uint32_t *)p, htole32(v), __ATOMIC_RELAXED);
}

/* Between a store that the guest must see and a load that must be newer. */
static inline void gm_full_barrier(void)
{
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
