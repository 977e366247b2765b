/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A compressed cluster: one byte of choice (deflate or zstd, cluster size), then the packed bytes. It unpacks to exactly
 * one cluster or is refused, twice the same.
 */
#include "common/err.h"
#include "common/log.h"
#include "formats/qcow2/qcow2.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct qcow2_image q = { 0 };
        uint8_t *out, *again, *packed;
        int r;

        if (size < 2)
                return 0;
        q.h.compression = data[0] & 1 ? QCOW2_COMPRESSION_ZSTD : 0;
        q.img.cluster_size = 512u << (data[0] / 2 % 8);
        out = malloc(q.img.cluster_size); /* on the heap, exactly: a byte too many is seen */
        again = malloc(q.img.cluster_size);
        packed = malloc(size - 1);
        memcpy(packed, data + 1, size - 1);
        memset(out, 0x11, q.img.cluster_size);
        memset(again, 0x22, q.img.cluster_size);
        r = qcow2_unpack(&q.img, packed, size - 1, out);
        if (r != qcow2_unpack(&q.img, packed, size - 1, again))
                fuzz_fail("unpacks once and is refused once");
        if (r == 0 && memcmp(out, again, q.img.cluster_size))
                fuzz_fail("unpacks to bytes that are not from the packed ones");
        err_clear();
        free(out);
        free(again);
        free(packed);
        return 0;
}
