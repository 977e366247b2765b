/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   IDLE -> HELLO -> FLUSH -> PARK -> SHELVE -> READY -> finished(0)
 *                              guests stand still
 *   a failure:  kill the new process, open the images again, let the exports go on, finished(error)
 *
 * HELLO: the new process starts its threads. FLUSH: what guests have written so far becomes durable while they run, so
 * that little is left for SHELVE. PARK: rings drain. SHELVE: images close, their files stay. READY: it has the parcel
 * (handover.h).
 *
 * Invariants: waiting counts the callbacks that are out; a step ends when it is 0. After a failure nothing new is
 * begun, and what has been begun ends before it is undone. The new process is dead before an image is opened again.
 */
#include "upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "formats/luks/kept_keys.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/disks/scsi_host.h"
#include "vdiskd/upgrade/handover.h"
#include "vdiskd/jobs/job.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/node_bitmaps.h"
#include "vdiskd/sandbox/opener.h"
#include "vdiskd/upgrade/successor.h"
#include "vhost_user_scsi/controller.h"

#define HELLO_NS (30 * NS_PER_SEC) /* guests run meanwhile */
#define PARK_NS (2 * NS_PER_SEC)   /* a request that takes longer: not now */
#define READY_NS (10 * NS_PER_SEC)
#define SEND_SECONDS 5

enum step { IDLE, HELLO, FLUSH, PARK, SHELVE, READY };

struct upgrade {
        struct upgrade_env env;
        char *self; /* the file we run from, when we started */
        enum step step;
        unsigned waiting;
        int err;         /* why it comes to nothing; 0: it goes well */
        char why[512];
        pid_t pid;       /* the new process; 0: none */
        struct loop_watch watch;
        struct loop_timer timer;
        uint64_t park_ns, shelve_ns, send_ns; /* when these steps began */
};

static void step_done(struct upgrade *u);

/* --- the new process ---------------------------------------------------------------------------------------------- */

/* It may be in the middle of anything. Afterwards it is gone, and so is what it holds. */
static void end_child(struct upgrade *u)
{
        loop_timer_cancel(u->env.loop, &u->timer);
        loop_unwatch(u->env.loop, &u->watch);
        closep(&u->watch.fd);
        u->watch.fd = -1;
        if (!u->pid)
                return;
        if (opener_runs())
                opener_end_spawned(true);
        else
                successor_end(u->pid, true);
        u->pid = 0;
}

/* --- no ----------------------------------------------------------------------------------------------------------- */

static void finish(struct upgrade *u)
{
        int err = u->err;

        kept_keys_end();
        u->step = IDLE;
        u->err = 0;
        err_clear();
        err_note(err, "%s", u->why);
        u->env.finished(u->env.opaque, err, 0);
        err_clear();
}

static void control_go_on(struct upgrade *u)
{
        struct qmp_server *q = u->env.qmp(u->env.opaque);

        if (q)
                qmp_go_on(q);
}

/*
 * The images were closed in good order. One that cannot be opened again leaves its guests with a process that never
 * answers: then a new start, to which their front ends come back, is better.
 */
static void undo_shelve(struct upgrade *u)
{
        list_for_each(l, &u->env.disks->nodes) {
                struct node *n = list_entry(l, struct node, link);
                int r = n->vol ? 0 : node_unshelve(n);

                if (r < 0) {
                        log_err("%s: the upgrade failed (%s), and the image cannot be opened again: %s; this process ends so "
                                "that it is started anew", node_label(n), u->why, err_text(r));
                        _exit(1);
                }
        }
}

/* Nothing is under way any more. */
static void undo(struct upgrade *u)
{
        if (u->step >= SHELVE)
                undo_shelve(u);
        if (u->step >= PARK) {
                block_exports_resume(u->env.disks);
                control_go_on(u);
        }
        finish(u);
}

/* The first reason counts. A sentence is noted. */
static void fail(struct upgrade *u, int r)
{
        if (u->err)
                return;
        u->err = r;
        snprintf(u->why, sizeof(u->why), "%s", err_text(r));
        err_clear();
        end_child(u);
        if (u->step == PARK)
                block_exports_resume(u->env.disks); /* those that still drain follow as they come */
        if (!u->waiting)
                undo(u);
}

static void timed_out(struct loop_timer *t)
{
        struct upgrade *u = list_entry(t, struct upgrade, timer);

        err_clear();
        if (u->step == PARK)
                fail(u, err_note(-ETIMEDOUT, "requests in flight did not end within %llu s", PARK_NS / NS_PER_SEC));
        else
                fail(u, err_note(-ETIMEDOUT, "the new process did not answer in time"));
}

