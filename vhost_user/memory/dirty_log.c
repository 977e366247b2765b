/* SPDX-License-Identifier: BSD-3-Clause */
#include "dirty_log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/range.h"
#include "vhost_user/memory/mem_guard.h"

#define LOG_MAX (8ull << 30) /* for 48 bits of guest addresses: more would take address space from others */

struct dirty_log {
        _Atomic uint8_t *bits;
        uint64_t len; /* bytes */
        int guard;
        atomic_bool missed;
};

static int check(int fd, uint64_t offset, uint64_t len)
{
        struct stat st;

        if (!len || offset % (uint64_t)sysconf(_SC_PAGESIZE))
                return err_note(-EINVAL, "a dirty log of %llu bytes at %llu of its file; it must begin on a page",
                                (unsigned long long)len, (unsigned long long)offset);
        if (len > LOG_MAX)
                return err_note(-EFBIG, "a dirty log of %llu bytes; at most %llu", (unsigned long long)len, LOG_MAX);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return err_note(-EINVAL, "the fd of the dirty log is no memory file (mode 0%o)", st.st_mode);
        if (!range_fits(offset, len, (uint64_t)st.st_size))
                return err_note(-EFBIG, "a dirty log of %llu bytes at %llu of a file of %lld", (unsigned long long)len,
                                (unsigned long long)offset, (long long)st.st_size);
        return 0;
}

int dirty_log_new(int fd, uint64_t offset, uint64_t len, struct dirty_log **ret)
{
        struct dirty_log *l;
        int r = check(fd, offset, len);

        if (r < 0)
                return r;
        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->len = len;
        l->guard = -1;
        l->bits = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
        if (l->bits == MAP_FAILED) {
                r = err_note(-errno, "cannot map the dirty log: %m");
                l->bits = NULL;
        } else {
                r = l->guard = guard_add((void *)l->bits, len, mem_page_size(fd));
        }
        if (r < 0) {
                dirty_log_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

void dirty_log_free(struct dirty_log *l)
{
        if (!l)
                return;
        guard_del(l->guard);
        if (l->bits)
                munmap((void *)l->bits, l->len);
        free(l);
}

void dirty_log_mark(struct dirty_log *l, uint64_t addr, uint64_t len)
{
        uint64_t last = (addr + len - 1) / DIRTY_PAGE;

        if (!len)
                return;
        if (last / 8 >= l->len || !range_fits(addr, len, UINT64_MAX)) {
                atomic_store_explicit(&l->missed, true, memory_order_relaxed);
                return;
        }
        for (uint64_t page = addr / DIRTY_PAGE; page <= last; page++) {
                uint8_t bit = (uint8_t)(1u << page % 8);

                /* Release: the bytes before the bit. Always, also when it is set: it may be taken away at this moment. */
                atomic_fetch_or_explicit(&l->bits[page / 8], bit, memory_order_release);
        }
}

void dirty_log_mark_host(struct dirty_log *l, const struct mem_table *mt, const void *host, uint64_t len)
{
        const char *at = host;

        for (unsigned i = 0; i < mt->n; i++) {
                const struct mem_region *r = &mt->region[i];

                if (at >= r->host && range_fits((uint64_t)(at - r->host), len, r->size)) {
                        dirty_log_mark(l, r->guest_addr + (uint64_t)(at - r->host), len);
                        return;
                }
        }
}

bool dirty_log_broken(const struct dirty_log *l)
{
        return l && guard_was_hit(l->guard);
}

bool dirty_log_missed(const struct dirty_log *l)
{
        return l && atomic_load_explicit(&l->missed, memory_order_relaxed);
}
