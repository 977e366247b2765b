/* SPDX-License-Identifier: BSD-3-Clause */
/* node_backing.h - change-backing-file: what an image in use says is behind it. An action (transaction.h), not in
 * "transaction". */
#pragma once

#include "vdiskd/disks/transaction.h"

extern const struct qmp_arg change_backing_args[];
extern const struct action_type change_backing_action;
