/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_actions.h - block-dirty-bitmap-* as actions of a transaction, and what the commands have in common with
 * them. */
#pragma once

#include "vdiskd/disks/transaction.h"

extern const struct action_type bitmap_add_action, bitmap_remove_action, bitmap_clear_action, bitmap_enable_action,
        bitmap_disable_action, bitmap_merge_action;

extern const struct qmp_arg bitmap_add_args[], bitmap_args[], bitmap_merge_args[];

/* 0: not said. -EINVAL when it is said to be 0; other values are looked at by who makes the bitmap. */
int bitmap_granularity(const json_t *args, uint64_t *ret);
