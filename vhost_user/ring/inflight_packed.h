/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inflight_packed.h - the in-flight record of one packed ring (see inflight.h): its queue thread.
 *
 * A packed ring forgets what it offered: answers are written over it. So the record keeps a copy of each descriptor, in
 * entries that are linked: those of one chain, and those that are free.
 */
#pragma once

#include <linux/virtio_ring.h>

#include "vhost_user/ring/chain.h"
#include "vhost_user/ring/inflight.h"

struct inflight_packed;

/**
 * inflight_packed_load - take up the record of a ring of @num descriptors that lies at @ring.
 * @used: where the next answer goes, as SET_VRING_BASE has it (index, wrap counter in bit 15). In: of a ring that
 * begins;
 * out: of this one, when the record was in use before.
 * @ndescs: out: descriptors in flight; they follow @used in the ring. @fresh: nothing was ever written to it.
 * Returns 0; -EBADMSG with a sentence: the record contradicts itself or the ring; -ENOMEM.
 */
int inflight_packed_load(struct inflight_part part, unsigned num, const struct vring_packed_desc *ring, uint16_t *used,
                         unsigned *ndescs, bool *fresh, struct inflight_packed **ret);
void inflight_packed_free(struct inflight_packed *f); /* NULL is fine */

/* Chains still to be done again. The descriptors of the next one, in the order of their chain; NULL: none is left. */
unsigned inflight_packed_left(const struct inflight_packed *f);
const struct chain_desc *inflight_packed_next(struct inflight_packed *f, unsigned *n);
void inflight_packed_not_yet(struct inflight_packed *f); /* it comes again next time */

/*
 * The common road. Each descriptor of a chain is noted (@n: how many were before it); nothing has happened until the
 * chain is whole, and taken with its buffer id. It is given back. The ring is about to show all that was given back,
 * @used is behind it then; the ring shows it.
 */
void inflight_packed_note(struct inflight_packed *f, unsigned n, const struct chain_desc *d);
void inflight_packed_take(struct inflight_packed *f, uint16_t id, unsigned ndescs);
void inflight_packed_give_back(struct inflight_packed *f, uint16_t id);
void inflight_packed_publish(struct inflight_packed *f, uint16_t used);
void inflight_packed_published(struct inflight_packed *f);
