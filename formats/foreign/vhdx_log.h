/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhdx_log.h - what a VHDX that was not closed clean still has to write to its tables ([MS-VHDX] 2.3).
 *
 * We read only, so the log is replayed in memory: every read of a table goes through vhdx_log_apply().
 */
#pragma once

#include "formats/foreign/foreign.h"

/* [off, off + len) of the file: @bytes (one log sector), or zeros when NULL. Later ones lie on top. */
struct vhdx_patch {
        uint64_t off, len;
        const uint8_t *bytes;
};
struct vhdx_log {
        uint8_t *ring; /* the log as it is in the file; patches point into it */
        uint32_t len;
        struct vhdx_patch *patch;
        unsigned n;
        uint64_t last_size; /* the file ends there, or further on */
};

/**
 * vhdx_log_read - find what is to be replayed. @header: the current header, VHDX_H_LENGTH bytes.
 * Returns 0 (log->n may be 0), or -errno with a sentence. vhdx_log_finish() in any case.
 */
int vhdx_log_read(const struct foreign *f, const uint8_t *header, struct vhdx_log *log);
void vhdx_log_finish(struct vhdx_log *log);

/* What was read from @off of the file becomes what the replayed file would have there. */
void vhdx_log_apply(const struct vhdx_log *log, uint64_t off, void *bytes, size_t len);
