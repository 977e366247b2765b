/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bounce.h - aligned buffers for what cannot be transferred in place: guest memory that O_DIRECT does not take,
 * copied-up clusters, packed clusters. One pool a queue thread, bounded in bytes; who finds it empty waits in line.
 *
 *     r = bounce_get(pool, &wait, len, on_ready, &buf); // 0: now
 *     if (r == -EAGAIN)
 *             return;                                   // on_ready(&wait, buf) later, from somebody's bounce_put()
 *
 * Nobody overtakes: while somebody waits, everybody else does too. A holder must not wait for a second buffer while it
 * keeps the first (take one that is large enough, or the pool can lock up). All calls on the pool's thread.
 */
#pragma once

#include <stddef.h>

#include "common/list.h"

#define BOUNCE_ALIGN 4096u

struct bounce;
int bounce_new(size_t max_bytes, struct bounce **ret); /* 0 or -ENOMEM; max_bytes at least BOUNCE_ALIGN */
void bounce_free(struct bounce *b);                    /* everything is back, nobody waits; NULL is fine */

/* The longest buffer it can ever give: bytes. Larger transfers go in pieces. */
size_t bounce_max(const struct bounce *b);

/* The caller's memory from a bounce_get() that returned -EAGAIN until ready() or bounce_cancel(). */
struct bounce_wait {
        void (*ready)(struct bounce_wait *w, void *buf); /* buf NULL: out of memory */
        size_t len;
        struct list link;
};

/**
 * bounce_get - a buffer of at least @len bytes (1..bounce_max()), aligned to BOUNCE_ALIGN, contents undefined.
 * Returns 0 and *ret; -EAGAIN: @w stands in line now; -ENOMEM: the system has none and nobody will give one back.
 */
int bounce_get(struct bounce *b, struct bounce_wait *w, size_t len, void (*ready)(struct bounce_wait *w, void *buf),
               void **ret);

/* Give @buf back; @len as it was asked for. May call ready() of those who wait. */
void bounce_put(struct bounce *b, void *buf, size_t len);

void bounce_cancel(struct bounce *b, struct bounce_wait *w);
