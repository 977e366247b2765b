/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_job.c - piece by piece, what images above the base have goes where it shall be. At home.
 *
 *   look: which of the images has it? -> none: next -> zeros: made zeros there -> data: read, written there -> next
 *
 * A stream writes what the top image has nothing of, so nobody writes there on the common road, and our range lock
 * keeps those away that come through home. A commit writes what an image above has, so the chain does not show the
 * place that is written. Of an active one guests change what was copied: they set bits in todo after they have written,
 * and we clear them before we read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "blkq/change/retire.h"
#include "blkq/home/work.h"
#include "blkq/jobs/chain_job_impl.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define UNIT_MIN (64u << 10)
#define ROUNDS_MAX 16u

struct piece {
        struct copy_chunk ch;
        struct waiter wait;
        struct range_lock lock;
        struct chain_read read;
        struct chain_write write;
        struct chain_zero zero;
        struct iovec iov;
        uint64_t at, upto, end;
        uint64_t moved;
};

static void look(struct piece *p);

static struct chain_job *job_of(struct piece *p)
{
        return chain_job_of(p->ch.c);
}

/* --- where it is ----------------------------------------------------------------------------------------------------- */

enum where { NOWHERE, IN_TOP, AS_ZEROS, AS_DATA };

/* What of the images above the base has the byte at p->at; p->upto: how far that goes. -EAGAIN: see *missing. */
static int where_is(struct piece *p, struct fmt_image **missing)
{
        struct chain_job *j = job_of(p);
        struct fmt_image *from = chain_at(j->job.v->top, j->top), *stop = chain_at(j->job.v->top, j->base);
        uint64_t len = p->end - p->at;
        struct extent e;

        for (struct fmt_image *img = from; img && img != stop; img = img->backing) {
                int n;

                if (p->at >= img->size) { /* behind the end of an image that is shorter than the one above it: zeros */
                        p->upto = p->at + len;
                        return img == from ? NOWHERE : AS_ZEROS;
                }
                len = min_u64(len, img->size - p->at);
                n = fmt_map(img, p->at, len, &e, 1);
                if (n < 0) {
                        *missing = img;
                        return n;
                }
                len = min_u64(len, e.len);
                p->upto = p->at + len;
                if (e.kind != EXT_ABSENT)
                        return j->stream && img == from ? IN_TOP : e.kind == EXT_ZERO ? AS_ZEROS : AS_DATA;
        }
        return NOWHERE;
}

/* --- doing it -------------------------------------------------------------------------------------------------------- */

static void end(struct piece *p, int res, bool read)
{
        struct chain_job *j = job_of(p);

        if (j->stream)
                range_unlock(&j->job.v->ranges, &p->lock);
        if (res == 0)
                atomic_fetch_add_explicit(&j->job.done, p->ch.len, memory_order_relaxed);
        copy_chunk_end(&p->ch, res, read, p->moved);
}

static void next(struct piece *p, int res, bool read)
{
        p->at = p->upto;
        if (res < 0 || p->at >= p->end)
                end(p, res, read);
        else
                look(p);
}

static void on_zeroed(struct chain_zero *z, int res)
{
        next(container_of(z, struct piece, zero), res, false);
}

static struct img_writer *writer_for(struct chain_job *j)
{
        return j->stream ? j->job.v->writer : j->to;
}

/* With nothing behind it, what a top image does not have is zeros already. */
static void make_zeros(struct piece *p)
{
        struct chain_job *j = job_of(p);

        if (j->stream && !chain_at(j->job.v->top, j->base))
                next(p, 0, false);
        else
                chain_zero_start(writer_for(j), &p->zero, p->at, p->upto - p->at, ZERO_MAY_UNMAP, on_zeroed);
}

static void on_written(struct chain_write *wr, int res)
{
        next(container_of(wr, struct piece, write), res, false);
}

static bool all_zeros(const char *buf, uint64_t len)
{
        return buf[0] == 0 && !memcmp(buf, buf + 1, len - 1);
}

