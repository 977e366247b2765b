/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rework.h - the top image treated as one at rest, in the middle of its use: part of a group of changes (change.h).
 * Guests' requests wait as long as it takes; then its tables are read again.
 */
#pragma once

#include "blkq/change/change.h"
#include "formats/format.h"

/* A worker, the volume quiet and settled. 0, or -errno with a sentence: then the image is as it was. -EBUSY: not in use
 * here, -EROFS, or what @run returns. Its size may be another one afterwards. @rewrites: guests find other data, so all
 * of it counts as changed. */
int vol_rework(struct vol *v, bool rewrites, int (*run)(struct fmt_image *top, void *opaque), void *opaque);

/* What the operator says of the chain's images when it is opened again; kept by the caller. Home or a worker, the
 * volume quiet. */
void vol_set_layer(struct vol *v, const struct fmt_layer *layer);
