/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_bench.c - vdisk-img bench: how long do N requests to an image take, through the engine that serves guests?
 *
 * Requests go out in order of their offsets, @depth at a time. A flush is due after every @flush_interval requests:
 * with draining it goes out alone, when all before it have come back; without, beside them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/tool.h"

#define SECTOR 512u
#define BUF_ALIGN 4096u
#define MAX_DEPTH 65536u

struct job;
struct slot {
        struct job *j;
        struct blk_req req;
        struct iovec iov;
        bool busy;
};

struct job {
        const char *path, *format;
        struct tool_image image;
        unsigned flags; /* FMT_NO_LOCK */
        uint64_t count, depth, offset, size, step, flush_interval, pattern;
        bool write, no_drain, quiet;
        struct tool_cache cache;
        enum engine_kind engine;

        struct qthread *thread;
        struct vol *vol;
        struct vol_port *port;
        char *buf;
        struct slot *slots;
        struct slot flush;
        uint64_t sent, since_flush, next, in_flight;
        bool flush_due, wake, closed;
        int err;
};

static void job_finish(struct job *j)
{
        tool_image_finish(&j->image);
        free(j->buf);
        free(j->slots);
}

static void on_back(struct blk_req *req, int res)
{
        struct slot *s = container_of(req, struct slot, req);

        s->busy = false;
        s->j->in_flight--;
        s->j->wake = true;
        if (res < 0 && s->j->err == 0)
                s->j->err = err_note(res, "'%s': a %s at offset %llu failed: %s", s->j->path,
                                     req->op == BLK_FLUSH ? "flush" : s->j->write ? "write" : "read",
                                     (unsigned long long)req->off, strerror(-res));
}

static void submit(struct job *j, struct slot *s, enum blk_op op)
{
        s->busy = true;
        j->in_flight++;
        s->req = (struct blk_req){ .op = op, .done = on_back };
        if (op != BLK_FLUSH) {
                s->req.flags = op == BLK_WRITE && j->cache.through ? BLK_FUA : 0;
                s->req.off = j->next;
                s->req.len = j->size;
                s->req.iov = &s->iov;
                s->req.niov = 1;
        }
        port_submit(j->port, &s->req);
}

/* The offset of the request after this one: back to the start of the disk where it would not fit any more. */
static uint64_t after(const struct job *j, uint64_t off)
{
        uint64_t disk = vol_size(j->vol);

        return j->step > disk || off > disk - j->step || off + j->step > disk - j->size ? 0 : off + j->step;
}

/* Sends what may be sent now. */
static void feed(struct job *j)
{
        if (j->flush_due && !j->flush.busy && (j->no_drain || j->in_flight == 0)) {
                j->flush_due = false;
                submit(j, &j->flush, BLK_FLUSH);
        }
        for (uint64_t i = 0; i < j->depth && j->sent < j->count && j->err == 0; i++) {
                if ((j->flush_due || j->flush.busy) && !j->no_drain)
                        return;
                if (j->flush_due && j->flush.busy)
                        return; /* two flushes at once: the disk does not keep up */
                if (j->slots[i].busy)
                        continue;
                submit(j, &j->slots[i], j->write ? BLK_WRITE : BLK_READ);
                j->next = after(j, j->next);
                j->sent++;
                if (j->flush_interval && ++j->since_flush == j->flush_interval) {
                        j->since_flush = 0;
                        j->flush_due = true;
                }
        }
}

static void run_requests(struct job *j)
{
        while (j->in_flight || (j->err == 0 && (j->sent < j->count || j->flush_due))) {
                j->wake = false;
                feed(j);
                if (!j->wake)
                        qthread_run(j->thread, &j->wake);
        }
}

static int make_slots(struct job *j)
{
        uint64_t bytes;

        j->slots = calloc(j->depth, sizeof(*j->slots));
        if (!j->slots || __builtin_mul_overflow(j->depth, round_up(j->size, BUF_ALIGN), &bytes) ||
            !(j->buf = aligned_alloc(BUF_ALIGN, bytes)))
                return err_note(-ENOMEM, "no memory for %llu buffers of %llu bytes", (unsigned long long)j->depth,
                                (unsigned long long)j->size);
        memset(j->buf, (int)j->pattern, bytes);
        for (uint64_t i = 0; i < j->depth; i++) {
                j->slots[i].j = j;
                j->slots[i].iov = (struct iovec){ j->buf + i * round_up(j->size, BUF_ALIGN), j->size };
        }
        j->flush.j = j;
        return 0;
}

