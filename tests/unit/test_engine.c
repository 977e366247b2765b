/* SPDX-License-Identifier: BSD-3-Clause */
/* Every operation on each engine, against a file of a real file system, through the page cache and with O_DIRECT. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "blkq/engine/engine.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/file.h"

#define KIB 1024u
#define BUF_BYTES (256 * KIB)

struct world {
        struct engine_opts opts;
        unsigned file_flags;
        struct engine *e;
        struct file *f;
        char path[64];
        char *buf, *back;
};

struct op {
        struct io io;
        struct iovec iov[8];
        struct world *w;
        unsigned calls;
        int res;
};

static void op_done(struct io *io, int res)
{
        struct op *op = container_of(io, struct op, io);

        op->calls++;
        op->res = res;
}

static void op_submit(struct world *w, struct op *op, enum io_op what, uint64_t off, uint64_t len, void *buf)
{
        op->iov[0] = (struct iovec){ buf, len };
        op->io = (struct io){ .op = what, .file = w->f, .off = off, .len = len, .iov = op->iov, .niov = 1,
                              .done = op_done };
        op->w = w;
        op->calls = 0;
        engine_submit(w->e, &op->io);
        assert_int_equal(op->calls, 0); /* never from submit */
}

static void run_dry(struct world *w)
{
        uint64_t give_up = clock_ns() + 60 * NS_PER_SEC;

        while (engine_in_flight(w->e)) {
                engine_wait(w->e, NS_PER_SEC);
                assert_true(clock_ns() < give_up);
        }
}

/* For notifications, whose end wakes nobody. */
static void run_notified(struct world *w)
{
        uint64_t give_up = clock_ns() + 60 * NS_PER_SEC;

        while (engine_in_flight(w->e)) {
                engine_wait(w->e, 0);
                assert_true(clock_ns() < give_up);
        }
}

static int op_run(struct world *w, struct op *op, enum io_op what, uint64_t off, uint64_t len, void *buf)
{
        op_submit(w, op, what, off, len, buf);
        run_dry(w);
        assert_int_equal(op->calls, 1);
        return op->res;
}

static void fill(char *p, size_t len, unsigned seed)
{
        for (size_t i = 0; i < len; i++)
                p[i] = (char)(seed + i / 512 * 7 + i);
}

