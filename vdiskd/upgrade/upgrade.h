/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * upgrade.h - another process takes over from this one while guests do I/O: the same program, newer, or started anew.
 * Whatever goes wrong before it has taken over, this process goes on serving. Control thread only.
 */
#pragma once

#include <sys/types.h>

#include "vdiskd/disks/disks.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/socket.h"

struct upgrade;

/* Kept while it lives. */
struct upgrade_env {
        struct loop *loop;
        struct disks *disks;
        char **argv;                    /* the new process gets the same words */
        const struct listener *control; /* the file of the control socket */
        const struct listener *metrics; /* the socket of metrics; fd -1: none */
        struct qmp_server *(*qmp)(void *opaque); /* NULL: there is no control socket */
        /*
         * @res < 0: it came to nothing (a sentence is noted), this process serves. 0: process @pid serves, and this one
         * must end now, touching nothing.
         */
        void (*finished)(void *opaque, int res, pid_t pid);
        void *opaque;
};

/* Also notes where our program lies, before it may be replaced. NULL: no memory. */
struct upgrade *upgrade_new(const struct upgrade_env *env);
void upgrade_free(struct upgrade *u); /* none is under way. NULL is fine */

/* @binary: NULL: the program that we were started as. 0: finished() will be called; or -errno with a sentence. */
int upgrade_start(struct upgrade *u, const char *binary);
/* finished(0) was called: what took over is to stop. */
void upgrade_stop_new(const struct upgrade *u);

bool upgrade_running(const struct upgrade *u);
