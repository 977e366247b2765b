/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_fixture.h - two volumes on one loop that the test turns, a guest of the first who does random things without end
 * while a job copies, and what his disk must look like.
 */
#pragma once

#include "blkq/jobs/copy_job.h"
#include "tests/unit/vol_fixture.h"

#define LOAD_DEPTH 6u
#define LOAD_MAX (160u << 10) /* bytes of a request */

struct load {
        struct rig *g;
        uint8_t *model;  /* the guest's disk; while a request is in flight its range is not settled */
        uint64_t size, rnd, count;
        uint64_t window; /* bytes: he is busy in a part of the disk, which wanders. All of it, unless told otherwise */
        unsigned in_flight;
        bool stop, idle;
        struct load_one {
                struct load *l;
                struct blk_req req;
                struct iovec iov;
                uint8_t *buf;
                bool busy;
        } one[LOAD_DEPTH];
};

/* What is on the disk is read. */
void load_init(struct load *l, struct rig *g, uint64_t seed);
void load_start(struct load *l);
void load_stop(struct load *l); /* until nothing is in flight */
void load_turn(struct load *l, unsigned requests); /* until so many more are done */
void load_finish(struct load *l);

/* "disk", in front of "base" where the format can have that, with 50 requests of its guest done and more under way; and
 * "copy". */
struct pair {
        const char *format, *opts, *to, *to_opts;
        const char *behind;    /* the copy; NULL: nothing */
        uint64_t size, seed;
        /* else nothing is made durable: disks are slow (that is why all goes through the page cache, too) */
        bool sync;
        unsigned writeback_ms; /* 0: 5 */
};
void cf_begin(const struct pair *p, struct rig *src, struct rig *dst, struct load *load);

/* The second volume, on the first one's thread. */
void cf_open(struct rig *g, struct rig *first, const char *name, const struct vol_opts *opts);
int cf_close(struct rig *g);

/* A job's owner. */
struct owner {
        struct copy_job *c;
        enum copy_action read_action, write_action; /* what errors lead to */
        unsigned stands, readies, read_errors, write_errors;
        bool over, finished;
        bool woken;      /* something of the above has changed */
        int res;
};
struct copy_owner cf_owner(struct owner *o);
void cf_turn(struct owner *o, struct rig *g);   /* until there is news */
int cf_finish(struct owner *o, struct rig *g);  /* until it is over, and frees it. Its result */
