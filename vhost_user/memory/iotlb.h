/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iotlb.h - what we know of a guest's IOMMU (vhost-user, "IOMMU support"). With VIRTIO_F_ACCESS_PLATFORM the addresses
 * in rings and descriptors are the IOMMU's. The front end tells where some of them lead (UPDATE), takes that back
 * (INVALIDATE), and is asked for more (MISS). So the device reaches only what the IOMMU maps.
 *
 * A bounded cache: what does not fit is forgotten and asked for again. A look-up never waits; what is not here is noted
 * as wanted, once, and the queue looks again when something has arrived.
 *
 * Look-ups on any queue thread of the session, the rest on the control thread. Look-ups take a lock, which only queues
 * of the same session share.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define IOTLB_ENTRIES 2048u
#define IOTLB_WANTED 256u
#define IOTLB_PAGE 4096u

enum { IOTLB_READ = 1, IOTLB_WRITE = 2 }; /* what the device may do; the numbers are the protocol's */

struct iotlb;
struct iotlb *iotlb_new(void);     /* NULL: ENOMEM */
void iotlb_free(struct iotlb *t);  /* NULL is fine */

/* [iova, iova + len) leads to [user, user + len) of the front end's memory. 0, or -EINVAL with a sentence. */
int iotlb_update(struct iotlb *t, uint64_t iova, uint64_t len, uint64_t user, uint8_t perm);

/* What was known of [iova, iova + len) is forgotten. @len 0, or more than there is: to the end. */
void iotlb_invalidate(struct iotlb *t, uint64_t iova, uint64_t len);

/**
 * iotlb_look - where does [iova, iova + len) lead, if the device wants to do @perm with it?
 * *user, *here: the front end's address of the first *here bytes (<= len). Returns 0; -EAGAIN: not known, it is wanted
 * now; -ENOBUFS: not known, and so much is wanted already that it must wait; nor need the caller look further;
 * -EFAULT: the front end says that the IOMMU does not allow it.
 */
int iotlb_look(struct iotlb *t, uint64_t iova, uint64_t len, uint8_t perm, uint64_t *user, uint64_t *here);

/* The next wanted page that the front end was not asked for yet; false: there is none. */
bool iotlb_next_miss(struct iotlb *t, uint64_t *iova, uint8_t *perm);

/* It refused: the next look-up says so, once. */
void iotlb_refused(struct iotlb *t, uint64_t iova, uint8_t perm);

/* Everything wanted must be asked for again: another channel. */
void iotlb_ask_again(struct iotlb *t);