static void on_read(struct chain_read *rd, int res)
{
        struct piece *p = container_of(rd, struct piece, read);
        uint64_t len = p->upto - p->at;

        if (res < 0) {
                end(p, res, true);
        } else if (all_zeros(p->ch.buf, len)) {
                make_zeros(p);
        } else {
                p->moved += len;
                p->iov = (struct iovec){ p->ch.buf, len };
                chain_write_start(writer_for(job_of(p)), &p->write, p->at, len, &p->iov, 1, on_written);
        }
}

static void copy(struct piece *p)
{
        struct chain_job *j = job_of(p);
        struct vol *v = j->job.v;

        p->iov = (struct iovec){ p->ch.buf, p->upto - p->at };
        chain_read_from(v, chain_at(v->top, j->top), &p->read, p->at, p->upto - p->at, &p->iov, 1, on_read);
}

static void on_woken(struct waiter *w, int err)
{
        struct piece *p = container_of(w, struct piece, wait);

        if (err < 0)
                end(p, err, true);
        else
                look(p);
}

/* A loop where there is nothing to do, which may be so for very many pieces. */
static void look(struct piece *p)
{
        struct fmt_image *missing = NULL;

        for (; p->at < p->end; p->at = p->upto) {
                int n;

                rcu_read_lock();
                n = where_is(p, &missing);
                rcu_read_unlock();
                if (n == NOWHERE || n == IN_TOP)
                        continue;
                p->wait.wake = on_woken;
                if (n == -EAGAIN)
                        batch_want(job_of(p)->job.v, missing, &p->wait);
                else if (n < 0)
                        end(p, n, true);
                else if (n == AS_ZEROS)
                        make_zeros(p);
                else
                        copy(p);
                return;
        }
        end(p, 0, false);
}

static void on_range(struct waiter *w, int err)
{
        (void)err;
        look(container_of(w, struct piece, wait));
}

static void chain_copy(struct copy_chunk *ch)
{
        struct piece *p = container_of(ch, struct piece, ch);
        struct chain_job *j = job_of(p);
        struct vol *v = j->job.v;

        p->at = ch->off;
        p->end = min_u64(ch->off + ch->len, chain_at(v->top, j->top)->size);
        p->moved = 0;
        p->wait = (struct waiter){ .wake = on_range };
        list_init(&p->wait.link);
        if (!j->stream || range_lock(&v->ranges, &p->lock, ch->off, round_up(ch->len, v->top->cluster_size), &p->wait))
                look(p);
}

/* --- which piece ----------------------------------------------------------------------------------------------------- */

static uint64_t left(struct chain_job *j)
{
        return min_u64(dirty_bitmap_count(j->todo) * j->unit, j->size);
}

static void show_progress(struct chain_job *j)
{
        uint64_t more = left(j);

        for (unsigned i = 0; i < j->job.depth; i++)
                more += j->job.chunks[i]->busy ? j->job.chunks[i]->len : 0;
        atomic_store_explicit(&j->job.total, atomic_load_explicit(&j->job.done, memory_order_relaxed) + more, memory_order_relaxed);
}

/* Two in flight at one place: the older bytes could come last. */
static const struct copy_chunk *in_the_way(const struct chain_job *j, uint64_t off, uint64_t len)
{
        for (unsigned i = 0; i < j->job.depth; i++) {
                const struct copy_chunk *ch = j->job.chunks[i];

                if (ch->busy && range_overlaps(ch->off, ch->len, off, len))
                        return ch;
        }
        return NULL;
}

static bool take(struct chain_job *j, uint64_t max, uint64_t *off, uint64_t *len)
{
        const struct copy_chunk *other;

        while (dirty_bitmap_next(j->todo, j->at, UINT64_MAX, off, len)) {
                *len = min_u64(*len, max_u64(round_down(max, j->unit), j->unit));
                other = in_the_way(j, *off, *len);
                if (!other) {
                        j->at = *off + *len;
                        dirty_bitmap_clear(j->todo, *off, *len);
                        return true;
                }
                j->at = max_u64(other->off + other->len, j->at);
        }
        return false;
}

