/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2_crash_configs.h - the images and loads of test_qcow2_crash: each looks for what only it can show. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static const struct config {
        const char *what, *options;
        uint64_t size;
        bool filled, compressed, snapshot, backing;
        unsigned ops, states;
        unsigned max_sectors; /* of one operation */
        bool writes_only;     /* no zeroing: nothing but a missing reservation makes a flush sync twice */
        bool packs;           /* every other write is of compressed clusters */
        /* some flushes fail at some step, as when the host's disk is full, and are tried again later */
        bool flaky;
        bool encrypted;       /* LUKS; the image is made by us */
        bool with_data;       /* FMT_ENTRY_WITH_DATA: zeros may stand where an unflushed write replaced other bytes */
        bool data_file, raw;  /* the data is in another file, which may have to be right on its own */
        bool holes_only;      /* writes only where zeros were: nothing but a copied L2 table makes a flush sync twice */
} configs[] = {
        { "512, 64 bit: blocks and tables grow", "cluster_size=512,refcount_bits=64", 2u << 20, .filled = true, .ops = 150,
          .states = 60, .max_sectors = 400 },
        { "512, 64 bit, writes only", "cluster_size=512,refcount_bits=64", 2u << 20, .ops = 150, .states = 40,
          .max_sectors = 60, .writes_only = true },
        { "512, snapshot, holes", "cluster_size=512", 2u << 20, .filled = true, .snapshot = true, .ops = 200, .states = 40,
          .max_sectors = 8, .writes_only = true, .holes_only = true },
        { "4k, large writes", "cluster_size=4k", 12u << 20, .ops = 60, .states = 30, .max_sectors = 1500,
          .writes_only = true },
        { "4k, snapshot", "cluster_size=4k", 4u << 20, .filled = true, .snapshot = true, .ops = 150, .states = 50,
          .max_sectors = 40 },
        { "4k, backing", "cluster_size=4k", 4u << 20, .backing = true, .ops = 150, .states = 40, .max_sectors = 40 },
        { "8k, snapshot: tables of two pages", "cluster_size=8k,refcount_bits=8", 12u << 20, .filled = true,
          .snapshot = true, .ops = 120, .states = 30, .max_sectors = 100 },
        { "64k, compressed", "cluster_size=64k", 8u << 20, .filled = true, .compressed = true, .ops = 100, .states = 30,
          .max_sectors = 300 },
        { "4k, compressed writes", "cluster_size=4k", 4u << 20, .filled = true, .ops = 150, .states = 50, .max_sectors = 40,
          .packs = true },
        { "8k, 2 bit, compressed writes, backing", "cluster_size=8k,refcount_bits=2,compression_type=zstd", 4u << 20,
          .backing = true, .ops = 150, .states = 40, .max_sectors = 40, .packs = true },
        { "512, snapshot, holes, failing flushes", "cluster_size=512", 4u << 20, .filled = true, .snapshot = true,
          .ops = 100, .states = 20, .max_sectors = 8, .writes_only = true, .holes_only = true, .flaky = true },
        { "512, 64 bit, failing flushes", "cluster_size=512,refcount_bits=64", 2u << 20, .filled = true, .ops = 150,
          .states = 20, .max_sectors = 60, .flaky = true },
        { "16k, sub-clusters", "cluster_size=16k,extended_l2=on", 4u << 20, .ops = 150, .states = 40, .max_sectors = 40 },
        { "16k, sub-clusters, snapshot", "cluster_size=16k,extended_l2=on", 4u << 20, .filled = true, .snapshot = true,
          .ops = 150, .states = 40, .max_sectors = 40 },
        { "128k, sub-clusters, backing", "cluster_size=128k,extended_l2=on", 8u << 20, .backing = true, .ops = 150,
          .states = 50, .max_sectors = 40 },
        { "128k, sub-clusters, backing, entry with data", "cluster_size=128k,extended_l2=on", 8u << 20, .backing = true,
          .ops = 150, .states = 50, .max_sectors = 40, .with_data = true },
        { "4k, snapshot, entry with data", "cluster_size=4k", 4u << 20, .filled = true, .snapshot = true, .ops = 100,
          .states = 30, .max_sectors = 40, .with_data = true },
        { "16k, sub-clusters, compressed writes, failing flushes", "cluster_size=16k,extended_l2=on", 4u << 20, .filled = true,
          .ops = 100, .states = 30, .max_sectors = 40, .packs = true, .flaky = true },
        { "4k, encrypted, snapshot", "cluster_size=4k", 4u << 20, .filled = true, .snapshot = true, .encrypted = true,
          .ops = 150, .states = 40, .max_sectors = 40 },
        { "8k, encrypted, where zeros were", "cluster_size=8k", 4u << 20, .encrypted = true, .ops = 100, .states = 40,
          .max_sectors = 40, .writes_only = true },
        { "64k, data file", "cluster_size=64k", 8u << 20, .filled = true, .ops = 100, .states = 30, .max_sectors = 300,
          .data_file = true },
        { "16k, sub-clusters, data file, backing", "cluster_size=16k,extended_l2=on", 4u << 20, .backing = true, .ops = 100,
          .states = 30, .max_sectors = 40, .data_file = true },
        { "4k, data file, backing", "cluster_size=4k", 4u << 20, .backing = true, .ops = 150, .states = 40, .max_sectors = 40,
          .data_file = true },
        { "4k, raw data file, failing flushes", "cluster_size=4k,data_file_raw=on", 4u << 20, .ops = 100, .states = 20,
          .max_sectors = 60, .flaky = true, .data_file = true, .raw = true },
        { "16k, sub-clusters, encrypted", "cluster_size=16k,extended_l2=on", 4u << 20, .encrypted = true, .ops = 100,
          .states = 30, .max_sectors = 40 },
        { "64k, version 2, backing", "cluster_size=64k,compat=0.10", 8u << 20, .backing = true, .ops = 100, .states = 30,
          .max_sectors = 300 },
};
