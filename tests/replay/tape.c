/* SPDX-License-Identifier: BSD-3-Clause */
#include "tape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "tests/lib/tmp_image.h"

#define SECTOR 512u

static void *must_have(void *p)
{
        if (!p) {
                fputs("out of memory\n", stderr);
                exit(2);
        }
        return p;
}

static void check_cap(uint64_t end)
{
        if (end > TAPE_CAP) {
                fprintf(stderr, "a file has become longer than %u MiB\n", TAPE_CAP >> 20);
                exit(2);
        }
}

/* --- bytes --------------------------------------------------------------------------------------------------------------- */

static void bytes_set_len(struct tape_bytes *s, uint64_t len)
{
        check_cap(len);
        if (len < s->high) {
                memset(s->b + len, 0, s->high - len);
                s->high = len;
        }
        s->len = len;
}

static void bytes_write(struct tape_bytes *s, const void *from, uint64_t off, uint64_t len)
{
        check_cap(off + len);
        memcpy(s->b + off, from, len);
        s->len = max_u64(s->len, off + len);
        s->high = max_u64(s->high, off + len);
}

static void bytes_zero(struct tape_bytes *s, uint64_t off, uint64_t len)
{
        if (off < s->high)
                memset(s->b + off, 0, min_u64(len, s->high - off));
}

static void bytes_copy(struct tape_bytes *to, const struct tape_bytes *from)
{
        memcpy(to->b, from->b, from->high);
        if (to->high > from->high)
                memset(to->b + from->high, 0, to->high - from->high);
        to->high = from->high;
        to->len = from->len;
}

static void bytes_apply(struct tape_bytes *s, const struct tape_event *e, uint64_t skip, uint64_t len)
{
        if (e->kind == FILE_EV_WRITE)
                bytes_write(s, e->bytes + skip, e->off + skip, len);
        else if (e->kind == FILE_EV_TRUNCATE)
                bytes_set_len(s, e->off);
        else
                bytes_zero(s, e->off + skip, len);
}

/* --- files in memory ----------------------------------------------------------------------------------------------------- */

struct seen {
        struct file file;
        struct tape_bytes *bytes;
        struct tape *tape; /* NULL: cannot be written to */
        unsigned part;
};

static struct seen *seen_of(struct file *f)
{
        return container_of(f, struct seen, file);
}

static ssize_t seen_pread(struct file *f, void *buf, size_t len, uint64_t off)
{
        const struct tape_bytes *s = seen_of(f)->bytes;

        if (off >= s->len)
                return 0;
        len = min_u64(len, s->len - off);
        memcpy(buf, s->b + off, len);
        return (ssize_t)len;
}

static ssize_t seen_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        if (!seen_of(f)->tape)
                return -EROFS;
        bytes_write(seen_of(f)->bytes, buf, off, len);
        f->size = max_u64(f->size, off + len);
        return (ssize_t)len;
}

static int seen_truncate(struct file *f, uint64_t size)
{
        if (!seen_of(f)->tape)
                return -EROFS;
        bytes_set_len(seen_of(f)->bytes, size);
        return 0;
}

static int seen_punch(struct file *f, uint64_t off, uint64_t len, bool keep_allocated)
{
        (void)keep_allocated;
        if (!seen_of(f)->tape)
                return -EROFS;
        bytes_zero(seen_of(f)->bytes, off, len);
        return 0;
}

static int seen_sync(struct file *f)
{
        (void)f;
        return 0;
}

static int seen_run_at(struct file *f, uint64_t off, bool *hole, uint64_t *end)
{
        (void)off;
        *hole = false;
        *end = f->size;
        return 0;
}

static void seen_close(struct file *f)
{
        if (seen_of(f)->tape)
                seen_of(f)->tape->file[seen_of(f)->part] = NULL;
}

static const struct file_ops seen_ops = {
        .pread = seen_pread,
        .pwrite = seen_pwrite,
        .truncate = seen_truncate,
        .punch = seen_punch,
        .sync = seen_sync,
        .run_at = seen_run_at,
        .close = seen_close,
};

static struct seen *see(struct tape_bytes *b)
{
        struct seen *s = must_have(calloc(1, sizeof(*s)));

        s->file = (struct file){ .ops = &seen_ops, .fd = -1, .size = b->len, .mem_align = 1, .off_align = 1 };
        s->file.path = must_have(strdup("(tape)"));
        s->bytes = b;
        return s;
}

struct file *tape_view(const struct tape_bytes *b)
{
        struct seen *s = see((struct tape_bytes *)b);

