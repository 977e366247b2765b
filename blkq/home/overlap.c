/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overlap.c - who may change which clusters now.
 *
 * Entries are in order of arrival. An entry counts the earlier ones that overlap it; at 0 the range is its own. So of
 * those who want the same cluster each waits for all before it (first come, first served, nobody starves), and requests
 * that share no cluster never wait. A holder never asks for a second range, so there is no deadlock.
 */
#include "blkq/home/work.h"
#include "blkq/vol_impl.h"
#include "common/range.h"

bool range_lock(struct list *ranges, struct range_lock *l, uint64_t off, uint64_t len, struct waiter *who)
{
        *l = (struct range_lock){ .off = off, .len = len };
        list_for_each(pos, ranges) {
                struct range_lock *e = list_entry(pos, struct range_lock, link);

                l->blockers += range_overlaps(off, len, e->off, e->len);
        }
        l->who = l->blockers ? who : NULL;
        list_add_tail(ranges, &l->link);
        return !l->blockers;
}

void range_unlock(struct list *ranges, struct range_lock *l)
{
        struct list woken, *n;

        list_init(&woken);
        for (struct list *pos = l->link.next; pos != ranges; pos = pos->next) {
                struct range_lock *e = list_entry(pos, struct range_lock, link);

                if (range_overlaps(l->off, l->len, e->off, e->len) && --e->blockers == 0)
                        list_add_tail(&woken, &TAKE(e->who, NULL)->link);
        }
        list_del(&l->link);
        while ((n = list_pop(&woken)) != NULL) {
                struct waiter *w = list_entry(n, struct waiter, link);

                w->wake(w, 0);
        }
}
