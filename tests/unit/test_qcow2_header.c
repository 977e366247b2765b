/* SPDX-License-Identifier: BSD-3-Clause */
/* The qcow2 header: every field at its edges, nothing lost by a rewrite, refcounts of every width. */
#include "formats/qcow2/refcount_bits.h"
#include "fail_calls.h"
#include "qcow2_rest.h"

#define CS 65536u
#define FILE_BYTES (5 * CS)

/* A small valid image: header, refcount table, block, L1 table, and room for a snapshot table. */
static void valid(uint8_t *b)
{
        memset(b, 0, FILE_BYTES);
        be32_put(b + QH_MAGIC, QCOW2_MAGIC);
        be32_put(b + QH_VERSION, 3);
        be32_put(b + QH_CLUSTER_BITS, 16);
        be64_put(b + QH_SIZE, 1u << 30);
        be32_put(b + QH_L1_ENTRIES, 2);
        be64_put(b + QH_L1_OFFSET, 3 * CS);
        be64_put(b + QH_REFTABLE_OFFSET, CS);
        be32_put(b + QH_REFTABLE_CLUSTERS, 1);
        be32_put(b + QH_REFCOUNT_ORDER, 4);
        be32_put(b + QH_LENGTH, QH_V3_LENGTH);
        be64_put(b + CS, 2 * CS);
}

static int read_bytes(const uint8_t *b, size_t len, struct qcow2_header *h)
{
        struct file *f;
        int r;

        err_clear();
        ok(file_open_mem(b, len, &f));
        r = qcow2_header_read(f, 0, h);
        if (r == 0 && (h->l1_entries > QCOW2_MAX_L1_ENTRIES || h->cluster_size > 2u << 20))
                fail_msg("a header that is too big was accepted");
        file_close(f);
        return r;
}

