/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy.c - the copying half of convert. Each job carries one piece of the disk through these states, and the pump moves
 * every job as far as it goes before it waits for I/O:
 *
 *   IDLE -> READING -> HAVE -> WRITING -> HAVE (next run of the piece) -> IDLE
 *     +---- zeros ------^
 *     +-> READING -> SALVAGING -> HAVE   the piece cannot be read as a whole: sector by sector
 *
 * Callbacks only note what came back, so it does not matter whether they run inside port_submit(). Pieces are numbered;
 * without any_order a piece starts to write when all earlier ones have handed over their last write (@turn), so the
 * target is laid out in the order of the disk; for that a write must also get its clusters in one step (ends_well()).
 * Compressed, a piece is one cluster of the target.
 */
#include "tools/vdisk-img/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blkq/vol.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"
#include "tools/vdisk-img/zeros.h"

#define SECTOR 512u
#define PIECE_BYTES (1u << 20)
#define BUF_ALIGN 4096u

enum job_state { IDLE, READING, SALVAGING, HAVE, WRITING };

struct job {
        struct copy *c;
        enum job_state state;
        bool back;    /* what it waited for came back, with res */
        bool zero;    /* the piece is zeros: there is nothing in buf */
        int res;
        uint64_t seq; /* number of the piece */
        uint64_t off, len, pos; /* the piece, and how much of it has been handed over */
        struct blk_req req;
        struct iovec iov;
        char *buf;
};

struct copy {
        const struct copy_opts *opts;
        struct fmt_image *map;
        struct qthread *thread;
        struct vol *src, *dst;
        struct vol_port *src_port, *dst_port;
        uint64_t start, end, next; /* of the range; up to where pieces are dealt out */
        uint64_t to_target;      /* from an offset of the disk to one of the target: add it (it may wrap) */
        uint32_t piece;          /* bytes of data in one piece */
        uint32_t cluster;        /* of the target */
        uint32_t grain;          /* what is skipped or zeroed is a multiple of it: a sector, or a cluster to compress */
        uint64_t finished;       /* bytes */
        uint64_t dealt, start_ns; /* bytes of data dealt out, since when: for the rate */
        uint64_t next_seq, turn;
        struct job *jobs;
        int err;
        bool wake; /* something came back */
        bool closed;
        int close_res;
};

static void on_back(struct blk_req *req, int res)
{
        struct job *j = container_of(req, struct job, req);

        j->back = true;
        j->res = res;
        j->c->wake = true;
}

static void fail(struct copy *c, int r, const char *path, const char *what, uint64_t off)
{
        if (c->err == 0)
                c->err = err_note(r, "'%s': cannot %s at offset %llu: %s", path, what, (unsigned long long)off,
                                  strerror(-r));
}

/* --- dealing out pieces ---------------------------------------------------------------------------------------- */

enum piece { PIECE_SKIP, PIECE_ZERO, PIECE_DATA };

static int judge(const struct copy *c, struct extent *ext)
{
        bool zero = ext->kind == EXT_ZERO || ext->hole;
        int there = c->opts->in_target ? c->opts->in_target(ext, c->opts->opaque) : 0;

        if (there)
                return there < 0 ? there : PIECE_SKIP;
        if (!zero || c->opts->sparse == 0)
                return PIECE_DATA;
        return c->opts->target_is_zero ? PIECE_SKIP : PIECE_ZERO;
}

/* Sleeps until @rate allows more. I/O in flight goes on meanwhile. */
static void hold_back(struct copy *c)
{
        uint64_t due = c->opts->rate ? c->start_ns + (uint64_t)((double)c->dealt * 1e9 / (double)c->opts->rate) : 0;
        uint64_t now = clock_ns();

        while (now < due && !*c->opts->stop) {
                uint64_t ns = min_u64(due - now, 100 * 1000 * 1000); /* look for a signal ten times a second */

                nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
                now = clock_ns();
        }
}

/* The next piece that is something to do: true. Extents may end anywhere; pieces end at the grain. */
static bool next_piece(struct copy *c, struct job *j)
{
        while (c->next < c->end && c->err == 0) {
                struct extent ext;
                uint64_t at = c->next + c->to_target, end;
                int r, what;

                hold_back(c);
                r = chain_map_sync(c->map, c->next, c->end - c->next, &ext);
                if (r < 0 && c->opts->salvage) {
                        err_clear();
                        ext = (struct extent){ .kind = EXT_DATA, .len = min_u64(c->map->cluster_size, c->end - c->next) };
                } else if (r < 0) {
                        fail(c, r, c->map->file->path, "look at the tables", c->next);
                        return false;
                }
                what = judge(c, &ext);
                if (what < 0) {
                        fail(c, what, c->map->file->path, "compare the disks", c->next);
                        return false;
                }
                end = at + ext.len;
                if (what != PIECE_DATA && c->next + ext.len < c->end)
                        end = round_down(end, c->grain);
                if (end <= at)
                        what = PIECE_DATA; /* zeros and data in one sector or cluster */
                if (what == PIECE_DATA)
                        end = min_u64(round_up(at + ext.len, c->grain), round_down(at, c->piece) + c->piece);
                j->off = c->next;
                j->len = min_u64(end - at, c->end - c->next);
                j->zero = what == PIECE_ZERO;
                j->pos = 0;
                c->next += j->len;
                if (what == PIECE_DATA)
                        c->dealt += j->len;
                if (what != PIECE_SKIP)
                        return true;
                c->finished += j->len;
        }
        return false;
}

