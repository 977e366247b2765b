/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.c - how clusters of the file come and go: one state machine for all of them.
 *
 *     free ----> reserved -> used -> dying -> quarantined -> unpunched -> punching -> free
 *     end of file --^          |                ^
 *                              +--- (aborted) --+
 *
 * Invariants
 * - A cluster is in at most one run, and in none while it is used (an entry or a plan has it).
 * - reserved: its refcount is 1 in memory and it reads as zeros. The refcount, the punch that zeroed it and the length
 *   of the file are durable once durable_gen reaches the run's stamp. An entry that points to it earlier needs a sync
 *   between the two; flush.c asks newest_used.
 * - dying -> quarantined only when every thread has finished what it had in flight at the unlink (ticket).
 * - quarantined -> unpunched only when the flush that wrote the unlink has succeeded (stamp <= durable_gen). Then its
 *   refcount drops. The drop itself may reach the file at any time: until then a crash leaks, no more.
 * - punching -> free only when the punch is done, so no punch can hit a cluster that has a new owner.
 * - An aborted cluster has been written to, so it takes the long way round before it counts as zeros again.
 * - A free cluster in [sweep, sweep_end) is on no list: the sweep will find it. Behind the sweep it is on the free list
 *   or forgotten (until the image is opened again).
 * - Nothing is written beyond file_end: so FMT_TRUNCATE, which moves it, never cuts off what a request wrote.
 */
#include "space.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/err.h"

#define RESERVE_BYTES (1u << 20)       /* first size of the reservation; doubles while it runs dry */
#define RESERVE_MAX_BYTES (64u << 20)
#define GROW_MIN_BYTES (4ull << 20)
#define GROW_MAX_BYTES (256ull << 20)
#define HOST_END_MAX (1ull << 56)      /* entries have no bits for more */

/* --- runs ------------------------------------------------------------------------------------------------------ */

struct space_run *space_run_new(enum run_state state, uint64_t first, uint64_t n)
{
        struct space_run *run = calloc(1, sizeof(*run));

        if (!run)
                return NULL;
        list_init(&run->link);
        run->state = state;
        run->first = first;
        run->n = n;
        return run;
}

static struct list *list_of(struct space *s, enum run_state state)
{
        switch (state) {
        case RUN_DYING:
                return &s->dying;
        case RUN_QUARANTINED:
                return &s->quarantined;
        case RUN_UNPUNCHED:
                return &s->unpunched;
        case RUN_PUNCHING:
                return &s->punching;
        case RUN_FREE:
                return &s->free;
        default:
                return NULL;
        }
}

static bool is_leaving(enum run_state s)
{
        return s >= RUN_DYING && s <= RUN_PUNCHING;
}

static bool may_become(enum run_state from, enum run_state to)
{
        switch (from) {
        case RUN_NOTE:
                return to == RUN_DYING || to == RUN_QUARANTINED;
        case RUN_FREE: /* into a reservation: space_reserve() */
                return false;
        case RUN_RESERVED:
                return to == RUN_QUARANTINED;
        default:
                return to == from + 1;
        }
}

void space_run_move(struct qcow2_image *q, struct space_run *run, enum run_state from, enum run_state to)
{
        struct space *s = &q->space;

        assert(run->state == from && may_become(from, to));
        assert(run->n && run->first && run->first + run->n <= s->end);
        assert(from != RUN_QUARANTINED || run->stamp <= q->durable_gen);
        list_del(&run->link);
        run->state = to;
        list_add_tail(list_of(s, to), &run->link);
        s->nleaving += (unsigned)is_leaving(to) - (unsigned)is_leaving(from);
        s->nfree += to == RUN_FREE;
}

void space_run_forget(struct qcow2_image *q, struct space_run *run)
{
        list_del(&run->link);
        q->space.nleaving -= is_leaving(run->state);
        q->space.nfree -= run->state == RUN_FREE;
        free(run);
}

int space_runs_new(struct list *spare, size_t n)
{
        while (n--) {
                struct space_run *run = space_run_new(RUN_NOTE, 0, 0);

                if (!run)
                        return -ENOMEM;
                list_add_tail(spare, &run->link);
        }
        return 0;
}

void space_runs_free(struct list *spare)
{
        struct list *pos;

        while ((pos = list_pop(spare)))
                free(list_entry(pos, struct space_run, link));
}

/* --- begin and end --------------------------------------------------------------------------------------------- */

static uint64_t clamp_u64(uint64_t n, uint64_t low, uint64_t high)
{
        return n < low ? low : n > high ? high : n;
}

int space_init(struct qcow2_image *q)
{
        struct space *s = &q->space;

        list_init(&s->reserved);
        list_init(&s->dying);
        list_init(&s->quarantined);
        list_init(&s->unpunched);
        list_init(&s->punching);
        list_init(&s->free);
        list_init(&s->packed_note);
        s->end = s->file_end = div_round_up(q->img.file->size, q->img.cluster_size);
        s->sweep = 1;
        s->sweep_end = s->end;
        s->target = clamp_u64(RESERVE_BYTES >> q->cluster_bits, 4, 1024);
        if (q->img.file->is_blkdev && !q->img.read_only)
                return err_note(-ENOTSUP, "a qcow2 image on a block device can only be opened read-only");
        atomic_store(&q->host_end, s->end << q->cluster_bits);
        return 0;
}

