/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain.h - one request as the guest laid it out: a list of descriptors, made into host memory.
 * Every descriptor is copied once and checked; what comes out is bounded and names guest memory only.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "vhost_user/memory/guest_mem.h"

/* 128 descriptors (seg_max 126, header, status), and room for odd framing and borders of regions. */
#define CHAIN_MAX_IOV 192
#define CHAIN_MIN_TABLE 128 /* an indirect table may have so many whatever the queue size: drivers go by seg_max */

/* A descriptor of a packed ring: our copy, in our byte order. */
struct chain_desc {
        uint64_t addr;
        uint32_t len;
        uint16_t id, flags;
};

/* First the nread pieces that the device may read, then nwrite that it may write, in guest order. */
struct chain {
        uint16_t head;       /* split: of the descriptor table; packed: the buffer id */
        uint16_t ndescs;     /* packed: descriptors of the ring that it takes */
        bool indirect_ok;    /* in: INDIRECT_DESC was negotiated */
        bool missing;        /* out: translations are; nothing else of the chain is valid. See gm_translate() */
        unsigned nread, nwrite;
        uint64_t read_len, write_len; /* bytes */
        struct iovec iov[CHAIN_MAX_IOV];
        uint64_t iova[CHAIN_MAX_IOV]; /* with an IOMMU: its address of each piece */
};

/**
 * chain_read - split: follow the chain that starts at @head.
 * @desc, @num: the descriptor table in host memory. @mt: the guest's memory.
 * Returns 0; -EINVAL with *why set: the guest broke the rules and its queue cannot go on.
 */
int chain_read(struct chain *c, const struct mem_table *mt, const struct vring_desc *desc, unsigned num, uint16_t head,
               const char **why);

/**
 * chain_begin, chain_add - packed: the descriptors of a chain, one by one as they follow each other in a ring of @num.
 * Returns 1: more must follow; 0: that was the last one, the chain is whole; -EINVAL as above.
 */
void chain_begin(struct chain *c);
int chain_add(struct chain *c, const struct mem_table *mt, const struct chain_desc *d, unsigned num, const char **why);
