/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layout and the steps are those of the vhost-user specification, "Inflight I/O tracking", split virtqueue.
 *
 * Invariants, at any instruction where this process may die:
 *   - A head whose flag is set was taken; it was given back only if it is in the last batch, and the used index that
 *     the guest sees is then ahead of the record's by the length of that batch.
 *   - Every taken head is marked before the next one is taken, so used index + heads in flight = entries taken.
 * A process that is killed has done every store that came before in the program, as long as the compiler keeps their
 * order: so each store here is a release store. No other thread looks while we run.
 */
#include "inflight_split.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bitmap.h"
#include "common/cleanup.h"
#include "common/err.h"

/* Native endian: the two processes run on one machine. */
#define SPLIT_HEAD \
        uint64_t features; \
        uint16_t version, desc_num, last_batch_head, used_idx;

struct entry {
        uint8_t inflight, padding[5];
        uint16_t next;
        uint64_t counter;
};
struct split_head {
        SPLIT_HEAD
};
struct split_record {
        SPLIT_HEAD
        struct entry desc[];
};
_Static_assert(sizeof(struct split_record) == 16 && sizeof(struct split_head) == 16 && sizeof(struct entry) == 16,
               "as the specification draws it");

/* --- reading a record back ---------------------------------------------------------------------------------------- */

/* Our copy of one, to be judged. */
struct copy {
        struct split_head head;
        struct entry desc[INFLIGHT_MAX_SIZE];
};

/* The last batch was shown to the guest, but perhaps not yet taken off the record. */
static int finish_last_batch(struct copy *c, unsigned num, uint16_t used_idx)
{
        unsigned long seen[BITMAP_WORDS(INFLIGHT_MAX_SIZE)] = { 0 };
        unsigned left = (uint16_t)(used_idx - c->head.used_idx), head = c->head.last_batch_head;

        if (left > num)
                return inflight_damaged("the used index has moved by more than the ring holds", left);
        for (; left; left--) {
                if (head >= num)
                        return inflight_damaged("a head beyond the ring in its last batch", head);
                if (bitmap_test_and_set(seen, head))
                        return inflight_damaged("a head twice in its last batch", head);
                c->desc[head].inflight = 0;
                head = c->desc[head].next;
        }
        return 0;
}

static int collect(struct inflight_split *f, struct copy *c, unsigned nentries)
{
        struct inflight_taken taken[INFLIGHT_MAX_SIZE];
        int r;

        for (unsigned i = 0; i < nentries; i++) {
                if (c->desc[i].inflight > 1)
                        return inflight_damaged("a flag that is neither 0 nor 1", c->desc[i].inflight);
                if (c->desc[i].inflight && i >= f->num)
                        return inflight_damaged("a head beyond the ring in flight", i);
                if (c->desc[i].inflight)
                        taken[f->nresubmit++] = (struct inflight_taken){ c->desc[i].counter, (uint16_t)i };
        }
        if (f->nresubmit && c->head.desc_num != f->num)
                return inflight_damaged("requests in flight in a ring of another size", c->head.desc_num);
        r = inflight_sort(taken, f->nresubmit, &f->counter);
        for (unsigned i = 0; i < f->nresubmit; i++)
                f->resubmit[i] = taken[i].entry;
        return r;
}

/* Bring the shared record to what the copy says after repair; the flags first, as after any batch. */
static void write_back(struct inflight_split *f, const struct copy *c, unsigned nentries, uint16_t used_idx)
{
        for (unsigned i = 0; i < nentries; i++)
                __atomic_store_n(&f->shared->desc[i].inflight, c->desc[i].inflight, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->desc_num, (uint16_t)f->num, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->features, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
}

static int judge(struct inflight_split *f, struct copy *c, unsigned nentries, uint16_t used_idx)
{
        int r;

        if (c->head.version != INFLIGHT_VERSION || c->head.features)
                return inflight_damaged("a version that we do not know", c->head.version);
        r = finish_last_batch(c, f->num, used_idx);
        return r < 0 ? r : collect(f, c, nentries);
}

int inflight_split_load(struct inflight_part part, unsigned num, uint16_t used_idx, bool *fresh,
                        struct inflight_split **ret)
{
        unsigned nentries = (unsigned)((part.len - sizeof(struct split_record)) / sizeof(struct entry));
        AUTO(freep) struct copy *c = calloc(1, sizeof(*c));
        AUTO(freep) struct inflight_split *f = calloc(1, sizeof(*f) + 2 * num * sizeof(uint16_t));
        int r;

        if (!c || !f)
                return -ENOMEM;
        if (nentries > INFLIGHT_MAX_SIZE)
                nentries = INFLIGHT_MAX_SIZE;
        if (num > nentries)
                return err_note(-EBADMSG, "the in-flight record has room for %u entries; the ring has %u", nentries, num);
        f->shared = part.at;
        f->num = num;
        f->batch = f->resubmit + num;
        memcpy(&c->head, part.at, sizeof(c->head));
        memcpy(c->desc, f->shared->desc, nentries * sizeof(c->desc[0]));
        *fresh = !c->head.version;
        if (*fresh)
                memset(c, 0, sizeof(*c));
        r = *fresh ? 0 : judge(f, c, nentries, used_idx);
        if (r < 0)
                return r;
        write_back(f, c, nentries, used_idx);
        *ret = TAKE(f, NULL);
        return 0;
}

void inflight_split_free(struct inflight_split *f)
{
        free(f);
}

bool inflight_split_next(struct inflight_split *f, uint16_t *head)
{
        if (f->resubmitted == f->nresubmit)
                return false;
        *head = f->resubmit[f->resubmitted++];
        return true;
}

void inflight_split_not_yet(struct inflight_split *f)
{
        f->resubmitted--;
}

/* --- the common road ---------------------------------------------------------------------------------------------- */

void inflight_split_take(struct inflight_split *f, uint16_t head)
{
        struct entry *e = &f->shared->desc[head];

        __atomic_store_n(&e->counter, f->counter++, __ATOMIC_RELEASE);
        __atomic_store_n(&e->inflight, 1, __ATOMIC_RELEASE);
}

void inflight_split_give_back(struct inflight_split *f, uint16_t head)
{
        /* A guest that offers a head again before it was shown as used may fill the batch; it hurts its own record
         * only. */
        if (f->nbatch == f->num)
                return;
        __atomic_store_n(&f->shared->desc[head].next, f->last_head, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->last_batch_head, head, __ATOMIC_RELEASE);
        f->last_head = f->batch[f->nbatch++] = head;
}

void inflight_split_published(struct inflight_split *f, uint16_t used_idx)
{
        for (unsigned i = 0; i < f->nbatch; i++)
                __atomic_store_n(&f->shared->desc[f->batch[i]].inflight, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);
        f->nbatch = 0;
}
