/* SPDX-License-Identifier: BSD-3-Clause */
/* pack.c - one cluster compressed: the mirror of unpack.c. Pure: any thread. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "qcow2.h"

#define DEFLATE_WINDOW_BITS (-12) /* no zlib header, 4 KiB: all that QEMU reads */
#define DEFLATE_MEM_LEVEL 9

/* @max: anything longer is not worth it. */
static int pack_deflate(const void *in, uint32_t len, void *out, uint32_t max)
{
        z_stream z = { .next_in = (void *)in, .avail_in = len, .next_out = out, .avail_out = max };
        int r;

        if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS, DEFLATE_MEM_LEVEL,
                         Z_DEFAULT_STRATEGY) != Z_OK)
                return -ENOMEM;
        r = deflate(&z, Z_FINISH);
        deflateEnd(&z);
        return r == Z_STREAM_END ? (int)(max - z.avail_out) : 0;
}

static int pack_zstd(const void *in, uint32_t len, void *out, uint32_t max)
{
        size_t n = ZSTD_compress(out, max, in, len, ZSTD_CLEVEL_DEFAULT);

        if (!ZSTD_isError(n))
                return (int)n;
        return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? 0 : -ENOMEM;
}

int qcow2_pack(struct fmt_image *img, const void *in, void *out)
{
        uint32_t len = img->cluster_size;

        if (qcow2_of(img)->h.compression == QCOW2_COMPRESSION_ZSTD)
                return pack_zstd(in, len, out, len - 1);
        return pack_deflate(in, len, out, len - 1);
}
