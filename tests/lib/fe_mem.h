/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fe_mem.h - the memory of a guest that does not exist: memfd regions at guest addresses, and a bump allocator in them.
 *
 * Regions are numbered in the order of their making. Memory from fe_mem_alloc() is zeroed and lives as long as its
 * region. Guest addresses and our pointers never have the same value, so that a back end which mixes them up is found
 * out. Not thread safe while regions come and go; translation of a live region is safe at any time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FE_REGIONS_MAX 64

struct fe_region {
        int fd;        /* memfd; -1: this number is not in use */
        uint8_t *map;  /* our mapping */
        uint64_t gpa, len;
        uint64_t used; /* bytes handed out */
};

struct fe_mem {
        struct fe_region regions[FE_REGIONS_MAX];
        unsigned nregions; /* numbers ever used */
};

void fe_mem_init(struct fe_mem *m);
void fe_mem_finish(struct fe_mem *m);

/* @gpa: where the guest sees it, or 0: behind the last region, with a hole between. The region's number or -errno. */
int fe_mem_add(struct fe_mem *m, uint64_t gpa, uint64_t len);
void fe_mem_remove(struct fe_mem *m, unsigned region);

/* @align: a power of two. NULL when the region is full. */
void *fe_mem_alloc(struct fe_mem *m, unsigned region, size_t len, size_t align);

/* Our pointer as a guest address. The pointer must be inside a region. */
uint64_t fe_mem_gpa(const struct fe_mem *m, const void *p);
