/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   serving -> (the message in hand is answered) -> rings drain -> parked -> rings start -> serving
 *
 * While it is parked the rings are as control left them: not running, their base says where they go on.
 */
#include "vhost_user/session/session_impl.h"

#include "common/cleanup.h"
#include "common/err.h"

static void on_parked(struct session *s)
{
        void (*done)(void *opaque) = TAKE(s->park_done, NULL);

        s->parked = true;
        done(s->park_opaque);
}

void session_park_now(struct session *s)
{
        wire_park(&s->wire);
        back_channel_park(&s->back);
        s->orders_done = on_parked;
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                if (s->ring[i].running || s->ring[i].has_bell)
                        session_order(s, &s->ring[i], &(struct ring_order){ .kind = RING_PARK });
        if (!s->pending)
                on_parked(s);
}

void session_park(struct session *s, void (*parked)(void *opaque), void *opaque)
{
        s->park_done = parked;
        s->park_opaque = opaque;
        if (!s->closing && !s->pending)
                session_park_now(s);
}

/*
 * A ring that cannot go on would leave its guest waiting for ever; the front end that is hung up on comes back and
 * starts anew.
 */
static void on_resumed(struct session *s)
{
        int r = s->result;

        s->parked = false;
        for (unsigned i = 0; i < s->dev->num_queues; i++)
                s->ring[i].parked = false; /* those behind one that failed: they will not run, and the device may rest */
        if (r == 0)
                r = wire_unpark(&s->wire);
        if (r == 0)
                r = back_channel_unpark(&s->back);
        if (r < 0)
                session_close_because(s, r);
        else
                session_back_say(s);
}

void session_resume(struct session *s)
{
        s->result = 0;
        s->orders_done = on_resumed;
        for (unsigned i = 0; i < s->dev->num_queues && s->result == 0; i++)
                if (TAKE(s->ring[i].parked, false))
                        s->result = session_start(s, &s->ring[i]);
        if (!s->pending)
                on_resumed(s);
}
