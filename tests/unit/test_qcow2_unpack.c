/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters: what unpacks, what is refused, and how much memory a stranger's bytes can ask for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

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

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_unpack) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
