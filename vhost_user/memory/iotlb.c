/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants: entries are sorted by iova and do not overlap; none wraps. A page is wanted at most once for each
 * permission, and is not wanted any more when an entry covers it, or the front end refused it.
 */
#include "iotlb.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/range.h"

struct entry {
        uint64_t iova, len, user;
        uint8_t perm;
};
struct wanted {
        uint64_t page; /* its first byte */
        uint8_t perm;
        enum { TO_ASK, ASKED, REFUSED } state;
};
struct iotlb {
        pthread_mutex_t lock;
        unsigned n, nwanted;
        unsigned victim; /* which entry goes when there is no room: each in turn */
        struct entry entry[IOTLB_ENTRIES];
        struct wanted wanted[IOTLB_WANTED];
};

struct iotlb *iotlb_new(void)
{
        struct iotlb *t = calloc(1, sizeof(*t));

        if (t)
                pthread_mutex_init(&t->lock, NULL);
        return t;
}

void iotlb_free(struct iotlb *t)
{
        if (!t)
                return;
        pthread_mutex_destroy(&t->lock);
        free(t);
}

/* --- under the lock ---------------------------------------------------------------------------------------------- */

/* The first entry that ends behind @iova. */
static unsigned find(const struct iotlb *t, uint64_t iova)
{
        unsigned lo = 0, hi = t->n;

        while (lo < hi) {
                unsigned mid = (lo + hi) / 2;

                if (t->entry[mid].iova + (t->entry[mid].len - 1) < iova)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        return lo;
}

static void drop(struct iotlb *t, unsigned i, unsigned n)
{
        memmove(&t->entry[i], &t->entry[i + n], (t->n - i - n) * sizeof(t->entry[0]));
        t->n -= n;
}

/* @last: the last byte, since a range may end with the address space. Whole entries go, also those that reach
 * beyond. */
static void forget(struct iotlb *t, uint64_t iova, uint64_t last)
{
        unsigned from = find(t, iova), to = from;

        while (to < t->n && t->entry[to].iova <= last)
                to++;
        drop(t, from, to - from);
}

static void want_no_more(struct iotlb *t, unsigned i)
{
        t->wanted[i] = t->wanted[--t->nwanted];
}

/* Returns -EAGAIN, -EFAULT where it was refused, or -ENOBUFS when the list is full: whoever waits looks again soon. */
static int want(struct iotlb *t, uint64_t page, uint8_t perm)
{
        for (unsigned i = 0; i < t->nwanted; i++) {
                const struct wanted *w = &t->wanted[i];

                if (w->page != page || w->perm != perm)
                        continue;
                if (w->state != REFUSED)
                        return -EAGAIN;
                want_no_more(t, i);
                return -EFAULT;
        }
        if (t->nwanted == IOTLB_WANTED)
                return -ENOBUFS;
        t->wanted[t->nwanted++] = (struct wanted){ page, perm, TO_ASK };
        return -EAGAIN;
}

/* --- the front end says ------------------------------------------------------------------------------------------ */

int iotlb_update(struct iotlb *t, uint64_t iova, uint64_t len, uint64_t user, uint8_t perm)
{
        unsigned at;

        if (!len || iova + (len - 1) < iova || user + (len - 1) < user || !perm || perm > (IOTLB_READ | IOTLB_WRITE))
                return err_note(-EINVAL, "IOTLB entry 0x%llx+0x%llx -> 0x%llx, permissions %u: no such thing",
                                (unsigned long long)iova, (unsigned long long)len, (unsigned long long)user, perm);
        pthread_mutex_lock(&t->lock);
        forget(t, iova, iova + (len - 1));
        if (t->n == IOTLB_ENTRIES)
                drop(t, t->victim++ % IOTLB_ENTRIES, 1);
        at = find(t, iova);
        memmove(&t->entry[at + 1], &t->entry[at], (t->n - at) * sizeof(t->entry[0]));
        t->entry[at] = (struct entry){ iova, len, user, perm };
        t->n++;
        for (unsigned i = t->nwanted; i-- > 0;) {
                if (t->wanted[i].page - iova >= len)
                        continue;
                if (t->wanted[i].perm & ~perm) /* mapped, but not for this */
                        t->wanted[i].state = REFUSED;
                else
                        want_no_more(t, i);
        }
        pthread_mutex_unlock(&t->lock);
        return 0;
}

void iotlb_invalidate(struct iotlb *t, uint64_t iova, uint64_t len)
{
        uint64_t last = iova + (len - 1);

        if (!len || last < iova)
                last = UINT64_MAX;
        pthread_mutex_lock(&t->lock);
        forget(t, iova, last);
        for (unsigned i = 0; i < t->nwanted; i++) /* an answer on its way is of the past */
                if (t->wanted[i].page >= round_down(iova, IOTLB_PAGE) && t->wanted[i].page <= last)
                        t->wanted[i].state = TO_ASK;
        pthread_mutex_unlock(&t->lock);
}

void iotlb_refused(struct iotlb *t, uint64_t iova, uint8_t perm)
{
        pthread_mutex_lock(&t->lock);
        for (unsigned i = 0; i < t->nwanted; i++)
                if (t->wanted[i].page == iova && t->wanted[i].perm == perm && t->wanted[i].state == ASKED)
                        t->wanted[i].state = REFUSED;
        pthread_mutex_unlock(&t->lock);
}

/* --- we ask ------------------------------------------------------------------------------------------------------ */

int iotlb_look(struct iotlb *t, uint64_t iova, uint64_t len, uint8_t perm, uint64_t *user, uint64_t *here)
{
        const struct entry *e;
        int r = 0;
        unsigned i;

        pthread_mutex_lock(&t->lock);
        i = find(t, iova);
        e = &t->entry[i];
        if (i < t->n && e->iova <= iova && !(perm & ~e->perm)) {
                *user = e->user + (iova - e->iova);
                *here = min_u64(len, e->len - (iova - e->iova));
        } else {
                r = want(t, round_down(iova, IOTLB_PAGE), perm);
        }
        pthread_mutex_unlock(&t->lock);
        return r;
}

bool iotlb_next_miss(struct iotlb *t, uint64_t *iova, uint8_t *perm)
{
        bool found = false;

        pthread_mutex_lock(&t->lock);
        for (unsigned i = 0; i < t->nwanted && !found; i++) {
                struct wanted *w = &t->wanted[i];

                if (w->state != TO_ASK)
                        continue;
                w->state = ASKED;
                *iova = w->page;
                *perm = w->perm;
                found = true;
        }
        pthread_mutex_unlock(&t->lock);
        return found;
}

void iotlb_ask_again(struct iotlb *t)
{
        pthread_mutex_lock(&t->lock);
        for (unsigned i = 0; i < t->nwanted; i++)
                t->wanted[i].state = TO_ASK;
        pthread_mutex_unlock(&t->lock);
}
