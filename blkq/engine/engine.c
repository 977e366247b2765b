/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - what an operation means, whoever carries it out.
 *
 *   submit -> backlog -> back end -> done        the backlog only when depth operations run already
 *                 |          |  ^
 *                 |          +--+                short transfer, EINTR, EAGAIN, punching not possible: the next step
 *                 +-> finished -> done           a fault point said no
 *
 * in_flight counts from submit to just before done(), running counts what the back end has. Notifications pass by the
 * backlog: a guest that waits for an answer must not wait for another's disk. io->res counts retries while the
 * operation is on its way; io->priv marks a ZERO that is being written.
 */
#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/range.h"
#include "engine_impl.h"

#define DEFAULT_DEPTH 256u
#define MAX_DEPTH 4096u
#define MAX_RETRIES 1000             /* of a step that gets nowhere; then its errno is the answer */
#define MAX_STEP (1ull << 30)        /* the kernel moves at most 2 GiB - 4 KiB a call; a round number below */
#define ZEROS_BYTES (1u << 20)

static const char zeros[ZEROS_BYTES] __attribute__((aligned(4096)));
static char writing_zeros; /* its address is the mark in io->priv */

/* --- steps ------------------------------------------------------------------------------------------------------ */

static bool is_transfer(const struct io *io)
{
        return io->op == IO_READ || io->op == IO_WRITE;
}

/* The iov from @io->moved on: the rest of a broken element alone, then whole elements. */
static void step_iov(struct io *io, struct io_step *s)
{
        uint64_t skip = io->moved;
        unsigned i = 0;

        while (i < io->niov && skip >= io->iov[i].iov_len)
                skip -= io->iov[i++].iov_len;
        s->iov = &io->iov[i];
        s->niov = io->niov - i;
        if (skip || (s->niov == 1 && s->iov->iov_len > MAX_STEP)) {
                io->rest[0].iov_base = (char *)s->iov->iov_base + skip;
                io->rest[0].iov_len = min_u64(s->iov->iov_len - skip, MAX_STEP);
                s->iov = io->rest;
                s->niov = 1;
        }
        if (s->niov > IOV_MAX)
                s->niov = IOV_MAX;
}

struct io_step engine_step(struct io *io)
{
        struct io_step s = { .op = io->op, .off = io->off + io->moved, .len = io->len - io->moved };

        if (is_transfer(io)) {
                step_iov(io, &s);
        } else if (io->priv == &writing_zeros) {
                s.op = IO_WRITE;
                s.len = min_u64(s.len, ZEROS_BYTES);
                io->rest[0] = (struct iovec){ (void *)zeros, s.len };
                s.iov = io->rest;
                s.niov = 1;
        } else {
                s.off = io->off;
        }
        return s;
}

int engine_zero_mode(enum io_op op)
{
        return FALLOC_FL_KEEP_SIZE | (op == IO_ZERO_KEEP ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
}

/* Memory files know no vectors: element by element, until one comes out short. */
static int64_t transfer_by_ops(struct file *f, const struct io_step *s)
{
        uint64_t moved = 0;

        for (unsigned i = 0; i < s->niov; i++) {
                const struct iovec *v = &s->iov[i];
                ssize_t n = s->op == IO_READ ? f->ops->pread(f, v->iov_base, v->iov_len, s->off + moved)
                                             : f->ops->pwrite(f, v->iov_base, v->iov_len, s->off + moved);

                if (n < 0)
                        return moved ? (int64_t)moved : n;
                moved += (uint64_t)n;
                if ((size_t)n < v->iov_len)
                        break;
        }
        return (int64_t)moved;
}

static int64_t transfer(struct file *f, const struct io_step *s)
{
        ssize_t n;

        if (f->fd < 0)
                return transfer_by_ops(f, s);
        n = s->op == IO_READ ? preadv(f->fd, s->iov, (int)s->niov, (off_t)s->off)
                             : pwritev(f->fd, s->iov, (int)s->niov, (off_t)s->off);
        return n < 0 ? -errno : n;
}

/* The eventfd is a stranger's: left blocking, a full counter would hold this thread for ever. */
static int unblock(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) ? -errno : 0;
}

