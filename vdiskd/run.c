/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   starting -> serving -> stopping -> stopped
 *        \________________^   a start that fails takes the same way out
 *   serving -> another process has taken over (upgrade.h)
 *
 * All disks are opened before the first socket is made, so a wrong option leaves nothing behind that a front end saw.
 */
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <urcu.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "common/path.h"
#include "common/pid_file.h"
#include "common/secret.h"
#include "common/thread.h"
#include "config.h"
#include "vdiskd/control/control.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/manager.h"
#include "vdiskd/metrics/metrics.h"
#include "vdiskd/metrics/metrics_text.h"
#include "vdiskd/disks/objects.h"
#include "vdiskd/sandbox/opener.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/sandbox/sandbox.h"
#include "vdiskd/startup.h"
#include "vdiskd/stdio_pump.h"
#include "vdiskd/upgrade/takeover.h"
#include "vdiskd/upgrade/upgrade.h"
#include "vdiskd/watchdog.h"

struct daemon {
        struct options *opts;
        struct loop *loop;
        struct qthread **threads;
        unsigned nthreads;
        struct passed_sockets passed;
        char *state_dir; /* NULL: none */
        struct disks disks;
        struct listener control_at;
        struct control *control;
        struct stdio_pump *pump; /* NULL: none */
        struct watchdog *watchdog; /* NULL: none */
        size_t told_disks;       /* tell_status() */
        int pump_fd;             /* until a client of the control has it; -1: none */
        int background_fd, null_fd; /* startup_tell(); -1: in the foreground */
        struct listener metrics_at;
        struct metrics *metrics; /* NULL: none */
        struct loop_watch signals;
        struct upgrade *upgrade;
        struct qmp_call *upgrade_call; /* who asked for it; NULL: a signal */
        bool workers;                  /* we hold them */
        bool stop_wanted;              /* while an upgrade is under way */
        char **argv;
        int res; /* the first error */
};

/* What "systemctl status" shows. */
static void tell_status(void *opaque)
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

/* Returns whether there is anything to wait for. */
static bool daemon_stop(struct daemon *d)
{
        manager_tell("STOPPING=1");
        reload_remind(d->disks.configuration);
        return disks_stop(&d->disks, on_stopped, d);
}

