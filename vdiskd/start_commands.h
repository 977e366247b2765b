/* SPDX-License-Identifier: BSD-3-Clause */
/* start_commands.h - options that are commands (qemu-storage-daemon's), carried out before all is served. */
#pragma once

#include "common/loop.h"
#include "vdiskd/config/options.h"
#include "vdiskd/control/control.h"

/*
 * Carry out @o->startup, one after the other, as a client of @c would; the loop runs meanwhile, and has stopped when it returns.
 * 0 or -errno with a sentence that names the option. Control thread.
 */
int start_commands_run(struct loop *l, struct control *c, const struct options *o);
