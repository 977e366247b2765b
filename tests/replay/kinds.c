/* SPDX-License-Identifier: BSD-3-Clause */
/* kinds.c - the images that are cut: raw, and qcow2 with each option that changes what is written or when. */
#include "world.h"

#define K *1024u
#define LUKS "encrypt.format=luks,encrypt.key-secret=luks-image,encrypt.iter-time=1"

const struct kind kinds[] = {
        { "raw", "raw", "", 12, 4 K, .filled = 5 },
        { "plain-64k", "qcow2", "cluster_size=64k", 7, 64 K, .filled = 3 },
        { "plain-4k", "qcow2", "cluster_size=4k", 24, 4 K, .filled = 6, .share = 2 },
        { "plain-512", "qcow2", "cluster_size=512", 160, 512, .filled = 60, .share = 2 },
        { "refcount-64bit", "qcow2", "cluster_size=512,refcount_bits=64", 160, 512, .filled = 40 },
        { "refcount-1bit", "qcow2", "cluster_size=1k,refcount_bits=1", 48, 1 K, .filled = 6 },
        { "extended-l2", "qcow2", "cluster_size=16k,extended_l2=on", 12, 16 K, .filled = 4, .share = 2 },
        { "extended-l2-snapshot", "qcow2", "cluster_size=16k,extended_l2=on", 12, 16 K, .filled = 4, .snapshot = true },
        { "extended-l2-backing", "qcow2", "cluster_size=16k,extended_l2=on", 12, 16 K, .backing = true },
        { "lazy-refcounts", "qcow2", "cluster_size=4k,lazy_refcounts=on", 24, 4 K, .filled = 6 },
        { "version-2", "qcow2", "cluster_size=4k,compat=0.10", 24, 4 K, .backing = true, .filled = 4 },
        { "data-file", "qcow2", "cluster_size=4k", 24, 4 K, .filled = 6, .data_file = true },
        { "raw-data-file", "qcow2", "cluster_size=4k,data_file_raw=on", 24, 4 K, .filled = 6, .data_file = true, .raw_data = true },
        { "data-file-backing", "qcow2", "cluster_size=16k,extended_l2=on", 12, 16 K, .backing = true, .data_file = true },
        { "encrypted", "qcow2", "cluster_size=4k," LUKS, 24, 4 K, .filled = 6, .encrypted = true },
        { "encrypted-backing", "qcow2", "cluster_size=4k," LUKS, 24, 4 K, .backing = true, .encrypted = true },
        { "compressed", "qcow2", "cluster_size=4k", 24, 4 K, .filled = 8, .packed_fill = true, .packs = true },
        { "compressed-zstd", "qcow2", "cluster_size=8k,compression_type=zstd,refcount_bits=8", 16, 8 K, .filled = 4,
          .packed_fill = true, .packs = true },
        { "backing", "qcow2", "cluster_size=4k", 24, 4 K, .backing = true, .share = 2 },
        { "backing-packed", "qcow2", "cluster_size=4k", 24, 4 K, .backing = true, .packs = true },
        { "snapshot", "qcow2", "cluster_size=4k", 24, 4 K, .filled = 8, .snapshot = true, .share = 2 },
        { "snapshot-512", "qcow2", "cluster_size=512", 160, 512, .filled = 100, .snapshot = true, .share = 2 },
        { "snapshot-entry-with-data", "qcow2", "cluster_size=4k", 24, 4 K, .filled = 8, .snapshot = true, .entry_with_data = true },
};
const unsigned nkinds = sizeof(kinds) / sizeof(kinds[0]);