/* One field changed: may it be? */
static const struct {
        const char *what;
        unsigned at, bytes;
        uint64_t value;
        int err;
} fields[] = {
        { "magic 0", QH_MAGIC, 4, 0, -EINVAL },
        { "version 0", QH_VERSION, 4, 0, -ENOTSUP },
        { "version 1", QH_VERSION, 4, 1, -ENOTSUP },
        { "version 4", QH_VERSION, 4, 4, -ENOTSUP },
        { "version 2^32-1", QH_VERSION, 4, UINT32_MAX, -ENOTSUP },
        { "cluster_bits 0", QH_CLUSTER_BITS, 4, 0, -EINVAL },
        { "cluster_bits 8", QH_CLUSTER_BITS, 4, 8, -EINVAL },
        { "cluster_bits 22", QH_CLUSTER_BITS, 4, 22, -EINVAL },
        { "cluster_bits 40", QH_CLUSTER_BITS, 4, 40, -EINVAL },
        { "cluster_bits 2^32-1", QH_CLUSTER_BITS, 4, UINT32_MAX, -EINVAL },
        { "size 0", QH_SIZE, 8, 0, 0 },
        { "size 1", QH_SIZE, 8, 1, 0 },
        { "size that L1 covers", QH_SIZE, 8, 1ull << 30, 0 },
        { "size one more", QH_SIZE, 8, (1ull << 30) + 1, -EINVAL },
        { "size 2^63", QH_SIZE, 8, 1ull << 63, -EINVAL },
        { "size 2^64-1", QH_SIZE, 8, UINT64_MAX, -EINVAL },
        { "crypt_method 1", QH_CRYPT_METHOD, 4, 1, 0 }, /* info may look */
        { "crypt_method 3", QH_CRYPT_METHOD, 4, 3, -ENOTSUP },
        { "l1_size 0", QH_L1_ENTRIES, 4, 0, -EINVAL },
        { "l1_size 1", QH_L1_ENTRIES, 4, 1, -EINVAL },
        { "l1_size to the end", QH_L1_ENTRIES, 4, 2 * CS / 8, 0 },
        { "l1_size beyond the file", QH_L1_ENTRIES, 4, 2 * CS / 8 + 1, -EINVAL },
        { "l1_size limit", QH_L1_ENTRIES, 4, QCOW2_MAX_L1_ENTRIES, -EINVAL },
        { "l1_size limit + 1", QH_L1_ENTRIES, 4, QCOW2_MAX_L1_ENTRIES + 1, -EINVAL },
        { "l1_size 2^32-1", QH_L1_ENTRIES, 4, UINT32_MAX, -EINVAL },
        { "L1 at 0", QH_L1_OFFSET, 8, 0, -EINVAL },
        { "L1 at 1", QH_L1_OFFSET, 8, 1, -EINVAL },
        { "L1 at the end", QH_L1_OFFSET, 8, FILE_BYTES, -EINVAL },
        { "L1 at 2^63", QH_L1_OFFSET, 8, 1ull << 63, -EINVAL },
        { "L1 at 2^64-cluster", QH_L1_OFFSET, 8, UINT64_MAX - CS + 1, -EINVAL },
        { "refcount table at 0", QH_REFTABLE_OFFSET, 8, 0, -EINVAL },
        { "refcount table at 1", QH_REFTABLE_OFFSET, 8, 1, -EINVAL },
        { "refcount table at the end", QH_REFTABLE_OFFSET, 8, FILE_BYTES, -EINVAL },
        { "refcount table at 2^64-1", QH_REFTABLE_OFFSET, 8, UINT64_MAX, -EINVAL },
        { "refcount table of 0", QH_REFTABLE_CLUSTERS, 4, 0, -EINVAL },
        { "refcount table of 8 MiB", QH_REFTABLE_CLUSTERS, 4, 128, 0 },
        { "refcount table of more", QH_REFTABLE_CLUSTERS, 4, 129, -EINVAL },
        { "refcount table of 2^32-1", QH_REFTABLE_CLUSTERS, 4, UINT32_MAX, -EINVAL },
        { "snapshots without a table", QH_SNAPSHOTS, 4, 1, -EINVAL },
        { "65537 snapshots", QH_SNAPSHOTS, 4, 65537, -EINVAL },
        { "2^32-1 snapshots", QH_SNAPSHOTS, 4, UINT32_MAX, -EINVAL },
        { "snapshot table for none", QH_SNAPSHOTS_OFFSET, 8, UINT64_MAX, 0 },
        { "unknown incompatible bit 5", QH_INCOMPATIBLE, 8, 1ull << 5, -ENOTSUP },
        { "unknown incompatible bit 63", QH_INCOMPATIBLE, 8, 1ull << 63, -ENOTSUP },
        { "compression bit alone", QH_INCOMPATIBLE, 8, QCOW2_INCOMPAT_COMPRESSION, -EINVAL },
        { "unknown compatible bits", QH_COMPATIBLE, 8, UINT64_MAX, 0 },
        { "unknown autoclear bits", QH_AUTOCLEAR, 8, UINT64_MAX << 2, 0 },
        { "bitmaps bit alone", QH_AUTOCLEAR, 8, QCOW2_AUTOCLEAR_BITMAPS, -EINVAL },
        { "refcount_order 0", QH_REFCOUNT_ORDER, 4, 0, 0 },
        { "refcount_order 6", QH_REFCOUNT_ORDER, 4, 6, 0 },
        { "refcount_order 7", QH_REFCOUNT_ORDER, 4, 7, -EINVAL },
        { "refcount_order 2^32-1", QH_REFCOUNT_ORDER, 4, UINT32_MAX, -EINVAL },
        { "header_length 0", QH_LENGTH, 4, 0, -EINVAL },
        { "header_length 103", QH_LENGTH, 4, 103, -EINVAL },
        { "header_length 104", QH_LENGTH, 4, 104, 0 },
        { "header_length 108", QH_LENGTH, 4, 108, -EINVAL },
        { "header_length of a cluster", QH_LENGTH, 4, CS, 0 },
        { "header_length beyond", QH_LENGTH, 4, CS + 8, -EINVAL },
        { "header_length 2^32-8", QH_LENGTH, 4, UINT32_MAX - 7, -EINVAL },
        { "compression_type alone", QH_COMPRESSION, 1, 1, -EINVAL },
        { "compression_type 2", QH_COMPRESSION, 1, 2, -ENOTSUP },
        { "compression_type 255", QH_COMPRESSION, 1, 255, -ENOTSUP },
        { "backing name without length", QH_BACKING_OFFSET, 8, 512, -EINVAL },
        { "backing name at 2^64-1", QH_BACKING_OFFSET, 8, UINT64_MAX, -EINVAL },
        { "backing name in the header", QH_BACKING_OFFSET, 8, 8, -EINVAL },
        { "length without backing name", QH_BACKING_SIZE, 4, UINT32_MAX, 0 },
        { "extension beyond the cluster", QH_V3_LENGTH, 8, 0x12345678ull << 32 | CS, -EINVAL },
        { "extension of 2^32-1", QH_V3_LENGTH, 8, 0x12345678ull << 32 | UINT32_MAX, -EINVAL },
        { "backing format of 16 bytes", QH_V3_LENGTH, 8, (uint64_t)QCOW2_EXT_BACKING_FORMAT << 32 | 16, -EINVAL },
        { "crypt_method 2 without its extension", QH_CRYPT_METHOD, 4, 2, -EINVAL },
        { "LUKS extension of a plain image", QH_V3_LENGTH, 8, (uint64_t)QCOW2_EXT_LUKS << 32 | 16, -EINVAL },
        { "backing format of NULs", QH_V3_LENGTH, 8, (uint64_t)QCOW2_EXT_BACKING_FORMAT << 32 | 5, -EINVAL },
};

