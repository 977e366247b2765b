/* SPDX-License-Identifier: BSD-3-Clause */
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

#define TICK_MS 100
#define RETRY_US 5000
#define QUEUE_SIZE_MIN 128
#define QUEUE_SIZE_MAX 1024

struct bench {
        const struct options *o;
        struct front_end *fe;
        struct verify *verify;
        struct job *jobs;
        pthread_t *threads;
        struct gate gate;
        bool has_gate;
        uint64_t size; /* bytes of the tested part */
        unsigned reconnects;
};

static void bench_finish(struct bench *b)
{
        for (unsigned i = 0; b->jobs && i < b->o->numjobs; i++)
                job_finish(&b->jobs[i]);
        free(b->jobs);
        free(b->threads);
        if (b->has_gate)
                gate_finish(&b->gate);
        verify_free(b->verify);
        fe_close(b->fe);
}

static int bench_connect(struct bench *b)
{
        const struct options *o = b->o;
        struct fe_opts fo = {
                .path = o->socket, .num_queues = o->numjobs, .queue_size = QUEUE_SIZE_MIN, .max_segs = 1,
                .mem_len = (uint64_t)o->numjobs * o->iodepth * round_up(o->bs_max, 4096) + 4096,
                .packed = o->packed, .features_off = (o->indirect ? 0 : FE_F_INDIRECT_DESC) | (o->event_idx ? 0 : FE_F_EVENT_IDX),
                .timeout_ms = (int)o->timeout_s * 1000,
        };

        while (fo.queue_size < o->iodepth * (o->indirect ? 1 : 3) + 2 && fo.queue_size < QUEUE_SIZE_MAX)
                fo.queue_size *= 2;
        return fe_open(&fo, &b->fe);
}

/* The part of the disk that is tested, and what the disk says about the requests. */
static int check_disk(struct bench *b)
{
        const struct options *o = b->o;
        const struct fe_disk *d = fe_disk(b->fe);
        uint64_t max_trim = (uint64_t)d->max_discard_sectors * 512, share;

        if (o->offset >= d->capacity)
                return err_note(-EINVAL, "--offset=%" PRIu64 " is behind the end of the disk (%" PRIu64 " bytes)",
                                o->offset, d->capacity);
        b->size = o->size ? o->size : d->capacity - o->offset;
        if (!range_fits(o->offset, b->size, d->capacity))
                return err_note(-EINVAL, "--size=%" PRIu64 " from %" PRIu64 " goes beyond the disk of %" PRIu64 " bytes",
                                b->size, o->offset, d->capacity);
        if (d->block_size && o->align % d->block_size)
                return err_note(-EINVAL, "the disk has blocks of %u bytes; %u is not a multiple", d->block_size,
                                o->align);
        if (o->trim && max_trim < o->bs_max)
                return err_note(-EINVAL, "the disk discards at most %" PRIu64 " bytes at once (0: not at all), not %u",
                                max_trim, o->bs_max);
        if (o->zeroes_percent && (uint64_t)d->max_write_zeroes_sectors * 512 < o->bs_max)
                return err_note(-EINVAL, "the disk zeroes at most %" PRIu64 " bytes at once (0: not at all), not %u",
                                (uint64_t)d->max_write_zeroes_sectors * 512, o->bs_max);
        share = b->size / o->align / o->numjobs * o->align;
        if (share < o->bs_max)
                return err_note(-EINVAL, "%" PRIu64 " bytes are too little for %u jobs with requests of %u", b->size,
                                o->numjobs, o->bs_max);
        return 0;
}

static int make_verify(struct bench *b)
{
        const struct options *o = b->o;
        struct verify_opts vo = { .offset = o->offset, .nunits = b->size / o->align, .unit_len = o->align,
                                  .seed = o->randseed, .fresh = o->fresh, .state = o->verify_state };

        return o->verify ? verify_new(&vo, &b->verify) : 0;
}

static int make_jobs(struct bench *b)
{
        const struct options *o = b->o;
        uint64_t share = b->size / o->align / o->numjobs;
        int r = 0;

        b->jobs = calloc(o->numjobs, sizeof(*b->jobs));
        b->threads = calloc(o->numjobs, sizeof(*b->threads));
        if (!b->jobs || !b->threads)
                return -ENOMEM;
        for (unsigned i = 0; r == 0 && i < o->numjobs; i++) {
                struct job *j = &b->jobs[i];

                *j = (struct job){
                        .opts = o, .fe = b->fe, .q = fe_queue(b->fe, i), .gate = &b->gate, .verify = b->verify,
                        .base = o->offset, .first = i * share, .nunits = share,
                        .run_min = o->bs_min / o->align, .run_max = o->bs_max / o->align,
                };
                r = job_init(j, o->randseed + i * 0x1000003ull);
        }
        return r;
}

