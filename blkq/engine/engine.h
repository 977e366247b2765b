/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - how I/O reaches the kernel. Three engines behind one interface:
 *
 *   io_uring   one ring a thread: SINGLE_ISSUER, DEFER_TASKRUN, registered ring fd, registered files; each probed
 *   threads    a small pool with preadv/pwritev, for hosts where io_uring is forbidden
 *   sync       deterministic: runs on the caller's thread, also on memory files; completion order from a seed
 *
 * An engine belongs to one thread. Submission costs no system call of its own: everything submitted in one round of the
 * loop goes to the kernel in one call together with the wait (engine_wait). Short transfers, EINTR and EAGAIN are dealt
 * with here, so done() sees the whole length or an error. Fault points: engine.read, engine.write, engine.sync,
 * engine.zero, engine.truncate; engine.uring, engine.timer (setting one up); engine.notify (a NOTIFY is written as if the kernel had
 * seen O_NONBLOCK: it sleeps if it is not there). Taps of the files are told (file_tell).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/file.h"
#include "common/list.h"

enum io_op {
        IO_READ,      /* past the end of the file: zeros */
        IO_WRITE,
        IO_SYNC,      /* fdatasync */
        /* reads as zeros afterwards, space given back; zeros are written where punching is not possible */
        IO_ZERO,
        IO_ZERO_KEEP, /* likewise, space kept */
        IO_TRUNCATE,  /* off: new size; file->size follows (so: home thread). A write past the end does not change it */
        IO_NOTIFY,    /* write 1 to the eventfd io->fd, which becomes O_NONBLOCK; a full counter is success. Not bound by
                         the depth. Ends no wait: done() comes from the engine_wait() that hands it over, or the next, but
                         possibly only after something else has ended that wait. -EINTR: it slept, since somebody filled the
                         counter and made the eventfd blocking at the same moment (nudge.h); -ECANCELED: see shut */
};

/* One operation. The caller's memory from engine_submit() until done(); iov[] too. Zero-initialise. */
struct io {
        enum io_op op;
        int fd;                 /* NOTIFY only */
        const atomic_bool *shut; /* NOTIFY only: when it is true by then nothing is written. NULL: never so */
        struct file *file;      /* all others */
        uint64_t off, len;      /* bytes */
        const struct iovec *iov; /* READ, WRITE: sums to len. Aligned as file->mem_align / off_align ask (bounce.h) */
        unsigned niov;
        void (*done)(struct io *io, int res); /* 0 or -errno; engine's thread, from engine_wait(); never from submit */

        /* The engine's: */
        struct list link;
        uint64_t moved;         /* bytes transferred so far */
        int res;
        struct iovec rest[2];   /* scratch for going on after a short transfer */
        void *priv;
};

enum engine_kind { ENGINE_AUTO, ENGINE_URING, ENGINE_THREADS, ENGINE_SYNC };
struct engine_opts {
        enum engine_kind kind; /* AUTO: io_uring if the kernel lets us, else threads */
        unsigned depth;        /* operations in flight before the rest queues up inside; 0: 256 */
        uint64_t seed;         /* SYNC: completion order; 0: submission order */
        bool restricted;       /* io_uring: the ring does nothing but what we use it for, whoever fills it */
        bool slow_steps;       /* SYNC with a seed: one step of 16 waits until nothing else is left to do */
        unsigned slow_ops;     /* SYNC: all steps of these (1 << enum io_op) do, */
        const bool *hold;      /* and longer, while this is true; NULL: never */
        bool nudge;            /* a NOTIFY that sleeps is ended; the engine is freed by the thread that made it. One a thread */
        bool no_registered_files, no_registered_ring, no_defer_taskrun; /* io_uring: switches for each feature */
};

struct engine;
int engine_new(const struct engine_opts *opts, struct engine **ret); /* sentence noted on failure */
void engine_free(struct engine *e);                                  /* nothing may be in flight; NULL is fine */
const char *engine_describe(const struct engine *e); /* "io_uring (single issuer, ...)" for the log */

/* Let the engine know a file it will see often (registered file). Optional; at most 64 a engine, more are ignored. */
void engine_add_file(struct engine *e, struct file *f);
void engine_del_file(struct engine *e, struct file *f); /* nothing of it in flight */

void engine_submit(struct engine *e, struct io *io); /* cannot fail; done() tells */

/* Watch a readable fd (kick eventfd, inbox). ready() runs on the engine's thread once per wake-up, edge-like: read it
 * dry or do not read it at all. The struct is the caller's until engine_unwatch() has called gone(). */
struct engine_watch {
        int fd;
        void (*ready)(struct engine_watch *w);
        void (*gone)(struct engine_watch *w); /* after unwatch: the engine no longer touches @w or the fd */
        struct list link;
        bool going;
        void *priv;
};
void engine_watch(struct engine *e, struct engine_watch *w);
void engine_unwatch(struct engine *e, struct engine_watch *w);

/**
 * engine_wait - hand over what was submitted, wait for something to happen, run the callbacks of all that is complete.
 * @timeout_ns: 0 does not wait (and makes no system call when nothing is to be submitted or reaped), UINT64_MAX waits
 * for ever. Returns the number of callbacks run; done() of a NOTIFY may be left out.
 */
unsigned engine_wait(struct engine *e, uint64_t timeout_ns);

/*
 * The time (clock_ns()), read from the clock at most once between two engine_stale(): engine_wait() calls that when it
 * comes back from the kernel, the loop when it goes on to other work. So a batch of requests costs one look at the
 * clock.
 */
uint64_t engine_now(struct engine *e);
void engine_stale(struct engine *e);

unsigned engine_in_flight(const struct engine *e); /* submitted and not yet done(), watches not counted */
