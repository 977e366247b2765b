/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   starting -> serving -> stopping -> stopped
 *        \________________^   a start that fails takes the same way out
 *
 * All disks are opened before the first socket is made, so a wrong option leaves nothing behind that a front end saw.
 */
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "config.h"
#include "vdiskd/disk.h"

#if HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

struct daemon {
        const struct options *opts;
        struct loop *loop;
        struct qthread **threads;
        unsigned nthreads;
        struct passed_sockets passed;
        struct disk_env env;
        char *state_dir; /* NULL: none */
        struct disk **disks;
        size_t nopen; /* disks[0 .. nopen) are to be closed */
        size_t left;  /* stopping: disks that are not closed yet */
        struct loop_watch signals;
        bool stopping;
        int res; /* the first error */
};

static void tell_manager(const char *state)
{
#if HAVE_SYSTEMD
        sd_notify(0, state);
#else
        (void)state;
#endif
}

/* --- stopping -------------------------------------------------------------------------------------------------- */

static void on_disk_closed(void *opaque, int res)
{
        struct daemon *d = opaque;

        if (d->res == 0)
                d->res = res;
        if (--d->left == 0)
                loop_stop(d->loop);
}

/* Returns whether there is anything to wait for. */
static bool daemon_stop(struct daemon *d)
{
        d->stopping = true;
        d->left = d->nopen;
        tell_manager("STOPPING=1");
        for (size_t i = 0; i < d->nopen; i++)
                disk_close(TAKE(d->disks[i], NULL), on_disk_closed, d);
        return d->nopen > 0;
}

/* A second signal changes nothing: what is in flight has to end before the image can be closed well. */
static void on_signal(struct loop_watch *w, uint32_t events)
{
        struct daemon *d = container_of(w, struct daemon, signals);
        struct signalfd_siginfo si;

        (void)events;
        if (read(w->fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
                return;
        if (d->stopping) {
                log_info("%s: still stopping, %zu of %zu disks are open", strsignal((int)si.ssi_signo), d->left, d->nopen);
                return;
        }
        log_info("%s: stopping", strsignal((int)si.ssi_signo));
        daemon_stop(d);
}

/* --- starting -------------------------------------------------------------------------------------------------- */

static int watch_signals(struct daemon *d)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        signal(SIGPIPE, SIG_IGN);
        sigprocmask(SIG_BLOCK, &set, NULL); /* before the threads are born: they inherit it */
        d->signals = (struct loop_watch){ .ready = on_signal, .events = EPOLLIN };
        d->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return d->signals.fd < 0 ? -errno : loop_watch(d->loop, &d->signals);
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
                        .engine.kind = d->opts->engine,
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

static int start_disks(struct daemon *d)
{
        int r = choose_state_dir(d);

        if (r < 0)
                return r;

        d->env = (struct disk_env){
                .loop = d->loop,
                .threads = d->threads,
                .nthreads = d->nthreads,
                .cache_bytes = d->opts->cache_bytes,
                .state_dir = d->state_dir,
                .passed = &d->passed,
        };
        d->disks = calloc(d->opts->ndisks, sizeof(struct disk *));
        if (!d->disks)
                return -ENOMEM;
        for (size_t i = 0; i < d->opts->ndisks; i++) {
                r = disk_open(&d->opts->disks[i], &d->env, (unsigned)(i % d->nthreads), &d->disks[i]);
                if (r < 0)
                        return r;
                d->nopen++;
        }
        for (size_t i = 0; i < d->nopen; i++) {
                r = disk_serve(d->disks[i]);
                if (r < 0)
                        return r;
        }
        if (passed_sockets_unused(&d->passed))
                log_warn("%d of %d sockets in LISTEN_FDS belong to no disk", passed_sockets_unused(&d->passed), d->passed.n);
        return 0;
}

static int daemon_start(struct daemon *d)
{
        int r = loop_new(&d->loop);

        if (r < 0)
                return r;
        raise_file_limit();
        r = watch_signals(d);
        if (r < 0)
                return r;
        r = passed_sockets_get(&d->passed);
        if (r < 0)
                return r;
        r = start_threads(d);
        if (r < 0)
                return r;
        r = start_disks(d);
        if (r < 0)
                return r;
        tell_manager("READY=1");
        return 0;
}

static void daemon_finish(struct daemon *d)
{
        for (unsigned i = 0; i < d->nthreads; i++)
                qthread_free(d->threads[i]);
        free(d->threads);
        free(d->disks);
        free(d->state_dir);
        passed_sockets_finish(&d->passed);
        if (d->loop)
                loop_unwatch(d->loop, &d->signals);
        closep(&d->signals.fd);
        loop_free(d->loop);
}

int daemon_run(const struct options *o)
{
        struct daemon d = { .opts = o, .signals.fd = -1 };
        bool wait = true;
        int r;

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
