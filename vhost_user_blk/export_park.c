/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   open -> (the session drains) -> (the ports leave their threads) -> parked -> open, here or in another process
 *
 * Who connects meanwhile waits in the socket's backlog.
 *
 * A packed export is its socket and its session; what it was made with is its maker's business. Not packed, since it is
 * made anew:
 *   loop watch dialer pause accepts accepts_ns turn leave leaving name connect park_done parked stopped opaque; of the
 *   device: vu vol capacity block_size cluster_size read_only serial wce_mark port
 */
#include "vhost_user_blk/export_impl.h"

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "vhost_user/session/session_pack.h"

static void on_session_parked(void *opaque)
{
        export_leave_threads(opaque);
}

void export_park(struct export *x, void (*parked)(void *opaque), void *opaque)
{
        x->park_done = parked;
        x->opaque = opaque;
        loop_timer_cancel(x->loop, &x->pause);
        loop_unwatch(x->loop, &x->watch);
        dialer_stop(&x->dialer);
        if (x->session)
                session_park(x->session, on_session_parked, x);
        else
                export_leave_threads(x);
}

bool export_parked(const struct export *x)
{
        return x->parked;
}

bool export_has_woken(const struct export *x)
{
        return x->session && session_is_awake(x->session);
}

bool export_is_moving(const struct export *x)
{
        return x->session && session_is_logging(x->session);
}

void export_resume(struct export *x, struct vol *v)
{
        int r;

        x->parked = false;
        x->dev.vol = v;
        if (x->session)
                session_resume(x->session);
        r = export_open_door(x);
        if (r < 0)
                log_err("%s", err_text(r));
        err_clear();
}

json_t *export_pack(const struct export *x, struct parcel *p)
{
        return json_pack("{s:i,s:b,s:i,s:o?}", "fd", parcel_put_fd(p, x->fd), "wce", atomic_load(&x->dev.wce),
                         "peer", (int)x->peer, "session",
                         x->session && !session_is_over(x->session) ? session_pack(x->session, p) : NULL);
}

int export_unpack_socket(struct parcel *p, const json_t *o, int *listen_fd)
{
        return parcel_take_fd(p, o, "fd", true, listen_fd);
}

int export_unpack(struct export *x, struct parcel *p, const json_t *o)
{
        const json_t *session;
        unsigned peer = 0;
        bool wce;
        int r = parcel_get_bool(o, "wce", &wce);

        if (r == 0)
                r = parcel_get_unsigned(o, "peer", INT32_MAX, &peer);
        if (r == 0)
                r = parcel_get_object(o, "session", true, &session);
        if (r < 0)
                return r;
        atomic_store(&x->dev.wce, wce);
        x->peer = (pid_t)peer;
        return session ? session_unpack(x->loop, &x->dev.vu, p, session, export_on_ended, x, &x->session) : 0;
}
