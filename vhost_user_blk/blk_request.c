/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's request becomes a block request (virtio 1.2, 5.2.6). Queue thread of its ring, from first to last:
 *
 *   chain -> header copied, status byte set aside -> checked -> port_submit() -> on_done() -> status -> ring_complete()
 *
 * A DISCARD or WRITE_ZEROES is a list of ranges: all are checked before the first is begun, then they run one by one.
 *
 * Invariants:
 *   - The status byte is the last writable byte of the chain, whatever the framing; data never covers it.
 *   - Requests come from slabs of the ring, which grow to the most it ever had in flight (at most its size) and live
 *     until it stops.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/range.h"
#include "vhost_user/ring/ring.h"
#include "vhost_user_blk/blk_device.h"

#define SLAB_REQUESTS 16

struct range {
        uint64_t off, len; /* bytes */
        unsigned flags;    /* BLK_* */
};

struct blk_request {
        struct ring_req rq;
        struct blk_req req;
        struct blk_request *next_free;
        uint8_t *status;          /* in guest memory */
        struct iovec *out, *in;   /* what is left of the chain: readable and writable data */
        unsigned nout, nin;
        uint64_t out_len, in_len; /* bytes */
        unsigned nranges, at;
        struct range range[BLK_MAX_RANGES];
};
struct slab {
        struct slab *next;
        struct blk_request request[SLAB_REQUESTS];
};

struct blk_ring {
        struct blk_device *dev;
        struct vol_port *port;
        struct blk_request *free;
        struct slab *slabs;
        uint64_t features;
        bool hurried;
};

/* --- rings and their memory -------------------------------------------------------------------------------------- */

int blk_ring_start(struct vu_device *vu, struct ring *r)
{
        struct blk_device *d = container_of(vu, struct blk_device, vu);
        struct vol_port **port = &d->port[(vu->first_thread + r->index) % vu->nthreads];
        struct blk_ring *br;
        int res = 0;

        rcu_read_lock();
        if (!*port)
                res = port_attach(rcu_dereference(d->vol), r->thread, port);
        rcu_read_unlock();
        if (res < 0)
                return res;
        br = calloc(1, sizeof(*br));
        if (!br)
                return -ENOMEM;
        br->dev = d;
        br->port = *port;
        br->features = r->features;
        r->priv = br;
        return 0;
}

void blk_ring_stop(struct vu_device *vu, struct ring *r)
{
        struct blk_ring *br = TAKE(r->priv, NULL);
        struct slab *s, *next;

        if (br->hurried)
                port_hurry(br->port, false);
        for (s = br->slabs; s; s = next) {
                next = s->next;
                free(s);
        }
        free(br);
}

void blk_leave(struct vu_device *vu, unsigned thread)
{
        struct vol_port *p = TAKE(container_of(vu, struct blk_device, vu)->port[thread], NULL);

        if (p)
                port_detach(p);
}

/* Limits are for the guest that runs, not for who waits to stop it. */
void blk_ring_hurry(struct vu_device *vu, struct ring *r)
{
        struct blk_ring *br = ring_priv(r);

        (void)vu;
        if (TAKE(br->hurried, true))
                return;
        port_hurry(br->port, true);
}

static void on_done(struct blk_req *req, int res);

static void grow(struct blk_ring *br)
{
        struct slab *s = FAULT("blk.grow") ? NULL : calloc(1, sizeof(*s));

        if (!s)
                return;
        s->next = br->slabs;
        br->slabs = s;
        for (int i = 0; i < SLAB_REQUESTS; i++) {
                s->request[i].req.done = on_done;
                s->request[i].next_free = br->free;
                br->free = &s->request[i];
        }
}

struct ring_req *blk_get(struct ring *r)
{
        struct blk_ring *br = ring_priv(r);
        struct blk_request *q;

        if (!br->free)
                grow(br);
        q = br->free;
        if (!q)
                return NULL;
        br->free = q->next_free;
        return &q->rq;
}

void blk_put(struct ring *r, struct ring_req *rq)
{
        struct blk_ring *br = ring_priv(r);
        struct blk_request *q = container_of(rq, struct blk_request, rq);

        q->next_free = br->free;
        br->free = q;
}

static struct blk_ring *ring_of(const struct blk_request *q)
{
        return ring_priv(q->rq.ring);
}

