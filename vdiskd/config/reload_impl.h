/* SPDX-License-Identifier: BSD-3-Clause */
/* reload_impl.h - inside reload.h: reload.c reads everything again, reload_disk.c has single disks. */
#pragma once

#include "vdiskd/config/disk_ops.h"
#include "vdiskd/config/reload.h"

enum phase { IDLE, ADD, UNDO, REMOVE, LATE };

struct step {
        struct reload *r;
        enum phase phase; /* ADD, LATE or REMOVE */
        const struct disk_opts *o;
        bool done;        /* it holds */
};

struct reload {
        struct disks *disks;
        struct options *now, wanted;
        char **argv;
        enum phase phase;
        struct step *steps;
        size_t nsteps;
        unsigned waiting;
        int err; /* the first; 0: none */
        char why[512];
        json_t *what;
        reload_done *done;
        void *opaque;
        struct loop_task begin, follow;
        bool following; /* follow is posted */
        unsigned changes; /* of reload_disk.c, under way: they will change now->disks */
};

struct disk_opts *reload_find(const struct options *o, const char *id); /* NULL: none */
