/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that are asleep while no ring runs (device.h): woken before the first ring starts, put to rest behind the last one.
 * Both are like an order to a ring: the message in hand is answered when they are done. So a front end that has the answer to
 * its last GET_VRING_BASE knows that the device's image is whole and free: another process may have it.
 */
#include <errno.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vhost_user/session/session_impl.h"

static void on_awake(void *opaque, int res, const char *why)
{
        struct session *s = opaque;

        s->waking = false;
        s->awake = res == 0;
        if (res < 0 && s->result == 0)
                s->result = err_note(res, "%s", why);
        for (unsigned i = 0; i < s->dev->num_queues; i++) {
                struct ring *r = &s->ring[i];
                int started = TAKE(r->waits, false) && s->awake && !s->closing ? session_order_view(s, r, RING_START) : 0;

                if (started < 0 && s->result == 0)
                        s->result = started;
        }
        session_order_done(s);
}

bool session_wake(struct session *s, struct ring *r)
{
        if (!s->dev->ops->wake || s->awake)
                return true;
        r->waits = true;
        if (!s->waking) {
                s->waking = true;
                s->pending++;
                s->dev->ops->wake(s->dev, on_awake, s);
        }
        return false;
}

static void on_resting(void *opaque, int res, const char *why)
{
        struct session *s = opaque;

        if (res < 0 && s->result == 0)
                s->result = err_note(res, "%s", why);
        session_order_done(s);
}

bool session_rest(struct session *s)
{
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running || s->ring[i].parked)
                        return false;
        if (!TAKE(s->awake, false))
                return false;
        s->pending++;
        s->dev->ops->rest(s->dev, on_resting, s);
        return true;
}

bool session_is_awake(const struct session *s)
{
        return s->awake;
}
