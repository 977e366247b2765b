/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   LISTENING <-> one session -> (export_stop) -> STOPPING: the session drains, the ports leave their threads -> freed
 *
 * A front end that comes while the last one is still draining waits in the socket's backlog.
 */
#include "vhost_user_blk/export_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mark.h"
#include "common/range.h"

#define DEFAULT_QUEUES 64 /* QEMU asks for one a vCPU and gives up when there are fewer */
#define MAX_QUEUES 256    /* the index in SET_VRING_KICK has eight bits */
#define ACCEPT_PAUSE_NS NS_PER_SEC
/*
 * A front end that comes back without end keeps the control thread busy, and what it takes of the processors the
 * scheduler may take from the queue threads: on a crowded host other disks stood still for seconds. So many at once,
 * then so many a second; who comes meanwhile waits in the backlog.
 */
#define ACCEPTS_AT_ONCE 2000u
#define ACCEPT_EVERY_NS (5 * NS_PER_MS)

#define BLK_OPS                                                                                                 \
        .get_config = blk_get_config, .set_config = blk_set_config, .ring_start = blk_ring_start,               \
        .ring_stop = blk_ring_stop, .ring_hurry = blk_ring_hurry, .get = blk_get, .put = blk_put, .take = blk_take

static const struct vu_device_ops blk_ops = { BLK_OPS };

static void export_free(struct export *x)
{
        if (!x)
                return;
        closep(&x->fd);
        free(x->leave);
        free(x->dev.port);
        free(x->dev.vu.threads);
        free(x->dev.vu.shares);
        free(x->dev.wce_mark);
        free(x->name);
        free(x->connect);
        free(x);
}

static void export_freep(struct export **x)
{
        export_free(*x);
}

/* --- stopping ---------------------------------------------------------------------------------------------------- */

static void on_left(struct loop_task *t)
{
        struct export *x = container_of(t, struct leave, back)->x;
        void (*stopped)(void *opaque) = x->stopped;
        void *opaque = x->opaque;

        if (--x->leaving)
                return;
        if (!stopped) {
                x->parked = true;
                TAKE(x->park_done, NULL)(opaque);
                return;
        }
        export_free(x);
        stopped(opaque);
}

static void leave_thread(struct qtask *t)
{
        struct leave *l = container_of(t, struct leave, task);
        struct vol_port *p = TAKE(l->x->dev.port[l->thread], NULL);

        if (p)
                port_detach(p);
        loop_post(l->x->loop, &l->back);
}

void export_leave_threads(struct export *x)
{
        x->leaving = x->dev.vu.nthreads;
        for (unsigned i = 0; i < x->dev.vu.nthreads; i++) {
                x->leave[i] = (struct leave){
                        .x = x, .task.run = leave_thread, .back.run = on_left, .thread = i,
                };
                qthread_post(x->dev.vu.threads[i], &x->leave[i].task);
        }
}

void export_stop(struct export *x, void (*stopped)(void *opaque), void *opaque)
{
        x->stopped = stopped;
        x->opaque = opaque;
        loop_timer_cancel(x->loop, &x->pause);
        loop_unwatch(x->loop, &x->watch);
        dialer_stop(&x->dialer);
        closep(&x->fd);
        x->fd = -1;
        if (x->session)
                session_close(x->session);
        else
                export_leave_threads(x);
}

void export_follow(struct export *x, struct vol *v)
{
        rcu_assign_pointer(x->dev.vol, v);
}

unsigned export_num_queues(const struct export *x)
{
        return x->dev.vu.num_queues;
}

bool export_in_use(const struct export *x)
{
        return x->session && !session_is_over(x->session);
}

/* --- front ends come and go -------------------------------------------------------------------------------------- */

static void listen_again(struct export *x)
{
        int r;

        if (x->connect) {
                dialer_start(&x->dialer);
                return;
        }
        r = x->watch.on ? 0 : loop_watch(x->loop, &x->watch);
        if (r < 0)
                log_err("%s: cannot listen for front ends any more: %s", x->name, strerror(-r));
}

static void pause_over(struct loop_timer *t)
{
        listen_again(list_entry(t, struct export, pause));
}

void export_on_ended(void *opaque)
{
        struct export *x = opaque;

        x->session = NULL;
        if (x->stopped || (x->park_done && !x->leaving))
                export_leave_threads(x);
        else if (!x->park_done && !x->parked)
                listen_again(x);
}

/* 0: the kernel does not tell. */
static pid_t peer_of(int fd)
{
        struct ucred cred = { 0 };
        socklen_t len = sizeof(cred);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 ? cred.pid : 0;
}