static bool all_zero(const char *p, size_t len)
{
        return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static void world_open(struct world *w)
{
        const char *dir = getenv("TMPDIR");
        int fd;

        fault_arm(NULL);
        snprintf(w->path, sizeof(w->path), "%s/test_engine.XXXXXX", dir ? dir : "/tmp");
        fd = mkstemp(w->path);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(file_open(w->path, w->file_flags | FILE_NO_LOCK, &w->f), 0);
        unlink(w->path);
        assert_int_equal(fcntl(w->f->fd, F_GETFL) & O_NONBLOCK, 0); /* or io_uring would not wait */
        assert_int_equal(engine_new(&w->opts, &w->e), 0);
        w->buf = aligned_alloc(4096, BUF_BYTES);
        w->back = aligned_alloc(4096, BUF_BYTES);
        fill(w->buf, BUF_BYTES, 1);
        memset(w->back, 0x5a, BUF_BYTES);
        engine_add_file(w->e, w->f);
}

static void world_close(struct world *w)
{
        fault_arm(NULL);
        engine_del_file(w->e, w->f);
        engine_free(w->e);
        file_close(w->f);
        free(w->buf);
        free(w->back);
}

/* --- what each of them must do ---------------------------------------------------------------------------------- */

static void write_then_read(struct world *w)
{
        struct op op;

        assert_int_equal(op_run(w, &op, IO_WRITE, 8 * KIB, BUF_BYTES, w->buf), 0);
        assert_int_equal(op_run(w, &op, IO_READ, 8 * KIB, BUF_BYTES, w->back), 0);
        assert_memory_equal(w->buf, w->back, BUF_BYTES);
        assert_int_equal(op_run(w, &op, IO_SYNC, 0, 0, NULL), 0);
}

static void vectors(struct world *w)
{
        struct op op;

        assert_int_equal(op_run(w, &op, IO_WRITE, 0, BUF_BYTES, w->buf), 0);
        for (unsigned i = 0; i < 8; i++) /* backwards, to see that order is kept */
                op.iov[i] = (struct iovec){ w->back + (7 - i) * 8 * KIB, 8 * KIB };
        op.io = (struct io){ .op = IO_READ, .file = w->f, .off = 0, .len = 64 * KIB, .iov = op.iov, .niov = 8,
                             .done = op_done };
        op.calls = 0;
        engine_submit(w->e, &op.io);
        run_dry(w);
        assert_int_equal(op.res, 0);
        for (unsigned i = 0; i < 8; i++)
                assert_memory_equal(w->back + (7 - i) * 8 * KIB, w->buf + i * 8 * KIB, 8 * KIB);
}

static void end_of_file(struct world *w)
{
        struct op op;

        assert_int_equal(op_run(w, &op, IO_WRITE, 0, 8 * KIB, w->buf), 0);
        assert_int_equal(op_run(w, &op, IO_READ, 4 * KIB, 16 * KIB, w->back), 0);
        assert_memory_equal(w->back, w->buf + 4 * KIB, 4 * KIB);
        assert_true(all_zero(w->back + 4 * KIB, 12 * KIB));
        memset(w->back, 0x5a, 8 * KIB);
        assert_int_equal(op_run(w, &op, IO_READ, 1024 * KIB, 8 * KIB, w->back), 0);
        assert_true(all_zero(w->back, 8 * KIB));
        assert_int_equal(w->back[8 * KIB], 0);

        /* an end inside a block */
        assert_int_equal(op_run(w, &op, IO_TRUNCATE, 4 * KIB + 700, 0, NULL), 0);
        memset(w->back, 0x5a, 16 * KIB);
        assert_int_equal(op_run(w, &op, IO_READ, 0, 16 * KIB, w->back), 0);
        assert_memory_equal(w->back, w->buf, 4 * KIB + 700);
        assert_true(all_zero(w->back + 4 * KIB + 700, 12 * KIB - 700));
}

static void zero_and_truncate(struct world *w)
{
        struct op op;
        struct stat st;

        for (int keep = 0; keep < 2; keep++) {
                assert_int_equal(op_run(w, &op, IO_WRITE, 0, 64 * KIB, w->buf), 0);
                assert_int_equal(op_run(w, &op, keep ? IO_ZERO_KEEP : IO_ZERO, 8 * KIB, 16 * KIB, NULL), 0);
                assert_int_equal(op_run(w, &op, IO_READ, 0, 64 * KIB, w->back), 0);
                assert_memory_equal(w->back, w->buf, 8 * KIB);
                assert_true(all_zero(w->back + 8 * KIB, 16 * KIB));
                assert_memory_equal(w->back + 24 * KIB, w->buf + 24 * KIB, 40 * KIB);
        }
        assert_int_equal(op_run(w, &op, IO_TRUNCATE, 128 * KIB, 0, NULL), 0);
        assert_int_equal(fstat(w->f->fd, &st), 0);
        assert_int_equal(st.st_size, 128 * KIB);
        assert_int_equal(w->f->size, 128 * KIB);
        assert_int_equal(op_run(w, &op, IO_ZERO, 0, 0, NULL), 0); /* nothing to do is done */
}

static void errors_and_faults(struct world *w)
{
        static const struct { const char *spec; enum io_op op; int want; } cases[] = {
                { "engine.read=1:EIO", IO_READ, -EIO },        { "engine.write=1:ENOSPC", IO_WRITE, -ENOSPC },
                { "engine.sync=1:EIO", IO_SYNC, -EIO },        { "engine.zero=1:ENOMEM", IO_ZERO, -ENOMEM },
                { "engine.zero=1:ENOMEM", IO_ZERO_KEEP, -ENOMEM }, { "engine.truncate=1:ENOSPC", IO_TRUNCATE, -ENOSPC },
        };
        struct op op;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(fault_arm(cases[i].spec), 0);
                assert_int_equal(op_run(w, &op, cases[i].op, 0, 4 * KIB, w->back), cases[i].want);
                assert_int_equal(op_run(w, &op, cases[i].op, 0, 4 * KIB, w->back), 0); /* once only */
                fault_arm(NULL);
        }
        w->f->fd = dup3(open("/dev/null", O_RDONLY | O_CLOEXEC), w->f->fd, O_CLOEXEC);
        engine_del_file(w->e, w->f);
        assert_int_equal(op_run(w, &op, IO_WRITE, 0, 4 * KIB, w->buf), -EBADF); /* the kernel's own */
}

