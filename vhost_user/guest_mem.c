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

int gm_translate(const struct mem_table *mt, uint64_t addr, uint64_t len, struct iovec *iov, unsigned max)
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

void *gm_ring_part(const struct mem_table *mt, uint64_t user, size_t len, size_t align)
{
        for (unsigned i = 0; i < mt->n; i++) {
                const struct mem_region *r = &mt->region[i];
                char *host;

                if (user < r->user_addr || !range_fits(user - r->user_addr, len, r->size))
                        continue;
                host = r->host + (user - r->user_addr);
                return is_aligned((uintptr_t)host, align) ? host : NULL;
        }
        return NULL;
}

void gm_fetch(void *dst, const void *host, size_t len)
{
        FETCHED(host, len);
        memcpy(dst, host, len);
        __asm__ volatile("" ::: "memory"); /* the copy is the truth: do not read guest memory again for it */
}

void gm_store(void *host, const void *src, size_t len)
{
        memcpy(host, src, len);
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