/* All disks are as they look: none is going away, and none has something in memory that could not be written. */
static int check_disks(const struct disks *d)
{
        if (d->stopping)
                return err_note(-EBUSY, "the daemon is stopping");
        if (!list_empty(&d->jobs))
                return err_note(-EBUSY, "job '%s' is %s, and jobs are not handed over: wait for its end, dismiss or cancel it",
                                list_entry(d->jobs.next, struct job, link)->id,
                                job_status_text(list_entry(d->jobs.next, struct job, link)->status));
        if (!list_empty(&d->turns))
                return err_note(-EBUSY, "a change of the block graph is under way; try again");
        list_for_each(l, &d->nodes) {
                const struct node *n = list_entry(l, struct node, link);

                if (n->closing || n->resizing)
                        return err_note(-EBUSY, "disk '%s' is being %s; try again", n->name,
                                        n->closing ? "opened or closed" : "resized");
                if (node_has_volatile_bitmaps(n))
                        return err_note(-ENOTSUP, "disk '%s' has dirty bitmaps that are not persistent and would be lost: remove "
                                        "them first", n->name);
                if (vol_waiting_for_space(n->vol))
                        return err_note(-ENOSPC, "disk '%s' waits for space on the host's disk, and its requests would fail: make "
                                        "space first", n->name);
                if (vol_failed(n->vol))
                        return err_note(-EIO, "disk '%s' failed (%s): a new process would not know; remove it first", n->name,
                                        strerror(-vol_failed(n->vol)));
        }
        list_for_each(l, &d->exports) {
                const struct block_export *x = list_entry(l, struct block_export, link);

                if (x->stopping)
                        return err_note(-EBUSY, "export '%s' is going away; try again", x->id);
                if (block_export_is_moving(x))
                        return err_note(-EBUSY, "the guest of '%s' is being migrated; try again when it is done", x->id);
        }
        list_for_each(l, &d->scsi_hosts) {
                const struct scsi_host *h = list_entry(l, struct scsi_host, link);

                if (!h->controller || scsi_controller_is_changing(h->controller))
                        return err_note(-EBUSY, "the SCSI controller on %s is getting or losing a disk; try again", h->place);
        }
        return 0;
}

/* --- the steps ---------------------------------------------------------------------------------------------------- */

/* One callback less. */
static void came_back(struct upgrade *u)
{
        if (--u->waiting)
                return;
        if (u->err)
                undo(u);
        else
                step_done(u);
}

static void on_flushed(void *opaque, int res)
{
        struct upgrade *u = opaque;

        err_clear();
        if (res < 0)
                fail(u, err_note(res, "a disk cannot be flushed: %s", strerror(-res)));
        came_back(u);
}

static void on_parked(void *opaque)
{
        struct upgrade *u = opaque;

        if (u->err)
                block_exports_resume(u->env.disks);
        came_back(u);
}

static void on_shelved(void *opaque, int res)
{
        struct upgrade *u = opaque;

        err_clear();
        if (res < 0)
                fail(u, err_note(res, "a disk's tables cannot be made durable: %s", strerror(-res)));
        came_back(u);
}

static void flush_all(struct upgrade *u)
{
        u->step = FLUSH;
        u->waiting = 1; /* ours, against coming back too early */
        list_for_each(l, &u->env.disks->nodes) {
                struct node *n = list_entry(l, struct node, link);

                if (n->closing) /* or being opened: commands still come. PARK looks again */
                        continue;
                u->waiting++;
                node_flush(n, on_flushed, u);
        }
        came_back(u);
}

static void park_all(struct upgrade *u)
{
        struct qmp_server *q = u->env.qmp(u->env.opaque);
        int r = check_disks(u->env.disks); /* commands came meanwhile */

        if (r < 0) {
                fail(u, r);
                return;
        }
        u->step = PARK;
        u->park_ns = clock_ns();
        loop_timer_set(u->env.loop, &u->timer, PARK_NS);
        if (q)
                qmp_hold(q);
        u->waiting = 1;
        u->waiting += block_exports_park(u->env.disks, on_parked, u);
        came_back(u);
}

static void shelve_all(struct upgrade *u)
{
        u->step = SHELVE;
        u->shelve_ns = clock_ns();
        loop_timer_cancel(u->env.loop, &u->timer);
        kept_keys_begin();
        u->waiting = 1;
        list_for_each(l, &u->env.disks->nodes) {
                u->waiting++;
                node_shelve(list_entry(l, struct node, link), on_shelved, u);
        }
        came_back(u);
}

static void send_all(struct upgrade *u)
{
        struct qmp_server *q = u->env.qmp(u->env.opaque);
        struct secret_box box = { .fd = -1 };
        struct parcel p = { 0 };
        int r;

        u->step = READY;
        u->send_ns = clock_ns();
        loop_timer_set(u->env.loop, &u->timer, READY_NS);
        r = handover_pack(&p, &box, u->env.disks, q ? qmp_socket(q) : -1, u->env.control, u->env.metrics);
        if (r == 0)
                r = parcel_send(&p, u->watch.fd);
        parcel_finish(&p);
        secret_box_finish(&box);
        if (r < 0)
                fail(u, err_prefix(r, "the hand-over cannot be sent: "));
}

