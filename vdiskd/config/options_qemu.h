/* SPDX-License-Identifier: BSD-3-Clause */
/* options_qemu.h - the part of qemu-storage-daemon's command line that is not also ours, for options.c. Pure. */
#pragma once

#include "vdiskd/config/options.h"

/* Each reads one option's value into @o. 0, or -EINVAL / -ENOMEM with a sentence. */
int qemu_blockdev(struct options *o, const char *v);
int qemu_export(struct options *o, const char *v);
int qemu_json_object(struct options *o, const char *v);
int qemu_chardev(struct options *o, const char *v);
int qemu_monitor(struct options *o, const char *v);
int qemu_nbd_server(struct options *o, const char *v); /* these two say why not */
int qemu_trace(struct options *o, const char *v);
int qemu_object(struct options *o, const char *v);     /* of a kind that only QEMU has; 0: not one of those */

/* All was read: the monitor finds its character device. */
int qemu_check(struct options *o);
void qemu_finish(struct options *o);
