/* SPDX-License-Identifier: BSD-3-Clause */
/* inflate.h - one cluster's worth of deflate, of strangers' bytes. Pure: any thread. */
#pragma once

#include <stddef.h>

/**
 * inflate_bounded - unpack at most @room bytes.
 * @window_bits: as zlib's inflateInit2() has it. *got: bytes that came out.
 * Returns 1 when the stream has ended, 0 when it would go on, -ENOMEM, or -EIO: it is no deflate, or in so many blocks
 * that no packer made it. (Each block may bring tables of its own, and a block of a dozen bytes that unpacks to nothing
 * costs some microseconds: 4 MiB of them keep a processor busy for two seconds.)
 */
int inflate_bounded(int window_bits, const void *in, size_t len, void *out, size_t room, size_t *got);
