/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * asked.c - what the daemon is asked for while it serves, by signals and on the control socket: to stop, to let another
 * process take over, to read its configuration again. One of them at a time: a stop that comes during an upgrade waits
 * for its end.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/control/control.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/daemon.h"
#include "vdiskd/manager.h"
#include "vdiskd/upgrade/upgrade.h"

/* What "systemctl status" shows. */
void asked_tell_status(void *opaque)
{
        struct daemon *d = opaque;
        size_t n = disks_open(&d->disks);
        char text[64];

        if (n == d->told_disks)
                return;
        d->told_disks = n;
        snprintf(text, sizeof(text), "STATUS=%zu disk%s open", n, n == 1 ? "" : "s");
        manager_tell(text);
}

/* --- stopping -------------------------------------------------------------------------------------------------- */

static void on_stopped(void *opaque, int res)
{
        struct daemon *d = opaque;

        if (d->res == 0)
                d->res = res;
        loop_stop(d->loop);
}

bool asked_stop(struct daemon *d)
{
        manager_tell("STOPPING=1");
        reload_remind(d->disks.configuration);
        return disks_stop(&d->disks, on_stopped, d);
}

static void stop_running(struct daemon *d)
{
        if (!asked_stop(d))
                loop_stop(d->loop);
}

/* Not in the middle of an upgrade: whoever serves then is told. */
static void stop_asked(struct daemon *d, const char *by)
{
        if (upgrade_running(d->upgrade)) {
                log_info("%s: an upgrade is under way, then stopping", by);
                d->stop_wanted = true;
                return;
        }
        log_info("%s: stopping", by);
        stop_running(d);
}

/* The control socket's "quit". */
static void on_quit(void *opaque)
{
        struct daemon *d = opaque;

        if (!d->disks.stopping)
                stop_asked(d, "quit");
}

/* --- another process takes over ----------------------------------------------------------------------------------- */

/* Not one write, not one unlink more: all that is left of this process is its memory. */
static void hand_over(struct daemon *d, pid_t pid) __attribute__((noreturn));
static void hand_over(struct daemon *d, pid_t pid)
{
        char state[32];

        log_info("process %d serves from now on", (int)pid);
        snprintf(state, sizeof(state), "MAINPID=%d", (int)pid);
        manager_tell(state);
        manager_wait();
        if (d->upgrade_call)
                qmp_return(d->upgrade_call, json_pack("{s:i}", "pid", (int)pid));
        if (d->stop_wanted)
                upgrade_stop_new(d->upgrade);
        _exit(0);
}

static void on_upgraded(void *opaque, int res, pid_t pid)
{
        struct daemon *d = opaque;
        struct qmp_call *call;

        if (res == 0)
                hand_over(d, pid);
        log_warn("no upgrade: %s; this process goes on serving", err_text(res));
        call = TAKE(d->upgrade_call, NULL);
        if (call)
                qmp_fail(call, NULL, "%s", err_text(res));
        if (d->stop_wanted)
                stop_running(d);
}

static void on_upgrade_asked(void *opaque, const char *binary, struct qmp_call *call)
{
        struct daemon *d = opaque;
        int r = reload_running(d->disks.configuration) ? err_note(-EBUSY, "a reload or a change of a disk is under way") :
                                                         upgrade_start(d->upgrade, binary);

        if (r == 0) {
                d->upgrade_call = call;
                return;
        }
        log_warn("no upgrade: %s", err_text(r));
        if (call)
                qmp_fail(call, NULL, "%s", err_text(r));
        err_clear();
}

/* --- the configuration is read again ------------------------------------------------------------------------------- */

struct reloading {
        struct daemon *d;
        reload_done *done; /* NULL: a signal asked */
        void *opaque;
};

static void on_reloaded(void *opaque, int res, const char *why, json_t *what)
{
        struct reloading *rl = opaque;

        manager_tell("READY=1");
        asked_tell_status(rl->d);
        if (rl->done)
                rl->done(rl->opaque, res, why, what);
        free(rl);
}

/* As the manager wants it: its clock, so that it knows our READY=1 from an older one. */
static void tell_reloading(void)
{
        char state[64];

        snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, (uint64_t)(clock_ns() / NS_PER_US));
        manager_tell(state);
}

static int on_reload_asked(void *opaque, reload_done *done, void *done_opaque)
{
        struct daemon *d = opaque;
        struct reloading *rl;
        int r;

        if (upgrade_running(d->upgrade))
                return err_note(-EBUSY, "an upgrade is under way");
        rl = malloc(sizeof(*rl));
        if (!rl)
                return -ENOMEM;
        *rl = (struct reloading){ .d = d, .done = done, .opaque = done_opaque };
        r = reload_start(d->disks.configuration, on_reloaded, rl);
        if (r < 0)
                free(rl);
        else
                tell_reloading();
        return r;
}

/* qemu-storage-daemon stops on SIGHUP, and so do we when there is nothing to read again. */
static void on_sighup(struct daemon *d)
{
        if (!d->opts->config)
                return stop_asked(d, strsignal(SIGHUP));
        if (on_reload_asked(d, NULL, NULL) < 0) {
                log_err("reload: %s", err_text(-EINVAL));
                tell_reloading(); /* the manager waits for both */
                manager_tell("READY=1");
        }
        err_clear();
}

/* A second signal changes nothing: what is in flight has to end before the image can be closed well. */
static void on_signal(struct loop_watch *w, uint32_t events)
{
        struct daemon *d = container_of(w, struct daemon, signals);
        struct signalfd_siginfo si;

        (void)events;
        if (read(w->fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
                return;
        if (d->disks.stopping)
                log_info("%s: still stopping, %zu disks are open", strsignal((int)si.ssi_signo), disks_open(&d->disks));
        else if (si.ssi_signo == SIGUSR2)
                on_upgrade_asked(d, NULL, NULL);
        else if (si.ssi_signo == SIGHUP)
                on_sighup(d);
        else
                stop_asked(d, strsignal((int)si.ssi_signo));
}

/* --- who may ask ----------------------------------------------------------------------------------------------- */

int asked_block_signals(struct daemon *d)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGUSR2);
        sigaddset(&set, SIGHUP);
        signal(SIGPIPE, SIG_IGN);
        sigprocmask(SIG_BLOCK, &set, NULL); /* before the threads are born: they inherit it */
        d->signals = (struct loop_watch){ .ready = on_signal, .events = EPOLLIN };
        d->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return d->signals.fd < 0 ? -errno : 0;
}

int asked_make_control(struct daemon *d)
{
        struct control_hooks hooks = { .quit = on_quit, .upgrade = on_upgrade_asked, .reload = on_reload_asked, .opaque = d };

        d->control = control_new(&d->disks, &hooks);
        return d->control ? 0 : -ENOMEM;
}

static struct qmp_server *qmp_of(void *opaque)
{
        struct daemon *d = opaque;

        return control_server(d->control);
}

int asked_prepare(struct daemon *d)
{
        struct upgrade_env env = {
                .loop = d->loop, .disks = &d->disks, .argv = d->argv, .control = &d->control_at, .metrics = &d->metrics_at,
                .qmp = qmp_of, .finished = on_upgraded, .opaque = d,
        };

        d->upgrade = upgrade_new(&env);
        d->disks.configuration = reload_new(&d->disks, d->opts, d->argv);
        return d->upgrade && d->disks.configuration ? 0 : -ENOMEM;
}