        s->file.read_only = true;
        return &s->file;
}

struct file *tape_open(struct tape *t, unsigned part)
{
        struct seen *s = see(&t->live[part]);

        s->tape = t;
        s->part = part;
        s->file.tap = &t->tap;
        return t->file[part] = &s->file;
}

/* --- recording ------------------------------------------------------------------------------------------------------------- */

static void take_bytes(struct tape_event *e, const struct file_event *ev)
{
        uint64_t at = 0;

        e->bytes = must_have(malloc(max_u64(ev->len, 1)));
        for (int i = 0; i < ev->niov; i++) {
                memcpy(e->bytes + at, ev->iov[i].iov_base, ev->iov[i].iov_len);
                at += ev->iov[i].iov_len;
        }
}

static void on_issued(struct tape *t, unsigned part, const struct file_event *ev)
{
        struct tape_event *e;

        if (t->n == t->cap) {
                t->cap = t->cap ? 2 * t->cap : 256;
                t->ev = must_have(realloc(t->ev, t->cap * sizeof(*t->ev)));
        }
        e = &t->ev[t->n++];
        *e = (struct tape_event){ ev->kind, part, ev->off, ev->len, NULL, t->now, TAPE_NEVER };
        if (ev->kind == FILE_EV_WRITE)
                take_bytes(e, ev);
}

static void on_done(struct tape *t, unsigned part, const struct file_event *ev)
{
        for (size_t i = t->n; i-- > 0;) {
                struct tape_event *e = &t->ev[i];

                if (e->done == TAPE_NEVER && e->part == part && e->kind == ev->kind && e->off == ev->off && e->len == ev->len) {
                        e->done = t->now;
                        return;
                }
        }
        fputs("something is done that was never issued\n", stderr);
        exit(2);
}

static void on_event(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct tape *t = container_of(tap, struct tape, tap);

        t->now++;
        if (ev->phase == FILE_EV_ISSUED)
                on_issued(t, seen_of(f)->part, ev);
        else
                on_done(t, seen_of(f)->part, ev);
}

void tape_init(struct tape *t)
{
        *t = (struct tape){ .tap.event = on_event };
        for (unsigned i = 0; i < TAPE_PARTS; i++) {
                t->live[i].b = must_have(calloc(1, TAPE_CAP));
                t->start[i].b = must_have(calloc(1, TAPE_CAP));
        }
}

static void forget(struct tape *t)
{
        for (size_t i = 0; i < t->n; i++)
                free(t->ev[i].bytes);
        t->n = 0;
        t->now = 0;
}

void tape_finish(struct tape *t)
{
        forget(t);
        free(t->ev);
        for (unsigned i = 0; i < TAPE_PARTS; i++) {
                free(t->live[i].b);
                free(t->start[i].b);
        }
}

void tape_load(struct tape *t, unsigned part, const void *bytes, size_t len)
{
        bytes_set_len(&t->start[part], 0);
        bytes_write(&t->start[part], bytes, 0, len);
        bytes_copy(&t->live[part], &t->start[part]);
}

void tape_rewind(struct tape *t)
{
        forget(t);
        for (unsigned i = 0; i < TAPE_PARTS; i++)
                bytes_copy(&t->live[i], &t->start[i]);
}

void tape_keep(struct tape *t)
{
        forget(t);
        for (unsigned i = 0; i < TAPE_PARTS; i++)
                bytes_copy(&t->start[i], &t->live[i]);
}

/* --- cuts ---------------------------------------------------------------------------------------------------------------- */

void cut_init(struct cut *c, const struct tape *t)
{
        *c = (struct cut){ .t = t };
        for (unsigned i = 0; i < TAPE_PARTS; i++) {
                c->sure[i].b = must_have(calloc(1, TAPE_CAP));
                c->state[i].b = must_have(calloc(1, TAPE_CAP));
        }
}

void cut_finish(struct cut *c)
{
        for (unsigned i = 0; i < TAPE_PARTS; i++) {
                free(c->sure[i].b);
                free(c->state[i].b);
        }
        free(c->is_sure);
        free(c->open);
        free(c->touched);
}

static void from_start(struct cut *c)
{
        for (unsigned i = 0; i < TAPE_PARTS; i++)
                bytes_copy(&c->sure[i], &c->t->start[i]);
        c->last_applied = 0;
}

