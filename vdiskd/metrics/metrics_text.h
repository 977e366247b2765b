/* SPDX-License-Identifier: BSD-3-Clause */
/* metrics_text.h - all that is measured, in the text format of Prometheus (0.0.4). Control thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct disks;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* When the daemon started: clock_ns(), and seconds since the epoch. */
struct metrics_start {
        uint64_t ns;
        double wall;
};

/* What the text says of the process is read from files, which a sandbox does not open any more: before that. */
void metrics_prepare(void);
void metrics_finish(void); /* closes them. The next text opens them again, where that is allowed */

/* Returns a text to free(), *@len bytes; NULL: no memory. */
char *metrics_text(struct disks *d, const struct metrics_start *start, size_t *len);