void space_finish(struct qcow2_image *q)
{
        struct space *s = &q->space;

        if (!s->free.next) /* half open */
                return;
        space_runs_free(&s->reserved);
        space_runs_free(&s->dying);
        space_runs_free(&s->quarantined);
        space_runs_free(&s->unpunched);
        space_runs_free(&s->punching);
        space_runs_free(&s->free);
        space_runs_free(&s->packed_note);
}

/* --- the end of the file ----------------------------------------------------------------------------------------- */

int space_room(struct qcow2_image *q, uint64_t n)
{
        struct space *s = &q->space;

        if (s->end + n <= s->file_end)
                return 0;
        if (s->end + n > HOST_END_MAX >> q->cluster_bits)
                return err_note(-EFBIG, "the image file would exceed 2^56 bytes");
        s->grow_need = max_u64(s->grow_need, s->end + n - s->file_end);
        return tcache_miss(q, MISS_GROW, NULL, 0);
}

void space_advance(struct qcow2_image *q, uint64_t n)
{
        q->space.end += n;
        assert(q->space.end <= q->space.file_end);
        atomic_store_explicit(&q->host_end, q->space.end << q->cluster_bits, memory_order_release);
}

static void grow_done(struct fmt_batch *b, int err)
{
        struct qcow2_image *q = qcow2_of(b->img);
        struct space *s = &q->space;

        s->growing = NULL;
        s->grow_need = 0;
        if (err == 0) {
                s->file_end = b->step[0].off >> q->cluster_bits;
                s->grown = true;
        }
        fmt_batch_free(b);
}

struct fmt_batch *space_grow_batch(struct qcow2_image *q)
{
        struct space *s = &q->space;
        uint64_t step = clamp_u64((s->file_end << q->cluster_bits) / 8, GROW_MIN_BYTES, GROW_MAX_BYTES);
        struct fmt_batch *b;

        if (s->growing)
                return s->growing;
        b = fmt_batch_new(&q->img, 1, sizeof(*b));
        if (!b)
                return NULL;
        step = max_u64(step >> q->cluster_bits, s->grow_need);
        b->step[0] = (struct fmt_step){ .op = FMT_TRUNCATE, .off = (s->file_end + step) << q->cluster_bits };
        b->nsteps = 1;
        b->done = grow_done;
        return s->growing = b;
}

/* --- reserving --------------------------------------------------------------------------------------------------- */

/* [first, first + n), refcounts in one page and all 0 so far, becomes a reservation. */
static int reserve_run(struct qcow2_image *q, struct page *p, uint64_t first, uint64_t n)
{
        struct space *s = &q->space;
        struct list *tail = s->reserved.prev;
        struct space_run *last = list_empty(&s->reserved) ? NULL : list_entry(tail, struct space_run, link);

        if (!last || last->first + last->n != first || last->stamp != q->gen) {
                last = space_run_new(RUN_RESERVED, first, 0);
                if (!last)
                        return -ENOMEM;
                last->stamp = q->gen;
                list_add_tail(&s->reserved, &last->link);
        }
        for (uint64_t c = first; c < first + n; c++)
                rc_set(q, p, c, 1);
        last->n += n;
        s->nreserved += n;
        return 0;
}

static int reserve_freed(struct qcow2_image *q, uint64_t want)
{
        struct space_run *run = list_entry(q->space.free.next, struct space_run, link);
        uint64_t n = min_u64(min_u64(want, run->n), rc_page_left(q, run->first));
        struct page *p;
        int r = rc_page(q, run->first, &p);

        if (r == -ERANGE)
                return qcow2_contradiction(q, "the refcount block of a freed cluster is gone");
        for (uint64_t c = run->first; r == 0 && c < run->first + n; c++)
                if (rc_get(q, p, c) != 0)
                        return qcow2_contradiction(q, "freed cluster %" PRIu64 " has a refcount again", c);
        if (r == 0)
                r = reserve_run(q, p, run->first, n);
        if (r < 0)
                return r;
        run->first += n;
        run->n -= n;
        if (run->n == 0)
                space_run_forget(q, run);
        return 0;
}

/* Step over clusters beyond the end that have a refcount already (left by somebody's crash). *p: page of the first
 * free. */
static int skip_counted(struct qcow2_image *q, struct page **p)
{
        struct space *s = &q->space;

        for (;;) {
                int r = rc_page(q, s->end, p);

                if (r == -ERANGE)
                        r = rc_cover(q, s->end);
                else if (r == 0 && rc_get(q, *p, s->end) == 0)
                        return space_room(q, 1);
                else if (r == 0) {
                        r = space_room(q, 1);
                        if (r == 0)
                                space_advance(q, 1);
                }
                if (r < 0)
                        return r;
        }
}

