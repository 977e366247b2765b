/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bounce.c - see bounce.h.
 *
 * Buffers come in powers of two from BOUNCE_ALIGN up, so that a returned one fits the next who asks. Invariants:
 * used + kept <= max, where used is lent out and kept lies on the free stacks; kept buffers of other sizes are given
 * back to the system when room is wanted, so sizes cannot starve each other. The first in line is served first.
 */
#include "bounce.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/range.h"

#define CLASSES 20 /* 4 KiB ... 2 GiB */

struct spare {
        struct spare *next;
};

struct bounce {
        size_t max, largest, used, kept;
        struct spare *spare[CLASSES];
        struct list line;
        bool serving;
};

static unsigned class_of(size_t len)
{
        unsigned c = 0;

        while (((size_t)BOUNCE_ALIGN << c) < len)
                c++;
        return c;
}

static size_t bytes_of(unsigned class)
{
        return (size_t)BOUNCE_ALIGN << class;
}

int bounce_new(size_t max_bytes, struct bounce **ret)
{
        struct bounce *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        assert(max_bytes >= BOUNCE_ALIGN);
        b->max = max_bytes;
        b->largest = BOUNCE_ALIGN;
        while (2 * b->largest <= max_bytes && class_of(2 * b->largest) < CLASSES)
                b->largest *= 2;
        list_init(&b->line);
        *ret = b;
        return 0;
}

/* Back to the system until @room bytes more may be in use or kept. */
static void shed(struct bounce *b, size_t room)
{
        for (unsigned c = CLASSES; c-- && b->used + b->kept + room > b->max;)
                while (b->spare[c] && b->used + b->kept + room > b->max) {
                        struct spare *s = b->spare[c];

                        b->spare[c] = s->next;
                        b->kept -= bytes_of(c);
                        free(s);
                }
}

void bounce_free(struct bounce *b)
{
        if (!b)
                return;
        assert(b->used == 0 && list_empty(&b->line));
        shed(b, b->max);
        free(b);
}

size_t bounce_max(const struct bounce *b)
{
        return b->largest;
}

/* Is there room? Then *buf is the buffer, NULL when the system has no memory. */
static bool try_get(struct bounce *b, size_t len, void **buf)
{
        unsigned c = class_of(len);
        struct spare *s = b->spare[c];

        if (s) {
                b->spare[c] = s->next;
                b->kept -= bytes_of(c);
        } else {
                if (b->used + bytes_of(c) > b->max)
                        return false;
                shed(b, bytes_of(c));
                s = aligned_alloc(BOUNCE_ALIGN, bytes_of(c));
        }
        if (s)
                b->used += bytes_of(c);
        *buf = s;
        return true;
}

/* Somebody else's return will help; without anybody to return, running out of memory must be told. */
static bool serve(struct bounce *b, size_t len, void **buf)
{
        return try_get(b, len, buf) && (*buf || b->used == 0);
}

int bounce_get(struct bounce *b, struct bounce_wait *w, size_t len, void (*ready)(struct bounce_wait *w, void *buf),
               void **ret)
{
        assert(len > 0 && len <= b->largest);
        list_init(&w->link);
        w->len = len;
        w->ready = ready;
        if (list_empty(&b->line) && !b->serving && serve(b, len, ret))
                return *ret ? 0 : -ENOMEM;
        list_add_tail(&b->line, &w->link);
        return -EAGAIN;
}

void bounce_put(struct bounce *b, void *buf, size_t len)
{
        unsigned c = class_of(len);
        struct spare *s = buf;

        s->next = b->spare[c];
        b->spare[c] = s;
        b->used -= bytes_of(c);
        b->kept += bytes_of(c);
        if (b->serving) /* ready() below gave back at once: the loop that called it goes on */
                return;
        b->serving = true;
        while (!list_empty(&b->line)) {
                struct bounce_wait *w = list_entry(b->line.next, struct bounce_wait, link);

                if (!serve(b, w->len, &buf))
                        break;
                list_del(&w->link);
                w->ready(w, buf);
        }
        b->serving = false;
}

void bounce_cancel(struct bounce *b, struct bounce_wait *w)
{
        (void)b;
        list_del(&w->link);
}
