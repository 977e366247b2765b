/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job.h - one thread that keeps one queue busy.
 *
 *   WORK:  requests as the options ask, until the limit; then what is in flight is awaited
 *   FINAL: (verify) a flush, then everything that was written is read and compared
 *
 * The main thread may hold all jobs (gate_hold()) while the connection is made anew; each job then takes back what was
 * not answered, and after gate_open() goes on:
 *
 *   SWEEP (crash only): everything is read and compared  ->  RESEND what was not answered  ->  WORK or FINAL again
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "hist.h"
#include "offsets.h"
#include "options.h"
#include "tests/lib/front_end.h"
#include "verify.h"

enum op { OP_READ, OP_WRITE, OP_TRIM, OP_ZEROES, OP_FLUSH, OPS };
extern const char *const op_names[OPS];

enum gate_state { GATE_OPEN, GATE_HOLD, GATE_QUIT };

/* Where the main thread stops the jobs. */
struct gate {
        _Atomic enum gate_state state;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned running; /* jobs not held and not finished */
        unsigned held;    /* jobs that wait */
        unsigned round;   /* counts gate_open() and gate_quit() */
        bool failed;      /* a job has given up */
        int left_fd;      /* eventfd: a job has finished */
};

struct request {
        enum op op;
        uint64_t unit;
        unsigned nunits;
};

struct slot {
        struct fe_io io;
        struct request rq;
        uint8_t *buf;
        uint64_t gpa, start_ns;
        struct slot *next; /* free list */
};

enum phase { PHASE_WORK, PHASE_FINAL, PHASE_SWEEP, PHASE_RESEND };
#define PHASES (PHASE_RESEND + 1)

struct job {
        const struct options *opts;
        struct front_end *fe;
        struct fe_queue *q;
        struct gate *gate;
        struct verify *verify; /* NULL: do not */
        uint64_t base;         /* bytes: where unit 0 of the tested part is on the disk */
        uint64_t first, nunits;/* this job's share of the units */
        uint32_t run_min, run_max; /* units a request */

        struct slot *slots, *free;
        struct fe_io **done;   /* room for iodepth answers */
        struct offsets offsets;
        struct rng mix;
        enum phase phase, goal;
        uint64_t issued, issued_bytes, deadline_ns, sweep_at;
        unsigned writes_to_flush;
        bool flush_due, flush_busy, final_flushed;
        struct request pending[PHASES]; /* drawn, but its units were busy or the ring full */
        bool has_pending[PHASES];
        struct request *lost;   /* at most iodepth */
        unsigned nlost;
        struct verify_log log;

        /* results, read by the main thread when the job rests; answered at any time */
        struct hist lat[OPS];
        uint64_t bytes[OPS], errors[OPS];
        uint64_t compared, wrong; /* sectors */
        _Atomic uint64_t answered;
        uint64_t end_ns;          /* when the last answer of WORK came */
        int result;               /* 0 or -errno with @why */
        char why[256];
};

/* Everything above "results" that is not given by the caller: slots and generators. 0 or -errno with a sentence. */
int job_init(struct job *j, uint64_t seed);
void job_finish(struct job *j);

/* Thread body (PHASE_WORK or PHASE_FINAL as j->goal says). Sets j->result. */
void *job_main(void *job);

/* Main thread. gate_start(): @n jobs are about to run. gate_hold(): returns when every job waits or has finished. */
int gate_init(struct gate *g);
void gate_finish(struct gate *g);
void gate_start(struct gate *g, unsigned n);
bool gate_all_left(struct gate *g, bool *failed);
void gate_hold(struct gate *g, struct job *jobs, unsigned n);
void gate_open(struct gate *g);
void gate_quit(struct gate *g, struct job *jobs, unsigned n);

/* A job's thread: it has finished; it is held until the gate opens (-ECANCELED: quit). */
void gate_leave(struct gate *g, bool failed);
int gate_wait(struct gate *g);