static int reserve_at_end(struct qcow2_image *q, uint64_t want)
{
        struct space *s = &q->space;
        uint64_t n = 1, most;
        struct page *p;
        int r = skip_counted(q, &p);

        if (r < 0)
                return r;
        most = min_u64(min_u64(want, rc_page_left(q, s->end)), s->file_end - s->end);
        while (n < most && rc_get(q, p, s->end + n) == 0)
                n++;
        r = reserve_run(q, p, s->end, n);
        if (r == 0)
                space_advance(q, n);
        return r;
}

int space_reserve(struct qcow2_image *q, uint64_t want)
{
        return list_empty(&q->space.free) ? reserve_at_end(q, want) : reserve_freed(q, want);
}

uint64_t space_peek(const struct qcow2_image *q)
{
        assert(q->space.nreserved);
        return list_entry(q->space.reserved.next, struct space_run, link)->first;
}

/*
 * Would more clusters follow those that are reserved? Then a write gets all of its own in a row, and not the rest of
 * them behind what others, who ask while its first part is written, get meanwhile.
 */
static bool next_follows(const struct qcow2_image *q)
{
        const struct space *s = &q->space;
        uint64_t first = space_peek(q);

        return list_empty(&s->free) && first + s->nreserved == s->end;
}

int space_ensure(struct qcow2_image *q, uint64_t n)
{
        struct space *s = &q->space;
        uint64_t most = clamp_u64(RESERVE_MAX_BYTES >> q->cluster_bits, 8, 8192);
        bool ran_dry = s->started;
        int r = 0;

        while (r == 0 && (s->nreserved == 0 || (s->nreserved < n && next_follows(q)))) {
                r = space_reserve(q, max_u64(n - s->nreserved, s->target));
                if (r == 0 && ran_dry) /* between two flushes: keep more next time */
                        s->target = min_u64(s->target * 2, most);
                ran_dry = false;
                s->started = true;
        }
        if (r < 0 && r != -EAGAIN && s->nreserved) { /* a part of it, then */
                err_clear();
                r = 0;
        }
        return r;
}

uint64_t space_take(struct qcow2_image *q, uint64_t n, uint64_t *got, uint64_t *stamp)
{
        struct space *s = &q->space;
        uint64_t first = space_peek(q);

        *got = *stamp = 0;
        while (*got < n && !list_empty(&s->reserved)) {
                struct space_run *run = list_entry(s->reserved.next, struct space_run, link);
                uint64_t some = min_u64(n - *got, run->n);

                assert(run->state == RUN_RESERVED);
                if (run->first != first + *got)
                        break;
                *got += some;
                *stamp = max_u64(*stamp, run->stamp);
                run->first += some;
                run->n -= some;
                s->nreserved -= some;
                if (run->n == 0)
                        space_run_forget(q, run);
        }
        return first;
}

/* --- letting go -------------------------------------------------------------------------------------------------- */

static struct space_run *take_note(struct list *spare, uint64_t first, uint64_t n)
{
        struct space_run *run;

        assert(!list_empty(spare)); /* the plan counted */
        run = list_entry(list_pop(spare), struct space_run, link);
        run->first = first;
        run->n = n;
        return run;
}

void space_unlink(struct qcow2_image *q, struct list *spare, uint64_t host, uint64_t len)
{
        struct space *s = &q->space;
        uint64_t first = host >> q->cluster_bits, end = ((host + len - 1) >> q->cluster_bits) + 1;
        struct space_run *last = list_empty(&s->dying) ? NULL : list_entry(s->dying.prev, struct space_run, link);

        end = min_u64(end, s->end); /* a packed cluster's last sector may lie beyond the end of the file */
        if (last && last->ticket > s->asked && last->stamp == q->gen && last->first + last->n == first) {
                last->n = end - last->first;
                return;
        }
        last = take_note(spare, first, end - first);
        last->stamp = q->gen;
        last->ticket = ++s->last_ticket;
        space_run_move(q, last, RUN_NOTE, RUN_DYING);
}

void space_unlink_table(struct qcow2_image *q, struct list *spare, uint64_t first, uint64_t n)
{
        struct space_run *run = take_note(spare, first, n);

        run->stamp = q->gen;
        space_run_move(q, run, RUN_NOTE, RUN_QUARANTINED);
}

void space_untake(struct qcow2_image *q, struct list *spare, uint64_t first, uint64_t n)
{
        struct space_run *run = take_note(spare, first, n);

        run->stamp = 0; /* no table in the file ever pointed to it */
        space_run_move(q, run, RUN_NOTE, RUN_QUARANTINED);
}

bool space_is_crowded(const struct qcow2_image *q)
{
        return q->space.nleaving > SPACE_CROWDED;
}

uint64_t qcow2_dying(struct fmt_image *img)
{
        struct space *s = &qcow2_of(img)->space;

        if (list_empty(&s->dying))
                return 0;
        return s->asked = s->last_ticket;
}

void qcow2_dying_release(struct fmt_image *img, uint64_t ticket)
{
        struct qcow2_image *q = qcow2_of(img);

        list_for_each_safe(pos, &q->space.dying) {
                struct space_run *run = list_entry(pos, struct space_run, link);

                if (run->ticket > ticket)
                        break;
                space_run_move(q, run, RUN_DYING, RUN_QUARANTINED);
        }
}