static void welcome(struct export *x, int fd)
{
        int r;

        x->peer = peer_of(fd);
        r = session_new(x->loop, &x->dev.vu, fd, export_on_ended, x, &x->session);
        if (r < 0)
                log_limited(&x->dev.vu.limit, LOG_LVL_WARN, "%s: cannot serve a front end: %s", x->name, err_text(r));
        else
                log_limited(&x->dev.vu.limit, LOG_LVL_INFO, "%s: front end connected", x->name);
        err_clear();
}

static void on_dialed(struct dialer *d, int fd)
{
        struct export *x = container_of(d, struct export, dialer);

        welcome(x, fd);
        if (!x->session)
                listen_again(x);
}

static void accept_later(struct export *x, uint64_t pause_ns)
{
        loop_unwatch(x->loop, &x->watch);
        loop_timer_set(x->loop, &x->pause, pause_ns);
}

static void on_connect(struct loop_watch *w, uint32_t events)
{
        struct export *x = container_of(w, struct export, watch);
        int fd;

        if (x->session && session_is_over(x->session)) {
                loop_unwatch(x->loop, &x->watch); /* export_on_ended() listens again */
                session_close(x->session);
                return;
        }
        if (!pace_take(&x->accepts, clock_ns())) {
                log_limited(&x->dev.vu.limit, LOG_LVL_WARN, "%s: front ends come and go without end: they wait", x->name);
                accept_later(x, ACCEPT_EVERY_NS);
                return;
        }
        fd = accept4(x->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
                if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
                        return; /* the peer is gone again */
                log_limited(&x->dev.vu.limit, LOG_LVL_WARN, "%s: cannot accept a front end: %m", x->name);
                accept_later(x, ACCEPT_PAUSE_NS);
                return;
        }
        if (x->session) {
                log_limited(&x->dev.vu.limit, LOG_LVL_WARN,
                            "%s: a second front end (process %d) was turned away: process %d uses the disk", x->name,
                            (int)peer_of(fd), (int)x->peer);
                close(fd);
                return;
        }
        welcome(x, fd);
}

/* --- size -------------------------------------------------------------------------------------------------------- */

/* In sectors: whole blocks. */
static uint64_t capacity_of(const struct blk_device *d)
{
        return vol_size(d->vol) / d->block_size * (d->block_size / SECTOR_SIZE);
}

void export_resized(struct export *x)
{
        uint64_t now = capacity_of(&x->dev);

        if (atomic_exchange(&x->dev.capacity, now) != now && x->session)
                session_config_changed(x->session);
}

int export_move_mark(struct export *x, const char *mark)
{
        char *was = x->dev.wce_mark, *now = mark ? strdup(mark) : NULL;
        int r = 0;

        if (mark && !now)
                return -ENOMEM;
        if (was && now && !strcmp(was, now)) {
                free(now);
                return 0;
        }
        if (now) /* the new one first: a kill between the two leaves one too many, for an image that nobody serves */
                r = mark_set(now, !atomic_load(&x->dev.wce));
        if (was && r == 0)
                r = mark_set(was, false);
        free(was);
        x->dev.wce_mark = now;
        return r;
}

/* --- images that are used in turn --------------------------------------------------------------------------------- */

static void on_turned(struct loop_task *t)
{
        struct export *x = container_of(t, struct export, turn.task);
        struct turn *turn = &x->turn;

        export_resized(x); /* whoever had it may have made it larger */
        if (turn->res == 0 && x->dev.wce_mark)
                atomic_store(&x->dev.wce, !mark_is_set(x->dev.wce_mark));
        turn->done(turn->opaque, turn->res, turn->why);
}

/* Home thread. */
static void on_vol_turned(void *opaque, int res, const char *why)
{
        struct export *x = opaque;

        x->turn.res = res;
        snprintf(x->turn.why, sizeof(x->turn.why), "%s", why);
        loop_post(x->loop, &x->turn.task);
}

static struct export *begin_turn(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = container_of(vu, struct export, dev.vu);

        x->turn.task.run = on_turned;
        x->turn.done = done;
        x->turn.opaque = opaque;
        return x;
}

static void blk_wake(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = begin_turn(vu, done, opaque);
        int r = vol_wake(x->dev.vol, on_vol_turned, x);

        if (r < 0)
                on_vol_turned(x, r, strerror(-r));
}

static void blk_rest(struct vu_device *vu, void (*done)(void *opaque, int res, const char *why), void *opaque)
{
        struct export *x = begin_turn(vu, done, opaque);
        int r = vol_rest(x->dev.vol, on_vol_turned, x);

        if (r < 0)
                on_vol_turned(x, r, strerror(-r));
}

