/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tape.h - what reached an image's files, in the order of one clock, and the files a power cut can leave.
 *
 * Each event has the time it was handed over and the time it was done. A cut at time t leaves all that is *sure*: what
 * was done when a sync of the same file was issued that is done at t; and of the rest that was issued by t any part,
 * down to single sectors. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/file.h"

#define TAPE_NEVER UINT64_MAX
#define TAPE_PARTS 2u /* the image, its data file */
#define TAPE_CAP (24u << 20)

/* A file as bytes; behind len all is zeros. */
struct tape_bytes {
        unsigned char *b; /* TAPE_CAP */
        size_t len;
        size_t high;      /* behind it nothing but zeros was ever written */
};

struct tape_event {
        enum file_event_kind kind;
        unsigned part;
        uint64_t off, len;
        unsigned char *bytes; /* WRITE */
        uint64_t issued, done;
};

struct tape {
        struct file_tap tap;
        uint64_t now; /* the clock: one tick an event, of files or of the guest */
        struct tape_event *ev;
        size_t n, cap;
        struct tape_bytes live[TAPE_PARTS];  /* what the files hold now */
        struct tape_bytes start[TAPE_PARTS]; /* what they held when the recording began */
        struct file *file[TAPE_PARTS];       /* open ones */
};

void tape_init(struct tape *t);
void tape_finish(struct tape *t);
void tape_load(struct tape *t, unsigned part, const void *bytes, size_t len); /* start and live */
void tape_rewind(struct tape *t); /* forgets all events; live is start again */
void tape_keep(struct tape *t);   /* forgets all events; start is live */

/* The part as a file that is recorded. file_close() leaves its bytes. */
struct file *tape_open(struct tape *t, unsigned part);
/* Bytes as a file that cannot be written to. */
struct file *tape_view(const struct tape_bytes *b);

/* --- cuts ---------------------------------------------------------------------------------------------------------------- */

struct cut {
        const struct tape *t;
        uint64_t at;
        struct tape_bytes sure[TAPE_PARTS];
        struct tape_bytes state[TAPE_PARTS]; /* one of the states of this cut */
        bool *is_sure; /* by event */
        size_t first;  /* events before it are in sure */
        size_t last_applied;
        size_t *open;  /* events that may be there or not */
        size_t nopen;
        struct span {
                unsigned part;
                uint64_t from, to;
        } *touched; /* where state differs from sure */
        size_t ntouched, cap;
};

void cut_init(struct cut *c, const struct tape *t);
void cut_finish(struct cut *c);
void cut_begin(struct cut *c); /* of the recording as it is now */
void cut_move(struct cut *c, uint64_t at); /* only forward */

/* Whole, not at all, or those sectors for which the generator says so. Between two cut_restore(), in order of c->open. */
enum cut_luck { CUT_NONE, CUT_WHOLE, CUT_SECTORS };
void cut_put(struct cut *c, size_t open, enum cut_luck luck, uint64_t *rnd);
void cut_restore(struct cut *c);
