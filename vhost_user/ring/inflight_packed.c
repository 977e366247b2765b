/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layout and the steps are those of the vhost-user specification, "Inflight I/O tracking", packed virtqueue, with
 * one difference in time: the free list and the used index move when a batch is shown, not when its parts are given
 * back. So a chain may be taken between the two, and free_head == old_free_head whenever one is.
 *
 * Invariants, at any instruction where this process may die:
 *   - Every entry is in the list of old_free_head, or in one chain in flight. (What differs in the list of free_head is
 *     the batch that is being shown.)
 *   - A chain is taken when old_free_head leaves its entries behind; a batch is shown when the flags of its first
 *     descriptor are in the ring, and until then where.used is what where.old_used will be.
 *   - The four fields that say where we are in the ring are one store.
 * A process that is killed has done every store that came before in the program, as long as the compiler keeps their
 * order: so each store here is a release store. No other thread looks while we run.
 */
#include "inflight_packed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bitmap.h"
#include "common/cleanup.h"
#include "common/err.h"

#define WRAP 0x8000u  /* in an index of SET_VRING_BASE */
#define STORE(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELEASE)

/* Native endian: the two processes run on one machine. */
struct entry {
        uint8_t inflight, padding;
        uint16_t next, last, num;
        uint64_t counter;
        uint16_t id, flags;
        uint32_t len;
        uint64_t addr;
};
union where {
        struct {
                uint16_t used_idx, old_used_idx;
                uint8_t used_wrap_counter, old_used_wrap_counter, padding[2];
        };
        uint64_t word;
};
#define PACKED_HEAD \
        uint64_t features; \
        uint16_t version, desc_num, free_head, old_free_head; \
        union where where; \
        uint8_t padding[8];

struct packed_head {
        PACKED_HEAD
};
struct packed_record {
        PACKED_HEAD
        struct entry desc[];
};
_Static_assert(sizeof(struct packed_record) == 32 && sizeof(struct packed_head) == 32 && sizeof(struct entry) == 32 &&
               sizeof(union where) == 8, "as the specification draws it");

struct inflight_packed {
        struct packed_record *shared; /* only written to after inflight_packed_load() */
        uint64_t counter;             /* of the next chain that is taken */
        unsigned num;                 /* descriptors of the ring, entries of the record */
        uint16_t free_head;           /* num: no entry is free */
        uint16_t noted;               /* the newest entry that was noted */
        union where where;
        unsigned nbatch;              /* given back since the last batch was shown */
        uint16_t *next, *last;        /* by entry */
        uint16_t *entry_of;           /* by buffer id: the first of its chain */
        uint16_t *batch;              /* first entries */
        struct again *again;          /* NULL: nothing was in flight */
        uint16_t arrays[];
};

/* A record that was read back: our copy, repaired, and the chains in it that must be done again. */
struct again {
        struct packed_head head;
        struct entry entry[INFLIGHT_MAX_SIZE];
        unsigned n, at;
        struct inflight_taken chain[INFLIGHT_MAX_SIZE];
        struct chain_desc desc[INFLIGHT_MAX_SIZE]; /* of the newest that was asked for */
};

/* --- reading a record back ---------------------------------------------------------------------------------------- */

static uint16_t used_of(const union where *w)
{
        return (uint16_t)(w->old_used_idx | (w->old_used_wrap_counter ? WRAP : 0));
}

static bool settled(const union where *w)
{
        return w->used_idx == w->old_used_idx && w->used_wrap_counter == w->old_used_wrap_counter;
}

/* Does the ring still show what the guest offered at that place? Then the batch that begins there was never shown. */
static bool still_offered(const struct vring_packed_desc *ring, const union where *w)
{
        uint16_t flags = gm_load16(&ring[w->old_used_idx].flags);

        return (flags >> VRING_PACKED_DESC_F_AVAIL & 1) == w->old_used_wrap_counter &&
               (flags >> VRING_PACKED_DESC_F_USED & 1) != w->old_used_wrap_counter;
}

/* A batch was being shown: it was, or it was not. */
static int settle(struct packed_head *h, unsigned num, const struct vring_packed_desc *ring)
{
        union where *w = &h->where;

        if (w->used_wrap_counter > 1 || w->old_used_wrap_counter > 1)
                return inflight_damaged("a wrap counter that is neither 0 nor 1", w->used_wrap_counter);
        if (w->used_idx >= num || w->old_used_idx >= num)
                return inflight_damaged("a used index beyond the ring", w->used_idx);
        if (!settled(w) && !still_offered(ring, w)) {
                h->old_free_head = h->free_head;
                w->old_used_idx = w->used_idx;
                w->old_used_wrap_counter = w->used_wrap_counter;
        } else {
                h->free_head = h->old_free_head;
                w->used_idx = w->old_used_idx;
                w->used_wrap_counter = w->old_used_wrap_counter;
        }
        return 0;
}