static void depth_overflow(struct world *w)
{
        enum { N = 100 };
        struct op *op = calloc(N, sizeof(*op));
        unsigned done = 0;

        for (unsigned i = 0; i < N; i++)
                op_submit(w, &op[i], IO_WRITE, i * 4ull * KIB, 4 * KIB, w->buf + i % 64 * 4 * KIB);
        assert_int_equal(engine_in_flight(w->e), N);
        run_dry(w);
        for (unsigned i = 0; i < N; i++)
                done += op[i].calls == 1 && op[i].res == 0;
        assert_int_equal(done, N);
        assert_int_equal(op_run(w, &op[0], IO_READ, 0, BUF_BYTES, w->back), 0);
        assert_memory_equal(w->back, w->buf, BUF_BYTES);
        free(op);
}

static void notify_kind(struct world *w, int flags)
{
        AUTO(closep) int fd = eventfd(0, flags | EFD_CLOEXEC);
        struct op op = { .io = { .op = IO_NOTIFY, .fd = fd, .done = op_done } };
        uint64_t n = 0;

        for (int i = 0; i < 2; i++) {
                engine_submit(w->e, &op.io);
                run_notified(w);
        }
        assert_int_equal(op.calls, 2);
        assert_int_equal(op.res, 0);
        assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
        assert_int_equal(n, 2);
        n = UINT64_MAX - 1; /* full */
        assert_int_equal(write(fd, &n, sizeof(n)), sizeof(n));
        engine_submit(w->e, &op.io);
        run_notified(w);
        assert_int_equal(op.res, 0);
}

static void notify(struct world *w)
{
        notify_kind(w, EFD_NONBLOCK);
        notify_kind(w, 0); /* a front end may give us one that blocks */
}

/* One call rings and sleeps: with io_uring a notification does not end the wait that hands it over. */
static void notify_and_sleep(struct world *w)
{
        AUTO(closep) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct op op = { .io = { .op = IO_NOTIFY, .fd = fd, .done = op_done } };
        uint64_t n = 0, began = clock_ns();

        engine_submit(w->e, &op.io);
        assert_int_equal(engine_wait(w->e, 10 * NS_PER_MS), 0);
        assert_true(clock_ns() - began >= 10 * NS_PER_MS);
        assert_int_equal(op.calls, 1);
        assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
        assert_int_equal(n, 1);
}

/* Notifications know no depth limit: more than the ring holds, in either direction, and nothing is lost. */
static void many_notifications(struct world *w)
{
        enum { N = 1000 };
        AUTO(closep) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct op *op = calloc(N, sizeof(*op));
        uint64_t n = 0;

        for (unsigned i = 0; i < N; i++) {
                op[i].io = (struct io){ .op = IO_NOTIFY, .fd = fd, .done = op_done };
                engine_submit(w->e, &op[i].io);
        }
        run_notified(w);
        for (unsigned i = 0; i < N; i++)
                assert_true(op[i].calls == 1 && op[i].res == 0);
        assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
        assert_int_equal(n, N);
        free(op);
}

struct seen {
        struct engine_watch w;
        unsigned ready, gone;
};