static void stop_running(struct daemon *d)
{
        if (!daemon_stop(d))
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

static struct qmp_server *qmp_of(void *opaque)
{
        struct daemon *d = opaque;

        return control_server(d->control);
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
        tell_status(rl->d);
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

/* --- starting -------------------------------------------------------------------------------------------------- */

/* They are looked at when all is served: a stop before that would find half of it. */
static int block_signals(struct daemon *d)
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

/* A directory for ourselves alone: what lies there is believed after a restart. */
static int make_private_dir(const char *path)
{
        struct stat st;

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return err_note(-errno, "%s: cannot make this directory: %s", path, strerror(errno));
        if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                return err_note(-ENOTDIR, "%s: not a directory", path);
        if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
                return err_note(-EPERM, "%s: must belong to us and be writable by nobody else", path);
        return 0;
}

/* Where table changes survive a kill. The default is a convenience: without it the daemon serves all the same. */
static int choose_state_dir(struct daemon *d)
{
        const char *wish = d->opts->state_dir, *runtime = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
        int r;

        if (wish && !strcmp(wish, "none"))
                return 0;
        if (wish)
                d->state_dir = strdup(wish);
        else if (!runtime || asprintf(&d->state_dir, "%s/vdiskd", runtime) < 0)
                d->state_dir = NULL;
        if (!d->state_dir && wish)
                return -ENOMEM;
        r = d->state_dir ? make_private_dir(d->state_dir) : err_note(-ENOENT, "there is no runtime directory");
        if (r == 0)
                return 0;
        if (wish)
                return err_prefix(r, "--state-dir: ");
        log_info("writes that are not flushed yet would not survive a kill of this daemon: %s (--state-dir=DIR|none)",
                 err_text(r));
        err_clear();
        free(TAKE(d->state_dir, NULL));
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

static int make_control(struct daemon *d)
{
        struct control_hooks hooks = { .quit = on_quit, .upgrade = on_upgrade_asked, .reload = on_reload_asked, .opaque = d };

        d->control = control_new(&d->disks, &hooks);
        return d->control ? 0 : -ENOMEM;
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
        tell_status(d);
        if (d->background_fd >= 0)
                startup_tell(TAKE(d->background_fd, -1), TAKE(d->null_fd, -1));
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

static int prepare_upgrade(struct daemon *d)
{
        struct upgrade_env env = {
                .loop = d->loop, .disks = &d->disks, .argv = d->argv, .control = &d->control_at, .metrics = &d->metrics_at, .qmp = qmp_of,
                .finished = on_upgraded, .opaque = d,
        };

        d->upgrade = upgrade_new(&env);
        d->disks.configuration = reload_new(&d->disks, d->opts, d->argv);
        return d->upgrade && d->disks.configuration ? 0 : -ENOMEM;
}

/* Before there are threads. Who can be told of new disks needs an opener that opens what it is told. */
static int enter_sandbox(struct daemon *d)
{
        const struct options *o = d->opts;
        struct opener_rules rules = {
                .strict = o->sandbox == SANDBOX_STRICT || (!o->control && !o->control_fdname && !o->config && !o->monitor),
                .options = o, .state_dir = d->state_dir, .argv = d->argv,
                .std_fd = d->null_fd, /* in the background: who started us may wait until nobody writes to his pipe any more */
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
                r = block_signals(d);
        if (r == 0)
                r = passed_sockets_get(&d->passed);
        if (r == 0)
                r = choose_state_dir(d); /* the control socket may be meant to lie there */
        if (r == 0)
                r = prepare_upgrade(d);
        if (r == 0 && fresh && d->opts->metrics)
                r = metrics_listen(d->opts->metrics, &d->metrics_at); /* TCP is not the opener's */
        metrics_prepare();
        if (r == 0)
                r = enter_sandbox(d);
        if (r == 0)
                r = start_threads(d);
        if (r == 0)
                r = start_helpers(d);
        describe_disks(d);
        return r < 0 ? r : make_control(d);
}

static int daemon_start(struct daemon *d)
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
                        r = startup_run(d->loop, d->control, d->opts);
                if (r == 0)
                        r = start_metrics(d);
        }
        if (r == 0)
                r = start_control(d);
        if (r == 0)
                r = loop_watch(d->loop, &d->signals);
        if (r == 0)
                r = watchdog_new(d->loop, d->threads, d->nthreads, tell_status, d, &d->watchdog);
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

static void daemon_finish(struct daemon *d)
{
        upgrade_free(d->upgrade);
        reload_free(d->disks.configuration);
        control_free(d->control);
        closep(&d->pump_fd);
        stdio_pump_finish(d->pump);
        filter_nodes_finish(&d->disks);
        file_nodes_finish(&d->disks);
        limits_finish(&d->disks);
        metrics_free(d->metrics);
        metrics_finish();
        listener_close(&d->metrics_at);
        listener_close(&d->control_at);
        if (d->workers)
                workers_release(); /* first: one may be on its way out of qthread_post() */
        for (unsigned i = 0; i < d->nthreads; i++)
                qthread_free(d->threads[i]);
        free(d->threads);
        watchdog_free(d->watchdog);
        if (d->disks.pid_fd >= 0)
                path_unlink(d->opts->pid_file); /* while it is locked */
        closep(&d->disks.pid_fd);
        opener_stop();
        manager_finish();
        free(d->state_dir);
        passed_sockets_finish(&d->passed);
        if (d->loop)
                loop_unwatch(d->loop, &d->signals);
        closep(&d->signals.fd);
        loop_free(d->loop);
        closep(&d->background_fd);
        closep(&d->null_fd);
}

int daemon_run(struct options *o, char **argv)
{
        struct daemon d = { .opts = o, .argv = argv, .signals.fd = -1, .control_at.fd = -1, .metrics_at.fd = -1, .background_fd = -1,
                            .null_fd = -1, .pump_fd = -1, .told_disks = SIZE_MAX };
        bool wait = true;
        int r;

        if (o->daemonize && !takeover_asked() && startup_daemonize(&d.background_fd, &d.null_fd) < 0) {
                log_err("%s", err_text(-EIO));
                return 1;
        }
        disks_init(&d.disks);
        d.res = daemon_start(&d);
        if (d.res < 0) {
                log_err("%s", err_text(d.res));
                wait = daemon_stop(&d);
        }
        r = wait ? loop_run(d.loop) : 0;
        if (r < 0)
                log_err("the event loop failed: %s", strerror(-r));
        daemon_finish(&d);
        if (d.res == 0 && r == 0)
                log_info("stopped");
        return d.res < 0 || r < 0;
}
