/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - A region that made it into a table was backed by its file to its last byte then, and nothing in it wraps.
 *   - map->refs counts the regions (of all tables) that point at it. Counters are plain: control thread only.
 *   - All tables of one front end, with those that requests of his still need, never take more than a third of what others
 *     leave of the address space and of the guard's places. So who shows a guest that is far larger than any, or in far more
 *     pieces, or another one again and again, takes no room from others, nor from the rest of the process.
 */
#include "mem_table.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/range.h"
#include "vhost_user/memory/mem_guard.h"

/* What all tables of a front end have mapped: a table leads to the next one's. */
struct mem_owner {
        unsigned refs; /* tables and maps */
        uint64_t bytes;
        unsigned pieces;
};
struct mem_map {
        unsigned refs;
        struct mem_owner *owner;
        int guard;
        int fd;          /* for a successor of this process (pack) */
        uint64_t offset; /* of the region in the file */
        void *addr;
        size_t len;
};

/* Of 128 TiB, which most processors give a process. The rest is for everything else. */
#define ADDRESS_SPACE (96ull << 40)

static uint64_t mapped; /* bytes of all guests' memory */

static void owner_put(struct mem_owner *o)
{
        if (--o->refs == 0)
                free(o);
}

static void owner_takes(struct mem_owner *o, struct mem_map *m)
{
        m->owner = o;
        o->refs++;
        o->pieces++;
        o->bytes += m->len;
        mapped += m->len;
}

static void owner_gives(struct mem_map *m)
{
        mapped -= m->len;
        m->owner->bytes -= m->len;
        m->owner->pieces--;
        owner_put(m->owner);
}

static void map_put(struct mem_map *m)
{
        if (--m->refs)
                return;
        owner_gives(m);
        guard_del(m->guard);
        munmap(m->addr, m->len);
        closep(&m->fd);
        free(m);
}

static int check_region(const struct vu_region *r)
{
        if (!r->size)
                return err_note(-EINVAL, "memory region at guest address 0x%llx has no bytes",
                                (unsigned long long)r->guest_addr);
        if (!range_fits(r->guest_addr, r->size, UINT64_MAX) || !range_fits(r->user_addr, r->size, UINT64_MAX) ||
            !range_fits(r->mmap_offset, r->size, INT64_MAX))
                return err_note(-EINVAL, "memory region 0x%llx+0x%llx (user 0x%llx, file 0x%llx) wraps around",
                                (unsigned long long)r->guest_addr, (unsigned long long)r->size,
                                (unsigned long long)r->user_addr, (unsigned long long)r->mmap_offset);
        return 0;
}

/* Only what has a size that cannot change under our check without the guard noticing. */
static int check_file(int fd, const struct vu_region *r)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return err_note(-errno, "memory region: cannot look at its file: %m");
        if (!S_ISREG(st.st_mode))
                return err_note(-EINVAL, "memory region 0x%llx: its fd is no memory file (mode 0%o)",
                                (unsigned long long)r->guest_addr, st.st_mode);
        if (!range_fits(r->mmap_offset, r->size, (uint64_t)st.st_size))
                return err_note(-EFBIG, "memory region 0x%llx needs bytes 0x%llx+0x%llx of a file of 0x%llx",
                                (unsigned long long)r->guest_addr, (unsigned long long)r->mmap_offset,
                                (unsigned long long)r->size, (unsigned long long)st.st_size);
        return 0;
}

size_t mem_page_size(int fd)
{
        struct statfs fs;

        if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC)
                return (size_t)fs.f_bsize;
        return (size_t)sysconf(_SC_PAGESIZE);
}

