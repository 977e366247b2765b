/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_range.c - piece by piece, one at a time; who wants more at once starts several.
 *
 *   look -> table page missing: its batch, look again
 *        -> absent, and only the top image is wanted: next piece
 *        -> zeros: written as such -> next piece
 *        -> data: read it all -> its zeros and its bytes are written, run by run -> next piece
 */
#include "blkq/home/work.h"
#include "blkq/jobs/copy_range.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/range.h"

static void look(struct copy_range *r);

static void on_woken(struct waiter *w, int err)
{
        struct copy_range *r = container_of(w, struct copy_range, wait);

        if (err < 0)
                r->done(r, err, true);
        else
                look(r);
}

/* --- what is there --------------------------------------------------------------------------------------------------- */

enum piece { PIECE_ABSENT, PIECE_ZERO, PIECE_DATA };

static enum piece kind_of(const struct extent *e)
{
        return e->kind == EXT_ABSENT ? PIECE_ABSENT : e->kind == EXT_ZERO ? PIECE_ZERO : PIECE_DATA;
}

/* The kind of what begins at r->at, and how far it goes. -EAGAIN: see *missing. */
static int map_once(const struct copy_range *r, bool top_alone, struct extent *ext, struct fmt_image **missing)
{
        struct fmt_image *top = r->v->top;
        uint64_t len = min_u64(r->end, top->size) - r->at;
        int n;

        rcu_read_lock();
        n = top_alone ? fmt_map(top, r->at, len, ext, MOVE_EXTENTS) : chain_map(top, r->at, len, ext, MOVE_EXTENTS, missing);
        rcu_read_unlock();
        if (n == -EAGAIN && top_alone)
                *missing = top;
        return n;
}

/* How far the first kind goes on. */
static uint64_t same_kind(const struct extent *ext, int n)
{
        uint64_t end = ext[0].off + ext[0].len;

        for (int i = 1; i < n && kind_of(&ext[i]) == kind_of(&ext[0]); i++)
                end = ext[i].off + ext[i].len;
        return end;
}

static int find_piece(struct copy_range *r, enum piece *kind, struct fmt_image **missing)
{
        struct extent ext[MOVE_EXTENTS];
        int n;

        if (r->at >= r->v->top->size) { /* in the sector that rounds the size up */
                *kind = PIECE_ZERO;
                r->upto = r->end;
                return 0;
        }
        r->upto = r->end;
        if (r->flags & COPY_TOP) {
                n = map_once(r, true, ext, missing);
                if (n < 0)
                        return n;
                *kind = kind_of(&ext[0]);
                r->upto = same_kind(ext, n);
                if (*kind == PIECE_ABSENT)
                        return 0;
        }
        n = map_once(r, false, ext, missing);
        if (n < 0)
                return n;
        *kind = kind_of(&ext[0]);
        r->upto = min_u64(r->upto, same_kind(ext, n));
        return 0;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static void write_on(struct copy_range *r);

static void on_written(struct blk_req *req, int res)
{
        struct copy_range *r = container_of(req, struct copy_range, req);

        if (res < 0) {
                r->done(r, res, false);
                return;
        }
        r->at += req->len;
        write_on(r);
}

static void submit(struct copy_range *r, enum blk_op op, unsigned flags, uint64_t len)
{
        r->req = (struct blk_req){ .op = op, .flags = flags, .off = r->at, .len = len, .done = on_written };
        if (op == BLK_WRITE) {
                r->iov = (struct iovec){ (char *)r->buf + (r->at - r->base), len };
                r->req.iov = &r->iov;
                r->req.niov = 1;
                r->moved += len;
        }
        port_submit(r->to, &r->req);
}

static bool all_zeros(const char *buf, uint64_t len)
{
        return buf[0] == 0 && !memcmp(buf, buf + 1, len - 1);
}

static bool unit_is_zeros(const struct copy_range *r, uint64_t at, uint64_t unit)
{
        return all_zeros((const char *)r->buf + (at - r->base), min_u64(r->upto - at, unit));
}

/* The next run of zeros, or of what is none, of the bytes that were read. */
static void write_on(struct copy_range *r)
{
        uint64_t unit = r->flags & COPY_PACK ? vol_cluster_size(port_vol(r->to)) : COPY_UNIT, end = r->at;
        bool zeros;

        if (r->at == r->upto) {
                look(r);
                return;
        }
        zeros = unit_is_zeros(r, r->at, unit);
        do
                end = min_u64(round_down(end, unit) + unit, r->upto);
        while (end < r->upto && !(r->flags & COPY_PACK && !zeros) && unit_is_zeros(r, end, unit) == zeros);
        if (zeros)
                submit(r, BLK_WRITE_ZEROES, BLK_UNMAP, end - r->at);
        else
                submit(r, BLK_WRITE, r->flags & COPY_PACK ? BLK_PACK : 0, end - r->at);
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static void on_read(struct chain_read *rd, int res)
{
        struct copy_range *r = container_of(rd, struct copy_range, read);

        if (res < 0)
                r->done(r, res, true);
        else
                write_on(r);
}

static void read_piece(struct copy_range *r)
{
        r->base = r->at;
        r->iov = (struct iovec){ r->buf, r->upto - r->at };
        chain_read_start(r->v, &r->read, r->at, r->upto - r->at, &r->iov, 1, on_read);
}

/* A compressed cluster is written as a whole, whatever parts of it are zeros, or absent, in the source. */
static enum piece align_to_clusters(struct copy_range *r, enum piece kind)
{
        uint64_t cluster = vol_cluster_size(port_vol(r->to));

        if (kind != PIECE_DATA && r->upto != r->end) {
                if (r->upto - r->at >= cluster) {
                        r->upto = round_down(r->upto, cluster);
                        return kind;
                }
                kind = PIECE_DATA;
        }
        r->upto = min_u64(round_up(r->upto, cluster), r->end);
        return kind;
}

/* Pieces that need nothing are passed in a loop: there may be very many. */
static void look(struct copy_range *r)
{
        struct fmt_image *missing = NULL;
        enum piece kind;
        int n;

        while (r->at < r->end) {
                n = find_piece(r, &kind, &missing);
                if (n == -EAGAIN) {
                        batch_want(r->v, missing, &r->wait);
                        return;
                }
                if (n < 0) {
                        r->done(r, n, true);
                        return;
                }
                if (r->flags & COPY_PACK)
                        kind = align_to_clusters(r, kind);
                if (kind == PIECE_DATA) {
                        if (r->piece)
                                r->upto = min_u64(r->upto, r->at + r->piece);
                        read_piece(r);
                        return;
                }
                if (kind == PIECE_ZERO) {
                        submit(r, BLK_WRITE_ZEROES, BLK_UNMAP, r->upto - r->at);
                        return;
                }
                r->at = r->upto;
        }
        r->done(r, 0, false);
}

void copy_range_start(struct copy_range *r)
{
        assert(r->off < r->end);
        r->at = r->off;
        r->moved = 0;
        r->wait = (struct waiter){ .wake = on_woken };
        list_init(&r->wait.link);
        look(r);
}
