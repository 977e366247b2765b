/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mem_table.h - where a guest's memory is in our address space. Immutable: a change makes a new table, which shares the
 * mappings that stay. Everything here runs on the control thread, except mem_broken(); lookups are in guest_mem.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/parcel.h"
#include "vhost_user/session/messages.h"

#define MEM_MAX_REGIONS 509 /* as other back ends offer; QEMU stops at 512 */

struct mem_map; /* one mmap() and its file, counted by the tables that show it */
struct mem_owner;
struct mem_region {
        uint64_t guest_addr, size; /* bytes; neither end wraps */
        uint64_t user_addr;        /* where the front end has it: ring addresses are given so */
        char *host;                /* where we have it */
        struct mem_map *map;
};
struct iotlb;
struct mem_table {
        unsigned refs;
        struct mem_owner *owner;   /* whose share of the room it counts to, with his tables before it */
        struct iotlb *iotlb; /* the session's; NULL: no IOMMU. Not changed while a ring sees the table */
        unsigned n;
        struct mem_region region[]; /* by guest address; no two overlap, in either address space */
};

/**
 * mem_table_new - map @n regions, fds[i] holds region i (borrowed).
 * Returns 0 and *ret with one reference; or -errno with a sentence: -EINVAL (a region makes no sense), -EFBIG (its file
 * is too short, or it is larger than there is room for), -ENOMEM, -ENOSPC, or what mmap() said.
 */
int mem_table_new(const struct vu_region *region, const int *fds, unsigned n, struct mem_table **ret);
/* The same, in the place of @old (NULL: the first): what is still mapped of that counts, too, as long as requests need it. */
int mem_table_replace(const struct mem_table *old, const struct vu_region *region, const int *fds, unsigned n,
                      struct mem_table **ret);

/* The same regions as @old (NULL: none) and one more, or one less; @old stays as it is. -ENOENT: no such region. */
int mem_table_add(const struct mem_table *old, const struct vu_region *region, int fd, struct mem_table **ret);
int mem_table_remove(const struct mem_table *old, const struct vu_region *region, struct mem_table **ret);

struct mem_table *mem_table_get(struct mem_table *mt);
void mem_table_put(struct mem_table *mt); /* the last one unmaps what no other table shows. NULL is fine */

/* What the kernel maps a file like @fd in: large for huge pages. */
size_t mem_page_size(int fd);

/* A table for another process: its regions and their files. NULL: no memory. unpack: as mem_table_new(), or
 * -EBADMSG. */
json_t *mem_table_pack(const struct mem_table *mt, struct parcel *p);
int mem_table_unpack(struct parcel *p, const json_t *regions, struct mem_table **ret);

/* Has the front end pulled memory away from under us (mem_guard.h)? Any thread that has the table. */
bool mem_broken(const struct mem_table *mt);