static void put(uint8_t *b, unsigned at, unsigned bytes, uint64_t value)
{
        if (bytes == 1)
                b[at] = (uint8_t)value;
        else if (bytes == 4)
                be32_put(b + at, (uint32_t)value);
        else
                be64_put(b + at, value);
}

static void test_fields(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);

        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                struct qcow2_header h;
                int r;

                valid(b);
                put(b, fields[i].at, fields[i].bytes, fields[i].value);
                r = read_bytes(b, FILE_BYTES, &h);
                if (r != fields[i].err)
                        fail_msg("%s: %d (%s), expected %d", fields[i].what, r, r ? err_text(r) : "accepted", fields[i].err);
                if (r < 0 && strcmp(err_text(r), strerror(-r)) == 0)
                        fail_msg("%s: no sentence", fields[i].what);
                if (r == 0)
                        qcow2_header_finish(&h);
        }
}

/* A file cut anywhere: an error or a header, never more. */
static void test_truncated(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);
        struct qcow2_header h;

        valid(b);
        for (size_t len = 0; len < FILE_BYTES; len += len < 200 ? 1 : 4093) {
                int r = read_bytes(b, len, &h);

                if ((r == 0) != (len >= 3 * CS + 16))
                        fail_msg("%zu bytes: %d %s", len, r, r ? err_text(r) : "accepted");
                if (r == 0)
                        qcow2_header_finish(&h);
        }
}

static void test_unknown_features_are_named(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);
        struct qcow2_header h;

        valid(b);
        be64_put(b + QH_INCOMPATIBLE, 1ull << 7);
        be32_put(b + QH_V3_LENGTH, QCOW2_EXT_FEATURE_NAMES);
        be32_put(b + QH_V3_LENGTH + 4, QFN_RECORD);
        b[QH_V3_LENGTH + 8 + QFN_BIT] = 7;
        memcpy(b + QH_V3_LENGTH + 8 + QFN_NAME, "time\x01travel", 11);
        assert_int_equal(read_bytes(b, FILE_BYTES, &h), -ENOTSUP);
        assert_non_null(strstr(err_text(-ENOTSUP), "time?travel"));
}

static void test_usable(void **state)
{
        struct qcow2_header h;

        qcow2_header_init(&h, 3, 16);
        assert_int_equal(qcow2_header_usable(&h, true), 0);
        h.incompatible = QCOW2_INCOMPAT_CORRUPT;
        assert_int_equal(qcow2_header_usable(&h, false), 0);
        assert_int_equal(qcow2_header_usable(&h, true), -EROFS);
        h.incompatible = QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_EXTENDED_L2;
        assert_int_equal(qcow2_header_usable(&h, true), 0);
        h.incompatible = 0;
        h.crypt_method = QCOW2_CRYPT_LUKS;
        assert_int_equal(qcow2_header_usable(&h, true), 0);
        h.incompatible = QCOW2_INCOMPAT_DATA_FILE; /* holes of that file would be noise */
        assert_int_equal(qcow2_header_usable(&h, false), -ENOTSUP);
        h.incompatible = 0;
        h.crypt_method = QCOW2_CRYPT_AES;
        assert_int_equal(qcow2_header_usable(&h, false), -ENOTSUP);
}

