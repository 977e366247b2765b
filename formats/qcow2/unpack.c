/* SPDX-License-Identifier: BSD-3-Clause */
/* unpack.c - one compressed cluster: raw deflate with a 4 KiB window, or zstd. Pure: any thread. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "common/bytes.h"
#include "common/err.h"
#include "formats/inflate.h"
#include "qcow2.h"

#define DEFLATE_WINDOW_BITS (-12) /* no zlib header, 4 KiB: what QEMU writes, and all that it reads */

static int unpack_deflate(const void *packed, size_t packed_len, void *out, size_t out_len)
{
        size_t got = 0;
        int r = inflate_bounded(DEFLATE_WINDOW_BITS, packed, packed_len, out, out_len, &got);

        if (r < 0)
                return r;
        return got == out_len ? 0 : -EIO; /* when the stream would like to go on, too: QEMU takes that */
}

/* RFC 8878, 3.1.1.1.2: what every decoder should know, 8 MiB. A frame may ask for 128 MiB, for each of our workers. */
#define ZSTD_WINDOW_LOG_MAX 23

/*
 * Where blocks begin, at most: a block may bring tables of its own for nothing, and small ones cost as much as large
 * ones. Packers make them of 128 KiB or the window, which is 1 KiB at least, or split these where 300 sequences of 3
 * bytes go; but for the last, and when they are flushed.
 */
#define ZSTD_BYTES_A_BLOCK 256u
#define ZSTD_SPARE_BLOCKS 64u
#define ZSTD_HEADER_MIN 5u /* magic, descriptor */

/* Not of before the format was fixed: the decoders for that, which the library has, too, heed none of our bounds. */
static bool zstd_is_frame(const uint8_t *packed, size_t packed_len)
{
        return packed_len >= ZSTD_HEADER_MIN && le32_get(packed) == ZSTD_MAGICNUMBER;
}

static size_t zstd_header_len(uint8_t descriptor)
{
        static const uint8_t dict_len[] = { 0, 1, 2, 4 }, size_len[] = { 0, 2, 4, 8 };
        unsigned single = descriptor >> 5 & 1, size = descriptor >> 6;

        return ZSTD_HEADER_MIN + !single + dict_len[descriptor & 3] + (size ? size_len[size] : single);
}

/* Only counted: whether the frame makes sense is zstd's business. */
static bool zstd_has_too_many_blocks(const uint8_t *packed, size_t packed_len, size_t out_len)
{
        size_t at = zstd_header_len(packed[4]), blocks = 0;

        while (at + 3 <= packed_len) {
                uint32_t h = packed[at] | packed[at + 1] << 8 | (uint32_t)packed[at + 2] << 16;

                if (++blocks > ZSTD_SPARE_BLOCKS + out_len / ZSTD_BYTES_A_BLOCK)
                        return true;
                if (h & 1) /* the last */
                        break;
                at += 3 + ((h >> 1 & 3) == 1 ? 1 : h >> 3); /* type 1: one byte, again and again */
        }
        return false;
}

static int unpack_zstd(const void *packed, size_t packed_len, void *out, size_t out_len)
{
        ZSTD_inBuffer in = { packed, packed_len, 0 };
        ZSTD_outBuffer to = { out, out_len, 0 };
        ZSTD_DCtx *d;
        size_t r = 1;

        if (!zstd_is_frame(packed, packed_len) || zstd_has_too_many_blocks(packed, packed_len, out_len))
                return -EIO;
        d = ZSTD_createDCtx();
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