void cut_begin(struct cut *c)
{
        size_t n = c->t->n + 1;

        c->at = c->first = 0;
        c->is_sure = must_have(realloc(c->is_sure, n * sizeof(*c->is_sure)));
        memset(c->is_sure, 0, n * sizeof(*c->is_sure));
        c->open = must_have(realloc(c->open, n * sizeof(*c->open)));
        from_start(c);
        for (unsigned i = 0; i < TAPE_PARTS; i++)
                bytes_copy(&c->state[i], &c->sure[i]);
        c->ntouched = 0;
}

/* Up to when was everything durable that was done: the issue of the last sync that is done at c->at. */
static void covered_until(const struct cut *c, uint64_t covered[TAPE_PARTS])
{
        memset(covered, 0, TAPE_PARTS * sizeof(covered[0]));
        for (size_t i = 0; i < c->t->n && c->t->ev[i].issued <= c->at; i++) {
                const struct tape_event *e = &c->t->ev[i];

                if (e->kind == FILE_EV_SYNC && e->done <= c->at)
                        covered[e->part] = max_u64(covered[e->part], e->issued);
        }
}

static void apply_sure(struct cut *c, size_t i)
{
        const struct tape_event *e = &c->t->ev[i];

        if (e->kind != FILE_EV_SYNC)
                bytes_apply(&c->sure[e->part], e, 0, e->len);
        c->last_applied = i;
}

/* What became sure late, after something that was issued behind it: all of it again, in order. */
static void apply_again(struct cut *c, size_t end)
{
        from_start(c);
        for (size_t i = 0; i < end; i++)
                if (c->is_sure[i])
                        apply_sure(c, i);
}

void cut_move(struct cut *c, uint64_t at)
{
        uint64_t covered[TAPE_PARTS];
        bool again = false;
        size_t i;

        c->at = at;
        c->nopen = 0;
        covered_until(c, covered);
        for (i = c->first; i < c->t->n && c->t->ev[i].issued <= at; i++) {
                const struct tape_event *e = &c->t->ev[i];

                if (c->is_sure[i])
                        continue;
                if (e->done < covered[e->part] || (e->kind == FILE_EV_SYNC && e->done <= at)) {
                        c->is_sure[i] = true;
                        again |= i < c->last_applied;
                        if (!again)
                                apply_sure(c, i);
                } else if (e->kind != FILE_EV_SYNC) {
                        c->open[c->nopen++] = i;
                }
        }
        if (again)
                apply_again(c, i);
        while (c->first < i && c->is_sure[c->first])
                c->first++;
        for (unsigned p = 0; p < TAPE_PARTS; p++)
                bytes_copy(&c->state[p], &c->sure[p]);
        c->ntouched = 0;
}

static void touch(struct cut *c, unsigned part, uint64_t from, uint64_t to)
{
        if (c->ntouched == c->cap) {
                c->cap = c->cap ? 2 * c->cap : 64;
                c->touched = must_have(realloc(c->touched, c->cap * sizeof(*c->touched)));
        }
        c->touched[c->ntouched++] = (struct span){ part, from, to };
}

void cut_put(struct cut *c, size_t open, enum cut_luck luck, uint64_t *rnd_state)
{
        const struct tape_event *e = &c->t->ev[c->open[open]];
        struct tape_bytes *s = &c->state[e->part];

        if (luck == CUT_NONE)
                return;
        if (e->kind == FILE_EV_TRUNCATE) {
                touch(c, e->part, e->off, max_u64(s->high, e->off));
                bytes_apply(s, e, 0, 0);
                return;
        }
        check_cap(e->off + e->len);
        touch(c, e->part, e->off, e->off + e->len);
        if (luck == CUT_WHOLE) {
                bytes_apply(s, e, 0, e->len);
                return;
        }
        /* Sectors are those of the disk, wherever the write begins. */
        for (uint64_t k = 0, n; k < e->len; k += n) {
                n = min_u64(SECTOR - (e->off + k) % SECTOR, e->len - k);
                if (rnd(rnd_state) >> 63)
                        bytes_apply(s, e, k, n);
        }
}

void cut_restore(struct cut *c)
{
        for (size_t i = 0; i < c->ntouched; i++) {
                const struct span *p = &c->touched[i];

                memcpy(c->state[p->part].b + p->from, c->sure[p->part].b + p->from, p->to - p->from);
        }
        for (unsigned p = 0; p < TAPE_PARTS; p++) {
                c->state[p].len = c->sure[p].len;
                c->state[p].high = max_u64(c->state[p].high, c->sure[p].high);
        }
        c->ntouched = 0;
}
