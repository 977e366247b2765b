/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_impl.h - between engine.c, which knows what an operation means, and the three back ends, which know how to get
 * one transfer done.
 *
 * A back end sees *steps*: engine_step() says what to ask the kernel for next, the back end does it once and hands the
 * result to engine_on_result(), which ends the operation or starts its next step. Only the engine's thread calls these.
 */
#pragma once

#include "engine.h"
#include "nudge.h"

struct engine_ops {
        /* Get io's next step going. Must not call engine_on_result() from here: only from wait(). */
        void (*start)(struct engine *e, struct io *io);
        /* Everything started goes out; the callbacks of what is complete are run. Returns how many. */
        unsigned (*wait)(struct engine *e, uint64_t timeout_ns);
        void (*watch)(struct engine *e, struct engine_watch *w);
        void (*unwatch)(struct engine *e, struct engine_watch *w);
        void (*add_file)(struct engine *e, struct file *f); /* may be NULL, like the next */
        void (*del_file)(struct engine *e, struct file *f);
        void (*free)(struct engine *e);
};

/* The head of each back end's struct. */
struct engine {
        const struct engine_ops *ops;
        unsigned depth;       /* steps the back end may have at once */
        unsigned running;     /* operations with the back end, notifications not counted */
        unsigned in_flight;   /* submitted and not yet done() */
        uint64_t now;         /* engine_now(); 0: to be read */
        struct list backlog;  /* submitted above depth */
        struct nudge nudge;
        struct list finished; /* over before the back end saw them: done() is called from the next engine_wait() */
        char about[160];
};

/* What to ask the kernel for: READ and WRITE with @iov, the rest as in struct io. */
struct io_step {
        enum io_op op;
        const struct iovec *iov;
        unsigned niov;
        uint64_t off, len;
};
struct io_step engine_step(struct io *io);

/* The step returned @res: bytes moved or 0, or -errno. @io may be gone afterwards. */
void engine_on_result(struct engine *e, struct io *io, int64_t res);

/* Mode for fallocate(2) of a ZERO or ZERO_KEEP step. */
int engine_zero_mode(enum io_op op);

/* Does a step on this thread, waiting. Returns as the system call does, -errno for its errors. Any thread. */
int64_t engine_do_step(struct io *io, const struct io_step *s);

/* A NOTIFY, here and now. 0, or as the system call, or -ECANCELED (io->shut). The engine's thread. */
int64_t engine_notify(struct engine *e, const struct io *io);

/* The ring of an io_uring engine, else NULL: for the test that tries what a restricted one refuses. */
struct io_uring *engine_uring_ring(struct engine *e);
int engine_uring_new(const struct engine_opts *opts, struct engine **ret);
int engine_threads_new(const struct engine_opts *opts, struct engine **ret);
int engine_sync_new(const struct engine_opts *opts, struct engine **ret);
