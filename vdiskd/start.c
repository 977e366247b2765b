/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * start.c - the daemon begins: machinery, sandbox, threads, disks, and last the sockets.
 *
 * All disks are opened before the first socket is made, so a wrong option leaves nothing behind that a front end saw.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <urcu.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fd_kind.h"
#include "common/log.h"
#include "common/path.h"
#include "common/pid_file.h"
#include "common/thread.h"
#include "vdiskd/background.h"
#include "vdiskd/control/control.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/daemon.h"
#include "vdiskd/disks/objects.h"
#include "vdiskd/manager.h"
#include "vdiskd/metrics/metrics.h"
#include "vdiskd/metrics/metrics_text.h"
#include "vdiskd/sandbox/opener.h"
#include "vdiskd/sandbox/sandbox.h"
#include "vdiskd/start_commands.h"
#include "vdiskd/state_dir.h"
#include "vdiskd/stdio_pump.h"
#include "vdiskd/upgrade/takeover.h"
#include "vdiskd/watchdog.h"
#include "vhost_user/session/closer.h"

/* Two descriptors a queue, one a memory region: the usual 1024 are soon used up. */
static void raise_file_limit(void)
{
        struct rlimit lim;

        if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
                lim.rlim_cur = lim.rlim_max;
                setrlimit(RLIMIT_NOFILE, &lim);
        }
}

static int start_threads(struct daemon *d)
{
        char name[32]; /* the kernel keeps 15 bytes */

        d->threads = calloc(d->opts->iothreads, sizeof(*d->threads));
        if (!d->threads)
                return -ENOMEM;
        while (d->nthreads < d->opts->iothreads) {
                struct qthread_opts qo = {
                        .name = name,
                        .engine = { .kind = d->opts->engine, .restricted = d->opts->sandbox != SANDBOX_OFF },
                        .poll_us = d->opts->poll_us,
                };
                int r;

                snprintf(name, sizeof(name), "vdiskd-q%u", d->nthreads);
                r = qthread_new(&qo, &d->threads[d->nthreads]);
                if (r < 0)
                        return err_prefix(r, "cannot start queue thread %u: ", d->nthreads);
                d->nthreads++;
        }
        log_info("%u queue thread%s, %s", d->nthreads, d->nthreads == 1 ? "" : "s",
                 engine_describe(qthread_engine(d->threads[0])));
        return 0;
}

/* Before the disks, who take what is left of the passed sockets. Who connects waits for start_control(). */
static int listen_for_control(struct daemon *d)
{
        struct listen_at at = {
                .path = d->opts->control,
                .fd = d->opts->control_fd,
                .fdname = d->opts->control_fdname,
                .mode = 0600,
        };

        if (!at.path && !at.fdname && at.fd < 0)
                return 0;
        return err_prefix(listener_open(&d->control_at, &at, &d->passed), "control: ");
}

/* Images come from strangers: their names lead nowhere else from now on. */
static int confine_names(const struct options *o)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < o->nallow_dirs; i++)
                r = err_prefix(path_allow(o->allow_dirs[i]), "--allow-dir: ");
        path_confine();
        return r;
}

static int make_objects(struct daemon *d)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < d->opts->nobjects; i++)
                r = object_add(&d->disks, d->opts->objects[i]);
        return r;
}

static void describe_disks(struct daemon *d)
{
        d->disks.loop = d->loop;
        d->disks.threads = d->threads;
        d->disks.nthreads = d->nthreads;
        d->disks.cache_bytes = d->opts->cache_bytes;
        d->disks.slow_ms = d->opts->slow_ms;
        d->disks.state_dir = d->state_dir;
        d->disks.passed = &d->passed;
}

static int start_disks(struct daemon *d)
{
        int r = make_objects(d);

        if (r == 0)
                r = disks_add_all(&d->disks, d->opts->disks, d->opts->ndisks);
        if (r < 0)
                return r;
        if (passed_sockets_unused(&d->passed))
                log_warn("%d of %d sockets in LISTEN_FDS belong to no disk", passed_sockets_unused(&d->passed), d->passed.n);
        return 0;
}

static int start_control(struct daemon *d)
{
        int r;

        if (d->control_at.fd < 0 && !d->pump)
                return 0;
        if (d->control_at.path)
                log_info("taking commands on %s", d->control_at.path);
        r = control_listen(d->control, d->loop, TAKE(d->control_at.fd, -1));
        if (r == 0 && d->opts->control_pretty)
                qmp_set_pretty(control_server(d->control));
        if (r == 0 && d->pump)
                r = qmp_add_client(control_server(d->control), TAKE(d->pump_fd, -1));
        return r;
}

