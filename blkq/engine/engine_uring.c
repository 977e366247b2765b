/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_uring.c - one io_uring for one thread.
 *
 * Invariants
 * - One io_uring_enter a round: uring_wait() submits, waits and lets deferred completions run in the same call. More
 *   happen only when a round submits more than the ring holds, and while the device is nearly idle (feed_idle_device()).
 * - user_data is a pointer with its kind in the low bits: an io, a watch, or nothing we want to hear of.
 * - A watch is a multishot poll. It is either on @todo (to be armed, or going and to be cancelled) or settled. gone()
 *   is called when the poll's last CQE is here (the one without F_MORE), so the kernel holds nothing of it any more.
 * - What finds no free SQE waits on @stalled and goes first in the next round.
 *
 * IO_NOTIFY is a WRITE of 8 bytes in the same submission, with RWF_NOWAIT. For an O_NONBLOCK eventfd the kernel does it
 * inline, at submit (seen on 6.18: no io-wq thread). A blocking one would go to an io-wq thread and a full one would wait
 * for a reader who may never come; RWF_NOWAIT gives EAGAIN for both, and engine_notify() makes the eventfd non-blocking
 * and writes, so this happens once an eventfd. Who changes that flag while the kernel is at it gets a write that sleeps
 * at submit; nudge.h ends it, with -EINTR, and so, in the same system call, all that would sleep behind it.
 *
 * A CQE at once would end the wait that the same call begins, and cost a second call to sleep. So success posts none
 * (IOSQE_CQE_SKIP_SUCCESS): those in @notified have an SQE and no CQE yet, and once the kernel has taken all SQEs and all
 * CQEs are reaped, whoever is still there has succeeded.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/range.h"
#include "engine_impl.h"

#define MAX_FILES 64
#define OP_FTRUNCATE 55 /* Linux 6.9, linux/io_uring.h; newer than the header we may be built with */

enum { TAG_IO, TAG_WATCH, TAG_NONE, TAG_MASK = 3 };

struct uring {
        struct engine e;
        struct io_uring ring;
        bool can_ftruncate;
        bool waiting;               /* inside uring_wait(): callbacks must not come back in */
        unsigned nfiles;            /* slots in use are below this */
        unsigned last_slot;
        struct file *file[MAX_FILES];
        bool fixed_files;
        bool skips_cqe;             /* IORING_FEAT_CQE_SKIP, Linux 5.17 */
        struct list todo, stalled, inlined, notified;
        unsigned running;           /* have an SQE and will have a CQE; notifications do not count */
        struct log_limit limit;
};

static struct uring *uring_of(struct engine *e)
{
        return container_of(e, struct uring, e);
}

/* --- submission ------------------------------------------------------------------------------------------------- */

/* NULL: the ring is full and the kernel takes no more before we reap. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

        if (__builtin_expect(!sqe, 0) && io_uring_submit(&u->ring) > 0)
                sqe = io_uring_get_sqe(&u->ring);
        return sqe;
}

static void tag(struct io_uring_sqe *sqe, const void *p, unsigned kind)
{
        io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)p | kind);
}

static int slot_of(struct uring *u, const struct file *f)
{
        if (u->file[u->last_slot] == f)
                return (int)u->last_slot;
        for (unsigned i = 0; i < u->nfiles; i++)
                if (u->file[i] == f) {
                        u->last_slot = i;
                        return (int)i;
                }
        return -1;
}

/*
 * What the kernel can do at once it does when it is handed over, on this thread: it copies out of the page cache, or pins memory. So
 * much of that goes to one of the kernel's own threads, which costs it a few microseconds and us nothing.
 */
#define BIG_STEP (1u << 20)

static bool is_big(const struct io_step *s)
{
        uint64_t len = 0;

        for (unsigned i = 0; i < s->niov && len <= BIG_STEP; i++)
                len += s->iov[i].iov_len;
        return len > BIG_STEP;
}

static void prep_transfer(struct io_uring_sqe *sqe, int fd, const struct io_step *s)
{
        bool read = s->op == IO_READ;

        if (s->niov == 1 && read)
                io_uring_prep_read(sqe, fd, s->iov->iov_base, (unsigned)s->iov->iov_len, s->off);
        else if (s->niov == 1)
                io_uring_prep_write(sqe, fd, s->iov->iov_base, (unsigned)s->iov->iov_len, s->off);
        else if (read)
                io_uring_prep_readv(sqe, fd, s->iov, s->niov, s->off);
        else
                io_uring_prep_writev(sqe, fd, s->iov, s->niov, s->off);
        if (is_big(s))
                sqe->flags |= IOSQE_ASYNC;
}

