/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_job.h - the loop of a background job over a disk: piece after piece, several in flight, at the home thread of
 * the volume whose disk it is about. What a piece is and what is done with it is the kind's (struct copy_kind):
 * backup.c, mirror.c.
 *
 *   the kind:  next() which piece -> copy() it -> copy_chunk_end() ... nothing left -> idle() -> copy_job_end()
 *   the loop:  how many at once, how fast, standing still, errors, coming to an end
 *
 * Guests' requests go on beside it: memory is bounded by depth * chunk, and the loop holds no lock on anything. While
 * somebody holds the volume (vol_hold) it stands still.
 *
 * The owner, on a thread of his own, wishes; the loop, at home, tells what became of it with told(), whose news
 * copy_job_news() takes.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blkq/qthread.h"
#include "common/list.h"

struct vol;
struct copy_job;

#define COPY_CHUNK (1u << 20)  /* bytes of a piece, unless clusters are larger */
#define COPY_DEPTH 8u          /* pieces in flight at most */

/* an error: the job ends; later once more; it stands still until resumed */
enum copy_action { COPY_FAIL, COPY_AGAIN, COPY_STOP };

/* A piece of work. The loop's, @buf and @off, @len are for the kind. */
struct copy_rest;
struct copy_chunk {
        struct copy_job *c;
        uint64_t off, len;
        void *buf;             /* c->chunk bytes, aligned to 4096 */
        bool busy;
};

/* All at home. */
struct copy_kind {
        /* The next piece, at most @max bytes. False: there is none now (one that is under way may bring more). */
        bool (*next)(struct copy_job *c, uint64_t max, uint64_t *off, uint64_t *len);
        /* Do it; copy_chunk_end() follows, perhaps at once. */
        void (*copy)(struct copy_chunk *ch);
        /* It failed and is to be done again, sooner or later. */
        void (*again)(struct copy_job *c, uint64_t off, uint64_t len);
        /* Nothing is under way and next() has none. End with copy_job_end(), or do something and copy_job_kick(), or be
         * asked again in COPY_IDLE_NS. */
        void (*idle)(struct copy_job *c);
        /* It comes to an end because of @res < 0, nothing is under way: end with copy_job_end(). NULL: at once. */
        void (*ending)(struct copy_job *c, int res);
        void (*free)(struct copy_job *c); /* the kind's memory, with the job inside */
};
#define COPY_IDLE_NS (20 * 1000000ull)

struct copy_owner {
        enum copy_action (*on_error)(struct copy_job *c, bool read, int err); /* home: what shall be done about it? */
        /* home: there is news. Only send a message */
        void (*told)(struct copy_job *c);
        void *opaque;
};

struct copy_job {
        /* The kind's, before copy_job_init(): */
        struct vol *v;
        const struct copy_kind *kind;
        uint32_t chunk;        /* bytes of a piece at most; a multiple of what the kind needs */
        uint32_t step;         /* and at least, however slow the job is to be */
        unsigned depth;
        struct copy_owner owner;
        size_t chunk_size;     /* of the kind's struct that begins with a struct copy_chunk; 0: just that */

        /* Progress, bytes. The kind's to set, anybody's to read. */
        _Atomic uint64_t done, total;

        /* Wishes: any thread writes, home reads. */
        _Atomic uint64_t speed; /* bytes a second, 0: as fast as it goes */
        atomic_bool pause, cancel, complete;
        atomic_bool kicked, resumed;
        struct qtask kick, resume, last;
        void (*finished)(struct copy_job *c);

        /* Home's: */
        struct copy_chunk **chunks; /* depth */
        unsigned in_flight, after;  /* pieces; things of the kind's own that must end before the job can */
        uint64_t free_at_ns;   /* when the rate limit lets the next piece go */
        uint64_t not_before_ns; /* and a short while after an error */
        uint64_t last_speed;
        uint64_t started;      /* bytes of pieces begun, all in all */
        struct qtimer timer;
        bool timer_set, stopped, stood, pumping, again, ending, over;
        struct copy_rest *rest; /* copy_rest.h: pieces end there; NULL: they are the loop's */
        int res;               /* why it ends */

        pthread_mutex_t lock;  /* the news */
        struct copy_news {
                bool stands, ready, over;
                int res;       /* of over */
                unsigned nerrors; /* those that did not fit are forgotten: they were as these */
                struct { bool read; int err; enum copy_action action; } error[8];
        } news;
};

/* --- the owner: one thread ------------------------------------------------------------------------------------------- */

void copy_job_start(struct copy_job *c);
/* The news were that it is over. @finished, at home: now nothing of it is under way anywhere. */
void copy_job_finish(struct copy_job *c, void (*finished)(struct copy_job *c));
void copy_job_free(struct copy_job *c); /* then, or when it was never started */

void copy_job_pause(struct copy_job *c);
void copy_job_resume(struct copy_job *c); /* also after an error stopped it */
void copy_job_cancel(struct copy_job *c);
void copy_job_complete(struct copy_job *c); /* c->complete is the kind's to look at */
void copy_job_set_speed(struct copy_job *c, uint64_t speed);

/* What has happened since the last call. .over comes once, and nothing after it. */
struct copy_news copy_job_news(struct copy_job *c);

/* --- the kind -------------------------------------------------------------------------------------------------- */

int copy_job_init(struct copy_job *c); /* any thread; 0 or -ENOMEM, and it is as before */

/* Home: */
/* @moved: bytes that cost something; the rate limit counts them. */
void copy_chunk_end(struct copy_chunk *ch, int res, bool read, uint64_t moved);
void copy_job_kick(struct copy_job *c);  /* there may be something to do */
void copy_job_fail(struct copy_job *c, int res); /* it cannot succeed any more: come to an end */
void copy_job_error(struct copy_job *c, bool read, int err); /* of something that is no piece: policy, news */
void copy_job_broken(struct copy_job *c, bool read, int err); /* the same, and whatever the policy is, it fails */
void copy_job_ready(struct copy_job *c); /* news */
/* Nothing is under way, and nothing of the kind's will come back. The job is the owner's again when he has the news. */
void copy_job_end(struct copy_job *c, int res);