static uint64_t rest_left(struct copy_job *c)
{
        show_progress(chain_job_of(c));
        return left(chain_job_of(c));
}

static bool rest_take(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len)
{
        return take(chain_job_of(c), max, off, len);
}

static void rest_rewind(struct copy_job *c)
{
        chain_job_of(c)->at = 0;
}

static bool has_come_near(struct chain_job *j)
{
        return j->ready && atomic_load(&j->job.complete) && (left(j) <= CHAIN_REST || j->rounds > ROUNDS_MAX);
}

static void look_at_readiness(struct chain_job *j)
{
        if (!j->active || j->ready || j->passes == 0 || left(j) > CHAIN_REST)
                return;
        j->ready = true;
        copy_job_ready(&j->job);
}

static bool chain_next(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len)
{
        struct chain_job *j = chain_job_of(c);

        if (has_come_near(j))
                return false;
        if (take(j, max, off, len))
                return true;
        j->at = 0;
        j->passes++;
        j->rounds += atomic_load(&c->complete);
        look_at_readiness(j);
        return j->active && !has_come_near(j) && take(j, max, off, len);
}

static void chain_again(struct copy_job *c, uint64_t off, uint64_t len)
{
        struct chain_job *j = chain_job_of(c);

        dirty_bitmap_set(j->todo, off, len);
        j->at = min_u64(j->at, off);
}

static void chain_idle(struct copy_job *c)
{
        struct chain_job *j = chain_job_of(c);

        show_progress(j);
        if (j->active)
                look_at_readiness(j);
        if (j->active ? has_come_near(j) : left(j) == 0)
                copy_job_end(c, 0);
}

static void chain_free(struct copy_job *c)
{
        struct chain_job *j = chain_job_of(c);

        dirty_bitmap_unref(j->todo);
        retire_free(j->retire);
        free(j->names[0]);
        free(j->names[1]);
        free(j->path);
        free(j->keep);
        free(j->format);
        free(j);
}

static const struct copy_kind chain_kind = {
        .next = chain_next, .copy = chain_copy, .again = chain_again, .idle = chain_idle, .free = chain_free,
};

/* --- beginning ------------------------------------------------------------------------------------------------------- */

/* Whole clusters of all that is written. */
static uint64_t unit_of(struct vol *v)
{
        uint64_t unit = UNIT_MIN;

        for (const struct fmt_image *img = vol_image_get(v); img; img = img->backing)
                unit = max_u64(unit, img->cluster_size);
        vol_image_put(v);
        return unit;
}

int chain_job_new(const struct chain_job_opts *o, struct copy_job **ret)
{
        struct chain_job *j = calloc(1, sizeof(*j));
        int r;

        if (!j)
                return -ENOMEM;
        j->stream = o->stream;
        j->active = !o->stream && o->top == 0;
        j->top = o->top;
        j->base = o->base;
        j->size = vol_size(o->v);
        j->unit = unit_of(o->v);
        j->rest = (struct copy_rest){ .left = rest_left, .take = rest_take, .rewind = rest_rewind };
        j->job = (struct copy_job){
                .v = o->v, .kind = &chain_kind, .owner = o->owner, .chunk_size = sizeof(struct piece), .total = j->size,
                .step = (uint32_t)j->unit, .chunk = (uint32_t)max_u64(COPY_CHUNK, j->unit), .depth = COPY_DEPTH,
        };
        j->retire = retire_new(); /* the end must not fail for want of it */
        r = j->retire ? dirty_bitmap_new(j->size, (uint32_t)j->unit, &j->todo) : -ENOMEM;
        if (r == 0)
                r = copy_job_init(&j->job);
        if (r < 0) {
                chain_free(&j->job);
                return r;
        }
        dirty_bitmap_set(j->todo, 0, j->size);
        if (j->active)
                r = vol_attach_bitmap(o->v, j->todo);
        if (r < 0)
                copy_job_free(&j->job);
        else
                *ret = &j->job;
        return r;
}