static const struct vu_device_ops blk_turns_ops = {
        BLK_OPS,
        .wake = blk_wake,
        .rest = blk_rest,
};

/* --- a new export ------------------------------------------------------------------------------------------------ */

static int check_opts(const struct export_opts *o, struct vol *v)
{
        if (o->num_queues > MAX_QUEUES)
                return err_note(-EINVAL, "%s: %u queues; at most %d", o->name, o->num_queues, MAX_QUEUES);
        if (o->block_size && o->block_size != 512 && o->block_size != 4096)
                return err_note(-EINVAL, "%s: a block size of %u; it is 512 or 4096", o->name, o->block_size);
        if (o->serial && strlen(o->serial) > BLK_ID_LEN)
                return err_note(-EINVAL, "%s: serial '%s' is longer than %d bytes", o->name, o->serial, BLK_ID_LEN);
        if (!o->nthreads || o->start_thread >= o->nthreads)
                return err_note(-EINVAL, "%s: thread %u of %u", o->name, o->start_thread, o->nthreads);
        return 0;
}

static int fill_device(struct blk_device *d, struct vol *v, const struct export_opts *o, const char *name)
{
        d->vol = v;
        d->block_size = o->block_size ? o->block_size : 512;
        atomic_init(&d->capacity, capacity_of(d));
        d->cluster_size = vol_cluster_size(v);
        d->read_only = o->read_only || vol_read_only(v);
        if (o->serial)
                memcpy(d->serial, o->serial, strnlen(o->serial, BLK_ID_LEN)); /* padded with zeros, perhaps with none */
        d->wce_mark = o->wce_mark ? strdup(o->wce_mark) : NULL;
        atomic_init(&d->wce, !d->wce_mark || !mark_is_set(d->wce_mark));
        d->vu = (struct vu_device){
                .ops = o->takes_turns ? &blk_turns_ops : &blk_ops,
                .name = name,
                .features = blk_features(d),
                .num_queues = o->num_queues ? o->num_queues : DEFAULT_QUEUES,
                .threads = calloc(o->nthreads, sizeof(*o->threads)),
                .shares = calloc(o->nthreads, sizeof(*d->vu.shares)),
                .nthreads = o->nthreads,
                .first_thread = o->start_thread,
        };
        d->port = calloc(o->nthreads, sizeof(struct vol_port *));
        if (!d->vu.threads || !d->vu.shares || !d->port || (o->wce_mark && !d->wce_mark))
                return -ENOMEM;
        memcpy(d->vu.threads, o->threads, o->nthreads * sizeof(*o->threads));
        return 0;
}

int export_open_door(struct export *x)
{
        int r;

        if (x->connect) {
                if (!x->session)
                        dialer_start(&x->dialer);
                return 0;
        }
        if (fcntl(x->fd, F_SETFL, fcntl(x->fd, F_GETFL) | O_NONBLOCK) < 0) /* others may accept from it, too */
                return err_note(-errno, "%s: its socket is not usable: %m", x->name);
        x->watch = (struct loop_watch){ .fd = x->fd, .ready = on_connect, .events = EPOLLIN };
        r = loop_watch(x->loop, &x->watch);
        return r < 0 ? err_note(r, "%s: cannot listen on its socket", x->name) : 0;
}

int export_new(struct loop *l, struct vol *v, int listen_fd, const struct export_opts *o, struct export **ret)
{
        AUTO(closep) int fd = listen_fd;
        AUTO(export_freep) struct export *x = NULL;
        int r = check_opts(o, v);

        if (r < 0)
                return r;
        x = calloc(1, sizeof(*x));
        if (!x)
                return -ENOMEM;
        x->fd = TAKE(fd, -1);
        x->loop = l;
        x->accepts = (struct pace){ .at_once = ACCEPTS_AT_ONCE, .every_ns = ACCEPT_EVERY_NS };
        x->name = strdup(o->name);
        x->connect = o->connect ? strdup(o->connect) : NULL;
        x->leave = calloc(o->nthreads, sizeof(*x->leave));
        if (!x->name || (o->connect && !x->connect) || !x->leave)
                return -ENOMEM;
        x->dialer = (struct dialer){ .loop = l, .path = x->connect, .name = x->name, .connected = on_dialed };
        dialer_init(&x->dialer);
        list_init(&x->pause.link);
        x->pause.fire = pause_over;
        r = fill_device(&x->dev, v, o, x->name);
        x->parked = o->parked;
        if (r == 0 && !x->parked)
                r = export_open_door(x);
        if (r < 0)
                return r;
        *ret = TAKE(x, NULL);
        return 0;
}
