/* SPDX-License-Identifier: BSD-3-Clause */
/* stats_print.h - tables of what query-disk-stats says. */
#pragma once

#include <jansson.h>
#include <stdio.h>

void stats_print_all(const json_t *disks, FILE *to); /* an array: a line for each operation that a disk was asked for */
void stats_print_disk(const json_t *disk, FILE *to);