static int map_region(struct mem_owner *o, const struct vu_region *want, int fd, struct mem_region *ret)
{
        size_t page = mem_page_size(fd);
        uint64_t start = round_down(want->mmap_offset, page);
        uint64_t skip = want->mmap_offset - start, len = round_up(skip + want->size, page);
        AUTO(freep) struct mem_map *m = calloc(1, sizeof(*m));
        int r = FAULT("mem.map");

        if (!m)
                return -ENOMEM;
        /* Ask that the file cannot be cut short any more. Some front ends do not allow it: then mem_guard.c is the
         * net. */
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
        m->addr = r < 0 ? MAP_FAILED
                        : mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)start);
        if (m->addr == MAP_FAILED)
                return err_note(r < 0 ? r : -errno, "cannot map memory region 0x%llx+0x%llx",
                                (unsigned long long)want->guest_addr, (unsigned long long)want->size);
        m->len = len;
        m->refs = 1;
        m->offset = want->mmap_offset;
        m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        madvise(m->addr, m->len, MADV_DONTDUMP); /* a tenant's secrets stay out of our core files */
        m->guard = m->fd < 0 ? err_note(-errno, "cannot keep the file of a memory region: %m")
                             : guard_add(m->addr, m->len, page);
        if (m->guard < 0) {
                munmap(m->addr, m->len);
                closep(&m->fd);
                return m->guard;
        }
        owner_takes(o, m);
        *ret = (struct mem_region){
                .guest_addr = want->guest_addr, .size = want->size, .user_addr = want->user_addr,
                .host = (char *)m->addr + skip, .map = m,
        };
        TAKE(m, NULL);
        return 0;
}

/* The next one of the front end whose table @old is; NULL: his first. */
static struct mem_table *table_alloc(const struct mem_table *old, unsigned room)
{
        AUTO(freep) struct mem_table *mt = calloc(1, sizeof(*mt) + room * sizeof(mt->region[0]));

        if (!mt)
                return NULL;
        mt->refs = 1;
        mt->owner = old ? old->owner : calloc(1, sizeof(*mt->owner));
        if (!mt->owner)
                return NULL;
        mt->owner->refs++;
        return TAKE(mt, NULL);
}

static int check_overlap(const struct mem_table *mt, const struct vu_region *r)
{
        for (unsigned i = 0; i < mt->n; i++) {
                const struct mem_region *o = &mt->region[i];

                if (range_overlaps(o->guest_addr, o->size, r->guest_addr, r->size) ||
                    range_overlaps(o->user_addr, o->size, r->user_addr, r->size))
                        return err_note(-EINVAL, "memory regions at guest addresses 0x%llx and 0x%llx overlap",
                                        (unsigned long long)o->guest_addr, (unsigned long long)r->guest_addr);
        }
        return 0;
}

/* Is there room for @r besides what its owner has? That does not count against him. */
static int check_share(const struct mem_owner *o, const struct vu_region *r)
{
        uint64_t own = o->bytes, share;

        share = (ADDRESS_SPACE - min_u64(mapped, ADDRESS_SPACE) + own) / 3;
        if (!range_fits(own, r->size, share))
                return err_note(-EFBIG, "guest memory of 0x%llx bytes and more; there is room for 0x%llx", (unsigned long long)r->size,
                                (unsigned long long)share);
        if (o->pieces >= (guard_left() + o->pieces) / 3)
                return err_note(-ENOSPC, "guest memory in more than %u pieces: other guests have the other places for them", o->pieces);
        return 0;
}

/* @mt has room for one more. */
static int table_insert(struct mem_table *mt, const struct vu_region *want, int fd)
{
        struct mem_region region;
        unsigned at = mt->n;
        int r = check_region(want);

        if (r == 0)
                r = check_overlap(mt, want);
        if (r == 0)
                r = check_file(fd, want);
        if (r == 0)
                r = check_share(mt->owner, want);
        if (r == 0)
                r = map_region(mt->owner, want, fd, &region);
        if (r < 0)
                return r;
        while (at > 0 && mt->region[at - 1].guest_addr > want->guest_addr)
                at--;
        memmove(&mt->region[at + 1], &mt->region[at], (mt->n - at) * sizeof(mt->region[0]));
        mt->region[at] = region;
        mt->n++;
        return 0;
}

int mem_table_new(const struct vu_region *region, const int *fds, unsigned n, struct mem_table **ret)
{
        return mem_table_replace(NULL, region, fds, n, ret);
}

int mem_table_replace(const struct mem_table *old, const struct vu_region *region, const int *fds, unsigned n,
                      struct mem_table **ret)
{
        struct mem_table *mt;
        int r = 0;

        if (n > MEM_MAX_REGIONS)
                return err_note(-EINVAL, "%u memory regions; at most %d", n, MEM_MAX_REGIONS);
        mt = table_alloc(old, n);
        if (!mt)
                return -ENOMEM;
        for (unsigned i = 0; i < n && r == 0; i++)
                r = table_insert(mt, &region[i], fds[i]);
        if (r < 0)
                mem_table_put(mt);
        else
                *ret = mt;
        return r;
}