static void on_ready(struct engine_watch *w)
{
        container_of(w, struct seen, w)->ready++;
}

static void on_gone(struct engine_watch *w)
{
        container_of(w, struct seen, w)->gone++;
}

static void wait_for(struct world *w, const unsigned *n, unsigned want)
{
        uint64_t give_up = clock_ns() + 60 * NS_PER_SEC;

        while (*n < want) {
                engine_wait(w->e, NS_PER_SEC);
                assert_true(clock_ns() < give_up);
        }
}

static void watches(struct world *w)
{
        AUTO(closep) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct seen a = { .w = { .fd = fd, .ready = on_ready, .gone = on_gone } }, b = a, c = a;
        uint64_t one = 1;

        engine_watch(w->e, &a.w);
        engine_watch(w->e, &b.w); /* the same fd twice, as a front end may give it */
        engine_wait(w->e, 0);
        assert_int_equal(a.ready + b.ready, 0);
        for (unsigned i = 1; i <= 3; i++) { /* edge-like: nobody reads the eventfd */
                assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
                wait_for(w, &a.ready, i);
                wait_for(w, &b.ready, i);
        }
        while (engine_wait(w->e, NS_PER_MS)) /* nothing more comes of it */
                ;
        assert_in_range(a.ready, 3, 4);
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one)); /* a wake-up is on its way */
        engine_unwatch(w->e, &a.w);
        wait_for(w, &a.gone, 1);
        engine_unwatch(w->e, &b.w);
        wait_for(w, &b.gone, 1);
        engine_watch(w->e, &c.w);
        engine_unwatch(w->e, &c.w); /* before it was ever armed */
        wait_for(w, &c.gone, 1);
        assert_int_equal(a.gone + b.gone + c.gone, 3);
}

static void wait_times_out(struct world *w)
{
        uint64_t before = clock_ns();

        assert_int_equal(engine_wait(w->e, 0), 0);
        for (int i = 0; i < 8 && clock_ns() - before < NS_PER_MS; i++) /* a late wake-up may end the first ones early */
                while (engine_wait(w->e, 2 * NS_PER_MS))
                        ;
        assert_true(clock_ns() - before >= NS_PER_MS);
}

struct tally {
        struct file_tap tap;
        unsigned issued[5], done[5];
};

static void count(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct tally *t = container_of(tap, struct tally, tap);

        (void)f;
        (ev->phase == FILE_EV_ISSUED ? t->issued : t->done)[ev->kind]++;
        if (ev->kind == FILE_EV_WRITE && ev->phase == FILE_EV_ISSUED)
                assert_true(ev->niov == 1 && ev->iov->iov_len == 4 * KIB && ev->off == 4 * KIB);
}

static void taps(struct world *w)
{
        struct tally t = { .tap = { count } };
        struct op op;

        w->f->tap = &t.tap;
        assert_int_equal(op_run(w, &op, IO_WRITE, 4 * KIB, 4 * KIB, w->buf), 0);
        assert_int_equal(op_run(w, &op, IO_READ, 4 * KIB, 4 * KIB, w->back), 0);
        assert_int_equal(op_run(w, &op, IO_SYNC, 0, 0, NULL), 0);
        assert_int_equal(op_run(w, &op, IO_ZERO, 0, 4 * KIB, NULL), 0);
        assert_int_equal(op_run(w, &op, IO_ZERO_KEEP, 0, 4 * KIB, NULL), 0);
        assert_int_equal(op_run(w, &op, IO_TRUNCATE, 64 * KIB, 0, NULL), 0);
        for (unsigned k = 0; k < 5; k++)
                assert_true(t.issued[k] == 1 && t.done[k] == 1);
        w->f->tap = NULL;
}

static void (*const facts[])(struct world *w) = {
        write_then_read, vectors, end_of_file, zero_and_truncate, depth_overflow, notify, many_notifications, watches,
        wait_times_out, taps,
        errors_and_faults, /* last: spoils the fd */
};

