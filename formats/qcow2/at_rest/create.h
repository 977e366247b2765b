/* SPDX-License-Identifier: BSD-3-Clause */
/* create.h - what the options of a new image ask for: for making it, and for saying how large it will be. */
#pragma once

#include "formats/format.h"
#include "formats/luks/luks.h"
#include "formats/qcow2/header.h"

enum qcow2_prealloc { QCOW2_PREALLOC_OFF, QCOW2_PREALLOC_METADATA, QCOW2_PREALLOC_FALLOC, QCOW2_PREALLOC_FULL };

struct qcow2_wish {
        uint32_t version, cluster_bits, refcount_bits;
        bool lazy_refcounts, zstd, extended_l2, data_raw;
        enum qcow2_prealloc prealloc;
        const char *backing_name, *backing_format, *data_name; /* the request's; NULL: none */

        bool encrypted, crypt_words; /* encrypt.format=luks; any other encrypt option */
        const char *key_secret, *cipher_alg, *cipher_mode, *ivgen_alg, *ivgen_hash, *hash_alg; /* NULL: not said */
        struct luks_wish luks; /* what they come to */
};

/* The options of @req, checked one by one and together. @file: for an image, not only for its size. -EINVAL or -ENOTSUP
 * with a sentence. */
int qcow2_wish_read(const struct fmt_create *req, bool file, struct qcow2_wish *w);

/* The header of such an image with a disk of @size bytes; its tables have no place yet. qcow2_header_finish() it, also
 * after an error: -EFBIG (more than the format can hold with these clusters), -ENOMEM. */
int qcow2_wish_header(const struct qcow2_wish *w, uint64_t size, struct qcow2_header *h);
