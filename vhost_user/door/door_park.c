/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   open -> (the session drains) -> (the device leaves its threads) -> parked -> open, here or in another process
 *
 * Who connects meanwhile waits in the socket's backlog.
 *
 * A packed door is its socket and its session. Not packed, since it is made anew:
 *   loop vu watch dialer pause accepts leave leaving connect park_done parked stopped opaque
 */
#include "vhost_user/door/door_impl.h"

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vhost_user/session/session_pack.h"

static void on_session_parked(void *opaque)
{
        door_leave_threads(opaque);
}

void door_park(struct door *d, void (*parked)(void *opaque), void *opaque)
{
        d->park_done = parked;
        d->opaque = opaque;
        loop_timer_cancel(d->loop, &d->pause);
        loop_unwatch(d->loop, &d->watch);
        dialer_stop(&d->dialer);
        if (d->session)
                session_park(d->session, on_session_parked, d);
        else
                door_leave_threads(d);
}

void door_start_parked(struct door *d)
{
        d->parked = true;
}

bool door_has_woken(const struct door *d)
{
        return d->session && session_is_awake(d->session);
}

bool door_is_moving(const struct door *d)
{
        return d->session && session_is_logging(d->session);
}

void door_resume(struct door *d)
{
        int r;

        d->parked = false;
        if (d->session)
                session_resume(d->session);
        r = door_open(d);
        if (r < 0)
                log_err("%s", err_text(r));
        err_clear();
}

json_t *door_pack(const struct door *d, struct parcel *p)
{
        return json_pack("{s:i,s:i,s:i,s:o,s:o?}", "fd", parcel_put_fd(p, d->fd), "peer", (int)d->peer, "held", (int)d->held, "shut",
                         parcel_u64(d->shut_until_ns), "session",
                         d->session && !session_is_over(d->session) ? session_pack(d->session, p) : NULL);
}

int door_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd)
{
        return parcel_take_fd(p, o, "fd", true, listen_fd);
}

int door_unpack(struct door *d, struct parcel *p, const json_t *o)
{
        const json_t *session = NULL;
        uint64_t shut = 0;
        unsigned peer = 0;
        int r = parcel_get_unsigned(o, "peer", INT32_MAX, &peer);

        if (r == 0 && json_object_get(o, "held")) /* who hands over may be older than we are */
                r = parcel_get_unsigned(o, "held", INT32_MAX, &d->held);
        if (r == 0 && json_object_get(o, "shut"))
                r = parcel_get_u64(o, "shut", UINT64_MAX, &shut);
        if (r == 0)
                r = parcel_get_object(o, "session", true, &session);
        if (r < 0)
                return r;
        d->peer = (pid_t)peer;
        d->shut_until_ns = shut; /* of a clock of the host's */
        return session ? session_unpack(d->loop, d->vu, p, session, door_on_ended, d, &d->session) : 0;
}
