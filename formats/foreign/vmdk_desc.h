/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmdk_desc.h - the text that describes a VMDK: "name=value" lines and one line for each extent. It is a file of its
 * own, or lies in the file of the only extent.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define VMDK_EXTENTS_MAX 1024u /* 2 TiB in pieces of 2 GiB */

enum vmdk_extent_kind { VMDK_FLAT, VMDK_VMFS, VMDK_SPARSE };

struct vmdk_line {
        enum vmdk_extent_kind kind;
        uint64_t sectors;
        uint64_t offset; /* FLAT: where it begins in its file, sectors */
        char *name;      /* owned: a file beside the descriptor */
};
struct vmdk_desc {
        uint32_t cid, parent_cid;
        char *create_type; /* owned, as the next; NULL: not named */
        char *parent;
        struct vmdk_line *line;
        unsigned n;
};

/**
 * vmdk_desc_parse - @text: ends with a 0 byte.
 * Returns 0, or -EINVAL, -ENOTSUP, -ENOMEM with a sentence. vmdk_desc_finish() in any case.
 */
int vmdk_desc_parse(const char *text, struct vmdk_desc *ret);
void vmdk_desc_finish(struct vmdk_desc *d);

const char *vmdk_kind_name(enum vmdk_extent_kind kind); /* as it is written in the text */
