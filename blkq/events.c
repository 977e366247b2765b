/* SPDX-License-Identifier: BSD-3-Clause */
/* events.c - what a volume says to those who look after it: seldom, from whatever thread it happens on. */
#include <errno.h>

#include "blkq/vol_impl.h"

void vol_on_event(struct vol *v, void (*fn)(void *opaque, const struct vol_event *ev), void *opaque)
{
        v->on_event = fn;
        v->on_event_opaque = opaque;
}

/* A disk that is gone fails all that comes. */
void vol_tell_error(struct vol *v, enum blk_op op, int err)
{
        uint64_t now = clock_ns(), before = atomic_load_explicit(&v->error_told_ns, memory_order_relaxed);

        if (err == -EIO)
                vol_tell_corrupt(v);
        if ((before && now - before < NS_PER_SEC) || err == vol_failed(v)) /* that was told when it failed */
                return;
        if (atomic_compare_exchange_strong(&v->error_told_ns, &before, now))
                vol_tell(v, &(struct vol_event){ .kind = VOL_EV_IO_ERROR, .op = op, .err = err });
}

void vol_tell_corrupt(struct vol *v)
{
        for (struct fmt_image *img = v->top; img; img = img->backing) {
                int said = FMT_CORRUPT_SAID;

                if (atomic_compare_exchange_strong(&img->corrupt_state, &said, FMT_CORRUPT_HEARD))
                        vol_tell(v, &(struct vol_event){ .kind = VOL_EV_CORRUPT, .err = -EIO, .text = img->corrupt_why });
        }
}

void vol_set_write_threshold(struct vol *v, uint64_t at)
{
        atomic_store_explicit(&v->write_threshold, at, memory_order_relaxed);
}

void vol_set_max_in_flight(struct vol *v, uint64_t bytes)
{
        atomic_store_explicit(&v->max_in_flight, bytes, memory_order_relaxed);
}

uint64_t vol_max_in_flight(const struct vol *v)
{
        return atomic_load_explicit(&v->max_in_flight, memory_order_relaxed);
}

uint64_t vol_write_threshold(const struct vol *v)
{
        return atomic_load_explicit(&v->write_threshold, memory_order_relaxed);
}

/* Told once, by whoever is the first. */
void vol_passes_threshold(struct vol *v, uint64_t end)
{
        uint64_t at = vol_write_threshold(v);

        if (at && end > at && atomic_compare_exchange_strong(&v->write_threshold, &at, 0))
                vol_tell(v, &(struct vol_event){ .kind = VOL_EV_THRESHOLD, .bytes = end - at, .threshold = at });
}
