/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - Of a granule that is not copied nobody changes a byte: changes of the disk pass cbw_before(), those of the common
 *     road pass cbw_is_copied() on their thread. So a copy reads what was there at the instant, and needs no lock.
 *   - A granule's bit is set (release) after its bytes have been written to the target, and never taken back.
 *   - Who waits is on one list and looks again whenever some copy has ended.
 */
#include "blkq/home/work.h"
#include "blkq/jobs/cbw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"

static void look_again(struct cbw *c);

/* --- bits ------------------------------------------------------------------------------------------------------------ */

static uint64_t granules(const struct cbw *c)
{
        return div_round_up(c->size, c->granule);
}

static bool bit_copied(const struct cbw *c, uint64_t g)
{
        return atomic_load_explicit(&c->copied[g / 64], memory_order_acquire) >> g % 64 & 1; /* pairs with [A] */
}

static bool bit_busy(const struct cbw *c, uint64_t g)
{
        return c->busy[g / 64] >> g % 64 & 1;
}

bool cbw_is_copied(const struct cbw *c, uint64_t off, uint64_t len)
{
        uint64_t end = div_round_up(off + len, c->granule);

        for (uint64_t g = off / c->granule; g < end; g++)
                if (!bit_copied(c, g))
                        return false;
        return true;
}

/* The bytes of the granules [@from, @to). */
static uint64_t bytes_of(const struct cbw *c, uint64_t from, uint64_t to)
{
        return min_u64(to * c->granule, c->size) - from * c->granule;
}

/* The first run of granules in [@from, @end) that nobody has copied or is copying, at most @max bytes. */
static bool find_run(const struct cbw *c, uint64_t from, uint64_t end, uint64_t max, uint64_t *first, uint64_t *last)
{
        uint64_t g = from;

        while (g < end) {
                if (g % 64 == 0 && atomic_load_explicit(&c->copied[g / 64], memory_order_relaxed) == UINT64_MAX)
                        g += 64;
                else if (bit_copied(c, g) || bit_busy(c, g))
                        g++;
                else
                        break;
        }
        if (g >= end)
                return false;
        *first = g;
        max = max_u64(max / c->granule, 1);
        while (g < end && g - *first < max && !bit_copied(c, g) && !bit_busy(c, g))
                g++;
        *last = g;
        return true;
}

static void mark_busy(struct cbw *c, uint64_t from, uint64_t to, bool busy)
{
        for (uint64_t g = from; g < to; g++)
                if (busy)
                        c->busy[g / 64] |= 1ull << g % 64;
                else
                        c->busy[g / 64] &= ~(1ull << g % 64);
}

static void mark_copied(struct cbw *c, uint64_t from, uint64_t to)
{
        for (uint64_t g = from; g < to; g++)
                atomic_fetch_or_explicit(&c->copied[g / 64], 1ull << g % 64, memory_order_release); /* [A] */
        c->ncopied += bytes_of(c, from, to);
}

/* --- copies on behalf of guests -------------------------------------------------------------------------------------- */

static void end_run(struct cbw *c, uint64_t off, uint64_t len, bool copied)
{
        uint64_t from = off / c->granule, to = div_round_up(off + len, c->granule);

        mark_busy(c, from, to, false);
        if (copied)
                mark_copied(c, from, to);
}

static void on_slot_copied(struct copy_range *r, int res, bool read)
{
        struct cbw_slot *s = container_of(r, struct cbw_slot, range);
        struct cbw *c = s->c;
        struct vol *v = c->v;

        end_run(c, r->off, r->end - r->off, res == 0);
        s->busy = false;
        c->nbusy--;
        if (res < 0 && !c->broken) {
                cbw_break(c, res);
                c->broke(c, res, read);
        } else {
                look_again(c);
        }
        c->copied_some(c);
        vol_unbusy(v);
}

static struct cbw_slot *spare_slot(struct cbw *c)
{
        for (unsigned i = 0; i < CBW_SLOTS; i++)
                if (!c->slot[i].busy)
                        return &c->slot[i];
        return NULL;
}

static void start_slot(struct cbw *c, struct cbw_slot *s, uint64_t first, uint64_t last)
{
        mark_busy(c, first, last, true);
        s->busy = true;
        c->nbusy++;
        s->range = (struct copy_range){
                .v = c->v, .to = c->to, .buf = s->buf, .off = first * c->granule,
                .end = first * c->granule + bytes_of(c, first, last), .flags = c->flags, .done = on_slot_copied,
        };
        vol_busy(c->v);
        copy_range_start(&s->range);
}

