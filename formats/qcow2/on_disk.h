/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * on_disk.h - qcow2 as it lies in the file: the only place that knows byte offsets, masks and bits.
 *
 * Numbers follow QEMU's docs/interop/qcow2 specification. All integers are big-endian; offsets into structures are
 * bytes and go with be32_get() and friends of bytes.h. Table entries are handled here as numbers in CPU order.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* --- the header, at byte 0 of the file ------------------------------------------------------------------------ */

enum {
        QH_MAGIC = 0,              /* u32 */
        QH_VERSION = 4,            /* u32: 2 or 3 */
        QH_BACKING_OFFSET = 8,     /* u64: 0 none */
        QH_BACKING_SIZE = 16,      /* u32: bytes of the name, no NUL */
        QH_CLUSTER_BITS = 20,      /* u32 */
        QH_SIZE = 24,              /* u64: virtual size in bytes */
        QH_CRYPT_METHOD = 32,      /* u32 */
        QH_L1_ENTRIES = 36,        /* u32 */
        QH_L1_OFFSET = 40,         /* u64 */
        QH_REFTABLE_OFFSET = 48,   /* u64 */
        QH_REFTABLE_CLUSTERS = 56, /* u32 */
        QH_SNAPSHOTS = 60,         /* u32: how many */
        QH_SNAPSHOTS_OFFSET = 64,  /* u64 */
        QH_V2_LENGTH = 72,
        QH_INCOMPATIBLE = 72,      /* u64, version 3 from here on */
        QH_COMPATIBLE = 80,        /* u64 */
        QH_AUTOCLEAR = 88,         /* u64 */
        QH_REFCOUNT_ORDER = 96,    /* u32: a refcount has 1 << order bits */
        QH_LENGTH = 100,           /* u32 */
        QH_V3_MIN_LENGTH = 104,
        QH_COMPRESSION = 104,      /* u8, when the header is longer than 104 bytes */
        QH_V3_LENGTH = 112,        /* as we write it; a longer header keeps its tail */
};

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */
#define QCOW2_MIN_CLUSTER_BITS 9u
#define QCOW2_MAX_CLUSTER_BITS 21u
#define QCOW2_MAX_BACKING_NAME 1023u
#define QCOW2_MAX_DATA_NAME 1023u
#define QCOW2_MAX_L1_ENTRIES (4u << 20)       /* 32 MiB */
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20)
#define QCOW2_MAX_REFCOUNT_ORDER 6u
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_SNAPSHOT_BYTES (64u << 20)
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024u
#define QCOW2_MAX_BITMAPS 65535u
#define QCOW2_MAX_BITMAP_DIR_BYTES (64u << 20)
#define QCOW2_MAX_LUKS_BYTES (32u << 20)
#define QCOW2_MAX_BITMAP_ENTRIES (32u << 20) /* of one bitmap's table: 256 MiB */
#define QCOW2_MAX_BITMAP_BYTES (512ull << 20) /* of one bitmap's bits, in whole clusters */
#define QCOW2_MAX_BITMAP_NAME 1023u
#define QCOW2_MAX_BITMAP_EXTRA 4096u         /* ours: nobody writes any */
#define QCOW2_MIN_GRANULARITY_BITS 9u
#define QCOW2_MAX_GRANULARITY_BITS 31u

enum { QCOW2_CRYPT_NONE = 0, QCOW2_CRYPT_AES = 1, QCOW2_CRYPT_LUKS = 2 };
enum { QCOW2_COMPRESSION_ZLIB = 0, QCOW2_COMPRESSION_ZSTD = 1 };

/* Feature bits of the three 64-bit words. */
#define QCOW2_INCOMPAT_DIRTY (1ull << 0)       /* refcounts may be stale */
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)     /* do not write */
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)   /* guest data lies in another file */
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3) /* QH_COMPRESSION is not zlib */
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4) /* 16-byte L2 entries with sub-clusters */
#define QCOW2_INCOMPAT_KNOWN 0x1full
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA_FILE (1ull << 1) /* the data file is a raw image of the disk at any time */

/* --- header extensions: u32 type, u32 length, data padded to 8 bytes; type 0 ends the list --------------------- */

#define QCOW2_EXT_HEADER 8u
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_LUKS 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u

/* The LUKS extension. */
enum { QLX_OFFSET = 0 /* u64 */, QLX_SIZE = 8 /* u64 */, QLX_LENGTH = 16 };

/* One record of the feature-name extension. */
enum { QFN_TYPE = 0 /* u8: 0 incompatible, 1 compatible, 2 autoclear */, QFN_BIT = 1 /* u8 */, QFN_NAME = 2, QFN_RECORD = 48 };