/* Where the LUKS header lies: inside the file, at a cluster, once. */
static void test_luks_extension(void **state)
{
        static const struct { const char *what; uint32_t len; uint64_t off, size; int r; } cases[] = {
                { "fine", 16, CS, 1000, 0 },          { "no bytes", 16, CS, 0, -EINVAL },
                { "unaligned", 16, CS + 512, 1000, -EINVAL }, { "the header", 16, 0, 1000, -EINVAL },
                { "outside", 16, 1ull << 40, 1000, -EINVAL }, { "ends outside", 16, CS, FILE_BYTES, -EINVAL },
                { "wraps", 16, CS, UINT64_MAX, -EINVAL },     { "too long", 16, CS, 33u << 20, -EINVAL },
                { "8 bytes", 8, CS, 1000, -EINVAL },          { "24 bytes", 24, CS, 1000, -EINVAL },
        };
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct qcow2_header h;
                int r;

                valid(b);
                be32_put(b + QH_CRYPT_METHOD, QCOW2_CRYPT_LUKS);
                be32_put(b + QH_V3_LENGTH, QCOW2_EXT_LUKS);
                be32_put(b + QH_V3_LENGTH + 4, cases[i].len);
                be64_put(b + QH_V3_LENGTH + 8, cases[i].off);
                be64_put(b + QH_V3_LENGTH + 16, cases[i].size);
                r = read_bytes(b, FILE_BYTES, &h);
                if (r != cases[i].r)
                        fail_msg("%s: %d", cases[i].what, r);
                if (r == 0) {
                        assert_true(h.luks_offset == cases[i].off && h.luks_length == cases[i].size);
                        qcow2_header_finish(&h);
                }
        }
}

/* Snapshots are of one file. */
static void test_data_file_and_snapshots(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);

        (void)state;
        for (unsigned what = 0; what < 4; what++) {
                struct qcow2_header h;
                int r;

                valid(b);
                be64_put(b + QH_INCOMPATIBLE, what & 1 ? QCOW2_INCOMPAT_DATA_FILE : 0);
                be32_put(b + QH_SNAPSHOTS, what & 2 ? 1 : 0);
                be64_put(b + QH_SNAPSHOTS_OFFSET, what & 2 ? 4 * CS : 0);
                r = read_bytes(b, FILE_BYTES, &h);
                assert_int_equal(r, what == 3 ? -EINVAL : 0);
                if (r == 0)
                        qcow2_header_finish(&h);
                else
                        assert_non_null(strstr(err_text(r), "internal snapshots, which exclude each other"));
        }
}

static uint8_t *put_ext(uint8_t *at, uint32_t type, const void *bytes, uint32_t len)
{
        be32_put(at, type);
        be32_put(at + 4, len);
        memcpy(at + 8, bytes, len);
        return at + 8 + (len + 7) / 8 * 8;
}

/* One extension, and once more; those that only mean something beside a feature bit, with it and without. */
static void test_extensions(void **state)
{
        static const char name[QCOW2_MAX_DATA_NAME + 1] = "a-name", bitmaps[QBX_LENGTH] = { 0 };
        uint8_t luks[QLX_LENGTH], long_name[QCOW2_MAX_DATA_NAME + 1];
        const struct {
                const char *what;
                uint64_t incompatible;
                uint32_t crypt, type;
                const void *bytes;
                uint32_t len;
                int once, twice;
        } cases[] = {
                { "backing format", 0, 0, QCOW2_EXT_BACKING_FORMAT, "qcow2", 5, 0, -EINVAL },
                { "backing format of no bytes", 0, 0, QCOW2_EXT_BACKING_FORMAT, "", 0, -EINVAL, -EINVAL },
                { "LUKS", 0, QCOW2_CRYPT_LUKS, QCOW2_EXT_LUKS, luks, QLX_LENGTH, 0, -EINVAL },
                { "data file", QCOW2_INCOMPAT_DATA_FILE, 0, QCOW2_EXT_DATA_FILE, name, 6, 0, -EINVAL },
                { "data file of no bytes", QCOW2_INCOMPAT_DATA_FILE, 0, QCOW2_EXT_DATA_FILE, name, 0, 0, 0 },
                { "data file's name too long", QCOW2_INCOMPAT_DATA_FILE, 0, QCOW2_EXT_DATA_FILE, long_name, 1024, -EINVAL, -EINVAL },
                { "data file's name as long as it may be", QCOW2_INCOMPAT_DATA_FILE, 0, QCOW2_EXT_DATA_FILE, long_name, 1023, 0, -EINVAL },
                { "data file without its bit", 0, 0, QCOW2_EXT_DATA_FILE, name, 6, 0, 0 },
                { "bitmaps without their bit", 0, 0, QCOW2_EXT_BITMAPS, bitmaps, QBX_LENGTH, 0, -EINVAL },
        };
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);

        memset(long_name, 'x', sizeof(long_name));
        be64_put(luks + QLX_OFFSET, CS);
        be64_put(luks + QLX_SIZE, 1000);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (int twice = 0; twice < 2; twice++) {
                        int want = twice ? cases[i].twice : cases[i].once, r;
                        struct qcow2_header h;
                        uint8_t *at;

                        valid(b);
                        be64_put(b + QH_INCOMPATIBLE, cases[i].incompatible);
                        be32_put(b + QH_CRYPT_METHOD, cases[i].crypt);
                        at = put_ext(b + QH_V3_LENGTH, cases[i].type, cases[i].bytes, cases[i].len);
                        if (twice)
                                put_ext(at, cases[i].type, cases[i].bytes, cases[i].len);
                        r = read_bytes(b, FILE_BYTES, &h);
                        if (r != want)
                                fail_msg("%s, twice %d: %d %s", cases[i].what, twice, r, r ? err_text(r) : "accepted");
                        if (r == 0)
                                qcow2_header_finish(&h);
                }
}

