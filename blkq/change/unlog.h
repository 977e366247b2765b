/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unlog.h - compressed clusters cannot be written to an image whose table changes are logged (maplog.h): the log is
 * left out while a job writes such, and taken up again afterwards. A kill meanwhile costs what was not flushed, of a
 * target that is not complete anyway.
 */
#pragma once

#include "blkq/change/hold.h"
#include "blkq/workers.h"

struct vol;

struct unlog {
        struct vol *v;
        char *state_dir; /* while it is left out; NULL: it is not, or there is none */
        struct vol_hold hold;
        struct work work;
        struct qtask back;
        void (*done)(struct unlog *u, int res);
        int res;
};

/* Zeroed memory. Any thread. @done: home of the volume; @res < 0: the image could not be made durable, or not be opened
 * again. */
void unlog_start(struct unlog *u, struct vol *v, void (*done)(struct unlog *u, int res));
void unlog_end(struct unlog *u, void (*done)(struct unlog *u, int res)); /* the same, when it was left out */