static void on_closed(void *opaque, int res)
{
        struct job *j = opaque;

        j->closed = true;
        if (res < 0 && j->err == 0)
                j->err = err_note(res, "'%s': cannot make the image durable: %s", j->path, strerror(-res));
}

static void say_what(const struct job *j)
{
        if (j->quiet)
                return;
        printf("Sending %llu %s requests, %llu bytes each, %llu in parallel (starting at offset %llu, step size %llu)\n",
               (unsigned long long)j->count, j->write ? "write" : "read", (unsigned long long)j->size,
               (unsigned long long)j->depth, (unsigned long long)j->offset, (unsigned long long)j->step);
        if (j->flush_interval)
                printf("Sending flush every %llu requests\n", (unsigned long long)j->flush_interval);
        fflush(stdout);
}

static void say_result(const struct job *j, uint64_t ns)
{
        double sec = (double)(ns ? ns : 1) / 1e9, n = (double)j->count;

        if (!j->quiet)
                printf("Run completed in %3.3f seconds.\n%.0f requests/s, %.1f MiB/s\n", sec, n / sec,
                       n * (double)j->size / sec / (1 << 20));
}

static int measure(struct job *j)
{
        uint64_t start, ns;

        if (vol_size(j->vol) < j->size || j->offset > vol_size(j->vol) - j->size)
                return err_note(-EINVAL, "'%s' has %llu bytes, too few for a request of %llu at offset %llu", j->path,
                                (unsigned long long)vol_size(j->vol), (unsigned long long)j->size,
                                (unsigned long long)j->offset);
        j->next = j->offset;
        say_what(j);
        start = clock_ns();
        run_requests(j);
        ns = clock_ns() - start;
        if (j->err == 0)
                say_result(j, ns);
        return j->err;
}

static int bench(struct job *j)
{
        struct qthread_opts th = { .name = "bench", .inline_loop = true, .engine = { .kind = j->engine } };
        struct vol_opts vo = { .read_only = !j->write, .writeback = !j->cache.direct, .no_sync = j->cache.unsafe };
        unsigned flags = j->flags | (j->write ? 0 : FMT_RDONLY) | (j->cache.direct ? FMT_DIRECT : 0);
        struct fmt_image *img;
        int r = tool_open(&j->image, flags, &img);

        if (r < 0)
                return r;
        r = qthread_new(&th, &j->thread);
        if (r < 0) {
                chain_close(img);
                return r;
        }
        r = vol_open_chain(img, &vo, j->thread, &j->vol);
        if (r == 0)
                r = port_attach(j->vol, j->thread, &j->port);
        if (r == 0)
                r = make_slots(j);
        if (r == 0)
                r = measure(j);
        if (j->port)
                port_detach(j->port);
        if (j->vol) {
                vol_close(j->vol, on_closed, j);
                if (!j->closed)
                        qthread_run(j->thread, &j->closed);
        }
        qthread_free(j->thread);
        return r < 0 ? r : j->err;
}

/* --- the command line ------------------------------------------------------------------------------------------ */

static int parse_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
        int r = size_parse(text, ret);

        if (r == 0 && (*ret < min || *ret > max))
                r = -EINVAL;
        return r < 0 ? err_note(-EINVAL, "bench: %s '%s' is not a number from %llu to %llu", option, text,
                                (unsigned long long)min, (unsigned long long)max) : 0;
}

static int parse_sectors(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
        int r = parse_number(option, text, min, max, ret);

        if (r == 0 && !is_aligned(*ret, SECTOR))
                r = err_note(-EINVAL, "bench: %s '%s' is not a multiple of 512", option, text);
        return r;
}

static int parse_engine(const char *text, enum engine_kind *ret)
{
        if (!strcmp(text, "io_uring") || !strcmp(text, "native"))
                return *ret = ENGINE_URING, 0;
        if (!strcmp(text, "threads"))
                return *ret = ENGINE_THREADS, 0;
        return err_note(-EINVAL, "bench: -i '%s' is not one of io_uring, native, threads", text);
}

enum { OPT_FLUSH_INTERVAL = OPT_OWN, OPT_NO_DRAIN, OPT_PATTERN };
static const struct option longs[] = {
        { "flush-interval", required_argument, NULL, OPT_FLUSH_INTERVAL },
        { "force-share", no_argument, NULL, 'U' },
        { "no-drain", no_argument, NULL, OPT_NO_DRAIN },
        { "pattern", required_argument, NULL, OPT_PATTERN },
        { "quiet", no_argument, NULL, 'q' },
        { NULL, 0, NULL, 0 },
};

