/* SPDX-License-Identifier: BSD-3-Clause */
/* startup.h - what a start does besides serving disks: commands of the command line, going to the background. */
#pragma once

#include <stdbool.h>

#include "common/loop.h"
#include "vdiskd/control/control.h"
#include "vdiskd/config/options.h"

/* Carry out @o->startup, one after the other; the loop runs meanwhile, and has stopped when it returns. 0 or -errno with a sentence. */
int startup_run(struct loop *l, struct control *c, const struct options *o);

/*
 * To the background, before there are threads: returns in the child, *@fd and *@null are for startup_tell(). The parent waits for
 * that, or for the child's end, and ends itself. 0 or -errno with a sentence.
 */
int startup_daemonize(int *fd, int *null);

/* All is served: the parent ends well. Standard input and output, and errors, go nowhere from now on. Closes both. */
void startup_tell(int fd, int null);
