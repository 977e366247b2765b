/* SPDX-License-Identifier: BSD-3-Clause */
/* inflight_split.h - the in-flight record of one split ring (see inflight.h): its queue thread. */
#pragma once

#include "vhost_user/ring/inflight.h"

struct inflight_split {
        struct split_record *shared; /* only written to after inflight_split_load() */
        uint64_t counter;              /* of the next request that is taken */
        unsigned num;                  /* entries of the ring */
        unsigned nbatch;               /* given back since the last publish */
        uint16_t last_head;            /* the newest of all that were given back */
        unsigned nresubmit, resubmitted;
        uint16_t *batch;               /* num of them */
        uint16_t resubmit[];           /* in the order in which they were taken */
};

/**
 * inflight_split_load - take up the record of a ring of @num entries whose used index is @used_idx.
 * @fresh: nothing was ever written to it. Otherwise (*ret)->resubmit[] holds what must be done again.
 * Returns 0; -EBADMSG with a sentence: the record contradicts itself or the ring; -ENOMEM.
 */
int inflight_split_load(struct inflight_part part, unsigned num, uint16_t used_idx, bool *fresh,
                        struct inflight_split **ret);
void inflight_split_free(struct inflight_split *f); /* NULL is fine */

/* The next head to do again; false: none is left. */
bool inflight_split_next(struct inflight_split *f, uint16_t *head);
void inflight_split_not_yet(struct inflight_split *f); /* it comes again next time */

/* The common road. @head was taken; it was put on the used ring; the used ring's index shows all that were, it is
 * @used_idx. */
void inflight_split_take(struct inflight_split *f, uint16_t head);
void inflight_split_give_back(struct inflight_split *f, uint16_t head);
void inflight_split_published(struct inflight_split *f, uint16_t used_idx);
