/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk_view.h - what query-disk-stats says, as numbers: since the disk was added, or between two looks. No terminal, no
 * socket.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define VIEW_OPS 5
extern const char *const view_ops[VIEW_OPS];       /* "read", "write", ... */
extern const char *const view_op_titles[VIEW_OPS]; /* the same for people */

/* One disk between two looks. Rates are a second's. */
struct disk_view {
        const char *name;  /* of @now's JSON */
        double iops, read_bytes, write_bytes;
        double p50_ns, p99_ns; /* of reads and writes; < 0: there were none */
        double allocated;      /* bytes; < 0: unknown */
        double oldest_ns;
        unsigned depth;        /* requests in flight */
        char flags[8];         /* a letter each: VIEW_FLAGS */
};
#define VIEW_FLAGS "H held  T throttled  S no space  J job  R resizing  F failed"

/*
 * @now, @before: two answers of query-disk-stats with histograms; @before NULL: rates are unknown (0), quantiles since
 * the disk was added. Returns how many disks there are, *@ret to free().
 */
size_t disk_views(const json_t *now, const json_t *before, struct disk_view **ret);

double view_seconds(const json_t *now, const json_t *before); /* between the two */
double view_busy(const json_t *now, const json_t *before);    /* the busiest queue thread, 0..1; < 0: unknown */

/* For people, in a few characters: "1.2k", "35.1M", "850us", "1.4s". @buf is returned. */
const char *view_count(double n, char *buf, size_t len);
const char *view_bytes(double n, char *buf, size_t len);
const char *view_time(double ns, char *buf, size_t len); /* < 0: "-" */