/* All regions of @old but number @except; room for one more. */
static struct mem_table *table_copy(const struct mem_table *old, unsigned except)
{
        unsigned n = old ? old->n : 0;
        struct mem_table *mt = table_alloc(old, n + 1);

        for (unsigned i = 0; mt && i < n; i++) {
                if (i == except)
                        continue;
                mt->region[mt->n] = old->region[i];
                mt->region[mt->n++].map->refs++;
        }
        return mt;
}

int mem_table_add(const struct mem_table *old, const struct vu_region *region, int fd, struct mem_table **ret)
{
        struct mem_table *mt;
        int r;

        if (old && old->n >= MEM_MAX_REGIONS)
                return err_note(-ENOSPC, "a memory region too many; at most %d", MEM_MAX_REGIONS);
        mt = table_copy(old, UINT32_MAX);
        if (!mt)
                return -ENOMEM;
        r = table_insert(mt, region, fd);
        if (r < 0)
                mem_table_put(mt);
        else
                *ret = mt;
        return r;
}

int mem_table_remove(const struct mem_table *old, const struct vu_region *region, struct mem_table **ret)
{
        for (unsigned i = 0; old && i < old->n; i++) {
                const struct mem_region *r = &old->region[i];

                if (r->guest_addr != region->guest_addr || r->user_addr != region->user_addr ||
                    r->size != region->size)
                        continue;
                *ret = table_copy(old, i);
                return *ret ? 0 : -ENOMEM;
        }
        return err_note(-ENOENT, "no memory region 0x%llx+0x%llx to remove", (unsigned long long)region->guest_addr,
                        (unsigned long long)region->size);
}

struct mem_table *mem_table_get(struct mem_table *mt)
{
        if (mt)
                mt->refs++;
        return mt;
}

void mem_table_put(struct mem_table *mt)
{
        if (!mt || --mt->refs)
                return;
        for (unsigned i = 0; i < mt->n; i++)
                map_put(mt->region[i].map);
        owner_put(mt->owner);
        free(mt);
}

bool mem_broken(const struct mem_table *mt)
{
        for (unsigned i = 0; i < mt->n; i++)
                if (guard_was_hit(mt->region[i].map->guard))
                        return true;
        return false;
}

/* --- for another process ------------------------------------------------------------------------------------------- */

json_t *mem_table_pack(const struct mem_table *mt, struct parcel *p)
{
        json_t *all = json_array();

        for (unsigned i = 0; all && i < mt->n; i++) {
                const struct mem_region *r = &mt->region[i];

                parcel_append(p, all, json_pack("{s:o,s:o,s:o,s:o,s:i}", "guest", parcel_u64(r->guest_addr), "size",
                                                     parcel_u64(r->size), "user", parcel_u64(r->user_addr), "offset",
                                                     parcel_u64(r->map->offset), "fd", parcel_put_fd(p, r->map->fd)));
        }
        return all;
}

static int unpack_region(struct parcel *p, const json_t *o, struct vu_region *r, int *fd)
{
        int res;

        *fd = -1; /* the caller closes it, whatever else is missing */
        res = parcel_get_u64(o, "guest", UINT64_MAX, &r->guest_addr);
        if (res == 0)
                res = parcel_get_u64(o, "size", UINT64_MAX, &r->size);
        if (res == 0)
                res = parcel_get_u64(o, "user", UINT64_MAX, &r->user_addr);
        if (res == 0)
                res = parcel_get_u64(o, "offset", UINT64_MAX, &r->mmap_offset);
        if (res == 0)
                res = parcel_take_fd(p, o, "fd", false, fd);
        return res;
}

int mem_table_unpack(struct parcel *p, const json_t *regions, struct mem_table **ret)
{
        struct vu_region region[MEM_MAX_REGIONS];
        int fd[MEM_MAX_REGIONS], r = 0;
        unsigned n = 0;

        if (json_array_size(regions) > MEM_MAX_REGIONS)
                return err_note(-EBADMSG, "%zu memory regions; at most %d", json_array_size(regions), MEM_MAX_REGIONS);
        for (; r == 0 && n < json_array_size(regions); n++)
                r = unpack_region(p, json_array_get(regions, n), &region[n], &fd[n]);
        if (r == 0)
                r = mem_table_new(region, fd, n, ret);
        while (n)
                closep(&fd[--n]);
        return r;
}
