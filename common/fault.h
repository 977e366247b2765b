/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.h - named places where a test can make the world fail.
 *
 *     r = FAULT("file.write");       // 0, or the injected negative errno
 *     if (r == 0) r = really_write(...);
 *
 * Armed by fault_arm() or the environment: VDISKD_FAULT="file.write=3:EIO,engine.sync=1:ENOSPC:forever" fails the third
 * write once and every sync; nth 0 only counts; KILL in place of an errno kills the process there. Unarmed, a point
 * costs one predictable branch. Counting is process-wide and thread safe; fault_count() lets a test prove that it hit a
 * point.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

extern atomic_bool fault_armed;

/* The slow half of FAULT(): count this hit of @name, tell what it must return. */
int fault_hit(const char *name);

#define FAULT(name) \
        (__builtin_expect(atomic_load_explicit(&fault_armed, memory_order_relaxed), 0) ? fault_hit(name) : 0)

/* @spec as above; NULL or "" disarms everything. Returns -EINVAL with a sentence for a spec it cannot read. */
int fault_arm(const char *spec);

/* Reads VDISKD_FAULT. Called once by each main(). */
int fault_arm_from_env(void);

/* How often @name was passed since it was armed. */
unsigned long fault_count(const char *name);