static void prep(struct uring *u, struct io_uring_sqe *sqe, struct io *io)
{
        static const uint64_t one = 1;
        struct io_step s;
        int slot, fd;

        if (io->op == IO_NOTIFY) {
                io_uring_prep_write(sqe, io->fd, &one, sizeof(one), 0);
                sqe->rw_flags = RWF_NOWAIT;
                nudge_begin(&u->e.nudge);
                if (u->skips_cqe) {
                        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
                        list_add_tail(&u->notified, &io->link);
                }
                return;
        }
        s = engine_step(io);
        slot = slot_of(u, io->file);
        fd = slot >= 0 ? slot : io->file->fd;
        if (s.op == IO_READ || s.op == IO_WRITE)
                prep_transfer(sqe, fd, &s);
        else if (s.op == IO_SYNC)
                io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        else if (s.op == IO_TRUNCATE)
                io_uring_prep_rw(OP_FTRUNCATE, sqe, fd, NULL, 0, s.off);
        else
                io_uring_prep_fallocate(sqe, fd, engine_zero_mode(s.op), (off_t)s.off, (off_t)s.len);
        if (slot >= 0)
                sqe->flags |= IOSQE_FIXED_FILE;
}

/* What the ring cannot do is done here and now, and told of at the next wait like everything else. */
static void do_inline(struct uring *u, struct io *io)
{
        struct io_step s = engine_step(io);
        int64_t res = io->op == IO_NOTIFY ? engine_notify(&u->e, io) : engine_do_step(io, &s);

        io->rest[1].iov_len = (size_t)res; /* a place for the result: steps use rest[0] only */
        list_add_tail(&u->inlined, &io->link);
}

static bool ring_cannot(const struct uring *u, const struct io *io)
{
        if (io->op == IO_NOTIFY)
                return FAULT("engine.notify") < 0;
        return io->file->fd < 0 || (io->op == IO_TRUNCATE && (!u->can_ftruncate || io->file->is_blkdev));
}

/*
 * A round takes all that a guest has added, and hands it over at its end, with one system call. Meanwhile a device that had nothing else
 * to do waits, then works on all of it while guest and daemon wait, and so they take turns for ever. So a device with little to do gets
 * the first few at once. Only between waits: what a callback starts could end here and now, and reap() would never come to an end.
 */
#define EARLY_BATCH 4
#define BUSY 16 /* so many are with the kernel: the end of the round is early enough */

static void feed_idle_device(struct uring *u)
{
        unsigned held = io_uring_sq_ready(&u->ring);

        if (held >= EARLY_BATCH && u->running < BUSY + held && !u->waiting)
                io_uring_submit(&u->ring); /* what it does not take, the end of the round takes */
}

/* An SQE for @io, which ends with a CQE (on_io_cqe()) or, if it is a notification, without one. */
static void give(struct uring *u, struct io_uring_sqe *sqe, struct io *io)
{
        prep(u, sqe, io);
        tag(sqe, io, TAG_IO);
        u->running += io->op != IO_NOTIFY;
}

static void uring_start(struct engine *e, struct io *io)
{
        struct uring *u = uring_of(e);
        struct io_uring_sqe *sqe;

        if (__builtin_expect(ring_cannot(u, io), 0)) {
                do_inline(u, io);
                return;
        }
        sqe = list_empty(&u->stalled) ? get_sqe(u) : NULL;
        if (__builtin_expect(!sqe, 0)) {
                list_add_tail(&u->stalled, &io->link);
                return;
        }
        give(u, sqe, io);
        feed_idle_device(u);
}

static void start_stalled(struct uring *u)
{
        while (!list_empty(&u->stalled)) {
                struct io *io = list_entry(u->stalled.next, struct io, link);
                struct io_uring_sqe *sqe = get_sqe(u);

                if (!sqe)
                        return;
                list_del(&io->link);
                give(u, sqe, io);
        }
}

/* --- watches ------------------------------------------------------------------------------------------------------ */

/* w->priv is not NULL while the kernel has, or will be given, a poll of it. */
static bool is_armed(const struct engine_watch *w)
{
        return w->priv;
}

static void uring_watch(struct engine *e, struct engine_watch *w)
{
        list_add_tail(&uring_of(e)->todo, &w->link);
}