/* The name of the backing file: behind the header, before the end of the cluster, and not beside a raw data file. */
static void test_backing_name(void **state)
{
        static const struct { const char *what; uint64_t off; uint32_t len; uint64_t incompatible, autoclear; int r; } cases[] = {
                { "fine", QH_V3_LENGTH, 8, 0, 0, 0 },
                { "the cluster's last bytes", CS - 8, 8, 0, 0, 0 },
                { "over the cluster's end", CS - 7, 8, 0, 0, -EINVAL },
                { "in the header", QH_V3_LENGTH - 1, 8, 0, 0, -EINVAL },
                { "too long", QH_V3_LENGTH, QCOW2_MAX_BACKING_NAME + 1, 0, 0, -EINVAL },
                { "beside a data file", 4096, 8, QCOW2_INCOMPAT_DATA_FILE, 0, 0 },
                { "beside a raw data file", 4096, 8, QCOW2_INCOMPAT_DATA_FILE, QCOW2_AUTOCLEAR_RAW_DATA_FILE, -EINVAL },
        };
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct qcow2_header h;
                int r;

                valid(b);
                be64_put(b + QH_INCOMPATIBLE, cases[i].incompatible);
                be64_put(b + QH_AUTOCLEAR, cases[i].autoclear);
                be64_put(b + QH_BACKING_OFFSET, cases[i].off);
                be32_put(b + QH_BACKING_SIZE, cases[i].len);
                memset(b + cases[i].off, 'b', cases[i].len);
                r = read_bytes(b, FILE_BYTES, &h);
                if (r != cases[i].r)
                        fail_msg("%s: %d %s", cases[i].what, r, r ? err_text(r) : "accepted");
                if (r == 0)
                        qcow2_header_finish(&h);
        }
}

/* Each allocation fails, and each read: an error, and nothing is left. */
static void test_failing_calls(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);
        struct qcow2_header h;
        struct file *f;

        valid(b);
        put_ext(b + QH_V3_LENGTH, QCOW2_EXT_BACKING_FORMAT, "qcow2", 5);
        be64_put(b + QH_BACKING_OFFSET, 4096);
        be32_put(b + QH_BACKING_SIZE, 8);
        memset(b + 4096, 'b', 8);
        ok(file_open_mem(b, FILE_BYTES, &f));
        for (unsigned nth = 1; nth <= 2; nth++) { /* the cluster, the header */
                fail_call(CALL_CALLOC, nth, ENOMEM);
                assert_int_equal(qcow2_header_read(f, 0, &h), -ENOMEM);
                assert_true(fail_call_done(CALL_CALLOC));
        }
        for (unsigned nth = 1; nth <= 3; nth++) { /* the name, the format's, the extensions */
                fail_call(CALL_MALLOC, nth, ENOMEM);
                assert_int_equal(qcow2_header_read(f, 0, &h), -ENOMEM);
                assert_true(fail_call_done(CALL_MALLOC));
        }
        fault_arm("file.read=1:EIO");
        assert_int_equal(qcow2_header_read(f, 0, &h), -EIO);
        fault_arm("file.read=2:EIO");
        assert_int_equal(qcow2_header_read(f, 0, &h), -EIO);
        fault_arm(NULL);
        ok(qcow2_header_read(f, 0, &h));
        qcow2_header_finish(&h);
        file_close(f);
        err_clear();
}

