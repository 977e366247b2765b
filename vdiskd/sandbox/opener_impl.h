/* SPDX-License-Identifier: BSD-3-Clause */
/* opener_impl.h - what goes between the daemon (opener.c) and its opener (opener_serve.c). Both are the same
 * program. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "vdiskd/sandbox/opener.h"

#define OPENER_TEXT (16u << 10)
#define OPENER_PATH 4096 /* with its end, as for the kernel */

/* Bounds of what the daemon gets through it, whoever the daemon is by then. (Memory, files written: of the opener
 * itself.) */
#define OPENER_MAX_FILE (1ul << 20)
#define OPENER_MAX_DATA (256ul << 20)
#define OPENER_MADE_AT_ONCE 10000u             /* files and sockets, then one every */
#define OPENER_MADE_EVERY_NS (10 * NS_PER_MS)
#define OPENER_STARTED_AT_ONCE 100u            /* processes, one at a time, then one every */
#define OPENER_STARTED_EVERY_NS NS_PER_SEC

enum opener_op {
        OPENER_OPEN, OPENER_OPEN_BENEATH, OPENER_OPEN_ALLOWED, OPENER_LOOK, OPENER_REAL, OPENER_UNLINK, OPENER_CONNECT,
        OPENER_SAVE, OPENER_REMOVE, OPENER_LISTEN, OPENER_CHANGE, OPENER_SPAWN, OPENER_END,
};

struct opener_question {
        uint32_t op;
        int32_t how;   /* OPEN*: flags; LOOK: follow links; LISTEN, CHANGE: permissions or -1; END: kill it */
        uint32_t mode;
        /* the path; OPEN_BENEATH, SAVE: directory and name; OPEN_ALLOWED: image and path */
        char a[OPENER_PATH], b[OPENER_PATH];
        char owner[256], group[256];   /* LISTEN, CHANGE; empty: ours */
        uint64_t dev, ino;             /* CHANGE: of the socket's file */
        char text[OPENER_TEXT];        /* SAVE */
};

struct opener_answer {
        int32_t res;     /* < 0: -errno. OPEN*, CONNECT, LISTEN, SPAWN: a descriptor comes along otherwise */
        int32_t pid;     /* SPAWN */
        struct stat st;  /* LOOK; LISTEN: of the socket's file */
        char path[OPENER_PATH]; /* REAL */
        char why[512];   /* the sentence of an error; empty: none was said */
};

/*
 * Two processes: the opener, which works with names, and the starter, which only starts the process that takes over in
 * an upgrade. That one must not have the opener's limits, which every child keeps.
 */
enum opener_role { ROLE_OPENER, ROLE_STARTER, ROLES };

static inline enum opener_role opener_role_of(uint32_t op)
{
        return op == OPENER_SPAWN || op == OPENER_END ? ROLE_STARTER : ROLE_OPENER;
}

/* The life of either: first an answer that says whether it could begin, then one to each question, until @sock ends. */
void opener_serve(int sock, const struct opener_rules *rules, enum opener_role role) __attribute__((noreturn));

/* Gives up what no question needs. 0 or -errno with a sentence. (opener_confine.c) */
int opener_confine(const struct opener_rules *rules);

/* Is it one that vdiskd asks, and do @rules let it through? 0 or -EPERM with a sentence. (opener_rules.c) */
int opener_check(const struct opener_rules *rules, const struct opener_question *q);

/* Where a strict opener works: a directory with what is below; a file; what is only read. There may be nothing.
 * (opener_rules.c) */
enum opener_place { PLACE_WORK, PLACE_FILE, PLACE_LOOK };
void opener_places(const struct opener_rules *rules, void (*place)(void *opaque, const char *path, enum opener_place kind), void *opaque);