/* --- engines ------------------------------------------------------------------------------------------------------ */

static void all_facts(const struct engine_opts *opts)
{
        static const unsigned flags[] = { 0, FILE_DIRECT };

        for (size_t d = 0; d < ARRAY_SIZE(flags); d++)
                for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
                        struct world w = { .opts = *opts, .file_flags = flags[d] };

                        world_open(&w);
                        facts[i](&w);
                        world_close(&w);
                }
}

static bool have_uring(void)
{
        struct engine_opts o = { .kind = ENGINE_URING };
        struct engine *e;

        if (engine_new(&o, &e) < 0)
                return false;
        engine_free(e);
        return true;
}

static void test_uring(void **state)
{
        static const struct engine_opts variants[] = {
                { .kind = ENGINE_URING },
                { .kind = ENGINE_URING, .depth = 4 },
                { .kind = ENGINE_URING, .no_defer_taskrun = true },
                { .kind = ENGINE_URING, .no_registered_files = true, .no_registered_ring = true },
        };

        if (!have_uring())
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
                struct world w = { .opts = variants[i] };

                all_facts(&variants[i]);
                world_open(&w);
                notify_and_sleep(&w);
                world_close(&w);
        }
}

static void test_threads(void **state)
{
        all_facts(&(struct engine_opts){ .kind = ENGINE_THREADS });
        all_facts(&(struct engine_opts){ .kind = ENGINE_THREADS, .depth = 3 });
}

static void test_sync(void **state)
{
        all_facts(&(struct engine_opts){ .kind = ENGINE_SYNC });
        all_facts(&(struct engine_opts){ .kind = ENGINE_SYNC, .seed = 42, .depth = 7 });
}

static void test_switches_show(void **state)
{
        struct engine_opts o = { .kind = ENGINE_URING, .no_registered_files = true, .no_defer_taskrun = true };
        struct engine *e;

        if (!have_uring())
                skip();
        assert_int_equal(engine_new(&o, &e), 0);
        assert_null(strstr(engine_describe(e), "registered files"));
        assert_null(strstr(engine_describe(e), "deferred"));
        engine_free(e);
}

static void test_falls_back_to_threads(void **state)
{
        struct engine_opts o = { .kind = ENGINE_AUTO };
        struct engine *e;

        assert_int_equal(fault_arm("engine.uring=1:ENOMEM:forever"), 0);
        assert_int_equal(engine_new(&o, &e), 0);
        assert_non_null(strstr(engine_describe(e), "threads"));
        engine_free(e);
        o.kind = ENGINE_URING; /* who insists hears why not */
        assert_int_equal(engine_new(&o, &e), -ENOMEM);
        fault_arm(NULL);
}

/* --- the sync engine's order -------------------------------------------------------------------------------------- */

static unsigned order[32], ordered;

static void note_order(struct io *io, int res)
{
        assert_int_equal(res, 0);
        order[ordered++] = (unsigned)(io->off / KIB);
}

static void record_order(uint64_t seed, unsigned *ret)
{
        struct engine_opts o = { .kind = ENGINE_SYNC, .seed = seed };
        struct io io[32];
        struct iovec iov[32];
        static char bytes[32][KIB];
        struct engine *e;
        struct file *f;

        ordered = 0;
        assert_int_equal(engine_new(&o, &e), 0);
        assert_int_equal(file_open_mem(NULL, 32 * KIB, &f), 0);
        for (unsigned i = 0; i < 32; i++) {
                memset(bytes[i], (int)i + 1, KIB);
                iov[i] = (struct iovec){ bytes[i], KIB };
                io[i] = (struct io){ .op = IO_WRITE, .file = f, .off = i * KIB, .len = KIB, .iov = &iov[i], .niov = 1,
                                     .done = note_order };
                engine_submit(e, &io[i]);
        }
        while (engine_in_flight(e))
                engine_wait(e, 0);
        for (unsigned i = 0; i < 32; i++)
                assert_int_equal(((const char *)file_mem_bytes(f, &(size_t){ 0 }))[i * KIB], i + 1);
        memcpy(ret, order, sizeof(order));
        file_close(f);
        engine_free(e);
}

