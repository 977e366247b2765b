/* SPDX-License-Identifier: BSD-3-Clause */
/* guest_fixture.h - a little guest: memory regions from one memfd, as a front end would send them. For tests only. */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vhost_user/memory/mem_table.h"

#define GUEST_PAGE 4096ull
#define GUEST_USER 0x7000000000ull /* user address = guest address + this */

/* Two regions that meet at 0x2000, then a hole, then a third one. The file has them one behind the other. */
static const struct vu_region guest_layout[] = {
        { .guest_addr = 0x1000, .size = 0x1000, .user_addr = GUEST_USER + 0x1000, .mmap_offset = 0x0000 },
        { .guest_addr = 0x2000, .size = 0x2000, .user_addr = GUEST_USER + 0x2000, .mmap_offset = 0x1000 },
        { .guest_addr = 0x10000, .size = 0x4000, .user_addr = GUEST_USER + 0x10000, .mmap_offset = 0x3000 },
};
#define GUEST_REGIONS 3
#define GUEST_FILE 0x7000

static inline int guest_memfd(off_t size)
{
        int fd = memfd_create("guest", MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, size) < 0)
                abort();
        return fd;
}

/* The table; *fd_ret (may be NULL) gets the memfd behind it, which is the caller's. */
static inline struct mem_table *guest_new(int *fd_ret)
{
        int fd = guest_memfd(GUEST_FILE), fds[GUEST_REGIONS] = { fd, fd, fd };
        struct mem_table *mt;

        if (mem_table_new(guest_layout, fds, GUEST_REGIONS, &mt) < 0)
                abort();
        if (fd_ret)
                *fd_ret = fd;
        else
                close(fd);
        return mt;
}

/* Where guest byte @addr is for us, without the code under test. */
static inline char *guest_at(const struct mem_table *mt, uint64_t addr)
{
        for (unsigned i = 0; i < mt->n; i++)
                if (addr - mt->region[i].guest_addr < mt->region[i].size)
                        return mt->region[i].host + (addr - mt->region[i].guest_addr);
        return NULL;
}
