/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_bell.c - the eventfds that a ring writes: call, err, and the one of its dirty log.
 *
 * Invariant: an eventfd's number is given back only when no write of it is out (busy).
 */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "vhost_user/ring/ring_impl.h"

void ring_bell_ring(struct ring *r, struct ring_bell *b)
{
        if (b->fd < 0) {
                if (r->inband && b->inband && !b->said && !atomic_exchange(&b->posted, true))
                        loop_post(r->loop, &b->message);
                return;
        }
        if (atomic_load_explicit(&r->dev->held_us, memory_order_relaxed))
                return;
        if (b->busy) {
                b->again = true;
                return;
        }
        b->busy = true;
        b->io.op = IO_NOTIFY;
        b->io.fd = b->fd;
        engine_submit(qthread_engine(r->thread), &b->io);
}

static void message_arrived(struct loop_task *t)
{
        struct ring_bell *b = container_of(t, struct ring_bell, message);

        atomic_store(&b->posted, false);
        b->ring->rung(b->ring, b == &b->ring->err);
}

/* Closing takes its time, which other disks of this thread need not wait for: control does it, with the answer to the order. */
void ring_bell_close(struct ring_bell *b)
{
        unsigned i = 0;

        assert(!b->busy);
        while (b->fd >= 0 && b->ring->done_with[i] >= 0)
                i++;
        if (b->fd >= 0)
                b->ring->done_with[i] = b->fd;
        b->fd = -1;
        b->said = false;
}

void ring_bells_gone(struct ring *r)
{
        for (size_t i = 0; i < ARRAY_SIZE(r->done_with); i++) {
                closep(&r->done_with[i]);
                r->done_with[i] = -1;
        }
}

static void bell_done(struct io *io, int res)
{
        struct ring_bell *b = container_of(io, struct ring_bell, io);

        if (res == -EINTR) /* else: a dead eventfd is the front end's loss */
                ring_held_us(b->ring);
        b->busy = false;
        if (TAKE(b->again, false))
                ring_bell_ring(b->ring, b);
        ring_settle(b->ring);
}

void ring_bell_init(struct ring *r, struct ring_bell *b)
{
        b->fd = -1;
        b->io.done = bell_done;
        b->io.shut = &r->dev->held_us;
        b->ring = r;
        b->message.run = message_arrived;
        list_init(&b->message.link);
}

bool ring_bells_busy(const struct ring *r)
{
        return r->call.busy || r->err.busy || r->marked.busy;
}