/* The last words of a start: who waits for us may come now. */
static int tell_all(struct daemon *d)
{
        if (d->opts->pid_file)
                d->disks.pid_fd = pid_file_make(d->opts->pid_file);
        if (d->disks.pid_fd < -1)
                return d->disks.pid_fd;
        manager_tell("READY=1");
        asked_tell_status(d);
        if (d->background_fd >= 0)
                background_tell(TAKE(d->background_fd, -1), TAKE(d->null_fd, -1));
        return 0;
}

static int start_metrics(struct daemon *d)
{
        int r = d->metrics_at.fd < 0 ? 0 : metrics_new(d->loop, &d->disks, &d->metrics_at, &d->metrics);

        if (r == 0 && d->metrics)
                log_info("metrics at %s", d->opts->metrics);
        return r;
}

/* In the new process of an upgrade, which has the old one's socket: guests are worth more than figures. */
static void go_on_with_metrics(struct daemon *d)
{
        int r = start_metrics(d);

        if (r < 0)
                log_warn("no metrics any more: %s", err_text(r));
        err_clear();
}

/* Before there are threads. Who can be told of new disks needs an opener that opens what it is told. */
static int enter_sandbox(struct daemon *d)
{
        const struct options *o = d->opts;
        struct opener_rules rules = {
                .strict = o->sandbox == SANDBOX_STRICT || (!o->control && !o->control_fdname && !o->config && !o->monitor),
                .options = o, .state_dir = d->state_dir, .argv = d->argv,
                /* in the background: who started us may wait until nobody writes to his pipe any more */
                .std_fd = d->null_fd,
        };
        int r;

        if (o->sandbox == SANDBOX_OFF)
                return 0;
        r = opener_start(&rules);
        if (r == 0)
                r = sandbox_enter(o);
        return r;
}

/* The threads that others would start when they are needed: by then nobody may. */
static int start_helpers(struct daemon *d)
{
        char text[256];
        int r = d->opts->control_stdio ? stdio_pump_start(&d->pump, &d->pump_fd) : 0;

        if (r < 0)
                return r;
        workers_hold();
        d->workers = true;
        if (d->opts->sandbox == SANDBOX_OFF) {
                log_info("sandbox: off");
                return 0;
        }
        r = workers_start_all();
        if (r < 0)
                return r;
        closer_start();
        thread_begins(THREAD_CONTROL);
        get_default_call_rcu_data();
        sandbox_describe(text, sizeof(text));
        log_info("sandbox: %s", text);
        return 0;
}

/* What any start needs, before there are disks. */
static int start_machinery(struct daemon *d, bool fresh)
{
        int r = loop_new(&d->loop);

        if (r < 0)
                return r;
        raise_file_limit();
        manager_find();
        r = confine_names(d->opts);
        if (r == 0)
                r = asked_block_signals(d);
        if (r == 0)
                r = passed_sockets_get(&d->passed);
        if (r == 0)
                r = state_dir_choose(d->opts->state_dir, &d->state_dir); /* the control socket may be meant to lie there */
        if (r == 0)
                r = asked_prepare(d);
        if (r == 0 && fresh && d->opts->metrics)
                r = metrics_listen(d->opts->metrics, &d->metrics_at); /* TCP is not the opener's */
        metrics_prepare();
        fd_kind_prepare();
        if (r == 0)
                r = enter_sandbox(d);
        if (r == 0)
                r = start_threads(d);
        if (r == 0)
                r = start_helpers(d);
        describe_disks(d);
        return r < 0 ? r : asked_make_control(d);
}

int daemon_start(struct daemon *d)
{
        int sock = takeover_socket(), r = start_machinery(d, sock < 0);

        if (r < 0)
                return r;
        if (sock >= 0) {
                takeover(sock, &d->disks, &d->control_at, &d->metrics_at);
        } else {
                r = listen_for_control(d);
                if (r == 0)
                        r = start_disks(d);
                if (r == 0)
                        r = start_commands_run(d->loop, d->control, d->opts);
                if (r == 0)
                        r = start_metrics(d);
        }
        if (r == 0)
                r = start_control(d);
        if (r == 0)
                r = loop_watch(d->loop, &d->signals);
        if (r == 0)
                r = watchdog_new(d->loop, d->threads, d->nthreads, asked_tell_status, d, &d->watchdog);
        if (r < 0)
                return r;
        if (sock >= 0) {
                takeover_go(&d->disks); /* the manager is told by the old process, whom it knows */
                go_on_with_metrics(d);
                if (d->disks.pid_fd >= 0 && pid_file_take_over(d->disks.pid_fd) < 0)
                        log_warn("%s", err_text(-EIO));
                return 0;
        }
        return tell_all(d);
}
