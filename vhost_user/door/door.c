/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   LISTENING <-> one session -> (door_stop) -> STOPPING: the session drains, the device leaves its threads -> stopped()
 *
 * A front end that comes while the last one is still draining waits in the socket's backlog.
 */
#include "vhost_user/door/door_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"

#define ACCEPT_PAUSE_NS NS_PER_SEC
/*
 * A front end that comes back without end keeps the control thread busy, and what it takes of the processors the
 * scheduler may take from the queue threads: on a crowded host other disks stood still for seconds. So many at once,
 * then so many a second; who comes meanwhile waits in the backlog.
 */
#define ACCEPTS_AT_ONCE 2000u
#define ACCEPT_EVERY_NS (5 * NS_PER_MS)
/*
 * A front end that made a queue thread sleep for the blink that it takes to notice (nudge.h) does not get to do that again and again to
 * the disks beside its own. Each time its disk is shut twice as long; honest front ends never do it.
 */
#define SHUT_FIRST_NS (60 * NS_PER_SEC)
#define SHUT_DOUBLINGS 6u /* to an hour */

/* --- stopping ---------------------------------------------------------------------------------------------------- */

static void on_left(struct loop_task *t)
{
        struct door *d = container_of(t, struct door_leave, back)->door;

        if (--d->leaving)
                return;
        if (d->stopped) {
                d->stopped(d->opaque);
                return;
        }
        d->parked = true;
        TAKE(d->park_done, NULL)(d->opaque);
}

static void leave_thread(struct qtask *t)
{
        struct door_leave *l = container_of(t, struct door_leave, task);
        struct vu_device *vu = l->door->vu;

        vu->ops->leave(vu, l->thread);
        loop_post(l->door->loop, &l->back);
}

void door_leave_threads(struct door *d)
{
        d->leaving = d->vu->nthreads;
        for (unsigned i = 0; i < d->vu->nthreads; i++) {
                d->leave[i] = (struct door_leave){
                        .door = d, .task.run = leave_thread, .back.run = on_left, .thread = i,
                };
                qthread_post(d->vu->threads[i], &d->leave[i].task);
        }
}

void door_shut(struct door *d)
{
        loop_timer_cancel(d->loop, &d->pause);
        loop_unwatch(d->loop, &d->watch);
        dialer_stop(&d->dialer);
        closep(&d->fd);
        d->fd = -1;
}

void door_stop(struct door *d, void (*stopped)(void *opaque), void *opaque)
{
        d->stopped = stopped;
        d->opaque = opaque;
        door_shut(d);
        if (d->session)
                session_close(d->session);
        else
                door_leave_threads(d);
}

bool door_is_stopping(const struct door *d)
{
        return d->stopped;
}

bool door_in_use(const struct door *d)
{
        return d->session && !session_is_over(d->session);
}

void door_config_changed(struct door *d)
{
        if (d->session)
                session_config_changed(d->session);
}

/* --- front ends come and go -------------------------------------------------------------------------------------- */

/* Whoever it was has gone; its eventfds with him. */
static void shut_for_a_while(struct door *d)
{
        uint64_t pause_ns = SHUT_FIRST_NS << min_u64(d->held++, SHUT_DOUBLINGS);

        d->shut_until_ns = clock_ns() + pause_ns;
        log_warn("%s: no front end is let in for %u s, since the last one held up a thread", d->vu->name,
                 (unsigned)(pause_ns / NS_PER_SEC));
}

/* Then it sets the timer that opens again. */
static bool is_shut(struct door *d)
{
        uint64_t now = d->shut_until_ns ? clock_ns() : 0;

        if (now >= d->shut_until_ns) {
                d->shut_until_ns = 0;
                return false;
        }
        loop_unwatch(d->loop, &d->watch);
        loop_timer_set(d->loop, &d->pause, d->shut_until_ns - now);
        return true;
}

static void listen_again(struct door *d)
{
        int r;

        if (is_shut(d))
                return;
        if (d->connect) {
                dialer_start(&d->dialer);
                return;
        }
        r = d->watch.on ? 0 : loop_watch(d->loop, &d->watch);
        if (r < 0)
                log_err("%s: cannot listen for front ends any more: %s", d->vu->name, strerror(-r));
}

static void pause_over(struct loop_timer *t)
{
        listen_again(list_entry(t, struct door, pause));
}

