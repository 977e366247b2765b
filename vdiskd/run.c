/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   starting -> serving -> stopping -> stopped
 *        \________________^   a start that fails takes the same way out
 *   serving -> another process has taken over (upgrade.h)
 *
 * start.c begins, asked.c does what is asked for while we serve, and here is the whole of it and its end.
 */
#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fd_kind.h"
#include "common/log.h"
#include "common/path.h"
#include "vdiskd/background.h"
#include "vdiskd/config/reload.h"
#include "vdiskd/control/control.h"
#include "vdiskd/daemon.h"
#include "vdiskd/disks/file_node.h"
#include "vdiskd/disks/filter_node.h"
#include "vdiskd/disks/limit_groups.h"
#include "vdiskd/manager.h"
#include "vdiskd/metrics/metrics.h"
#include "vdiskd/metrics/metrics_text.h"
#include "vdiskd/sandbox/opener.h"
#include "vdiskd/stdio_pump.h"
#include "vdiskd/upgrade/takeover.h"
#include "vdiskd/upgrade/upgrade.h"
#include "vdiskd/watchdog.h"

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
        qthread_free_all(d->threads, d->nthreads);
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
        fd_kind_finish();
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

        if (o->daemonize && !takeover_asked() && background_begin(&d.background_fd, &d.null_fd) < 0) {
                log_err("%s", err_text(-EIO));
                return 1;
        }
        disks_init(&d.disks);
        d.res = daemon_start(&d);
        if (d.res < 0) {
                log_err("%s", err_text(d.res));
                wait = asked_stop(&d);
        }
        r = wait ? loop_run(d.loop) : 0;
        if (r < 0)
                log_err("the event loop failed: %s", strerror(-r));
        daemon_finish(&d);
        if (d.res == 0 && r == 0)
                log_info("stopped");
        return d.res < 0 || r < 0;
}