/* Entries that follow each other from @head on; @seen: those that were met before. Stops behind @max, or at the end. */
static int walk(const struct entry *e, unsigned num, unsigned long *seen, unsigned head, unsigned max, uint16_t *last)
{
        unsigned n;

        for (n = 0; n < max && head != num; n++, head = e[head].next) {
                if (head > num)
                        return inflight_damaged("an entry beyond the ring in a list", head);
                if (bitmap_test_and_set(seen, head))
                        return inflight_damaged("an entry twice in its lists", head);
                *last = (uint16_t)head;
        }
        return (int)n;
}

/* One chain in flight: it is as long as it says, and has a buffer id of its own. */
static int check_chain(struct inflight_packed *f, unsigned head, unsigned long *seen, unsigned long *ids)
{
        const struct entry *e = f->again->entry;
        uint16_t last;
        int n = e[head].num <= f->num ? walk(e, f->num, seen, head, e[head].num, &last) : 0;

        if (n < 0)
                return n;
        if (!n || n != e[head].num || last != e[head].last)
                return inflight_damaged("a chain of another length than it says", head);
        if (e[last].id >= f->num || bitmap_test_and_set(ids, e[last].id))
                return inflight_damaged("a buffer id that is too large, or twice in flight", e[last].id);
        f->last[head] = last;
        f->entry_of[e[last].id] = (uint16_t)head;
        return n;
}

/* Every entry is free or in a chain in flight. Returns how many are in chains. */
static int collect(struct inflight_packed *f)
{
        unsigned long seen[BITMAP_WORDS(INFLIGHT_MAX_SIZE)] = { 0 }, ids[BITMAP_WORDS(INFLIGHT_MAX_SIZE)] = { 0 };
        struct again *a = f->again;
        unsigned taken = 0;
        uint16_t last;
        int nfree = walk(a->entry, f->num, seen, a->head.free_head, f->num + 1, &last), n;

        if (nfree < 0)
                return nfree;
        for (unsigned i = 0; i < f->num; i++)
                if (bitmap_test(seen, i))
                        a->entry[i].inflight = 0;
        for (unsigned i = 0; i < f->num; i++) {
                if (!a->entry[i].inflight)
                        continue;
                if (a->entry[i].inflight > 1)
                        return inflight_damaged("a flag that is neither 0 nor 1", a->entry[i].inflight);
                n = check_chain(f, i, seen, ids);
                if (n < 0)
                        return n;
                taken += (unsigned)n;
                a->chain[a->n++] = (struct inflight_taken){ a->entry[i].counter, (uint16_t)i };
        }
        if (taken + (unsigned)nfree != f->num)
                return inflight_damaged("entries that are neither free nor in flight", f->num - taken - (unsigned)nfree);
        n = inflight_sort(a->chain, a->n, &f->counter);
        return n < 0 ? n : (int)taken;
}

static int judge(struct inflight_packed *f, const struct vring_packed_desc *ring)
{
        struct packed_head *h = &f->again->head;
        int r;

        if (h->version != INFLIGHT_VERSION || h->features)
                return inflight_damaged("a version that we do not know", h->version);
        if (h->desc_num != f->num)
                return inflight_damaged("it is of a ring of another size", h->desc_num);
        r = settle(h, f->num, ring);
        return r < 0 ? r : collect(f);
}

/* Fresh memory: all entries are free. */
static void begin(struct again *a, unsigned num, uint16_t used)
{
        uint16_t idx = used & (uint16_t)~WRAP;
        uint8_t wrap = used >= WRAP;

        memset(a, 0, sizeof(*a));
        a->head.where = (union where){ { .used_idx = idx, .old_used_idx = idx, .used_wrap_counter = wrap,
                                         .old_used_wrap_counter = wrap } };
        for (unsigned i = 0; i < num; i++)
                a->entry[i].next = (uint16_t)(i + 1);
}

/* Bring the shared record to what the copy says after repair, in the order of published(): dying in between is no
 * harm. */
static void write_back(const struct inflight_packed *f)
{
        const struct again *a = f->again;

        for (unsigned i = 0; i < f->num; i++) {
                STORE(f->shared->desc[i].next, a->entry[i].next);
                STORE(f->shared->desc[i].inflight, a->entry[i].inflight);
        }
        STORE(f->shared->free_head, a->head.free_head);
        STORE(f->shared->old_free_head, a->head.free_head);
        STORE(f->shared->where.word, a->head.where.word);
        STORE(f->shared->desc_num, (uint16_t)f->num);
        STORE(f->shared->features, 0);
        STORE(f->shared->version, INFLIGHT_VERSION);
}

static struct inflight_packed *record_new(struct packed_record *shared, unsigned num)
{
        struct inflight_packed *f = calloc(1, sizeof(*f) + 4 * num * sizeof(f->arrays[0]));