static void uring_unwatch(struct engine *e, struct engine_watch *w)
{
        list_del(&w->link);
        list_add_tail(&uring_of(e)->todo, &w->link);
}

static void arm(struct io_uring_sqe *sqe, struct engine_watch *w)
{
        io_uring_prep_poll_multishot(sqe, w->fd, POLLIN);
        tag(sqe, w, TAG_WATCH);
        w->priv = w;
}

/* Not POLL_REMOVE: that one gives up (EALREADY) when a wake-up is on its way, this one never does. The poll's own
 * last CQE is what we wait for; how the cancel went is of no interest. */
static void cancel(struct io_uring_sqe *sqe, struct engine_watch *w)
{
        io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)w | TAG_WATCH, 0);
        tag(sqe, NULL, TAG_NONE);
}

/* Returns how many gone() it called: those whose poll was not there (any more). */
static unsigned do_todo(struct uring *u)
{
        struct list never_armed;
        struct list *n;
        unsigned ran = 0;

        list_init(&never_armed);
        while (!list_empty(&u->todo)) {
                struct engine_watch *w = list_entry(u->todo.next, struct engine_watch, link);
                struct io_uring_sqe *sqe = NULL;

                if (!w->going || is_armed(w)) {
                        sqe = get_sqe(u);
                        if (!sqe)
                                break;
                }
                list_del(&w->link);
                if (!sqe)
                        list_add_tail(&never_armed, &w->link);
                else if (w->going)
                        cancel(sqe, w);
                else
                        arm(sqe, w);
        }
        while ((n = list_pop(&never_armed))) {
                struct engine_watch *w = list_entry(n, struct engine_watch, link);

                w->gone(w);
                ran++;
        }
        return ran;
}

static void on_poll_cqe(struct uring *u, struct engine_watch *w, int res, unsigned flags)
{
        bool over = !(flags & IORING_CQE_F_MORE);

        if (over)
                w->priv = NULL;
        if (w->going) {
                if (!over)
                        return;
                list_del(&w->link); /* its cancel may still be on the list */
                w->gone(w);
                return;
        }
        if (over && (res >= 0 || res == -ENOMEM || res == -EAGAIN || res == -EINTR || res == -ECANCELED))
                list_add_tail(&u->todo, &w->link);
        else if (over)
                log_limited(&u->limit, LOG_LVL_ERR, "cannot watch fd %d: %s", w->fd, strerror(-res));
        if (res > 0)
                w->ready(w);
}

/* --- completion --------------------------------------------------------------------------------------------------- */

static void on_io_cqe(struct uring *u, struct io *io, int64_t res)
{
        if (io->op != IO_NOTIFY) {
                u->running--;
        } else {
                nudge_end(&u->e.nudge);
                if (u->skips_cqe)
                        list_del(&io->link);
                if (res == -EAGAIN || res == -EOPNOTSUPP)
                        res = engine_notify(&u->e, io);
        }
        engine_on_result(&u->e, io, res);
}

static void on_cqe(struct uring *u, const struct io_uring_cqe *cqe)
{
        void *p = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
        int res = cqe->res;
        unsigned flags = cqe->flags;
        unsigned kind = cqe->user_data & TAG_MASK;

        io_uring_cq_advance(&u->ring, 1); /* before the callback: it may fill the ring again */
        if (__builtin_expect(kind == TAG_IO, 1))
                on_io_cqe(u, p, res);
        else if (kind == TAG_WATCH)
                on_poll_cqe(u, p, res, flags);
}

static unsigned reap(struct uring *u)
{
        struct io_uring_cqe *cqe;
        unsigned head, ran = 0;

        io_uring_for_each_cqe(&u->ring, head, cqe) {
                on_cqe(u, cqe);
                ran++;
        }
        return ran;
}

static unsigned run_inlined(struct uring *u)
{
        struct list now;
        struct list *n;
        unsigned ran = 0;

        list_init(&now);
        list_splice_tail(&now, &u->inlined);
        while ((n = list_pop(&now))) {
                struct io *io = list_entry(n, struct io, link);

                engine_on_result(&u->e, io, (ssize_t)io->rest[1].iov_len);
                ran++;
        }
        return ran;
}