/* The bitmaps extension, and the entries of the directory that it points to. */
enum { QBX_COUNT = 0 /* u32 */, QBX_RESERVED = 4, QBX_DIR_SIZE = 8 /* u64 */, QBX_DIR_OFFSET = 16 /* u64 */, QBX_LENGTH = 24 };
enum {
        QBM_TABLE_OFFSET = 0,  /* u64 */
        QBM_TABLE_ENTRIES = 8, /* u32 */
        QBM_FLAGS = 12,        /* u32 */
        QBM_TYPE = 16,         /* u8 */
        QBM_GRANULARITY = 17,  /* u8 */
        QBM_NAME_SIZE = 18,    /* u16 */
        QBM_EXTRA_SIZE = 20,   /* u32 */
        QBM_EXTRA = 24,        /* extra data, name; padded to 8 */
};
#define QCOW2_BITMAP_TRACKING 1u             /* QBM_TYPE: the only type */
#define QCOW2_BITMAP_IN_USE (1u << 0)        /* QBM_FLAGS: was not stored after its last use */
#define QCOW2_BITMAP_AUTO (1u << 1)          /* every change of the disk belongs into it */
#define QCOW2_BITMAP_EXTRA_COMPATIBLE (1u << 2) /* can be used without knowing what the extra data means */
#define QCOW2_BITMAP_KNOWN 7u
#define QCOW2_BITMAP_ONES (1ull << 0)        /* a table entry without cluster: all bits are set */
#define QCOW2_BITMAP_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_BITMAP_RESERVED 0xff000000000001feull

/* --- the snapshot table: entries one after another, each padded to 8 bytes ------------------------------------- */

enum {
        QS_L1_OFFSET = 0,   /* u64 */
        QS_L1_ENTRIES = 8,  /* u32 */
        QS_ID_SIZE = 12,    /* u16 */
        QS_NAME_SIZE = 14,  /* u16 */
        QS_DATE_SEC = 16,   /* u32 */
        QS_DATE_NSEC = 20,  /* u32 */
        QS_VM_CLOCK = 24,   /* u64: nanoseconds */
        QS_VM_STATE = 32,   /* u32: bytes; see QSX_VM_STATE */
        QS_EXTRA_SIZE = 36, /* u32 */
        QS_EXTRA = 40,      /* extra data, then id, then name */
        /* In the extra data: */
        QSX_VM_STATE = 0,   /* u64, instead of QS_VM_STATE */
        QSX_DISK_SIZE = 8,  /* u64 */
        QSX_ICOUNT = 16,    /* u64 */
        QSX_LENGTH = 24,    /* as we write it; longer extra data keeps its tail */
};

/* --- table entries (8 bytes; here in CPU order; see l2e.h for L2 entries of 16) --------------------------------- */

#define QCOW2_ENTRY_SIZE 8u
#define QCOW2_SUBCLUSTERS 32u                  /* of a cluster, with extended L2 entries */
#define QCOW2_MIN_EXTENDED_L2_BITS 14u         /* cluster_bits with extended L2 entries: sub-clusters have >= 512 bytes */
#define QCOW2_COPIED (1ull << 63)              /* L1 and L2: the refcount of the target is exactly 1 */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull /* bits 9-55 */
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_L2_COMPRESSED (1ull << 62)       /* test this bit first: the others mean something else then */
#define QCOW2_L2_ZERO (1ull << 0)              /* version 3; in version 2 a reserved bit */
#define QCOW2_L2_RESERVED 0x3f000000000001feull
#define QCOW2_REFTABLE_OFFSET_MASK 0xfffffffffffffe00ull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

static inline uint64_t l1e_offset(uint64_t e)
{
        return e & QCOW2_OFFSET_MASK;
}

static inline bool l2e_is_compressed(uint64_t e)
{
        return e & QCOW2_L2_COMPRESSED;
}

/* The next three: entry is not compressed. */
static inline uint64_t l2e_offset(uint64_t e)
{
        return e & QCOW2_OFFSET_MASK;
}

static inline bool l2e_is_zero(uint64_t e, uint32_t version)
{
        return version >= 3 && e & QCOW2_L2_ZERO;
}

/* Bits that must not be there. */
static inline uint64_t l2e_reserved(uint64_t e, uint32_t version)
{
        return e & (version >= 3 ? QCOW2_L2_RESERVED : QCOW2_L2_RESERVED | QCOW2_L2_ZERO);
}

/* Compressed entry: bits 0 .. x-1 are the host byte, x .. 61 the number of further 512-byte sectors. */
static inline unsigned l2e_packed_shift(unsigned cluster_bits)
{
        return 62 - (cluster_bits - 8);
}

static inline uint64_t l2e_packed_host(uint64_t e, unsigned cluster_bits)
{
        return e & ((1ull << l2e_packed_shift(cluster_bits)) - 1);
}

/* Bytes from l2e_packed_host() to the end of the last sector: 1 .. 2 * cluster size. The stream may end before. */
static inline uint32_t l2e_packed_len(uint64_t e, unsigned cluster_bits)
{
        uint64_t more = (e & ~(3ull << 62)) >> l2e_packed_shift(cluster_bits);

        return (uint32_t)((more + 1) * 512 - (l2e_packed_host(e, cluster_bits) & 511));
}

/* @packed_len bytes at @host, which is below 1 << l2e_packed_shift(). */
static inline uint64_t l2e_packed(uint64_t host, uint32_t packed_len, unsigned cluster_bits)
{
        uint64_t more = ((host & 511) + packed_len - 1) / 512;

        return QCOW2_L2_COMPRESSED | more << l2e_packed_shift(cluster_bits) | host;
}

static inline uint64_t reftable_offset(uint64_t e)
{
        return e & QCOW2_REFTABLE_OFFSET_MASK;
}