        if (!f)
                return NULL;
        f->shared = shared;
        f->num = num;
        f->next = f->arrays;
        f->last = f->next + num;
        f->entry_of = f->last + num;
        f->batch = f->entry_of + num;
        f->again = calloc(1, sizeof(*f->again));
        return f;
}

static void record_freep(struct inflight_packed **f)
{
        inflight_packed_free(*f);
}

int inflight_packed_load(struct inflight_part part, unsigned num, const struct vring_packed_desc *ring, uint16_t *used,
                         unsigned *ndescs, bool *fresh, struct inflight_packed **ret)
{
        size_t nentries = part.len < sizeof(struct packed_record)
                                  ? 0 : (part.len - sizeof(struct packed_record)) / sizeof(struct entry);
        AUTO(record_freep) struct inflight_packed *f = record_new(part.at, num);
        int r = 0;

        if (!f || !f->again)
                return -ENOMEM;
        if (num > nentries)
                return err_note(-EBADMSG, "the in-flight record has room for %zu entries; the ring has %u", nentries, num);
        memcpy(&f->again->head, part.at, sizeof(f->again->head));
        memcpy(f->again->entry, f->shared->desc, num * sizeof(f->again->entry[0]));
        *fresh = !f->again->head.version;
        if (*fresh)
                begin(f->again, num, *used);
        else
                r = judge(f, ring);
        if (r < 0)
                return r;
        write_back(f);
        for (unsigned i = 0; i < num; i++)
                f->next[i] = f->again->entry[i].next;
        f->free_head = f->again->head.free_head;
        f->where = f->again->head.where;
        *used = used_of(&f->where);
        *ndescs = (unsigned)r;
        if (!f->again->n)
                free(TAKE(f->again, NULL));
        *ret = TAKE(f, NULL);
        return 0;
}

void inflight_packed_free(struct inflight_packed *f)
{
        if (f)
                free(f->again);
        free(f);
}

unsigned inflight_packed_left(const struct inflight_packed *f)
{
        return f->again ? f->again->n - f->again->at : 0;
}

const struct chain_desc *inflight_packed_next(struct inflight_packed *f, unsigned *n)
{
        struct again *a = f->again;
        uint16_t at;

        if (!inflight_packed_left(f))
                return NULL;
        at = a->chain[a->at++].entry;
        *n = a->entry[at].num;
        for (unsigned i = 0; i < *n; i++, at = a->entry[at].next) { /* behind the last one that is not an entry of ours */
                const struct entry *e = &a->entry[at];

                a->desc[i] = (struct chain_desc){ e->addr, e->len, e->id, e->flags };
        }
        return a->desc;
}

void inflight_packed_not_yet(struct inflight_packed *f)
{
        f->again->at--;
}

/* --- the common road ---------------------------------------------------------------------------------------------- */

void inflight_packed_note(struct inflight_packed *f, unsigned n, const struct chain_desc *d)
{
        struct entry *e;

        f->noted = n ? f->next[f->noted] : f->free_head;
        e = &f->shared->desc[f->noted];
        STORE(e->addr, d->addr);
        STORE(e->len, d->len);
        STORE(e->flags, d->flags);
        STORE(e->id, d->id);
}

void inflight_packed_take(struct inflight_packed *f, uint16_t id, unsigned ndescs)
{
        struct entry *e = &f->shared->desc[f->free_head];

        f->entry_of[id] = f->free_head;
        f->last[f->free_head] = f->noted;
        STORE(e->num, (uint16_t)ndescs);
        STORE(e->last, f->noted);
        STORE(e->counter, f->counter++);
        STORE(e->inflight, 1);
        f->free_head = f->next[f->noted];
        STORE(f->shared->free_head, f->free_head);
        STORE(f->shared->old_free_head, f->free_head);
}

void inflight_packed_give_back(struct inflight_packed *f, uint16_t id)
{
        f->batch[f->nbatch++] = f->entry_of[id];
}

void inflight_packed_publish(struct inflight_packed *f, uint16_t used)
{
        for (unsigned i = 0; i < f->nbatch; i++) {
                uint16_t first = f->batch[i], last = f->last[first];

                f->next[last] = f->free_head;
                STORE(f->shared->desc[last].next, f->free_head);
                f->free_head = first;
                STORE(f->shared->free_head, first);
        }
        f->where.used_idx = used & (uint16_t)~WRAP;
        f->where.used_wrap_counter = used >= WRAP;
        STORE(f->shared->where.word, f->where.word);
}

void inflight_packed_published(struct inflight_packed *f)
{
        for (unsigned i = 0; i < f->nbatch; i++)
                STORE(f->shared->desc[f->batch[i]].inflight, 0);
        STORE(f->shared->old_free_head, f->free_head);
        f->where.old_used_idx = f->where.used_idx;
        f->where.old_used_wrap_counter = f->where.used_wrap_counter;
        STORE(f->shared->where.word, f->where.word);
        f->nbatch = 0;
}
