/* SPDX-License-Identifier: BSD-3-Clause */
/* unpack.c - one compressed cluster: raw deflate with a 4 KiB window, or zstd. Pure: any thread. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/err.h"
#include "qcow2.h"

#define DEFLATE_WINDOW_BITS (-12) /* no zlib header, 4 KiB: what QEMU writes, and all that it reads */

static int unpack_deflate(const void *packed, size_t packed_len, void *out, size_t out_len)
{
        z_stream z = { .next_in = (void *)packed, .avail_in = (uInt)packed_len, .next_out = out, .avail_out = (uInt)out_len };
        int r;

        if (inflateInit2(&z, DEFLATE_WINDOW_BITS) != Z_OK)
                return -ENOMEM;
        r = inflate(&z, Z_FINISH);
        inflateEnd(&z);
        /* A full buffer is one cluster, also when the stream would like to go on (Z_BUF_ERROR): QEMU takes that. */
        return (r == Z_STREAM_END || r == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

/* RFC 8878, 3.1.1.1.2: what every decoder should know, 8 MiB. A frame may ask for 128 MiB, for each of our workers. */
#define ZSTD_WINDOW_LOG_MAX 23

static int unpack_zstd(const void *packed, size_t packed_len, void *out, size_t out_len)
{
        ZSTD_inBuffer in = { packed, packed_len, 0 };
        ZSTD_outBuffer to = { out, out_len, 0 };
        ZSTD_DCtx *d = ZSTD_createDCtx();
        size_t r = 1;

        if (!d)
                return -ENOMEM;
        ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
        while (to.pos < to.size) { /* the rest of the last sector is not part of the frame, so one-shot would refuse it */
                size_t in_was = in.pos, out_was = to.pos;

                r = ZSTD_decompressStream(d, &to, &in);
                if (ZSTD_isError(r) || r == 0 || (in.pos == in_was && to.pos == out_was))
                        break;
        }
        ZSTD_freeDCtx(d);
        return !ZSTD_isError(r) && to.pos == to.size ? 0 : -EIO;
}

int qcow2_unpack(struct fmt_image *img, const void *packed, size_t packed_len, void *out)
{
        struct qcow2_image *q = qcow2_of(img);
        int r;

        if (q->h.compression == QCOW2_COMPRESSION_ZSTD)
                r = unpack_zstd(packed, packed_len, out, img->cluster_size);
        else
                r = unpack_deflate(packed, packed_len, out, img->cluster_size);
        if (r == -EIO)
                err_note(r, "a compressed cluster does not unpack to exactly %u bytes", img->cluster_size);
        return r;
}
