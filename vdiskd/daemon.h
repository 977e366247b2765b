/* SPDX-License-Identifier: BSD-3-Clause */
/* daemon.h - inside the process: what run.c, start.c and asked.c share. Control thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/loop.h"
#include "vdiskd/config/options.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/socket.h"

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
        size_t told_disks;       /* asked_tell_status() */
        int pump_fd;             /* until a client of the control has it; -1: none */
        int background_fd, null_fd; /* background_tell(); -1: in the foreground */
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

/* start.c: 0 when all is served, or -errno with a sentence; what was made by then is daemon_finish()'s in run.c. */
int daemon_start(struct daemon *d);

/* asked.c. All but the last two return 0 or -errno. */
int asked_block_signals(struct daemon *d); /* before there are threads; they are looked at when all is served */
int asked_prepare(struct daemon *d);       /* the upgrade and the reload that somebody may ask for */
int asked_make_control(struct daemon *d);
bool asked_stop(struct daemon *d); /* is there anything to wait for? Then the loop ends when it is done */
void asked_tell_status(void *d);   /* to the service manager: how many disks are open, when that has changed */
