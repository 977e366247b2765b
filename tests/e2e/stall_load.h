/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall_load.h - disks under load, for measurements of how long guests wait: each has one random 4 KiB request in
 * flight at all times (two of three are writes), and the longest time between two completions of any of them is noted.
 * Disk i is node and export "di", on image di.qcow2. On the control fixture; one load at a time.
 */
#pragma once

#include <stdint.h>

#define STALL_DISKS_MAX 256u
#define STALL_AFTER_US 20000 /* looked at after whatever is measured has been answered */

/* @size: MiB of each disk; @window: so many of them are read and written. */
void stall_begin(unsigned ndisks, unsigned size, unsigned window);
void stall_end(void);

/* Longest gap in ns since the last call. */
uint64_t stall_longest(void);

/* @n gaps, which are sorted. */
void stall_print(const char *what, uint64_t *ns, unsigned n);