/* After reap(): who has rung without a CQE? Only those that are here now: done() may ring again. */
static void end_notified(struct uring *u)
{
        struct list now;
        struct list *n;

        if (io_uring_sq_ready(&u->ring) || IO_URING_READ_ONCE(*u->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW)
                return; /* not all taken, or a failure may be waiting: after the next call */
        list_init(&now);
        list_splice_tail(&now, &u->notified);
        while ((n = list_pop(&now))) {
                nudge_end(&u->e.nudge);
                engine_on_result(&u->e, list_entry(n, struct io, link), 0);
        }
}

/* Has the kernel something for us that only a call brings into the ring? */
static bool kernel_has_more(const struct uring *u)
{
        return IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static int enter(struct uring *u, uint64_t timeout_ns)
{
        struct __kernel_timespec ts = { .tv_sec = (long long)(timeout_ns / NS_PER_SEC),
                                        .tv_nsec = (long long)(timeout_ns % NS_PER_SEC) };
        struct io_uring_cqe *cqe;

        if (timeout_ns && io_uring_cq_ready(&u->ring) == 0)
                return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
        if (io_uring_sq_ready(&u->ring) || kernel_has_more(u))
                return io_uring_submit_and_get_events(&u->ring);
        return 0;
}

static unsigned uring_wait(struct engine *e, uint64_t timeout_ns)
{
        struct uring *u = uring_of(e);
        unsigned ran = 0;
        int r;

        assert(!u->waiting);
        u->waiting = true;
        if (__builtin_expect(!list_empty(&u->inlined), 0))
                ran += run_inlined(u);
        if (__builtin_expect(!list_empty(&u->todo), 0))
                ran += do_todo(u);
        if (__builtin_expect(!list_empty(&u->stalled), 0))
                start_stalled(u);
        if (ran || !list_empty(&u->inlined) || !list_empty(&u->stalled))
                timeout_ns = 0;
        r = enter(u, timeout_ns);
        engine_stale(e);
        /* EBUSY and EAGAIN: the CQ is over-full, reaping is what helps; nothing is lost (FEAT_NODROP). */
        if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN)
                log_limited(&u->limit, LOG_LVL_ERR, "io_uring_enter: %s", strerror(-r));
        ran += reap(u);
        if (!list_empty(&u->notified))
                end_notified(u);
        u->waiting = false;
        return ran;
}

/* --- registered files --------------------------------------------------------------------------------------------- */

static void uring_add_file(struct engine *e, struct file *f)
{
        struct uring *u = uring_of(e);
        unsigned i;

        if (!u->fixed_files || slot_of(u, f) >= 0)
                return;
        for (i = 0; i < MAX_FILES && u->file[i]; i++)
                ;
        if (i == MAX_FILES || io_uring_register_files_update(&u->ring, i, &f->fd, 1) != 1)
                return;
        u->file[i] = f;
        if (i >= u->nfiles)
                u->nfiles = i + 1;
}

static void uring_del_file(struct engine *e, struct file *f)
{
        struct uring *u = uring_of(e);
        int slot = slot_of(u, f);
        int none = -1;

        if (slot < 0)
                return;
        u->file[slot] = NULL;
        io_uring_register_files_update(&u->ring, (unsigned)slot, &none, 1);
        while (u->nfiles && !u->file[u->nfiles - 1])
                u->nfiles--;
}

/* --- start and end ------------------------------------------------------------------------------------------------ */

static void uring_free(struct engine *e)
{
        struct uring *u = uring_of(e);

        io_uring_queue_exit(&u->ring);
        free(u);
}

static const struct engine_ops uring_ops = {
        .start = uring_start,
        .wait = uring_wait,
        .watch = uring_watch,
        .unwatch = uring_unwatch,
        .add_file = uring_add_file,
        .del_file = uring_del_file,
        .free = uring_free,
};

/* The best the kernel has. What it does not know it refuses with EINVAL, so go down step by step. */
static int set_up_ring(struct uring *u, const struct engine_opts *o, const char **mode, unsigned *features)
{
        static const struct { unsigned flags; const char *mode; } tries[] = {
                { IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                  IORING_SETUP_TASKRUN_FLAG, "single issuer, deferred task run" },           /* Linux 6.1 */
                { IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
                  "single issuer, cooperative task run" },                                    /* 6.0 */
                { IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, "cooperative task run" }, /* 5.19 */
                { 0, "plain" },
        };
        unsigned entries = (unsigned)max_u64(o->depth, 64);
        int r = -EINVAL;

        for (size_t i = o->no_defer_taskrun; i < ARRAY_SIZE(tries); i++) {
                struct io_uring_params p = { .flags = tries[i].flags | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL };

                if (!tries[i].flags)
                        p.flags = IORING_SETUP_CLAMP;
                if (o->restricted)
                        p.flags |= IORING_SETUP_R_DISABLED; /* restrict_ring() */
                r = io_uring_queue_init_params(entries, &u->ring, &p);
                *mode = tries[i].mode;
                *features = p.features;
                if (r != -EINVAL)
                        break;
        }
        return r;
}

/* All that prep() and the watches use. */
static const uint8_t our_ops[] = { IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                   IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_FALLOCATE };

static bool has_ops(struct uring *u)
{
        struct io_uring_probe *p = io_uring_get_probe_ring(&u->ring);
        bool all = p;

        for (size_t i = 0; p && i < ARRAY_SIZE(our_ops); i++)
                all = all && io_uring_opcode_supported(p, our_ops[i]);
        u->can_ftruncate = p && io_uring_opcode_supported(p, OP_FTRUNCATE);
        io_uring_free_probe(p);
        return all;
}

static int call_register(struct uring *u, unsigned op, const void *arg, unsigned n)
{
        return syscall(__NR_io_uring_register, u->ring.ring_fd, op, arg, n) < 0 ? -errno : 0;
}

/*
 * Whoever gets hold of this thread cannot open, connect or run anything through the ring: a system call filter does not see
 * what a ring does. Not only registered files: there are more files than slots, and eventfds are watched and rung. By raw
 * system calls: the library of Debian 12 has the functions in its header only. A ring that was made for this and cannot be
 * restricted (Linux < 5.10) does not start.
 */
static int restrict_ring(struct uring *u)
{
        static const uint8_t registers[] = { IORING_REGISTER_FILES_UPDATE, IORING_UNREGISTER_RING_FDS };
        struct io_uring_restriction may[ARRAY_SIZE(our_ops) + ARRAY_SIZE(registers) + 2] = { 0 };
        unsigned n = 0;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(our_ops); i++)
                may[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = our_ops[i] };
        if (u->can_ftruncate)
                may[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = OP_FTRUNCATE };
        for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
                may[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP,
                                                          .register_op = registers[i] };
        may[n++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
                                                  .sqe_flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC };
        r = call_register(u, IORING_REGISTER_RESTRICTIONS, may, n);
        return r < 0 ? r : call_register(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

struct io_uring *engine_uring_ring(struct engine *e)
{
        return e->ops == &uring_ops ? &uring_of(e)->ring : NULL;
}

int engine_uring_new(const struct engine_opts *o, struct engine **ret)
{
        /* RSRC_TAGS came with 5.13 like multishot polls, which have no sign of their own. */
        const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS;
        struct uring *u = calloc(1, sizeof(*u));
        const char *mode = "";
        unsigned features = 0;
        bool fixed_ring;
        int r = FAULT("engine.uring");

        if (!u)
                return -ENOMEM;
        if (r == 0)
                r = set_up_ring(u, o, &mode, &features);
        if (r < 0) {
                free(u);
                return err_note(r, "io_uring cannot be used: %s", strerror(-r));
        }
        if ((features & needed) != needed || !has_ops(u)) {
                io_uring_queue_exit(&u->ring);
                free(u);
                return err_note(-ENOSYS, "io_uring of this kernel is too old, Linux 5.13 or later is wanted");
        }
        u->e.ops = &uring_ops;
        list_init(&u->todo);
        list_init(&u->stalled);
        list_init(&u->inlined);
        list_init(&u->notified);
        u->skips_cqe = features & IORING_FEAT_CQE_SKIP;
        fixed_ring = !o->no_registered_ring && io_uring_register_ring_fd(&u->ring) == 1;
        u->fixed_files = !o->no_registered_files && io_uring_register_files_sparse(&u->ring, MAX_FILES) == 0;
        if (o->restricted)
                r = restrict_ring(u);
        if (r < 0) {
                io_uring_queue_exit(&u->ring);
                free(u);
                return err_note(r, "io_uring cannot be restricted: %s", strerror(-r));
        }
        snprintf(u->e.about, sizeof(u->e.about), "io_uring (%s%s%s%s)", mode, fixed_ring ? ", registered ring" : "",
                 u->fixed_files ? ", registered files" : "", o->restricted ? ", restricted" : "");
        *ret = &u->e;
        return 0;
}
