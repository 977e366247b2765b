/* SPDX-License-Identifier: BSD-3-Clause */
#include "fe_mem.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/range.h"

#define FIRST_GPA 0x100000ull
#define HOLE 0x200000ull

void fe_mem_init(struct fe_mem *m)
{
        m->nregions = 0;
}

void fe_mem_finish(struct fe_mem *m)
{
        for (unsigned i = 0; i < m->nregions; i++)
                fe_mem_remove(m, i);
}

static uint64_t next_gpa(const struct fe_mem *m)
{
        uint64_t end = FIRST_GPA;

        for (unsigned i = 0; i < m->nregions; i++)
                end = max_u64(end, m->regions[i].gpa + m->regions[i].len + HOLE);
        return round_up(end, 0x1000);
}

int fe_mem_add(struct fe_mem *m, uint64_t gpa, uint64_t len)
{
        AUTO(closep) int fd = -1;
        void *map;

        if (m->nregions == FE_REGIONS_MAX)
                return -ENOSPC;
        fd = memfd_create("guest", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
                return -errno;
        map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        m->regions[m->nregions] = (struct fe_region){
                .fd = TAKE(fd, -1), .map = map, .gpa = gpa ? gpa : next_gpa(m), .len = len,
        };
        return (int)m->nregions++;
}

void fe_mem_remove(struct fe_mem *m, unsigned region)
{
        struct fe_region *g = &m->regions[region];

        if (g->fd < 0)
                return;
        munmap(g->map, g->len);
        close(g->fd);
        g->fd = -1;
        g->map = NULL;
}

void *fe_mem_alloc(struct fe_mem *m, unsigned region, size_t len, size_t align)
{
        struct fe_region *g = &m->regions[region];
        uint64_t at = round_up(g->used, align);

        if (g->fd < 0 || !range_fits(at, len, g->len))
                return NULL;
        g->used = at + len;
        return g->map + at;
}

uint64_t fe_mem_gpa(const struct fe_mem *m, const void *p)
{
        const uint8_t *b = p;

        for (unsigned i = 0; i < m->nregions; i++) {
                const struct fe_region *g = &m->regions[i];

                if (g->fd >= 0 && b >= g->map && b < g->map + g->len)
                        return g->gpa + (uint64_t)(b - g->map);
        }
        assert(!"pointer is not guest memory");
        return 0;
}