/* What is copied of it need not be looked at again. */
static bool all_copied(const struct cbw *c, struct cbw_wait *w)
{
        while (w->off < w->end && bit_copied(c, w->off / c->granule))
                w->off = round_down(w->off, c->granule) + c->granule;
        return w->off >= w->end;
}

/* True: nothing to wait for. Else what must be copied for @w is under way, or waits for a slot. */
static bool try(struct cbw *c, struct cbw_wait *w)
{
        uint64_t first, last, from = w->off / c->granule, end = div_round_up(w->end, c->granule);
        struct cbw_slot *s;

        while (!c->broken && !all_copied(c, w)) {
                if (!find_run(c, from, end, c->chunk, &first, &last))
                        return false; /* others are at it */
                s = spare_slot(c);
                if (!s)
                        return false;
                from = last;
                start_slot(c, s, first, last);
        }
        return true;
}

/* Who goes on may come back with the next request, and copies may end at once: a list of its own for this round. */
static void look_again(struct cbw *c)
{
        struct list mine, *n;

        list_init(&mine);
        list_splice_tail(&mine, &c->waiting);
        while ((n = list_pop(&mine)) != NULL) {
                struct cbw_wait *w = list_entry(n, struct cbw_wait, link);

                if (try(c, w))
                        w->go(w);
                else
                        list_add_tail(&c->waiting, &w->link);
        }
}

bool cbw_before(struct cbw *c, struct cbw_wait *w, uint64_t off, uint64_t len)
{
        w->off = off;
        w->end = off + len;
        list_init(&w->link);
        if (try(c, w))
                return true;
        list_add_tail(&c->waiting, &w->link);
        return false;
}

void cbw_break(struct cbw *c, int err)
{
        c->broken = err;
        look_again(c);
}

/* --- the loop -------------------------------------------------------------------------------------------------------- */

bool cbw_take(struct cbw *c, uint64_t from, uint64_t max, uint64_t *off, uint64_t *len)
{
        uint64_t first, last;

        if (c->broken || !find_run(c, from / c->granule, granules(c), max, &first, &last))
                return false;
        mark_busy(c, first, last, true);
        *off = first * c->granule;
        *len = bytes_of(c, first, last);
        return true;
}

void cbw_done(struct cbw *c, uint64_t off, uint64_t len, bool copied)
{
        end_run(c, off, len, copied);
        look_again(c);
}

/* --- beginning and end ----------------------------------------------------------------------------------------------- */

void cbw_arm(struct cbw *c)
{
        atomic_store_explicit(&c->v->cbw, c, memory_order_release);
}

void cbw_disarm(struct cbw *c, struct waiter *w)
{
        atomic_store_explicit(&c->v->cbw, NULL, memory_order_release);
        grace_wait(c->v, w);
}

void cbw_want_nothing(struct cbw *c)
{
        for (uint64_t i = 0; i < div_round_up(granules(c), 64); i++)
                atomic_store_explicit(&c->copied[i], UINT64_MAX, memory_order_relaxed);
        c->ncopied = c->size;
}

void cbw_want(struct cbw *c, uint64_t off, uint64_t len)
{
        uint64_t end = div_round_up(off + len, c->granule);

        for (uint64_t g = off / c->granule; g < end; g++) {
                if (!bit_copied(c, g))
                        continue;
                atomic_fetch_and_explicit(&c->copied[g / 64], ~(1ull << g % 64), memory_order_relaxed);
                c->ncopied -= bytes_of(c, g, g + 1);
        }
}

int cbw_init(struct cbw *c)
{
        uint64_t words = div_round_up(granules(c), 64) + 1;
        bool ok;

        list_init(&c->waiting);
        c->copied = calloc(words, sizeof(*c->copied));
        c->busy = calloc(words, sizeof(*c->busy));
        ok = c->copied && c->busy;
        for (unsigned i = 0; i < CBW_SLOTS; i++) {
                c->slot[i].c = c;
                c->slot[i].buf = aligned_alloc(4096, round_up(c->chunk, 4096));
                ok &= c->slot[i].buf != NULL;
        }
        if (ok)
                return 0;
        cbw_finish(c);
        return -ENOMEM;
}

void cbw_finish(struct cbw *c)
{
        for (unsigned i = 0; i < CBW_SLOTS; i++)
                free(c->slot[i].buf);
        free(c->copied);
        free(c->busy);
}