/* --- completion -------------------------------------------------------------------------------------------------- */

static void finish(struct blk_request *q, uint8_t status, uint64_t data_written)
{
        struct ring *r = q->rq.ring;

        gm_store(q->status, &status, sizeof(status));
        ring_wrote(&q->rq, q->status, sizeof(status));
        ring_complete(&q->rq, (uint32_t)data_written + 1);
        blk_put(r, &q->rq);
}

static void refuse(struct blk_request *q, uint8_t status)
{
        finish(q, status, 0);
}

static void refuse_op(struct blk_request *q, enum blk_op op, uint8_t status)
{
        if (status != VIRTIO_BLK_S_OK)
                port_refused(ring_of(q)->port, op);
        refuse(q, status);
}

static uint8_t status_of(int res)
{
        return res == 0 ? VIRTIO_BLK_S_OK : res == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void submit_range(struct blk_request *q)
{
        const struct range *g = &q->range[q->at++];

        q->req.off = g->off;
        q->req.len = g->len;
        q->req.flags = g->flags;
        port_submit(ring_of(q)->port, &q->req);
}

static void on_done(struct blk_req *req, int res)
{
        struct blk_request *q = container_of(req, struct blk_request, req);

        if (res == 0 && q->at < q->nranges)
                submit_range(q);
        else
                finish(q, status_of(res), res == 0 && req->op == BLK_READ ? req->len : 0);
}

/* --- checks ------------------------------------------------------------------------------------------------------ */

static bool negotiated(const struct blk_ring *br, unsigned bit)
{
        return br->features >> bit & 1;
}

/* Must a write be durable before it completes? virtio 1.2, 5.2.6.2: without FLUSH, or with the cache switched off. */
static unsigned write_flags(const struct blk_ring *br)
{
        bool cached = negotiated(br, VIRTIO_BLK_F_FLUSH) &&
                      (!negotiated(br, VIRTIO_BLK_F_CONFIG_WCE) ||
                       atomic_load_explicit(&br->dev->wce, memory_order_relaxed));

        return cached ? 0 : BLK_FUA;
}

/* The one place where sectors become bytes. */
static bool sectors_fit(const struct blk_device *d, uint64_t sector, uint64_t nsectors, struct range *ret)
{
        if (!range_fits(sector, nsectors, atomic_load_explicit(&d->capacity, memory_order_relaxed)))
                return false;
        ret->off = sector * SECTOR_SIZE;
        ret->len = nsectors * SECTOR_SIZE;
        return is_aligned(ret->off | ret->len, d->block_size);
}

/* --- the request types ------------------------------------------------------------------------------------------- */

static void transfer(struct blk_request *q, uint64_t sector, bool write)
{
        struct blk_ring *br = ring_of(q);
        uint64_t len = write ? q->out_len : q->in_len;
        struct range g;

        if ((write && br->dev->read_only) || len > BLK_MAX_DATA || len % SECTOR_SIZE ||
            !sectors_fit(br->dev, sector, len / SECTOR_SIZE, &g)) {
                refuse_op(q, write ? BLK_WRITE : BLK_READ, VIRTIO_BLK_S_IOERR);
                return;
        }
        if (!len) {
                refuse(q, VIRTIO_BLK_S_OK); /* nothing was asked, at a place that exists */
                return;
        }
        q->req.op = write ? BLK_WRITE : BLK_READ;
        q->req.flags = write ? write_flags(br) : 0;
        q->req.off = g.off;
        q->req.len = g.len;
        q->req.iov = write ? q->out : q->in;
        q->req.niov = write ? q->nout : q->nin;
        port_submit(br->port, &q->req);
}

static void flush(struct blk_request *q)
{
        q->req.op = BLK_FLUSH;
        q->req.flags = 0;
        q->req.off = q->req.len = 0;
        port_submit(ring_of(q)->port, &q->req);
}

static void get_id(struct blk_request *q)
{
        struct iovec copy[BLK_ID_LEN], *in = copy; /* the chain keeps its pieces: what is in them counts as written */
        unsigned nin = q->nin < BLK_ID_LEN ? q->nin : BLK_ID_LEN;
        size_t n;

        memcpy(copy, q->in, nin * sizeof(*copy));
        n = gm_copy_out(ring_of(q)->dev->serial, BLK_ID_LEN, &in, &nin);
        finish(q, VIRTIO_BLK_S_OK, n);
}

/* One range of the guest's list: its status, OK when it may run. */
static uint8_t check_range(const struct blk_ring *br, const struct virtio_blk_discard_write_zeroes *raw, bool zeroes,
                           struct range *ret)
{
        uint32_t flags = le32toh(raw->flags), nsectors = le32toh(raw->num_sectors);

        if (flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
                return VIRTIO_BLK_S_UNSUPP;
        if (nsectors > BLK_MAX_RANGE_SECTORS || !sectors_fit(br->dev, le64toh(raw->sector), nsectors, ret))
                return VIRTIO_BLK_S_IOERR;
        ret->flags = write_flags(br) | (flags ? BLK_UNMAP : 0u);
        return VIRTIO_BLK_S_OK;
}

static uint8_t read_ranges(struct blk_request *q, bool zeroes)
{
        struct virtio_blk_discard_write_zeroes raw;

        q->nranges = q->at = 0;
        if (!q->out_len || q->out_len % sizeof(raw) || q->out_len / sizeof(raw) > BLK_MAX_RANGES)
                return VIRTIO_BLK_S_IOERR;
        for (uint64_t left = q->out_len / sizeof(raw); left; left--) {
                struct range *g = &q->range[q->nranges];
                uint8_t status;

                gm_copy_in(&raw, sizeof(raw), &q->out, &q->nout);
                status = check_range(ring_of(q), &raw, zeroes, g);
                if (status != VIRTIO_BLK_S_OK)
                        return status;
                q->nranges += g->len != 0;
        }
        return VIRTIO_BLK_S_OK;
}

static void discard_or_zero(struct blk_request *q, bool zeroes)
{
        struct blk_ring *br = ring_of(q);
        uint8_t status;

        if (!negotiated(br, zeroes ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD)) {
                refuse_op(q, zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD, VIRTIO_BLK_S_UNSUPP);
                return;
        }
        status = br->dev->read_only ? VIRTIO_BLK_S_IOERR : read_ranges(q, zeroes);
        if (status != VIRTIO_BLK_S_OK || !q->nranges) {
                q->nranges = 0;
                refuse_op(q, zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD, status);
                return;
        }
        q->req.op = zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD;
        q->req.niov = 0;
        submit_range(q);
}

/* --- a chain arrives --------------------------------------------------------------------------------------------- */

/* Sets the status byte aside; false: there is none. */
static bool split(struct blk_request *q)
{
        struct chain *c = &q->rq.chain;
        struct iovec *last;

        if (!c->nwrite)
                return false;
        last = &c->iov[c->nread + c->nwrite - 1];
        q->out = c->iov;
        q->nout = c->nread;
        q->out_len = c->read_len;
        q->in = c->iov + c->nread;
        q->nin = c->nwrite;
        q->in_len = c->write_len - 1;
        q->status = (uint8_t *)last->iov_base + --last->iov_len;
        if (!last->iov_len)
                q->nin--;
        return true;
}

void blk_take(struct ring *r, struct ring_req *rq)
{
        struct blk_request *q = container_of(rq, struct blk_request, rq);
        struct virtio_blk_outhdr hdr; /* our copy; the guest keeps writing to its own */

        q->nranges = q->at = 0;
        if (!split(q)) {
                ring_break(rq, "a request without a byte for its status");
                return;
        }
        if (gm_copy_in(&hdr, sizeof(hdr), &q->out, &q->nout) < sizeof(hdr)) {
                refuse(q, VIRTIO_BLK_S_IOERR);
                return;
        }
        q->out_len -= sizeof(hdr);
        switch (le32toh(hdr.type)) {
        case VIRTIO_BLK_T_IN:
                transfer(q, le64toh(hdr.sector), false);
                break;
        case VIRTIO_BLK_T_OUT:
                transfer(q, le64toh(hdr.sector), true);
                break;
        case VIRTIO_BLK_T_FLUSH:
                flush(q);
                break;
        case VIRTIO_BLK_T_GET_ID:
                get_id(q);
                break;
        case VIRTIO_BLK_T_DISCARD:
                discard_or_zero(q, false);
                break;
        case VIRTIO_BLK_T_WRITE_ZEROES:
                discard_or_zero(q, true);
                break;
        default:
                refuse(q, VIRTIO_BLK_S_UNSUPP);
        }
}
