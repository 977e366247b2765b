/* SPDX-License-Identifier: BSD-3-Clause */
/* vmdk.h - a VMDK: extents, one after the other. Each is an image of its own to fmt_map()'s callers (extent.img). */
#pragma once

#include "formats/foreign/foreign.h"
#include "formats/foreign/vmdk_desc.h"

struct vmdk_extent {
        struct foreign f; /* f.pages is the top image's */
        uint64_t start;   /* of the disk, bytes */
        const char *type; /* as the descriptor says it; "": the file has its descriptor in itself */
        bool own_file;    /* else f.img.file is the top image's */

        uint64_t flat; /* FLAT: where it begins in the file, bytes */

        bool sparse, compressed, markers, zero_grains;
        uint64_t directory;     /* SPARSE: of grain tables, bytes */
        uint32_t table_entries; /* of a grain table */
        uint64_t desc, desc_len; /* SPARSE: the descriptor in the file, bytes; len 0: none */
};

struct vmdk {
        struct foreign f;
        struct vmdk_desc desc;
        struct vmdk_extent **extent;
        unsigned n;
};

/* vmdk_sparse.c. x->f.img.file is set; @h: VMDK_HEADER_LENGTH bytes. Returns 0 or -errno with a sentence. */
int vmdk_sparse_open(struct vmdk_extent *x, const uint8_t *h);
int vmdk_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out);
