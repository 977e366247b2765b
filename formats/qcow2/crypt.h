/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crypt.h - qcow2 images whose data clusters are encrypted (crypt_method 2: LUKS).
 *
 * A LUKS header lies in clusters of its own, which the header extension names. Every data cluster is encrypted in
 * sectors of 512 bytes; a sector's tweak is its place in the file. Tables, and compressed clusters, which QEMU leaves
 * as they are, are plain: we write no compressed clusters into such images, but read those that are there.
 */
#pragma once

#include "formats/luks/luks.h"
#include "formats/qcow2/at_rest/create.h"
#include "qcow2.h"

static inline struct luks_area qcow2_luks_area(struct file *file, const struct qcow2_header *h)
{
        return (struct luks_area){ file, h->luks_offset, h->luks_length };
}

/**
 * qcow2_crypt_open - the key for an image that is being opened: sets img.cipher, or img.locked.
 * Slow (luks_unlock). -EACCES: no key was named, or a wrong one; -EINVAL: one was named and the image is plain.
 */
int qcow2_crypt_open(struct qcow2_image *q, const struct fmt_open_opts *opts);

/* The cipher goes, and its name. */
void qcow2_crypt_close(struct qcow2_image *q);

/* "encrypt." options of create: 1 (it was one), 0 (it was not), or -errno with a sentence. */
int qcow2_crypt_option(struct qcow2_wish *w, const struct fmt_option *o);
/* All options together; @file: there will be an image, not only its size: then a key is needed. */
int qcow2_crypt_wish(struct qcow2_wish *w, bool file);

/* The LUKS header of a new image, at h->luks_offset. Does not sync. */
int qcow2_crypt_create(struct file *file, const struct qcow2_header *h, const struct qcow2_wish *w);

/* info's "encrypt" object into @data. */
int qcow2_crypt_info(struct file *file, const struct qcow2_header *h, json_t *data);

/* amend's "encrypt." options: all of @opts are such. @force: also when the disk is lost by it. */
bool qcow2_crypt_is_amend(const struct fmt_option *o);
int qcow2_crypt_amend(struct qcow2_image *q, const struct fmt_option *opts, size_t n, bool force);
