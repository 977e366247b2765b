/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mirror.c - round after round over what is dirty.
 *
 * Bits are cleared before the bytes are read, and set by whoever writes after the bytes are written (dirty_bitmap.h):
 * so what is clean is the same in both disks, or is being copied. Two pieces in flight never overlap: the older bytes
 * could come last. It is a copy at one instant only with guests' requests waiting: mirror_end.c. What is copied on
 * behalf of guests (twin.c) is one more who copies; then what is clean stays clean, and it is ready when nothing is
 * dirty.
 */
#include <errno.h>
#include <stdlib.h>

#include "blkq/jobs/mirror_impl.h"
#include "common/cleanup.h"
#include "common/range.h"

#define BUF_DEFAULT (8u << 20)
#define BUF_MAX (64u << 20)
#define DEPTH_MAX 16u
#define UNIT_MIN 4096u
#define PASSES_MIN 4u /* over the disk */
#define ROUNDS_MAX 8u /* that a guest may keep us from coming near */

struct mirror_chunk {
        struct copy_chunk ch;
        struct copy_range range;
};

/* --- what is dirty --------------------------------------------------------------------------------------------------- */

static uint64_t mirror_left(struct mirror *m)
{
        return min_u64(dirty_bitmap_count(m->dirty) * dirty_bitmap_granularity(m->dirty), m->size);
}

static bool mirror_take(struct mirror *m, uint64_t from, uint64_t max, uint64_t *off, uint64_t *len)
{
        uint64_t end;

        if (!dirty_bitmap_next(m->dirty, from, UINT64_MAX, off, len))
                return false;
        end = min_u64(round_up(*off + *len, m->unit), m->size);
        *off = round_down(*off, m->unit);
        *len = min_u64(end - *off, max_u64(max, m->unit));
        return true;
}

/* What was never copied the target shows by itself, where the top image has nothing; of what was, it does not. */
static unsigned mirror_flags(struct mirror *m, uint64_t off, uint64_t len)
{
        unsigned flags = m->sync == MIRROR_TOP && off >= m->high ? COPY_TOP : 0;

        m->high = max_u64(m->high, off + len);
        return flags;
}

static void show_progress(struct mirror *m)
{
        uint64_t left = mirror_left(m);

        for (unsigned i = 0; i < m->job.depth; i++)
                left += m->job.chunks[i]->busy ? m->job.chunks[i]->len : 0;
        atomic_store_explicit(&m->job.total, atomic_load_explicit(&m->job.done, memory_order_relaxed) + left, memory_order_relaxed);
}

/* --- pieces ---------------------------------------------------------------------------------------------------------- */

/* One that is in flight and touches the range; NULL: none. */
static const struct copy_chunk *in_the_way(const struct mirror *m, uint64_t off, uint64_t len)
{
        for (unsigned i = 0; i < m->job.depth; i++) {
                const struct copy_chunk *ch = m->job.chunks[i];

                if (ch->busy && range_overlaps(ch->off, ch->len, off, len))
                        return ch;
        }
        return NULL;
}

static bool take_from(struct mirror *m, uint64_t max, uint64_t *off, uint64_t *len)
{
        const struct copy_chunk *other;

        while (mirror_take(m, m->at, max, off, len)) {
                other = in_the_way(m, *off, *len);
                if (!other) {
                        m->at = *off + *len;
                        dirty_bitmap_clear(m->dirty, *off, *len);
                        return true;
                }
                m->at = max_u64(other->off + other->len, m->at);
        }
        return false;
}

/* --- on behalf of guests --------------------------------------------------------------------------------------------- */

/* Not for a job that failed, and while it stands or waits because of an error the target is left alone. Until the loop
 * has been everywhere, what it has not copied may be the target's own (MIRROR_TOP). */
static bool is_wanted(const struct twin *t)
{
        const struct mirror *m = container_of(t, struct mirror, twin);
        const struct copy_job *c = &m->job;

        if (c->res || c->stopped || atomic_load(&c->cancel) || (m->sync == MIRROR_TOP && !m->passes))
                return false;
        return !c->not_before_ns || clock_ns() >= c->not_before_ns;
}

static bool loop_in_the_way(const struct twin *t, uint64_t off, uint64_t len)
{
        return in_the_way(container_of(t, struct mirror, twin), off, len) != NULL;
}

static void on_followed(struct twin *t, uint64_t len)
{
        struct mirror *m = container_of(t, struct mirror, twin);

        atomic_fetch_add_explicit(&m->job.done, len, memory_order_relaxed);
        show_progress(m);
}

static void on_not_followed(struct twin *t, int err, bool read)
{
        struct copy_job *c = &container_of(t, struct mirror, twin)->job;

        if (c->over || c->ending || c->res || atomic_load(&c->cancel))
                return; /* the end of it meets what is dirty */
        copy_job_error(c, read, err);
        copy_job_kick(c);
}

static void mirror_follow(struct mirror *m)
{
        if (!m->blocking || m->twin.armed)
                return;
        m->twin.to = m->to;
        twin_arm(&m->twin);
}

static int twin_begin(struct mirror *m)
{
        m->twin = (struct twin){
                .v = m->job.v, .dirty = m->dirty, .unit = m->unit, .size = m->size, .wanted = is_wanted, .in_the_way = loop_in_the_way,
                .copied = on_followed, .failed = on_not_followed,
        };
        return m->blocking ? twin_init(&m->twin) : 0;
}

/* --- the loop -------------------------------------------------------------------------------------------------------- */

