/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * node_reopen.h - blockdev-reopen: a node gets other options while its guests run. An action (transaction.h); its data
 * are blockdev-add's, checked, and they replace all that the node had. Not in "transaction".
 */
#pragma once

#include "vdiskd/disks/transaction.h"

extern const struct action_type reopen_action;
