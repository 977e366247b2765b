/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy.h - copy the disk of one image into another, several requests in flight, on the caller's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "formats/format.h"
#include "tools/vdisk-img/tool.h"

struct copy_opts {
        unsigned jobs;         /* requests in flight */
        uint32_t sparse;       /* as many zero bytes at once become a hole; multiple of 512; 0: none, all is written */
        bool any_order;        /* do not wait for earlier writes to be under way: faster, but scatters the target */
        bool target_is_zero;   /* zeros need not be written */
        /*
         * Does the target read so already, so that the extent can be left out? May make ext->len shorter, when the answer
         * is not the same for all of it. 1, 0, or -errno with a sentence. NULL: no.
         */
        int (*in_target)(struct extent *ext, void *opaque);
        /* The same for bytes that were read, @len of them at @off of the disk; at most @unit bytes are asked for at
         * once. */
        int (*reads_same)(const void *buf, uint64_t off, size_t len, void *opaque);
        uint32_t unit;         /* multiple of 512 */
        void *opaque;
        /* this range of the disk only, multiples of 512; source_len 0: up to the end */
        uint64_t source_off, source_len;
        uint64_t target_off;   /* where in the target the range begins; multiple of 512 */
        uint64_t rate;         /* bytes a second at most; 0: no limit */
        bool salvage;          /* sectors that cannot be read become zeros, with a warning */
        bool compress;         /* clusters of the target; it must be able to: fmt_can_pack(), not through O_DIRECT */
        struct tool_cache source_cache, target_cache; /* unsafe: it need not be durable when copy_disk() returns */
        struct progress *progress;
        const volatile int *stop; /* not 0: give up with -EINTR */
};

/**
 * copy_disk - copy @map's disk, or a range of it.
 * @map, @source: the same disk opened twice (read-only): one to look at its tables, one to read its data. Borrowed,
 * taken.
 * @target: taken; settled, synced and closed in the end. Large enough for the range at target_off.
 * Returns 0 when everything is durable (unless its cache is unsafe), or -errno with a sentence.
 */
int copy_disk(struct fmt_image *map, struct fmt_image *source, struct fmt_image *target, const struct copy_opts *opts);
