/* SPDX-License-Identifier: BSD-3-Clause */
/* disk_stats.h - all that is measured of a disk, for those who print it. Control thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "blkq/stats.h"

struct node;

struct disk_stats {
        char disk[256];            /* what people call it: its first export's id, which stays when a snapshot or a mirror
                                      gives it another node; a node without exports goes by its own name, with a # before it
                                      when an export of another one has that. No two have the same */
        const char *name, *format; /* the node's */
        uint64_t size, allocated;  /* bytes; allocated: on the host, of its own files, not of backing files */
        bool has_allocated;
        bool has_tables;           /* lookups and misses mean something */
        bool read_only, failed, resizing;
        const char *busy;          /* node.h */
        unsigned depth;            /* backing images behind it */
        unsigned exports, connected;
        uint64_t max_in_flight;    /* bytes, vol.h */
        uint64_t time_ns;          /* clock_ns() when it was looked at */
        struct blk_gauges now;
        struct blk_totals totals;  /* 27 KiB */
};

/* False: it is not open (yet, or any more). */
bool disk_stats_get(struct node *n, struct disk_stats *ret);

static inline uint64_t disk_stats_oldest_age(const struct disk_stats *s) /* ns; 0: nothing is in flight */
{
        return s->now.oldest_ns && s->time_ns > s->now.oldest_ns ? s->time_ns - s->now.oldest_ns : 0;
}

/* Requests of any kind that were done. */
uint64_t disk_stats_requests(const struct disk_stats *s);
