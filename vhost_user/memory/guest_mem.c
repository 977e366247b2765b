/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest_mem.h"

#include <errno.h>
#include <string.h>

#include "common/range.h"

#ifdef GM_FETCH_HOOK
void (*gm_fetch_hook)(const void *host, size_t len);
#define FETCHED(host, len) ((void)(gm_fetch_hook ? gm_fetch_hook(host, len) : (void)0))
#else
#define FETCHED(host, len) ((void)0)
#endif

/* The region that holds guest byte @addr, or NULL. */
static const struct mem_region *region_of(const struct mem_table *mt, uint64_t addr)
{
        unsigned lo = 0, hi = mt->n;

        while (lo < hi) { /* the last region that starts at or below addr is region[lo - 1] */
                unsigned mid = (lo + hi) / 2;

                if (mt->region[mid].guest_addr <= addr)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        if (!lo || addr - mt->region[lo - 1].guest_addr >= mt->region[lo - 1].size)
                return NULL;
        return &mt->region[lo - 1];
}

static int translate_guest(const struct mem_table *mt, uint64_t addr, uint64_t len, struct iovec *iov, unsigned max)
{
        unsigned n = 0;

        while (len) {
                const struct mem_region *r = region_of(mt, addr);
                uint64_t skip, here;

                if (!r)
                        return -EFAULT;
                if (n == max)
                        return -E2BIG;
                skip = addr - r->guest_addr;
                here = min_u64(len, r->size - skip);
                iov[n++] = (struct iovec){ r->host + skip, here };
                addr += here; /* no region reaches 2^64, so a wrap ends at an address without a region or with len 0 */
                len -= here;
        }
        return (int)n;
}

/* The host's address of the front end's @user, and how many bytes (<= *len) lie there; NULL: none. */
static char *user_to_host(const struct mem_table *mt, uint64_t user, uint64_t *len)
{
        for (unsigned i = 0; i < mt->n; i++) {
                const struct mem_region *r = &mt->region[i];

                if (user < r->user_addr || user - r->user_addr >= r->size)
                        continue;
                *len = min_u64(*len, r->size - (user - r->user_addr));
                return r->host + (user - r->user_addr);
        }
        return NULL;
}

/*
 * Pages that lie side by side in the host's memory are one piece. A descriptor may name a million pages that the IOMMU does not map:
 * no more of them are looked at than can be asked for.
 */
static int translate_iova(const struct mem_table *mt, uint64_t iova, uint64_t len, bool write, struct iovec *iov, unsigned max)
{
        uint8_t perm = write ? IOTLB_WRITE : IOTLB_READ;
        bool missing = false;
        unsigned n = 0;

        if (!range_fits(iova, len, UINT64_MAX))
                return -EFAULT;
        while (len) {
                uint64_t user, here;
                int r = iotlb_look(mt->iotlb, iova, len, perm, &user, &here);
                char *host = NULL;

                if (r == -ENOBUFS)
                        return -EAGAIN;
                if (r == -EAGAIN) { /* find out all that is missing: one round of questions */
                        missing = true;
                        here = min_u64(len, IOTLB_PAGE - iova % IOTLB_PAGE);
                } else if (r == 0) {
                        host = user_to_host(mt, user, &here);
                }
                if (r == -EFAULT || (r == 0 && !host))
                        return -EFAULT;
                if (host && n && (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == host)
                        iov[n - 1].iov_len += here;
                else if (host && n == max)
                        return -E2BIG;
                else if (host)
                        iov[n++] = (struct iovec){ host, here };
                iova += here;
                len -= here;
        }
        return missing ? -EAGAIN : (int)n;
}

int gm_translate(const struct mem_table *mt, uint64_t addr, uint64_t len, bool write, struct iovec *iov, unsigned max)
{
        return mt->iotlb ? translate_iova(mt, addr, len, write, iov, max) : translate_guest(mt, addr, len, iov, max);
}

void *gm_ring_part(const struct mem_table *mt, uint64_t user, size_t len, bool write, size_t align)
{
        struct iovec iov = { NULL, 0 };
        uint64_t here = len;
        int r = 1;

        if (mt->iotlb) {
                r = translate_iova(mt, user, len, write, &iov, 1);
                here = iov.iov_len;
        } else {
                iov.iov_base = user_to_host(mt, user, &here);
        }
        if (r == 1 && iov.iov_base && here == len && is_aligned((uintptr_t)iov.iov_base, align))
                return iov.iov_base;
        errno = r == -EAGAIN ? EAGAIN : EFAULT;
        return NULL;
}

/*
 * When a thread of ours may touch which bytes is settled by rings, with a guest in another process in between: two queues may
 * use one buffer one after the other. The thread sanitizer cannot see that order, so it does not look here.
 */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define GUEST(access, copy)                                                                                            \
        do {                                                                                                           \
                AnnotateIgnore##access##Begin(__FILE__, __LINE__);                                                     \
                copy;                                                                                                  \
                AnnotateIgnore##access##End(__FILE__, __LINE__);                                                       \
        } while (0)
#else
#define GUEST(access, copy) copy
#endif

void gm_fetch(void *dst, const void *host, size_t len)
{
        FETCHED(host, len);
        GUEST(Reads, memcpy(dst, host, len));
        __asm__ volatile("" ::: "memory"); /* the copy is the truth: do not read guest memory again for it */
}

void gm_store(void *host, const void *src, size_t len)
{
        GUEST(Writes, memcpy(host, src, len));
}

/* The front piece of the array, at most @want bytes; it is consumed. 0: nothing is left. */
static size_t take_piece(struct iovec **iov, unsigned *n, size_t want, char **host)
{
        size_t here;

        while (*n && !(*iov)->iov_len)
                (*iov)++, (*n)--;
        if (!*n || !want)
                return 0;
        here = (*iov)->iov_len < want ? (*iov)->iov_len : want;
        *host = (*iov)->iov_base;
        (*iov)->iov_base = *host + here;
        (*iov)->iov_len -= here;
        if (!(*iov)->iov_len)
                (*iov)++, (*n)--;
        return here;
}

size_t gm_copy_in(void *dst, size_t len, struct iovec **iov, unsigned *n)
{
        size_t done = 0, here;
        char *host;

        while ((here = take_piece(iov, n, len - done, &host))) {
                gm_fetch((char *)dst + done, host, here);
                done += here;
        }
        return done;
}

size_t gm_copy_out(const void *src, size_t len, struct iovec **iov, unsigned *n)
{
        size_t done = 0, here;
        char *host;

        while ((here = take_piece(iov, n, len - done, &host))) {
                gm_store(host, (const char *)src + done, here);
                done += here;
        }
        return done;
}
