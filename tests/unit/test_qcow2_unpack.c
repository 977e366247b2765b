/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters: what unpacks, what is refused, and how much memory a stranger's bytes can ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/qcow2/qcow2.h"

/* A zstd frame by hand (RFC 8878): magic, no flags, window 2^(10 + n), one last block that repeats 'x'. */
#define FRAME(n, len) { 0x28, 0xb5, 0x2f, 0xfd, 0, (n) << 3, ((len) << 3 | 3) & 0xff, (len) >> 5, 0, 'x' }

static const struct {
        const char *what;
        uint8_t compression, packed[16];
        size_t len;
        int expect;
} cases[] = {
        { "zstd, small window", QCOW2_COMPRESSION_ZSTD, FRAME(2, 512), 10, 0 },
        { "zstd, 8 MiB: the window that every reader should know", QCOW2_COMPRESSION_ZSTD, FRAME(13, 512), 10, 0 },
        { "zstd, 16 MiB", QCOW2_COMPRESSION_ZSTD, FRAME(14, 512), 10, -EIO },
        { "zstd, 128 MiB", QCOW2_COMPRESSION_ZSTD, FRAME(17, 512), 10, -EIO },
        { "zstd, the rest of a sector behind it", QCOW2_COMPRESSION_ZSTD, FRAME(2, 512), 16, 0 },
        { "zstd, a byte short", QCOW2_COMPRESSION_ZSTD, FRAME(2, 511), 10, -EIO },
        { "zstd, cut", QCOW2_COMPRESSION_ZSTD, FRAME(2, 512), 9, -EIO },
        { "zstd, not a frame", QCOW2_COMPRESSION_ZSTD, { 'x' }, 10, -EIO },
        { "deflate, a stored block that is too short", 0, { 1, 1, 0, 0xfe, 0xff, 'x' }, 6, -EIO },
        { "deflate, block type 3", 0, { 7 }, 6, -EIO },
        { "deflate, nothing", 0, { 0 }, 1, -EIO },
};

static void test_unpack(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct qcow2_image q = { .img.cluster_size = 512, .h.compression = cases[i].compression };
                uint8_t out[512] = { 0 };
                int r = qcow2_unpack(&q.img, cases[i].packed, cases[i].len, out);

                if (r != cases[i].expect || (r == 0 && (out[0] != 'x' || out[511] != 'x')))
                        fail_msg("%s: %d", cases[i].what, r);
                err_clear();
        }
}

/* What zstd 0.7 wrote. Its decoder, which is still in the library, heeds no bound of the window and is nobody's concern any more. */
static void test_old_zstd(void **state)
{
        struct qcow2_image q = { .img.cluster_size = 512, .h.compression = QCOW2_COMPRESSION_ZSTD };
        uint8_t packed[9 + 512 + 3] = { 0x27, 0xb5, 0x2f, 0xfd, 0, 2 << 3, 0x40, 512 >> 8, 0 }, out[512];

        (void)state;
        memset(packed + 9, 'x', 512);
        packed[9 + 512] = 0xc0; /* the end */
        assert_int_equal(qcow2_unpack(&q.img, packed, sizeof(packed), out), -EIO);
        err_clear();
}

/* --- blocks ------------------------------------------------------------------------------------------------------------- */

/* @n blocks of ten bits that unpack to nothing, then one with 512 times 'x'. */
static size_t deflate_of_empty_blocks(uint8_t *to, unsigned n)
{
        size_t bit = 0, at;

        for (; n; n--, bit += 10)
                to[(bit + 1) / 8] |= (uint8_t)(1u << (bit + 1) % 8); /* not the last, type 1, end of block */
        to[bit / 8] |= (uint8_t)(1u << bit % 8);
        at = (bit + 3 + 7) / 8; /* type 0: stored, from the next byte on */
        memcpy(to + at, "\x00\x02\xff\xfd", 4);
        memset(to + at + 4, 'x', 512);
        return at + 4 + 512;
}

static size_t zstd_of_empty_blocks(uint8_t *to, unsigned n)
{
        static const uint8_t frame[] = FRAME(2, 512);

        memcpy(to, frame, 6);
        memcpy(to + 6 + 3 * (size_t)n, frame + 6, 4);
        return 10 + 3 * (size_t)n;
}