/* The same; or, with a guest who never rests and need not wait, nearly so. */
static void look_at_readiness(struct mirror *m)
{
        uint64_t left = mirror_left(m);

        if (m->ready || left > MIRROR_REST || ((left || m->job.in_flight) && (m->blocking || m->passes < PASSES_MIN)))
                return;
        m->ready = true;
        copy_job_ready(&m->job);
}

/* It is time to leave the rest to mirror_end(), or it never comes. */
static bool has_come_near(struct mirror *m)
{
        return m->ready && atomic_load(&m->job.complete) && (mirror_left(m) <= MIRROR_REST || m->rounds > ROUNDS_MAX);
}

static uint64_t rest_left(struct copy_job *c)
{
        show_progress(mirror_of(c));
        return mirror_left(mirror_of(c));
}

static bool rest_take(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len)
{
        return take_from(mirror_of(c), max, off, len);
}

static void rest_rewind(struct copy_job *c)
{
        mirror_of(c)->at = 0;
}

static bool mirror_next(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len)
{
        struct mirror *m = mirror_of(c);
        int r = m->to ? 0 : mirror_attach(m);

        if (r < 0) {
                copy_job_fail(c, r);
                return false;
        }
        mirror_follow(m);
        if (has_come_near(m))
                return false;
        if (take_from(m, max, off, len))
                return true;
        m->at = 0;
        m->passes++;
        m->rounds += atomic_load(&c->complete);
        look_at_readiness(m);
        return !has_come_near(m) && take_from(m, max, off, len);
}

static void on_copied(struct copy_range *r, int res, bool read)
{
        struct mirror_chunk *mc = container_of(r, struct mirror_chunk, range);
        struct mirror *m = mirror_of(mc->ch.c);

        if (res == 0)
                atomic_fetch_add_explicit(&m->job.done, mc->ch.len, memory_order_relaxed);
        copy_chunk_end(&mc->ch, res, read, r->moved);
        if (m->blocking)
                twin_look_again(&m->twin);
        show_progress(m);
}

static void mirror_copy(struct copy_chunk *ch)
{
        struct mirror_chunk *mc = container_of(ch, struct mirror_chunk, ch);
        struct mirror *m = mirror_of(ch->c);

        mc->range = (struct copy_range){
                .v = m->job.v, .to = m->to, .buf = ch->buf, .off = ch->off, .end = ch->off + ch->len,
                .flags = mirror_flags(m, ch->off, ch->len), .done = on_copied,
        };
        copy_range_start(&mc->range);
}

static void mirror_again(struct copy_job *c, uint64_t off, uint64_t len)
{
        dirty_bitmap_set(mirror_of(c)->dirty, off, len);
}

static void mirror_idle(struct copy_job *c)
{
        struct mirror *m = mirror_of(c);

        show_progress(m);
        look_at_readiness(m);
        if (has_come_near(m))
                copy_job_end(c, 0);
}

static void mirror_free(struct copy_job *c)
{
        struct mirror *m = mirror_of(c);

        twin_finish(&m->twin);
        dirty_bitmap_unref(m->dirty);
        free(m);
}

static const struct copy_kind mirror_kind = {
        .next = mirror_next, .copy = mirror_copy, .again = mirror_again, .idle = mirror_idle, .free = mirror_free,
};

/* --- beginning ------------------------------------------------------------------------------------------------------- */

int mirror_attach(struct mirror *m)
{
        int r = port_attach(m->target, m->job.v->home, &m->to);

        if (r == 0)
                m->to->impatient = true;
        return r;
}

static uint32_t choose_granularity(const struct mirror_opts *o)
{
        return o->granularity ? o->granularity : (uint32_t)max_u64(COPY_UNIT, vol_cluster_size(o->target));
}

static void size_up(struct mirror *m, const struct mirror_opts *o)
{
        uint64_t buf = min_u64(o->buf_size ? o->buf_size : BUF_DEFAULT, BUF_MAX);

        m->unit = max_u64(choose_granularity(o), UNIT_MIN);
        m->job.step = (uint32_t)m->unit;
        m->job.chunk = (uint32_t)max_u64(min_u64(round_down(buf, m->unit), COPY_CHUNK), m->unit);
        m->job.depth = (unsigned)min_u64(max_u64(buf / m->job.chunk, 1), DEPTH_MAX);
}

int mirror_new(const struct mirror_opts *o, struct copy_job **ret)
{
        struct mirror *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->target = o->target;
        m->sync = o->sync;
        m->blocking = o->blocking;
        m->size = vol_size(o->v);
        m->job = (struct copy_job){
                .v = o->v, .kind = &mirror_kind, .owner = o->owner, .chunk_size = sizeof(struct mirror_chunk), .total = m->size,
        };
        size_up(m, o);
        m->rest = (struct copy_rest){ .left = rest_left, .take = rest_take, .rewind = rest_rewind };
        r = dirty_bitmap_new(m->size, choose_granularity(o), &m->dirty);
        if (r == 0)
                r = twin_begin(m);
        if (r == 0)
                r = copy_job_init(&m->job);
        if (r < 0) {
                mirror_free(&m->job);
                return r;
        }
        if (o->sync != MIRROR_NONE)
                dirty_bitmap_set(m->dirty, 0, m->size);
        r = vol_attach_bitmap(o->v, m->dirty);
        if (r < 0)
                copy_job_free(&m->job);
        else
                *ret = &m->job;
        return r;
}
