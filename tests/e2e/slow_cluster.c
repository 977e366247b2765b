/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <endian.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/slow_cluster.h"

#define CLUSTER_BITS 21u
#define CLUSTER (1ull << CLUSTER_BITS)
#define OFFSET_BITS (62 - (CLUSTER_BITS - 8)) /* of an entry of a compressed cluster; above it the number of sectors but one */
#define COMPRESSED (1ull << 62)
#define OFFSET_MASK 0x00fffffffffffe00ull

/* --- deflate (RFC 1951), by hand -------------------------------------------------------------------------------------------- */

struct bits {
        uint8_t *to;
        size_t n;
};

static void put(struct bits *b, unsigned value, unsigned n)
{
        for (unsigned i = 0; i < n; i++, b->n++)
                b->to[b->n / 8] |= (uint8_t)((value >> i & 1) << b->n % 8);
}

/* A symbol of the code for lengths: 0, 1, 2 and 18 have two bits each, which go out highest first. */
static void put_length(struct bits *b, unsigned symbol)
{
        unsigned code = symbol == 18 ? 3 : symbol;

        put(b, code >> 1, 1);
        put(b, code & 1, 1);
}

static void put_zeros(struct bits *b, unsigned n)
{
        for (unsigned now; n >= 11; n -= now) {
                now = n < 138 ? n : 138;
                put_length(b, 18);
                put(b, now - 11, 7);
        }
        while (n--)
                put_length(b, 0);
}

/* A block with tables for 'x', the end, a length of 59 and more, and a distance of 1. It has 64 bytes, or none. */
static void put_block(struct bits *b, bool empty)
{
        static const uint8_t order[] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1 };

        put(b, 0, 1); /* not the last */
        put(b, 2, 2);
        put(b, 29, 5); /* 286 of literals and lengths, one distance */
        put(b, 0, 5);
        put(b, sizeof(order) - 4, 4);
        for (size_t i = 0; i < sizeof(order); i++)
                put(b, order[i] <= 2 || order[i] == 18 ? 2 : 0, 3);
        put_zeros(b, 'x');
        put_length(b, 2);
        put_zeros(b, 256 - 'x' - 1);
        put_length(b, 2); /* 256, the end */
        put_zeros(b, 276 - 257);
        put_length(b, 1); /* 276: 59, and three bits more */
        put_zeros(b, 286 - 277);
        put_length(b, 1); /* distance 1 */
        if (!empty) {
                put(b, 1, 2); /* 'x': 10 */
                put(b, 0, 1); /* 63 more of it */
                put(b, 63 - 59, 3);
                put(b, 0, 1);
        }
        put(b, 3, 2); /* the end: 11 */
}

/* --- the image -------------------------------------------------------------------------------------------------------------- */

static uint64_t read_u64(int fd, uint64_t at)
{
        uint64_t v;

        assert_int_equal(pread(fd, &v, sizeof(v), (off_t)at), sizeof(v));
        return be64toh(v);
}

/* At the end of the file; the entry that leads there. */
static uint64_t append_stream(int fd, bool empty)
{
        struct bits b = { .to = calloc(1, 2 * CLUSTER) };
        size_t blocks = 0, sectors;
        struct stat st;
        off_t at;

        assert_non_null(b.to);
        while (b.n / 8 + 64 < (empty ? CLUSTER : CLUSTER - 64) && (empty || blocks < CLUSTER / 64)) {
                put_block(&b, empty);
                blocks++;
        }
        put(&b, 3, 10); /* the last: nothing */
        sectors = (b.n / 8 + 512) / 512;
        assert_int_equal(fstat(fd, &st), 0);
        at = (st.st_size + (off_t)CLUSTER - 1) / (off_t)CLUSTER * (off_t)CLUSTER;
        assert_int_equal(pwrite(fd, b.to, sectors * 512, at), sectors * 512);
        free(b.to);
        return COMPRESSED | (sectors - 1) << OFFSET_BITS | (uint64_t)at;
}

void make_slow(const char *path)
{
        int fd = open(path, O_RDWR | O_CLOEXEC);
        uint64_t size, table;

        assert_true(fd >= 0);
        size = read_u64(fd, 24);
        table = read_u64(fd, read_u64(fd, 40)) & OFFSET_MASK; /* the only one */
        for (uint64_t i = 0; i < size / CLUSTER; i++) {
                uint64_t entry = htobe64(append_stream(fd, i % 4 == 3));

                assert_true(read_u64(fd, table + 8 * i) & COMPRESSED);
                assert_int_equal(pwrite(fd, &entry, sizeof(entry), (off_t)(table + 8 * i)), sizeof(entry));
        }
        close(fd);
}