/* Some more than there is anything in are fine, and none that nobody packs: each costs more than the bytes of a large one. */
static void test_empty_blocks(void **state)
{
        static const struct {
                unsigned n;
                int expect;
        } rows[] = { { 0, 0 }, { 1, 0 }, { 50, 0 }, { 100, -EIO }, { 5000, -EIO } };
        uint8_t packed[16384], out[512];

        for (int zstd = 0; zstd < 2; zstd++)
                for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                        struct qcow2_image q = { .img.cluster_size = 512, .h.compression = zstd ? QCOW2_COMPRESSION_ZSTD : 0 };
                        size_t len;
                        int r;

                        memset(packed, 0, sizeof(packed));
                        len = zstd ? zstd_of_empty_blocks(packed, rows[i].n) : deflate_of_empty_blocks(packed, rows[i].n);
                        r = qcow2_unpack(&q.img, packed, len, out);
                        if (r != rows[i].expect || (r == 0 && (out[0] != 'x' || out[511] != 'x')))
                                fail_msg("%u empty blocks of %s: %d", rows[i].n, zstd ? "zstd" : "deflate", r);
                        err_clear();
                }
}

/* What packers make at their worst: the least memory, a flush again and again; the most splits. */
#define LARGE (128u << 10)

static size_t pack_deflate(const uint8_t *from, uint8_t *to, size_t room, int level, int mem_level, size_t flush_every)
{
        z_stream z = { .next_in = (void *)from, .next_out = to, .avail_out = (uInt)room };

        assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, -12, mem_level, Z_DEFAULT_STRATEGY), Z_OK);
        for (size_t at = 0; at < LARGE; at += flush_every) {
                z.avail_in = (uInt)flush_every;
                deflate(&z, at + flush_every < LARGE ? Z_FULL_FLUSH : Z_FINISH);
        }
        deflateEnd(&z);
        return z.total_out;
}

static size_t pack_zstd(const uint8_t *from, uint8_t *to, size_t room, int level, size_t flush_every)
{
        ZSTD_CCtx *c = ZSTD_createCCtx();
        ZSTD_outBuffer out = { to, room, 0 };

        assert_non_null(c);
        ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
        for (size_t at = 0; at < LARGE; at += flush_every) {
                ZSTD_inBuffer in = { from + at, flush_every, 0 };

                while (ZSTD_compressStream2(c, &out, &in, at + flush_every < LARGE ? ZSTD_e_flush : ZSTD_e_end))
                        continue;
        }
        ZSTD_freeCCtx(c);
        return out.pos;
}

/* Bytes of @kinds kinds, in runs here and there. */
static void make_bytes(uint8_t *to, unsigned kinds)
{
        uint32_t x = 1;

        for (unsigned i = 0; i < LARGE; i++) {
                x = x * 1664525 + 1013904223;
                to[i] = i > 200 && x >> 24 < 64 ? to[i - (x >> 16 & 127) - 1] : (uint8_t)((x >> 10) % kinds);
        }
}

static void test_what_packers_make(void **state)
{
        static const unsigned kinds[] = { 1, 2, 20, 256 };
        static const struct {
                int zstd, level, mem_level;
                size_t flush_every;
        } rows[] = {
                { 0, 9, 1, LARGE }, { 0, 1, 1, LARGE }, { 0, 0, 1, LARGE }, { 0, 9, 9, LARGE }, { 0, 9, 1, 256 }, { 1, 19, 0, LARGE },
                { 1, 1, 0, LARGE }, { 1, 19, 0, 512 },
        };
        uint8_t *raw = malloc(LARGE), *packed = malloc(2 * LARGE), *out = malloc(LARGE);

        assert_true(raw && packed && out);
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                make_bytes(raw, kinds[k]);
                for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                        struct qcow2_image q = { .img.cluster_size = LARGE, .h.compression = rows[i].zstd ? QCOW2_COMPRESSION_ZSTD : 0 };
                        size_t len = rows[i].zstd ? pack_zstd(raw, packed, 2 * LARGE, rows[i].level, rows[i].flush_every)
                                                  : pack_deflate(raw, packed, 2 * LARGE, rows[i].level, rows[i].mem_level, rows[i].flush_every);

                        if (qcow2_unpack(&q.img, packed, len, out) != 0 || memcmp(out, raw, LARGE))
                                fail_msg("bytes of %u kinds, packer %zu", kinds[k], i);
                }
        }
        free(raw);
        free(packed);
        free(out);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_unpack),
                cmocka_unit_test(test_old_zstd), cmocka_unit_test(test_empty_blocks), cmocka_unit_test(test_what_packers_make) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
