/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * on_disk.h - VDI, VHD (vpc), VHDX and VMDK as they lie in the file: the only place that knows byte offsets and bits.
 * Offsets are bytes and go with le32_get() and friends of bytes.h.
 */
#pragma once

enum { SECTOR = 512 };

/* --- VDI (VirtualBox): little-endian, a header and one flat block map ----------------------------------------- */

enum {
        VDI_MAGIC = 64,      /* u32 */
        VDI_VERSION = 68,    /* u32: major << 16 | minor */
        VDI_TYPE = 76,       /* u32: VDI_DYNAMIC ... */
        VDI_MAP_OFFSET = 340,  /* u32 */
        VDI_DATA_OFFSET = 344, /* u32 */
        VDI_SECTOR_SIZE = 360, /* u32 */
        VDI_DISK_SIZE = 368,   /* u64 */
        VDI_BLOCK_SIZE = 376,  /* u32 */
        VDI_BLOCK_EXTRA = 380, /* u32: bytes before the data of each block */
        VDI_BLOCKS = 384,      /* u32: entries of the map */
        VDI_UUID_LINK = 424,   /* 16 bytes; not all zeros: it is one of a chain */
        VDI_UUID_PARENT = 440, /* 16 bytes, likewise */
        VDI_HEADER_LENGTH = 512,
};
#define VDI_MAGIC_VALUE 0xbeda107fu
#define VDI_VERSION_1_1 0x00010001u
enum { VDI_DYNAMIC = 1, VDI_STATIC = 2, VDI_UNDO = 3, VDI_DIFF = 4 };
#define VDI_ENTRY_UNALLOCATED 0xffffffffu
#define VDI_ENTRY_ZERO 0xfffffffeu

/* --- VHD ("vpc"): big-endian, "Virtual Hard Disk Image Format Specification", October 2006 --------------------- */

enum {
        VHD_COOKIE = 0,        /* "conectix" */
        VHD_DATA_OFFSET = 16,  /* u64: of the dynamic header */
        VHD_CREATOR_APP = 28,  /* 4 bytes */
        VHD_CURRENT_SIZE = 48, /* u64 */
        VHD_CYLINDERS = 56,    /* u16 */
        VHD_HEADS = 58,        /* u8 */
        VHD_SECTORS = 59,      /* u8: a track */
        VHD_TYPE = 60,         /* u32: VHD_FIXED ... */
        VHD_CHECKSUM = 64,     /* u32: of the footer with zeros here */
        VHD_FOOTER_LENGTH = 512,

        VHD_DYN_COOKIE = 0,    /* "cxsparse" */
        VHD_DYN_TABLE = 16,    /* u64: offset of the block allocation table */
        VHD_DYN_ENTRIES = 28,  /* u32 */
        VHD_DYN_BLOCK = 32,    /* u32: size of a block */
        VHD_DYN_CHECKSUM = 36, /* u32 */
        VHD_DYN_LENGTH = 1024,
};
enum { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };
#define VHD_ENTRY_UNALLOCATED 0xffffffffu

/* --- VHDX: little-endian, [MS-VHDX] ------------------------------------------------------------------------------ */

enum {
        VHDX_HEADER_1 = 64 << 10,
        VHDX_HEADER_2 = 128 << 10,
        VHDX_REGIONS_1 = 192 << 10,
        VHDX_REGIONS_2 = 256 << 10,
        VHDX_HEADERS_END = 1 << 20, /* regions, log and payload begin no earlier, and at multiples of this */
        VHDX_CHECKSUM = 4,          /* u32 CRC32C: in headers, region tables and log entries alike */

        VHDX_H_SEQUENCE = 8,   /* u64 */
        VHDX_H_LOG_GUID = 48,  /* 16 bytes: all zeros when there is nothing to replay */
        VHDX_H_LOG_VERSION = 64, /* u16 */
        VHDX_H_VERSION = 66,   /* u16 */
        VHDX_H_LOG_LENGTH = 68, /* u32 */
        VHDX_H_LOG_OFFSET = 72, /* u64 */
        VHDX_H_LENGTH = 4096,

        VHDX_R_COUNT = 8, /* u32 */
        VHDX_R_ENTRIES = 16,
        VHDX_R_LENGTH = 64 << 10,
        VHDX_R_MAX = 2047,
        VHDX_RE_OFFSET = 16,   /* u64; the guid comes first */
        VHDX_RE_LEN = 24,      /* u32 */
        VHDX_RE_REQUIRED = 28, /* u32: bit 0 */
        VHDX_RE_SIZE = 32,

