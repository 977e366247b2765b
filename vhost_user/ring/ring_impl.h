/* SPDX-License-Identifier: BSD-3-Clause */
/* ring_impl.h - what ring.c, ring_bell.c and ring_iommu.c share. Queue thread, if not said otherwise. */
#pragma once

#include "vhost_user/ring/ring.h"

/* ring.c */
void ring_report(struct ring *r, const char *why); /* it takes no more requests */
void ring_held_us(struct ring *r);                 /* its front end made this thread sleep */
void ring_at_round_end(struct ring *r);            /* something was pushed */
void ring_answer(struct ring *r, int result);      /* the order is carried out */
void ring_settle(struct ring *r);                  /* something ended: is it what an order waits for? */

/* ring_bell.c */
void ring_bell_init(struct ring *r, struct ring_bell *b);
void ring_bell_ring(struct ring *r, struct ring_bell *b);
void ring_bell_close(struct ring_bell *b); /* not busy; the eventfd goes to done_with */
bool ring_bells_busy(const struct ring *r);
void ring_bells_gone(struct ring *r);      /* control, with an order's answer: closes what is in done_with */

/* ring_iommu.c. Nothing of it is called without an IOMMU (r->has_iommu), but for init and finish. */
void ring_iommu_init(struct ring *r);
int ring_iommu_start(struct ring *r);  /* with a view; the virtqueue starts when its memory is found. 0 or -ENOMEM */
void ring_iommu_finish(struct ring *r);
bool ring_map(struct ring *r);         /* is the ring's own memory found, at last? */
void ring_unmap(struct ring *r);       /* look it up again before it is touched */
void ring_starve(struct ring *r);      /* a translation is missing: nothing goes on until something has come */
void ring_late(struct ring *r, const struct chain *c, uint32_t written); /* an answer while the ring is not mapped */
void ring_drop_late(struct ring *r);   /* the ring stops: if it cannot be mapped now its late answers are lost */
void ring_busy(struct ring *r, struct ring_req *q);
void ring_idle(struct ring *r, struct ring_req *q);
void ring_invalidate(struct ring *r);  /* an order */