void door_on_ended(void *opaque)
{
        struct door *d = opaque;

        d->session = NULL;
        if (atomic_exchange(&d->vu->held_us, false))
                shut_for_a_while(d);
        if (d->stopped || (d->park_done && !d->leaving))
                door_leave_threads(d);
        else if (!d->park_done && !d->parked)
                listen_again(d);
}

/* 0: the kernel does not tell. */
static pid_t peer_of(int fd)
{
        struct ucred cred = { 0 };
        socklen_t len = sizeof(cred);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 ? cred.pid : 0;
}

static void welcome(struct door *d, int fd)
{
        int r;

        d->peer = peer_of(fd);
        r = session_new(d->loop, d->vu, fd, door_on_ended, d, &d->session);
        if (r < 0)
                log_limited(&d->vu->limit, LOG_LVL_WARN, "%s: cannot serve a front end: %s", d->vu->name, err_text(r));
        else
                log_limited(&d->vu->limit, LOG_LVL_INFO, "%s: front end connected", d->vu->name);
        err_clear();
}

static void on_dialed(struct dialer *dialer, int fd)
{
        struct door *d = container_of(dialer, struct door, dialer);

        welcome(d, fd);
        if (!d->session)
                listen_again(d);
}

static void accept_later(struct door *d, uint64_t pause_ns)
{
        loop_unwatch(d->loop, &d->watch);
        loop_timer_set(d->loop, &d->pause, pause_ns);
}

static void on_connect(struct loop_watch *w, uint32_t events)
{
        struct door *d = container_of(w, struct door, watch);
        int fd;

        if (d->session && session_is_over(d->session)) {
                loop_unwatch(d->loop, &d->watch); /* door_on_ended() listens again */
                session_close(d->session);
                return;
        }
        if (!pace_take(&d->accepts, clock_ns())) {
                log_limited(&d->vu->limit, LOG_LVL_WARN, "%s: front ends come and go without end: they wait", d->vu->name);
                accept_later(d, ACCEPT_EVERY_NS);
                return;
        }
        fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
                if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
                        return; /* the peer is gone again */
                log_limited(&d->vu->limit, LOG_LVL_WARN, "%s: cannot accept a front end: %m", d->vu->name);
                accept_later(d, ACCEPT_PAUSE_NS);
                return;
        }
        if (d->session) {
                log_limited(&d->vu->limit, LOG_LVL_WARN,
                            "%s: a second front end (process %d) was turned away: process %d uses the disk", d->vu->name,
                            (int)peer_of(fd), (int)d->peer);
                close(fd);
                return;
        }
        welcome(d, fd);
}

/* --- a new door -------------------------------------------------------------------------------------------------- */

int door_open(struct door *d)
{
        int r;

        if (d->connect) {
                if (!d->session && !is_shut(d))
                        dialer_start(&d->dialer);
                return 0;
        }
        if (fcntl(d->fd, F_SETFL, fcntl(d->fd, F_GETFL) | O_NONBLOCK) < 0) /* others may accept from it, too */
                return err_note(-errno, "%s: its socket is not usable: %m", d->vu->name);
        d->watch = (struct loop_watch){ .fd = d->fd, .ready = on_connect, .events = EPOLLIN };
        r = is_shut(d) ? 0 : loop_watch(d->loop, &d->watch);
        return r < 0 ? err_note(r, "%s: cannot listen on its socket", d->vu->name) : 0;
}

int door_init(struct door *d, struct loop *l, struct vu_device *vu, int listen_fd, const char *connect)
{
        d->loop = l;
        d->vu = vu;
        d->fd = listen_fd;
        d->accepts = (struct pace){ .at_once = ACCEPTS_AT_ONCE, .every_ns = ACCEPT_EVERY_NS };
        list_init(&d->pause.link);
        d->pause.fire = pause_over;
        d->connect = connect ? strdup(connect) : NULL;
        d->leave = calloc(vu->nthreads, sizeof(*d->leave));
        if ((connect && !d->connect) || !d->leave)
                return -ENOMEM;
        d->dialer = (struct dialer){ .loop = l, .path = d->connect, .name = vu->name, .connected = on_dialed };
        dialer_init(&d->dialer);
        return 0;
}

void door_finish(struct door *d)
{
        closep(&d->fd);
        d->fd = -1;
        free(TAKE(d->leave, NULL));
        free(TAKE(d->connect, NULL));
}