/* What we do not know survives: fields behind ours, extensions, and the rest where it belongs. */
static void test_rewrite_keeps_strangers(void **state)
{
        AUTO(freep) uint8_t *b = malloc(FILE_BYTES);
        AUTO(freep) uint8_t *again = malloc(CS);
        struct qcow2_header h, h2;
        uint8_t *ext;

        valid(b);
        be32_put(b + QH_LENGTH, 128);
        memcpy(b + 112, "later fields....", 16);
        ext = b + 128;
        be32_put(ext, 0xabad1dea);
        be32_put(ext + 4, 5);
        memcpy(ext + 8, "hello", 5);
        be64_put(b + QH_BACKING_OFFSET, 4096);
        be32_put(b + QH_BACKING_SIZE, 8);
        memcpy(b + 4096, "base.img", 8);
        assert_int_equal(read_bytes(b, FILE_BYTES, &h), 0);
        assert_string_equal(h.backing_name, "base.img");
        h.backing_format = strdup("raw");
        ok(qcow2_header_build(&h, again));
        assert_memory_equal(again + 112, "later fields....", 16);
        memcpy(b, again, CS);
        assert_int_equal(read_bytes(b, FILE_BYTES, &h2), 0);
        assert_string_equal(h2.backing_name, "base.img");
        assert_string_equal(h2.backing_format, "raw");
        assert_non_null(memmem(h2.ext, h2.ext_len, "\xab\xad\x1d\xea\0\0\0\5hello\0\0\0", 16));
        qcow2_header_finish(&h);
        qcow2_header_finish(&h2);
}

static void test_name_that_does_not_fit(void **state)
{
        struct qcow2_header h;
        uint8_t buf[512];
        char name[500];

        qcow2_header_init(&h, 3, 9);
        memset(name, 'x', sizeof(name));
        name[499] = 0;
        h.backing_name = strdup(name);
        assert_int_equal(qcow2_header_build(&h, buf), -ENOSPC);
        h.backing_name[100] = 0;
        assert_int_equal(qcow2_header_build(&h, buf), 0);
        qcow2_header_finish(&h);
}

static void test_refcount_widths(void **state)
{
        for (unsigned order = 0; order <= 6; order++) {
                uint8_t block[64];
                uint64_t n = refcount_per_block(sizeof(block), order), max = refcount_max(order);

                for (uint64_t i = 0; i < n; i++) {
                        memset(block, 0, sizeof(block));
                        refcount_set(block, order, i, max);
                        for (uint64_t k = 0; k < n; k++)
                                assert_int_equal(refcount_get(block, order, k), k == i ? max : 0);
                        memset(block, 0xff, sizeof(block));
                        refcount_set(block, order, i, 0);
                        for (uint64_t k = 0; k < n; k++)
                                assert_int_equal(refcount_get(block, order, k), k == i ? 0 : max);
                }
        }
}

static void test_packed_descriptor(void **state)
{
        /* 64 KiB clusters: 54 bits of offset, 8 bits of sectors */
        uint64_t e = QCOW2_L2_COMPRESSED | 3ull << 54 | 0x12345;

        assert_int_equal(l2e_packed_host(e, 16), 0x12345);
        assert_int_equal(l2e_packed_len(e, 16), 4 * 512 - (0x12345 & 511));
        assert_int_equal(l2e_packed_len(QCOW2_L2_COMPRESSED | 0xffull << 54, 16), 2 * 65536);
        assert_int_equal(l2e_packed_len(QCOW2_L2_COMPRESSED | 1ull << 61 | 511, 9), 2 * 512 - 511);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fields),
                cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_unknown_features_are_named),
                cmocka_unit_test(test_usable),
                cmocka_unit_test(test_luks_extension),
                cmocka_unit_test(test_data_file_and_snapshots),
                cmocka_unit_test(test_extensions),
                cmocka_unit_test(test_backing_name),
                cmocka_unit_test(test_failing_calls),
                cmocka_unit_test(test_rewrite_keeps_strangers),
                cmocka_unit_test(test_name_that_does_not_fit),
                cmocka_unit_test(test_refcount_widths),
                cmocka_unit_test(test_packed_descriptor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
