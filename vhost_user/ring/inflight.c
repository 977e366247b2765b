/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory of records, and what reading back a split and a packed one has in common. */
#include "inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "vhost_user/memory/mem_guard.h"

#define PART_ALIGN 64 /* a queue's part begins on a cache line of its own */
#define PART_LEN ((INFLIGHT_LEN_MAX + PART_ALIGN - 1) & ~(PART_ALIGN - 1ul))

/* --- the memory ------------------------------------------------------------------------------------------------- */

struct inflight_map {
        char *host;
        size_t len, stride;
        unsigned nqueues;
        int guard;
        int fd;          /* for a successor of this process (pack) */
        uint64_t offset;
};

int inflight_memfd(unsigned nqueues, uint64_t *len)
{
        AUTO(closep) int fd = memfd_create("vdiskd-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        *len = nqueues * PART_LEN;
        if (fd < 0 || ftruncate(fd, (off_t)*len) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return err_note(-errno, "no memory for the in-flight record of %u queues: %m", nqueues);
        return TAKE(fd, -1);
}

static int check_map(int fd, uint64_t offset, uint64_t len, unsigned nqueues)
{
        uint64_t stride = nqueues ? len / nqueues : 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
        struct stat st;

        if (stride < INFLIGHT_LEN_MIN || stride > PART_LEN || len % nqueues ||
            stride % sizeof(uint64_t))
                return err_note(-EINVAL, "an in-flight record of %llu bytes for %u queues; ours has %zu for each",
                                (unsigned long long)len, nqueues, PART_LEN);
        if (offset % page)
                return err_note(-EINVAL, "an in-flight record at offset %llu; it must begin on a page",
                                (unsigned long long)offset);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!range_fits(offset, len, (uint64_t)st.st_size))
                return err_note(-EFBIG, "an in-flight record of %llu bytes at %llu in a file of %lld",
                                (unsigned long long)len, (unsigned long long)offset, (long long)st.st_size);
        return 0;
}

int inflight_map_new(int fd, uint64_t offset, uint64_t len, unsigned nqueues, struct inflight_map **ret)
{
        struct inflight_map *m;
        int r = check_map(fd, offset, len, nqueues);

        if (r < 0)
                return r;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        *m = (struct inflight_map){ .len = len, .stride = len / nqueues, .nqueues = nqueues, .guard = -1, .offset = offset };
        m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        m->host = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
        if (m->host == MAP_FAILED || m->fd < 0) {
                r = err_note(-errno, "cannot map the in-flight record: %m");
                m->host = m->host == MAP_FAILED ? NULL : m->host;
        } else {
                r = m->guard = guard_add(m->host, len, (size_t)sysconf(_SC_PAGESIZE));
        }
        if (r < 0) {
                inflight_map_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void inflight_map_free(struct inflight_map *m)
{
        if (!m)
                return;
        guard_del(m->guard);
        if (m->host)
                munmap(m->host, m->len);
        closep(&m->fd);
        free(m);
}

json_t *inflight_map_pack(const struct inflight_map *m, struct parcel *p)
{
        return json_pack("{s:i,s:o,s:o,s:o}", "fd", parcel_put_fd(p, m->fd), "offset", parcel_u64(m->offset), "len",
                         parcel_u64(m->len), "queues", parcel_u64(m->nqueues));
}

int inflight_map_unpack(struct parcel *p, const json_t *o, struct inflight_map **ret)
{
        AUTO(closep) int fd = -1;
        uint64_t offset, len;
        unsigned nqueues;
        int r = parcel_take_fd(p, o, "fd", false, &fd);

        if (r == 0)
                r = parcel_get_u64(o, "offset", UINT64_MAX, &offset);
        if (r == 0)
                r = parcel_get_u64(o, "len", UINT64_MAX, &len);
        if (r == 0)
                r = parcel_get_unsigned(o, "queues", UINT16_MAX, &nqueues);
        return r < 0 ? r : inflight_map_new(fd, offset, len, nqueues, ret);
}

struct inflight_part inflight_part(const struct inflight_map *m, unsigned index)
{
        if (!m || index >= m->nqueues)
                return (struct inflight_part){ 0 };
        return (struct inflight_part){ m->host + index * m->stride, m->stride };
}

bool inflight_broken(const struct inflight_map *m)
{
        return m && guard_was_hit(m->guard);
}

/* --- reading a record back ---------------------------------------------------------------------------------------- */

int inflight_damaged(const char *what, unsigned value)
{
        return err_note(-EBADMSG, "the in-flight record is damaged: %s (%u); only a reset of the device helps", what,
                        value);
}

static int by_counter(const void *a, const void *b)
{
        const struct inflight_taken *x = a, *y = b;

        return (x->counter > y->counter) - (x->counter < y->counter);
}

int inflight_sort(struct inflight_taken *t, unsigned n, uint64_t *next)
{
        *next = 0;
        qsort(t, n, sizeof(t[0]), by_counter);
        for (unsigned i = 0; i < n; i++) {
                if (t[i].counter == UINT64_MAX || (i && t[i].counter < *next))
                        return inflight_damaged("a counter twice, or at its end", t[i].entry);
                *next = t[i].counter + 1;
        }
        return 0;
}