/* --- one job --------------------------------------------------------------------------------------------------- */

/* Compressed is what is a whole cluster of the target: not where two disks meet in one. */
static unsigned flags_of(const struct job *j, enum blk_op op, uint64_t len)
{
        const struct copy *c = j->c;
        uint64_t off = j->off + j->pos + c->to_target;

        if (op == BLK_WRITE && c->opts->compress && is_aligned(off, c->piece) &&
            len == min_u64(c->piece, vol_size(c->dst) - off))
                return BLK_PACK;
        return op == BLK_WRITE_ZEROES ? BLK_UNMAP : 0;
}

static void submit(struct job *j, struct vol_port *port, enum blk_op op, uint64_t len)
{
        bool has_data = op == BLK_READ || op == BLK_WRITE;

        j->back = false;
        j->iov = (struct iovec){ j->buf + j->pos, len };
        j->req = (struct blk_req){
                .op = op, .flags = flags_of(j, op, len), .len = len,
                .off = j->off + j->pos + (op == BLK_READ ? 0 : j->c->to_target),
                .iov = has_data ? &j->iov : NULL, .niov = has_data, .done = on_back,
        };
        port_submit(port, &j->req);
}

static void start(struct job *j)
{
        j->seq = j->c->next_seq++;
        j->state = j->zero ? HAVE : READING;
        if (!j->zero)
                submit(j, j->c->src_port, BLK_READ, j->len);
}

static void finish(struct job *j)
{
        j->state = IDLE;
        j->c->finished += j->len;
}

/* The next run, of one unit at most, that the target does not read as already. 0: nothing is left. */
static uint64_t next_different(struct job *j)
{
        const struct copy_opts *o = j->c->opts;

        while (j->pos < j->len) {
                uint64_t off = j->off + j->pos, n = min_u64(j->len - j->pos, o->unit - off % o->unit);
                int same = o->reads_same(j->buf + j->pos, off, n, o->opaque);

                if (same < 0)
                        fail(j->c, same, j->c->map->file->path, "compare the disks", off);
                if (same <= 0)
                        return same < 0 ? 0 : n;
                j->pos += n;
        }
        return 0;
}

/* The next run of the piece that must be written; *zero: as zeros. 0: nothing is left. */
static uint64_t next_run(struct job *j, int *zero)
{
        const struct copy_opts *o = j->c->opts;

        *zero = j->zero;
        if (o->reads_same)
                return next_different(j);
        if (j->zero || o->sparse == 0)
                return j->len - j->pos;
        while (j->pos < j->len) {
                uint64_t n = zeros_run(j->buf + j->pos, j->len - j->pos, o->compress ? j->len : o->sparse, zero);

                if (!*zero || !o->target_is_zero)
                        return n;
                j->pos += n;
        }
        return 0;
}

/*
 * A write that changes a cluster which is there and then needs new ones gets them when the first part of it is written:
 * behind those of the next piece, whose turn has come meanwhile. So what begins inside a cluster ends with it.
 */
static uint64_t ends_well(const struct job *j, uint64_t n)
{
        uint64_t in = (j->off + j->pos + j->c->to_target) % j->c->cluster;

        return in && !j->c->opts->any_order ? min_u64(n, j->c->cluster - in) : n;
}

/* Hands over the next run, when it is this job's turn. */
static bool write_on(struct job *j)
{
        struct copy *c = j->c;
        uint64_t n;
        int zero;

        if (c->err) {
                finish(j);
                return true;
        }
        if (!c->opts->any_order && j->seq != c->turn)
                return false;
        n = next_run(j, &zero);
        if (n == 0) {
                c->turn++;
                finish(j);
                return true;
        }
        if (!zero)
                n = ends_well(j, n);
        j->state = WRITING;
        submit(j, c->dst_port, zero ? BLK_WRITE_ZEROES : BLK_WRITE, n);
        j->pos += n;
        if (j->pos == j->len)
                c->turn++;
        return true;
}

/* A sector came back, or (@first) the whole piece could not be read. */
static void salvage(struct job *j, bool first)
{
        if (j->res < 0 && !first) {
                tool_warn("the sector at offset %llu cannot be read, the copy has zeros there: %s",
                          (unsigned long long)(j->off + j->pos), strerror(-j->res));
                memset(j->buf + j->pos, 0, SECTOR);
        }
        err_clear();
        if (!first)
                j->pos += SECTOR;
        j->state = j->pos < j->len ? SALVAGING : HAVE;
        if (j->state == SALVAGING)
                submit(j, j->c->src_port, BLK_READ, SECTOR);
        else
                j->pos = 0;
}