/* He may make it blocking again before the write: nudge.h. */
static int64_t notify(int fd)
{
        static const uint64_t one = 1;
        int r = FAULT("engine.notify") < 0 ? 0 : unblock(fd);

        if (r < 0)
                return r;
        return write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

int64_t engine_notify(struct engine *e, const struct io *io)
{
        int64_t r;

        if (io->shut && atomic_load_explicit(io->shut, memory_order_relaxed))
                return -ECANCELED;
        nudge_begin(&e->nudge);
        r = notify(io->fd);
        nudge_end(&e->nudge);
        return r;
}

int64_t engine_do_step(struct io *io, const struct io_step *s)
{
        switch (s->op) {
        case IO_READ:
        case IO_WRITE:
                return transfer(io->file, s);
        case IO_SYNC:
                return io->file->ops->sync(io->file);
        case IO_ZERO:
        case IO_ZERO_KEEP:
                return io->file->ops->punch(io->file, s->off, s->len, s->op == IO_ZERO_KEEP);
        case IO_TRUNCATE:
                return io->file->ops->truncate(io->file, s->off);
        case IO_NOTIFY:
                return notify(io->fd);
        }
        return -EINVAL;
}

/* --- taps and fault points -------------------------------------------------------------------------------------- */

static void tell(struct io *io, enum file_event_phase phase)
{
        static const enum file_event_kind kinds[] = {
                [IO_WRITE] = FILE_EV_WRITE, [IO_SYNC] = FILE_EV_SYNC, [IO_ZERO] = FILE_EV_PUNCH,
                [IO_ZERO_KEEP] = FILE_EV_ZERO, [IO_TRUNCATE] = FILE_EV_TRUNCATE,
        };
        struct file_event ev = { .phase = phase, .off = io->off, .len = io->len };

        if (io->op == IO_READ || io->op == IO_NOTIFY || !io->file->tap)
                return;
        ev.kind = kinds[io->op];
        if (io->op == IO_WRITE && phase == FILE_EV_ISSUED) {
                ev.iov = io->iov;
                ev.niov = (int)io->niov;
        }
        file_tell(io->file, &ev);
}

static int fault_of(const struct io *io)
{
        switch (io->op) {
        case IO_READ:
                return FAULT("engine.read");
        case IO_WRITE:
                return FAULT("engine.write");
        case IO_SYNC:
                return FAULT("engine.sync");
        case IO_ZERO:
        case IO_ZERO_KEEP:
                return FAULT("engine.zero");
        case IO_TRUNCATE:
                return FAULT("engine.truncate");
        case IO_NOTIFY:
                break;
        }
        return 0;
}

/* --- from submit to done ---------------------------------------------------------------------------------------- */

static void finish_later(struct engine *e, struct io *io, int res)
{
        io->res = res;
        list_add_tail(&e->finished, &io->link);
}

static void launch(struct engine *e, struct io *io)
{
        int r = fault_of(io);

        if (r < 0) {
                finish_later(e, io, r);
                return;
        }
        tell(io, FILE_EV_ISSUED);
        if (io->op != IO_NOTIFY)
                e->running++;
        e->ops->start(e, io);
}

void engine_submit(struct engine *e, struct io *io)
{
        io->moved = 0;
        io->res = 0;
        io->priv = NULL;
        e->in_flight++;
        if (io->len == 0 && (is_transfer(io) || io->op == IO_ZERO || io->op == IO_ZERO_KEEP))
                finish_later(e, io, 0);
        else if (io->op == IO_NOTIFY || e->running < e->depth)
                launch(e, io);
        else
                list_add_tail(&e->backlog, &io->link);
}

static void complete(struct engine *e, struct io *io, int res)
{
        if (res == 0)
                tell(io, FILE_EV_DONE);
        if (io->op != IO_NOTIFY)
                e->running--;
        while (e->running < e->depth && !list_empty(&e->backlog))
                launch(e, list_entry(list_pop(&e->backlog), struct io, link));
        e->in_flight--;
        io->done(io, res);
}

static void zero_from(struct io *io, uint64_t from)
{
        for (unsigned i = 0; i < io->niov; i++) {
                uint64_t len = io->iov[i].iov_len;

                if (from < len)
                        memset((char *)io->iov[i].iov_base + from, 0, len - from);
                from -= min_u64(from, len);
        }
}

/* Where the file ends now. file->size is its home thread's, so the kernel is asked; this is far off the common road. */
static int end_of(const struct file *f, uint64_t *end)
{
        struct stat st;

        *end = f->size;
        if (f->is_blkdev || f->fd < 0)
                return 0;
        if (fstat(f->fd, &st) < 0)
                return -errno;
        *end = (uint64_t)st.st_size;
        return 0;
}

/* A read came to a stop: at the end of the file the rest is zeros. Returns whether that was so, or -errno. */
static int read_ended(struct io *io)
{
        uint64_t end;
        int r = end_of(io->file, &end);

        if (r < 0)
                return r;
        if (io->off + io->moved < end)
                return false;
        zero_from(io, io->moved);
        return true;
}

static void go_on(struct engine *e, struct io *io, int why)
{
        if (++io->res > MAX_RETRIES)
                complete(e, io, why);
        else
                e->ops->start(e, io);
}

/* O_DIRECT takes only whole blocks: after a transfer that broke off elsewhere, start it again (it does no harm twice).
 * @moved: by the last step. */
static void keep_aligned(struct io *io, uint64_t moved)
{
        uint64_t skip = io->moved;

        for (unsigned i = 0; i < io->niov && skip >= io->iov[i].iov_len; i++)
                skip -= io->iov[i].iov_len;
        if (!is_aligned(io->moved | skip, io->file->off_align))
                io->moved = 0;
        else if (moved)
                io->res = 0; /* it moves: begin counting anew */
}

static void on_transfer(struct engine *e, struct io *io, uint64_t n)
{
        int r = 0;

        io->moved += n;
        if (io->moved >= io->len) {
                complete(e, io, 0);
                return;
        }
        if (io->op == IO_READ && (n == 0 || !is_aligned(n, io->file->off_align)))
                r = read_ended(io);
        if (r != 0) {
                complete(e, io, r < 0 ? r : 0);
                return;
        }
        keep_aligned(io, n);
        go_on(e, io, -EIO);
}

static bool cannot_punch(const struct io *io, int64_t res)
{
        return (io->op == IO_ZERO || io->op == IO_ZERO_KEEP) && io->priv != &writing_zeros &&
               (res == -EOPNOTSUPP || res == -ENODEV || res == -EINVAL);
}

static bool moves_bytes(const struct io *io)
{
        return is_transfer(io) || io->priv == &writing_zeros;
}

void engine_on_result(struct engine *e, struct io *io, int64_t res)
{
        if (__builtin_expect(res == (int64_t)io->len && moves_bytes(io), 1)) {
                complete(e, io, 0);
        } else if (io->op == IO_NOTIFY) {
                complete(e, io, res < 0 && res != -EAGAIN ? (int)res : 0); /* EAGAIN: full, so rung */
        } else if (res == -EINTR || res == -EAGAIN) {
                go_on(e, io, (int)res);
        } else if (cannot_punch(io, res)) {
                io->priv = &writing_zeros;
                e->ops->start(e, io);
        } else if (res < 0) {
                complete(e, io, (int)res);
        } else if (moves_bytes(io)) {
                on_transfer(e, io, (uint64_t)res);
        } else {
                if (io->op == IO_TRUNCATE && !io->file->is_blkdev)
                        io->file->size = io->off;
                complete(e, io, 0);
        }
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

/* What never reached the back end. Only those that are here now: done() may submit more of the kind. */
static unsigned run_finished(struct engine *e)
{
        struct list now;
        struct list *n;
        unsigned ran = 0;

        list_init(&now);
        list_splice_tail(&now, &e->finished);
        while ((n = list_pop(&now))) {
                struct io *io = list_entry(n, struct io, link);

                e->in_flight--;
                ran++;
                io->done(io, io->res);
        }
        return ran;
}

unsigned engine_wait(struct engine *e, uint64_t timeout_ns)
{
        unsigned ran = 0;

        e->now = 0;
        if (__builtin_expect(!list_empty(&e->finished), 0))
                ran = run_finished(e);
        return ran + e->ops->wait(e, ran || !list_empty(&e->finished) ? 0 : timeout_ns);
}

int engine_new(const struct engine_opts *opts, struct engine **ret)
{
        struct engine_opts o = *opts;
        struct engine *e = NULL;
        int r = 0;

        o.depth = o.depth ? (unsigned)min_u64(o.depth, MAX_DEPTH) : DEFAULT_DEPTH;
        if (o.kind == ENGINE_AUTO || o.kind == ENGINE_URING)
                r = engine_uring_new(&o, &e);
        if (o.kind == ENGINE_AUTO && r < 0) {
                err_clear(); /* engine_describe() tells what was taken instead */
                r = engine_threads_new(&o, &e);
        } else if (o.kind == ENGINE_THREADS) {
                r = engine_threads_new(&o, &e);
        } else if (o.kind == ENGINE_SYNC) {
                r = engine_sync_new(&o, &e);
        }
        if (r < 0)
                return r;
        e->depth = o.depth;
        list_init(&e->backlog);
        list_init(&e->finished);
        r = nudge_init(&e->nudge, o.nudge && o.kind != ENGINE_SYNC);
        if (r < 0) {
                e->ops->free(e);
                return r;
        }
        *ret = e;
        return 0;
}

void engine_free(struct engine *e)
{
        if (!e)
                return;
        assert(e->in_flight == 0);
        nudge_finish(&e->nudge);
        e->ops->free(e);
}

const char *engine_describe(const struct engine *e)
{
        return e->about;
}

void engine_add_file(struct engine *e, struct file *f)
{
        if (e->ops->add_file && f->fd >= 0)
                e->ops->add_file(e, f);
}

void engine_del_file(struct engine *e, struct file *f)
{
        if (e->ops->del_file)
                e->ops->del_file(e, f);
}

void engine_watch(struct engine *e, struct engine_watch *w)
{
        w->going = false;
        w->priv = NULL;
        list_init(&w->link);
        e->ops->watch(e, w);
}

void engine_unwatch(struct engine *e, struct engine_watch *w)
{
        assert(!w->going);
        w->going = true;
        e->ops->unwatch(e, w);
}

uint64_t engine_now(struct engine *e)
{
        if (!e->now)
                e->now = clock_ns();
        return e->now;
}

void engine_stale(struct engine *e)
{
        e->now = 0;
}

unsigned engine_in_flight(const struct engine *e)
{
        return e->in_flight;
}
