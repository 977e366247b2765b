/* SPDX-License-Identifier: BSD-3-Clause */
#include "formats/inflate.h"

#include <errno.h>
#include <zlib.h>

/* zlib's smallest blocks have 127 symbols (memLevel 1), each of a byte at least; who flushes makes more of them, and
 * empty ones. */
#define BYTES_A_BLOCK 64u
#define SPARE_BLOCKS 64u

int inflate_bounded(int window_bits, const void *in, size_t len, void *out, size_t room, size_t *got)
{
        z_stream z = { .next_in = (void *)in, .avail_in = (uInt)len, .next_out = out, .avail_out = (uInt)room };
        unsigned blocks = 0;
        int r;

        if (inflateInit2(&z, window_bits) != Z_OK)
                return -ENOMEM;
        do
                r = inflate(&z, Z_BLOCK); /* stops behind each */
        while (r == Z_OK && ++blocks <= SPARE_BLOCKS + z.total_out / BYTES_A_BLOCK);
        inflateEnd(&z);
        *got = room - z.avail_out;
        if (r == Z_STREAM_END)
                return 1;
        return r == Z_BUF_ERROR ? 0 : -EIO;
}