static void test_seed_decides_order(void **state)
{
        unsigned a[32], b[32], c[32], d[32];

        record_order(7, a);
        record_order(7, b);
        record_order(8, c);
        record_order(0, d);
        assert_memory_equal(a, b, sizeof(a));
        assert_memory_not_equal(a, c, sizeof(a));
        for (unsigned i = 0; i < 32; i++)
                assert_int_equal(d[i], i);
}

/* --- short transfers ---------------------------------------------------------------------------------------------- */

static ssize_t (*whole_pread)(struct file *f, void *buf, size_t len, uint64_t off);
static ssize_t (*whole_pwrite)(struct file *f, const void *buf, size_t len, uint64_t off);
static unsigned hiccups;

static ssize_t short_pread(struct file *f, void *buf, size_t len, uint64_t off)
{
        if (hiccups++ % 3 == 1)
                return hiccups & 1 ? -EINTR : -EAGAIN;
        return whole_pread(f, buf, len > 333 ? 333 : len, off);
}

static ssize_t short_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        if (hiccups++ % 3 == 1)
                return hiccups & 1 ? -EINTR : -EAGAIN;
        return whole_pwrite(f, buf, len > 333 ? 333 : len, off);
}

static int no_punch(struct file *f, uint64_t off, uint64_t len, bool keep)
{
        return -EOPNOTSUPP;
}

static ssize_t stuck_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        return -EAGAIN;
}

/* A file that transfers little at a time, is interrupted often and cannot punch: done() sees none of it. */
static void test_short_transfers(void **state)
{
        struct world w = { .opts = { .kind = ENGINE_SYNC, .seed = 3 } };
        struct file_ops ops;
        struct op op;

        world_open(&w);
        file_close(w.f);
        assert_int_equal(file_open_mem(NULL, BUF_BYTES, &w.f), 0);
        ops = *w.f->ops;
        whole_pread = ops.pread;
        whole_pwrite = ops.pwrite;
        ops.pread = short_pread;
        ops.pwrite = short_pwrite;
        ops.punch = no_punch;
        w.f->ops = &ops;
        assert_int_equal(op_run(&w, &op, IO_WRITE, 0, 40 * KIB, w.buf), 0);
        for (unsigned i = 0; i < 8; i++)
                op.iov[i] = (struct iovec){ w.back + i * 5 * KIB, 5 * KIB };
        op.io = (struct io){ .op = IO_READ, .file = w.f, .len = 40 * KIB, .iov = op.iov, .niov = 8, .done = op_done };
        engine_submit(w.e, &op.io);
        run_dry(&w);
        assert_int_equal(op.res, 0);
        assert_memory_equal(w.back, w.buf, 40 * KIB);
        assert_int_equal(op_run(&w, &op, IO_ZERO, 1 * KIB, 30 * KIB, NULL), 0);
        assert_int_equal(op_run(&w, &op, IO_READ, 0, 40 * KIB, w.back), 0);
        assert_memory_equal(w.back, w.buf, KIB);
        assert_true(all_zero(w.back + KIB, 30 * KIB));
        assert_memory_equal(w.back + 31 * KIB, w.buf + 31 * KIB, 9 * KIB);
        ops.pwrite = stuck_pwrite; /* and who never gets anywhere is not tried for ever */
        assert_int_equal(op_run(&w, &op, IO_WRITE, 0, KIB, w.buf), -EAGAIN);
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_uring),
                cmocka_unit_test(test_threads),
                cmocka_unit_test(test_sync),
                cmocka_unit_test(test_switches_show),
                cmocka_unit_test(test_falls_back_to_threads),
                cmocka_unit_test(test_seed_decides_order),
                cmocka_unit_test(test_short_transfers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