static double ms(uint64_t from, uint64_t to)
{
        return (double)(to - from) / NS_PER_MS;
}

static void say_how_long(const struct upgrade *u)
{
        uint64_t now = clock_ns();

        log_info("guests stood still for %.1f ms: %.1f to drain, %.1f to close, %.1f to open", ms(u->park_ns, now),
                 ms(u->park_ns, u->shelve_ns), ms(u->shelve_ns, u->send_ns), ms(u->send_ns, now));
}

static void step_done(struct upgrade *u)
{
        switch (u->step) {
        case HELLO:
                flush_all(u);
                break;
        case FLUSH:
                park_all(u);
                break;
        case PARK:
                shelve_all(u);
                break;
        case SHELVE:
                send_all(u);
                break;
        case READY:
                say_how_long(u);
                u->env.finished(u->env.opaque, 0, u->pid);
                break;
        case IDLE:
                break;
        }
}

/* --- what it says ------------------------------------------------------------------------------------------------- */

static int on_hello(struct upgrade *u, const json_t *said)
{
        unsigned reads = 0;
        const char *version;
        int r = parcel_get_text(said, "vdiskd", false, &version);

        if (r == 0)
                r = parcel_get_unsigned(said, "reads", UINT32_MAX, &reads);
        if (r < 0)
                return err_prefix(r, "the new process does not speak as one of ours: ");
        if (reads != HANDOVER_VERSION)
                return err_note(-EPROTO, "vdiskd %s reads hand-overs of version %u, ours is %u: stop this one and start that",
                                version, reads, HANDOVER_VERSION);
        loop_timer_cancel(u->env.loop, &u->timer);
        log_info("process %d, vdiskd %s, is to take over", (int)u->pid, version);
        step_done(u);
        return 0;
}

static int on_ready(struct upgrade *u, const json_t *said)
{
        bool ready;
        int r = parcel_get_bool(said, "ready", &ready);

        if (r == 0 && send(u->watch.fd, HANDOVER_GO, strlen(HANDOVER_GO), MSG_NOSIGNAL) < 0)
                r = -errno;
        if (r == 0)
                step_done(u);
        return r;
}

static int hear(struct upgrade *u, const json_t *said)
{
        const char *error = json_string_value(json_object_get(said, "error"));

        if (error)
                return err_note(-EREMOTEIO, "the new process: %s", error);
        if (u->step == HELLO)
                return on_hello(u, said);
        if (u->step == READY)
                return on_ready(u, said);
        return err_note(-EPROTO, "the new process speaks out of turn");
}

static void on_word(struct loop_watch *w, uint32_t events)
{
        struct upgrade *u = container_of(w, struct upgrade, watch);
        char text[4096];
        ssize_t n = recv(w->fd, text, sizeof(text), MSG_DONTWAIT);
        json_t *said = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
        int r;

        (void)events;
        err_clear();
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                r = err_note(-ECONNRESET, "the new process ended");
        else if (!json_is_object(said))
                r = err_note(-EPROTO, "the new process talks nonsense");
        else
                r = hear(u, said);
        json_decref(said);
        if (r < 0)
                fail(u, r);
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static int start_child(struct upgrade *u, const char *binary)
{
        struct timeval patience = { .tv_sec = SEND_SECONDS };
        int sock = opener_runs() ? opener_spawn(binary, &u->pid) : successor_start(binary, u->env.argv, &u->pid);

        if (sock < 0)
                return sock;
        u->watch = (struct loop_watch){ .fd = sock, .ready = on_word, .events = EPOLLIN };
        setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        return loop_watch(u->env.loop, &u->watch);
}

int upgrade_start(struct upgrade *u, const char *binary)
{
        int r;

        if (u->step != IDLE)
                return err_note(-EBUSY, "another upgrade is under way");
        r = check_disks(u->env.disks);
        if (r < 0)
                return r;
        r = start_child(u, binary ?: u->self);
        if (r < 0) {
                end_child(u);
                return r;
        }
        u->step = HELLO;
        loop_timer_set(u->env.loop, &u->timer, HELLO_NS);
        return 0;
}

void upgrade_stop_new(const struct upgrade *u)
{
        if (opener_runs())
                opener_end_spawned(false);
        else
                successor_end(u->pid, false);
}

bool upgrade_running(const struct upgrade *u)
{
        return u && u->step != IDLE;
}

struct upgrade *upgrade_new(const struct upgrade_env *env)
{
        struct upgrade *u = calloc(1, sizeof(*u));
        char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

        if (!u)
                return NULL;
        u->env = *env;
        u->watch.fd = -1;
        list_init(&u->timer.link);
        u->timer.fire = timed_out;
        u->self = n > 0 ? strndup(path, (size_t)n) : strdup(env->argv[0]);
        if (!u->self) {
                free(u);
                return NULL;
        }
        return u;
}

void upgrade_free(struct upgrade *u)
{
        if (!u)
                return;
        end_child(u);
        free(u->self);
        free(u);
}
