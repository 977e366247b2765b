/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * throttle_group.h - limits that one or several disks share, whatever threads serve them. Counted: each disk in it
 * holds one reference. Any thread; a short lock inside.
 */
#pragma once

#include "blkq/throttle/throttle.h"

struct throttle_group;

/* @name: copied. The caller's reference. NULL: no memory. */
struct throttle_group *throttle_group_new(const char *name, const struct throttle_limits *l);
struct throttle_group *throttle_group_ref(struct throttle_group *g); /* NULL stays NULL */
void throttle_group_unref(struct throttle_group *g);                 /* NULL is fine */
const char *throttle_group_name(const struct throttle_group *g);

/* Limits that passed throttle_limits_check(). Requests that wait learn of others within a tenth of a second. */
void throttle_group_set(struct throttle_group *g, const struct throttle_limits *l);
void throttle_group_get(struct throttle_group *g, struct throttle_limits *ret);

/* For several steps in one go. */
struct throttle *throttle_group_lock(struct throttle_group *g);
void throttle_group_unlock(struct throttle_group *g);
