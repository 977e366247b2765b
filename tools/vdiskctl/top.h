/* SPDX-License-Identifier: BSD-3-Clause */
/* top.h - the table of "vdiskctl top": what it shows in which order, as text. The terminal is cmd_top.c's. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum top_column { TOP_NAME, TOP_IOPS, TOP_READ, TOP_WRITE, TOP_P50, TOP_P99, TOP_DEPTH, TOP_OLDEST, TOP_ALLOCATED, TOP_FLAGS,
                  TOP_COLUMNS };

struct top {
        enum top_column sort;
        bool reverse;      /* the smallest first; names: the last one */
        unsigned width;    /* of a line; at least 80 */
        unsigned height;   /* lines; 0: all disks */
        bool terminal;     /* with VT100 escapes */
        double interval;   /* seconds, to be shown */
};

void top_init(struct top *t);
/* A key; true: it changed what is shown. Not those that end or hasten it. */
bool top_key(struct top *t, int key);
/* @now, @before: see disk_view.h. Returns 0, or -ENOMEM. */
int top_print(const struct top *t, const json_t *now, const json_t *before, FILE *to);
/* By its name ("iops", ...); -1: there is none. */
int top_column_named(const char *name);