/* One step; was there one to take? */
static bool step(struct job *j)
{
        switch (j->state) {
        case IDLE:
                if (!next_piece(j->c, j))
                        return false;
                start(j);
                return true;
        case HAVE:
                return write_on(j);
        case READING:
        case SALVAGING:
        case WRITING:
                if (!j->back)
                        return false;
                j->back = false;
                if (j->state == SALVAGING || (j->state == READING && j->res < 0 && j->c->opts->salvage)) {
                        salvage(j, j->state == READING);
                        return true;
                }
                if (j->res < 0 && j->state == READING)
                        fail(j->c, j->res, j->c->map->file->path, "read", j->off);
                else if (j->res < 0)
                        fail(j->c, j->res, vol_image(j->c->dst)->file->path, "write", j->off);
                if (j->state == WRITING && j->pos == j->len)
                        finish(j); /* its turn went on when the last run was handed over */
                else
                        j->state = HAVE;
                return true;
        }
        return false;
}

static bool all_idle(const struct copy *c)
{
        for (unsigned i = 0; i < c->opts->jobs; i++)
                if (c->jobs[i].state != IDLE)
                        return false;
        return true;
}

static void pump(struct copy *c)
{
        for (;;) {
                bool moved;

                if (*c->opts->stop && c->err == 0)
                        c->err = err_note(-EINTR, "interrupted");
                c->wake = false;
                do {
                        moved = false;
                        for (unsigned i = 0; i < c->opts->jobs; i++)
                                moved |= step(&c->jobs[i]);
                } while (moved);
                progress_show(c->opts->progress, c->end > c->start ? (double)c->finished / (double)(c->end - c->start) : 1);
                if (all_idle(c) && (c->err || c->next == c->end))
                        return;
                if (!c->wake)
                        qthread_run(c->thread, &c->wake);
        }
}

/* --- from images to volumes and back --------------------------------------------------------------------------- */

static void on_closed(void *opaque, int res)
{
        struct copy *c = opaque;

        c->closed = true;
        c->close_res = res;
}

static int close_vol(struct copy *c, struct vol *v, struct vol_port *port)
{
        if (port)
                port_detach(port);
        if (!v)
                return 0;
        c->closed = false;
        vol_close(v, on_closed, c);
        if (!c->closed)
                qthread_run(c->thread, &c->closed);
        return c->close_res;
}

static int open_vols(struct copy *c, struct fmt_image *source, struct fmt_image *target)
{
        struct vol_opts src = { .read_only = true, .writeback = !c->opts->source_cache.direct };
        struct vol_opts dst = { .writeback = !c->opts->target_cache.direct, .no_sync = c->opts->target_cache.unsafe };
        struct qthread_opts th = { .name = "copy", .inline_loop = true };
        int r = qthread_new(&th, &c->thread);

        if (r < 0) {
                chain_close(source);
                chain_close(target);
                return r;
        }
        r = vol_open_chain(source, &src, c->thread, &c->src);
        if (r < 0) {
                chain_close(target);
                return r;
        }
        r = vol_open_chain(target, &dst, c->thread, &c->dst);
        if (r == 0)
                r = port_attach(c->src, c->thread, &c->src_port);
        if (r == 0)
                r = port_attach(c->dst, c->thread, &c->dst_port);
        return r;
}

static int make_jobs(struct copy *c)
{
        c->jobs = calloc(c->opts->jobs, sizeof(*c->jobs));
        if (!c->jobs)
                return -ENOMEM;
        for (unsigned i = 0; i < c->opts->jobs; i++) {
                c->jobs[i].c = c;
                c->jobs[i].buf = aligned_alloc(BUF_ALIGN, round_up(c->piece, BUF_ALIGN));
                if (!c->jobs[i].buf)
                        return -ENOMEM;
        }
        return 0;
}

static void free_jobs(struct copy *c)
{
        for (unsigned i = 0; c->jobs && i < c->opts->jobs; i++)
                free(c->jobs[i].buf);
        free(c->jobs);
}

int copy_disk(struct fmt_image *map, struct fmt_image *source, struct fmt_image *target, const struct copy_opts *opts)
{
        struct copy c = {
                .opts = opts, .map = map, .start = opts->source_off, .next = opts->source_off,
                .end = opts->source_len ? opts->source_off + opts->source_len : tool_disk_size(map),
                .to_target = opts->target_off - opts->source_off, .start_ns = clock_ns(), .piece = PIECE_BYTES,
                .grain = SECTOR, .cluster = target->cluster_size,
        };
        int r, closed;

        if (opts->compress)
                c.piece = c.grain = c.cluster;
        r = open_vols(&c, source, target);
        if (r == 0)
                r = make_jobs(&c);
        if (r == 0) {
                pump(&c);
                r = c.err;
        }
        close_vol(&c, c.src, c.src_port);
        closed = close_vol(&c, c.dst, c.dst_port);
        if (closed < 0 && r == 0)
                r = err_note(closed, "cannot make the target durable: %s", strerror(-closed));
        qthread_free(c.thread);
        free_jobs(&c);
        return r;
}
