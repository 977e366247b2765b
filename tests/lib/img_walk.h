/* SPDX-License-Identifier: BSD-3-Clause */
/* img_walk.h - look at all of an open image, as a stranger may have made it, and say what of the answers cannot be. */
#pragma once

#include "formats/format.h"

/**
 * img_walk - map the whole disk in order: the same bytes are told once, without gaps, and data lies in its file.
 * @max: extents looked at, since an image may claim to be 2^63 bytes long. Errors of the image are no failure.
 * Returns NULL, or a sentence (static) when the driver broke its contract.
 */
const char *img_walk(struct fmt_image *img, unsigned max);

/* Reads up to @len bytes at the begin, in the middle and at the end. Errors of the image are no failure. */
void img_read_around(struct fmt_image *img, void *buf, size_t len);
