/* SPDX-License-Identifier: BSD-3-Clause */
/* share.h - what of a copy the file system can do for us: sharing blocks (reflink), or copying them itself (-C). */
#pragma once

#include "formats/format.h"
#include "tools/vdisk-img/tool.h"

/* Ranges of the source disk that are in the target already, ascending. offload and progress are the caller's to set. */
struct shared {
        struct range_of_disk {
                uint64_t off, end;
        } *v; /* owned */
        size_t n, room;
        bool offload; /* copy_file_range; else reflink only */
        struct progress *progress; /* borrowed; NULL: nobody wants to see it */
};

/**
 * share_disk - give @target what of the disk in @map it can have without a copy through us.
 * @target_off: where in @target the disk begins. @mine: 1 for extents that are to be copied at all, 0, or -errno; may
 * make them shorter; NULL: all of them.
 * Leaves @target settled; its tables are stale then: open it again. 0 also when nothing could be shared, or -errno.
 */
int share_disk(struct shared *s, struct fmt_image *map, struct fmt_image *target, uint64_t target_off,
               int (*mine)(struct extent *ext, void *opaque), void *opaque, const volatile int *stop);
void shared_finish(struct shared *s);

/* Is the extent there already? May make ext->len shorter. For copy_opts.in_target. */
bool shared_has(const struct shared *s, struct extent *ext);