static int take_option(struct job *j, int c)
{
        switch (c) {
        case 'c':
                return parse_number("-c", optarg, 1, INT64_MAX, &j->count);
        case 'd':
                return parse_number("-d", optarg, 1, MAX_DEPTH, &j->depth);
        case 'f':
                return j->format = optarg, 0;
        case 'i':
                return parse_engine(optarg, &j->engine);
        case 'n':
                return j->engine = ENGINE_URING, 0;
        case 'o':
                return parse_sectors("-o", optarg, 0, INT64_MAX, &j->offset);
        case 'q':
                return j->quiet = true, 0;
        case 's':
                return parse_sectors("-s", optarg, SECTOR, INT32_MAX, &j->size);
        case 'S':
                return parse_sectors("-S", optarg, SECTOR, INT64_MAX, &j->step);
        case 't':
                return tool_cache_parse("-t", optarg, &j->cache);
        case 'w':
                return j->write = true, 0;
        case 'U':
                return j->flags |= FMT_NO_LOCK, 0;
        case OPT_FLUSH_INTERVAL:
                return parse_number("--flush-interval", optarg, 0, INT64_MAX, &j->flush_interval);
        case OPT_NO_DRAIN:
                return j->no_drain = true, 0;
        default:
                return parse_number("--pattern", optarg, 0, 255, &j->pattern);
        }
}

static int contradiction(const struct job *j)
{
        if (j->flush_interval && !j->write)
                return err_note(-EINVAL, "bench: --flush-interval only goes with -w");
        if (j->flush_interval && j->flush_interval < j->depth)
                return err_note(-EINVAL, "bench: --flush-interval %llu is less than the depth of %llu (-d)",
                                (unsigned long long)j->flush_interval, (unsigned long long)j->depth);
        if (j->write && j->flags & FMT_NO_LOCK)
                return err_note(-EINVAL, "bench: -U only goes with reading, never with -w");
        return 0;
}

static int run(int argc, char **argv)
{
        AUTO(job_finish) struct job j = { .count = 75000, .depth = 64, .size = 4096, .engine = ENGINE_AUTO };
        int c, r = 0;

        while (r == 0 && (c = tool_option(&cmd_bench, argc, argv, "c:d:f:ni:o:qs:S:t:wU", longs)) != -1)
                r = take_option(&j, c);
        if (r == 0)
                r = contradiction(&j);
        if (r < 0)
                return tool_fail(r, 1);
        tool_want_words(&cmd_bench, argc, 1, 1, "one file name");
        r = tool_image_set(&j.image, argv[optind], j.format);
        j.path = j.image.path;
        j.step = j.step ? j.step : j.size;
        if (r == 0)
                r = bench(&j);
        return r < 0 ? tool_fail(r, 1) : 0;
}

const struct command cmd_bench = {
        .name = "bench", .run = run, .group = GROUP_LOOK,
        .usage = "[-c COUNT] [-d DEPTH] [-f FMT] [-i ENGINE] [-n] [-o OFFSET] [-s SIZE] [-S STEP] [-t CACHE] [-w]\n"
                 "          [--flush-interval=N] [--no-drain] [--pattern=BYTE] [-q] [-U] FILE",
        .help = "Sends requests to an image one after the other and says how long they took. -w overwrites the disk.\n\n"
                "  -w                  write; otherwise read\n"
                "  -c COUNT            how many requests (75000)\n"
                "  -d DEPTH            how many at a time (64)\n"
                "  -s SIZE             bytes of one (4096)\n"
                "  -S STEP             from the start of one to the start of the next (SIZE)\n"
                "  -o OFFSET           where the first one starts (0)\n"
                "  --flush-interval=N  with -w: flush after every N requests\n"
                "  --no-drain          do not wait for the requests before a flush\n"
                "  --pattern=BYTE      with -w: write this byte, 0 to 255 (0)\n"
                "  -f FMT              format of FILE; must be given to follow a backing file\n"
                "  -t CACHE            none, writeback, writethrough, directsync or unsafe (writeback)\n"
                "  -i ENGINE           io_uring or threads; native means io_uring, as -n does\n"
                "  -q                  say nothing but errors\n"
                "  -U                  read FILE even when another program uses it\n",
        .examples = "  vdisk-img bench -f qcow2 -t none -d 32 -c 100000 disk.qcow2\n",
};