/* The back end went away: hold everybody until it is back. */
static int reconnect(struct bench *b)
{
        uint64_t deadline = clock_ns() + b->o->timeout_s * NS_PER_SEC;
        int r;

        if (b->o->reconnect == RECONNECT_NO)
                return err_note(-ECONNRESET, "the back end closed the connection");
        gate_hold(&b->gate, b->jobs, b->o->numjobs);
        fe_disconnect(b->fe);
        do {
                err_clear();
                r = fe_connect(b->fe);
                if (r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET)
                        usleep(RETRY_US);
                else
                        break;
        } while (clock_ns() < deadline);
        if (r < 0)
                return err_prefix(r, "cannot reconnect: ");
        b->reconnects++;
        gate_open(&b->gate);
        return 0;
}

static uint64_t answers(const struct bench *b)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < b->o->numjobs; i++)
                n += atomic_load_explicit(&b->jobs[i].answered, memory_order_relaxed);
        return n;
}

/* Until all jobs have left. Negative: the jobs were told to quit, for this reason. */
static int watch(struct bench *b)
{
        uint64_t last = 0, moved_ns = clock_ns();
        bool failed, quitting = false;
        int r = 0;

        while (!gate_all_left(&b->gate, &failed)) {
                struct pollfd p[2] = { { .fd = b->gate.left_fd, .events = POLLIN },
                                       { .fd = quitting ? -1 : fe_socket(b->fe), .events = POLLRDHUP } };
                uint64_t count;

                poll(p, 2, TICK_MS);
                if (read(b->gate.left_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
                        r = -errno;
                if (answers(b) != last) {
                        last = answers(b);
                        moved_ns = clock_ns();
                }
                if (r == 0 && p[1].revents)
                        r = reconnect(b);
                else if (r == 0 && clock_ns() - moved_ns > b->o->timeout_s * NS_PER_SEC)
                        r = err_note(-ETIMEDOUT, "the back end has answered nothing for %u s", b->o->timeout_s);
                if ((r < 0 || failed) && !quitting) {
                        gate_quit(&b->gate, b->jobs, b->o->numjobs);
                        quitting = true;
                }
        }
        return r;
}

static int run_jobs(struct bench *b, enum phase goal)
{
        unsigned n = b->o->numjobs;
        int r = 0;

        gate_start(&b->gate, n);
        for (unsigned i = 0; i < n; i++) {
                b->jobs[i].goal = goal;
                if (pthread_create(&b->threads[i], NULL, job_main, &b->jobs[i]) != 0)
                        abort(); /* a thread more or less is no load to measure */
        }
        r = watch(b);
        for (unsigned i = 0; i < n; i++)
                pthread_join(b->threads[i], NULL);
        for (unsigned i = 0; r == 0 && i < n; i++)
                if (b->jobs[i].result < 0)
                        r = err_note(b->jobs[i].result, "job %u: %s", i, b->jobs[i].why);
        return r;
}

static int run_work(struct bench *b, struct results *res)
{
        struct process p = { 0 };
        struct process_cost before, after;
        uint64_t start, end = 0;
        int r = 0;

        if (b->o->pid) {
                r = process_watch(&p, b->o->pid);
                if (r == 0)
                        r = process_read(&p, &before);
                if (r < 0)
                        return r;
        }
        start = clock_ns();
        for (unsigned i = 0; i < b->o->numjobs; i++)
                b->jobs[i].deadline_ns = start + b->o->runtime_ns;
        r = run_jobs(b, PHASE_WORK);
        for (unsigned i = 0; i < b->o->numjobs; i++)
                end = max_u64(end, b->jobs[i].end_ns);
        res->seconds = (double)(max_u64(end, start + 1) - start) / NS_PER_SEC;
        if (r == 0 && b->o->pid && process_read(&p, &after) == 0) {
                res->has_cost = true;
                res->cost.cpu_ns = after.cpu_ns - before.cpu_ns;
                res->cost.switches = after.switches > before.switches ? after.switches - before.switches : 0;
                res->cost.syscalls = after.syscalls - before.syscalls;
                memcpy(res->no_syscalls, p.no_syscalls, sizeof(res->no_syscalls));
        }
        process_finish(&p);
        return r;
}

static void add_up(const struct bench *b, struct results *res)
{
        for (unsigned i = 0; i < b->o->numjobs; i++) {
                const struct job *j = &b->jobs[i];

                for (unsigned op = 0; op < OPS; op++) {
                        hist_merge(&res->lat[op], &j->lat[op]);
                        res->bytes[op] += j->bytes[op];
                        res->errors[op] += j->errors[op];
                }
                res->compared += j->compared;
                res->wrong += j->wrong;
        }
        res->reconnects = b->reconnects;
}

int run_bench(const struct options *o, struct results *res)
{
        AUTO(bench_finish) struct bench b = { .o = o };
        int r;

        memset(res, 0, sizeof(*res));
        r = gate_init(&b.gate);
        b.has_gate = r == 0;
        if (r == 0)
                r = bench_connect(&b);
        if (r == 0)
                r = check_disk(&b);
        if (r == 0)
                r = make_verify(&b);
        if (r == 0)
                r = make_jobs(&b);
        if (r == 0 && !o->verify_only)
                r = run_work(&b, res);
        if (r == 0 && o->verify)
                r = run_jobs(&b, PHASE_FINAL);
        if (r == 0 && o->verify_state && !o->verify_only)
                r = verify_save(b.verify);
        if (b.jobs)
                add_up(&b, res);
        return r;
}