        VHDX_M_COUNT = 10, /* u16; "metadata" comes first */
        VHDX_M_ENTRIES = 32,
        VHDX_M_LENGTH = 64 << 10,
        VHDX_M_MAX = 2047,
        VHDX_ME_OFFSET = 16, /* u32, from the begin of the region; the guid comes first */
        VHDX_ME_LEN = 20,    /* u32 */
        VHDX_ME_FLAGS = 24,  /* u32 */
        VHDX_ME_SIZE = 32,

        VHDX_FP_BLOCK_SIZE = 0, /* u32: the item "file parameters" */
        VHDX_FP_FLAGS = 4,      /* u32 */
};
#define VHDX_ME_REQUIRED 4u
#define VHDX_FP_HAS_PARENT 2u
#define VHDX_CHUNK_SECTORS (1ull << 23) /* logical sectors that one sector bitmap block is for */
#define VHDX_MAX_SIZE (64ull << 40)
#define VHDX_GUID_BAT "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
#define VHDX_GUID_METADATA "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
#define VHDX_GUID_FILE_PARAMETERS "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
#define VHDX_GUID_DISK_SIZE "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
#define VHDX_GUID_LOGICAL_SECTOR "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f"
#define VHDX_GUID_PHYSICAL_SECTOR "\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56"
#define VHDX_GUID_PAGE_83 "\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46"
#define VHDX_GUID_PARENT_LOCATOR "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"

/* An entry of the block allocation table: state in the low three bits, offset in the upper 44 (units of 1 MiB). */
enum {
        VHDX_NOT_PRESENT = 0,
        VHDX_UNDEFINED = 1,
        VHDX_ZERO = 2,
        VHDX_UNMAPPED = 3,
        VHDX_UNMAPPED_OLD = 5, /* version 0.95 of the specification */
        VHDX_PRESENT = 6,
        VHDX_PARTLY_PRESENT = 7, /* differencing images only */
};
#define VHDX_ENTRY_STATE 7u
#define VHDX_ENTRY_OFFSET (~0xfffffull)

/* The log: entries of whole 4 KiB sectors in a ring. */
enum {
        VHDX_LOG_SECTOR = 4096,
        VHDX_L_LENGTH = 8,         /* u32 */
        VHDX_L_TAIL = 12,          /* u32: offset in the log where the sequence begins that ends with this entry */
        VHDX_L_SEQUENCE = 16,      /* u64 */
        VHDX_L_DESCRIPTORS = 24,   /* u32 */
        VHDX_L_GUID = 32,          /* 16 bytes */
        VHDX_L_FLUSHED_SIZE = 48,  /* u64: the file had at least so many bytes when the entry was written */
        VHDX_L_LAST_SIZE = 56,     /* u64: and needs so many */
        VHDX_L_HEADER = 64,
        VHDX_LD_TRAILING = 4,      /* 4 bytes ("desc") */
        VHDX_LD_LEADING = 8,       /* 8 bytes ("desc"); u64 length ("zero") */
        VHDX_LD_OFFSET = 16,       /* u64 */
        VHDX_LD_SEQUENCE = 24,     /* u64 */
        VHDX_LD_SIZE = 32,
        VHDX_LS_SEQUENCE_HIGH = 4, /* u32; "data" comes first */
        VHDX_LS_DATA = 8,
        VHDX_LS_SEQUENCE_LOW = 4092, /* u32 */
};

/* --- VMDK: little-endian, "Virtual Disk Format 5.0"; numbers of sectors unless it says bytes --------------------- */

enum {
        VMDK_VERSION = 4,      /* u32; "KDMV" comes first */
        VMDK_FLAGS = 8,        /* u32 */
        VMDK_CAPACITY = 12,    /* u64 */
        VMDK_GRAIN = 20,       /* u64: size of a grain */
        VMDK_DESC_OFFSET = 28, /* u64 */
        VMDK_DESC_SIZE = 36,   /* u64 */
        VMDK_GT_ENTRIES = 44,  /* u32: of a grain table */
        VMDK_GD_OFFSET = 56,   /* u64 */
        VMDK_NEWLINES = 73,    /* "\n \r\n": shows a transfer that changed line ends */
        VMDK_COMPRESSION = 77, /* u16: 0 none, 1 deflate */
        VMDK_HEADER_LENGTH = 512,

        VMDK_FOOTER = 1024, /* bytes from the end of the file to the footer, which is a header */

        VMDK_MARKER_SIZE = 8, /* u32: bytes of the grain that follows; before it u64, its first sector of the disk */
        VMDK_MARKER_LENGTH = 12,
};
#define VMDK_FLAG_NEWLINES 1u
#define VMDK_FLAG_ZERO_GRAINS 4u
#define VMDK_FLAG_COMPRESSED (1u << 16)
#define VMDK_FLAG_MARKERS (1u << 17)
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_NO_PARENT 0xffffffffu
enum { VMDK_ENTRY_ABSENT = 0, VMDK_ENTRY_ZERO = 1 };
