/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A command of the guest's (virtio 1.2, 5.6.6.1). Queue thread of its ring, from first to last:
 *
 *   chain -> header copied, place of the answer set aside -> scsi_begin() -> data copied here, or scsi_work() -> answer
 *
 * Invariants:
 *   - The answer is the first writable bytes of the chain, whatever the framing; data never covers it.
 *   - A command is on its desk's list, and counted by its unit's seat, from take to answer: so the unit stays.
 *   - Requests come from slabs of the ring, which grow to the most it ever had in flight (at most its size) and live
 *     until it stops.
 */
#include "vhost_user_scsi/scsi_request.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/mark.h"
#include "common/range.h"

#define SLAB_REQUESTS 16
#define ANSWER_BYTES sizeof(struct virtio_scsi_cmd_resp)

struct scsi_slab {
        struct scsi_slab *next;
        struct scsi_request request[SLAB_REQUESTS];
};

/* --- memory ------------------------------------------------------------------------------------------------------ */

static void grow(struct scsi_ring *sr)
{
        struct scsi_slab *s = FAULT("scsi.grow") ? NULL : calloc(1, sizeof(*s));

        if (!s)
                return;
        s->next = sr->slabs;
        sr->slabs = s;
        for (int i = 0; i < SLAB_REQUESTS; i++) {
                struct scsi_request *q = &s->request[i];

                q->req.done = scsi_work_done;
                list_init(&q->link);
                list_init(&q->scratch_link);
                q->next_free = sr->free;
                sr->free = q;
        }
}

struct ring_req *scsi_request_get(struct scsi_ring *sr)
{
        struct scsi_request *q;

        if (!sr->free)
                grow(sr);
        q = sr->free;
        if (!q)
                return NULL;
        sr->free = q->next_free;
        return &q->rq;
}

void scsi_request_put(struct scsi_ring *sr, struct ring_req *rq)
{
        struct scsi_request *q = container_of(rq, struct scsi_request, rq);

        q->next_free = sr->free;
        sr->free = q;
}

void scsi_requests_free(struct scsi_ring *sr)
{
        struct scsi_slab *s, *next;

        for (s = sr->slabs; s; s = next) {
                next = s->next;
                free(s);
        }
}

/* --- the answer -------------------------------------------------------------------------------------------------- */

static void put_answer(struct scsi_request *q, const struct virtio_scsi_cmd_resp *a)
{
        struct iovec piece[ANSWER_BYTES], *at = piece; /* each has a byte at least */
        unsigned n = q->answer_pieces;

        memcpy(piece, q->rq.chain.iov + q->rq.chain.nread, n * sizeof(*piece));
        if (q->answer_rest.iov_len)
                piece[n++] = q->answer_rest;
        gm_copy_out(a, sizeof(*a), &at, &n);
        if (q->answer_rest.iov_len)
                ring_wrote(&q->rq, q->answer_rest.iov_base, q->answer_rest.iov_len);
}

/* The command is off its lists: who waits for that hears of it. */
static void leave_desk(struct scsi_request *q)
{
        list_del(&q->link);
        if (q->seat)
                q->seat->in_flight--;
        scsi_desk_look(scsi_ring_of(q)->desk);
}

static void answer(struct scsi_request *q, const struct virtio_scsi_cmd_resp *a, uint64_t data_written)
{
        struct scsi_ring *sr = scsi_ring_of(q);

        put_answer(q, a);
        ring_complete(&q->rq, (uint32_t)(ANSWER_BYTES + data_written));
        leave_desk(q);
        scsi_request_put(sr, &q->rq);
}

/* Without a word of the command set. */
static void refuse(struct scsi_request *q, uint8_t response)
{
        struct virtio_scsi_cmd_resp a = { .response = response };

        answer(q, &a, 0);
}

/* What can never be done is counted where the disk is: outside of it, or written though it is read-only. */
static void count_refused(const struct scsi_request *q)
{
        uint8_t key = q->cmd.sense[2] & 0xf; /* fixed format */
        bool write = (q->cmd.cdb[0] & 0x1f) == 0x0a, read = (q->cmd.cdb[0] & 0x1f) == 0x08;

        if (q->verdict == SCSI_DONE && q->cmd.status == SCSI_CHECK_CONDITION && (key == 0x5 || key == 0x7) &&
            q->seat && q->seat->port && (read || write))
                port_refused(q->seat->port, write ? BLK_WRITE : BLK_READ);
}

static void answer_command(struct scsi_request *q)
{
        const struct scsi_cmd *c = &q->cmd;
        struct virtio_scsi_cmd_resp a = {
                .sense_len = htole32(c->sense_len),
                .resid = htole32((uint32_t)min_u64(c->residual, UINT32_MAX)),
                .status = c->status,
                .response = VIRTIO_SCSI_S_OK,
        };
        uint64_t written = q->verdict == SCSI_DONE ? c->data_len :
                           q->verdict == SCSI_READ && c->status == SCSI_GOOD ? c->len : 0;

        memcpy(a.sense, c->sense, c->sense_len);
        count_refused(q);
        answer(q, &a, written);
}

/* --- the cache mode ---------------------------------------------------------------------------------------------- */

static void on_marked(struct qtask *t)
{
        answer_command(container_of(t, struct scsi_request, marked));
}

static void keep_mark(struct loop_task *t)
{
        struct scsi_request *q = container_of(t, struct scsi_request, mark);
        const struct scsi_unit *u = q->unit;

        if (mark_set(u->wce_mark, !atomic_load(&u->lu.wce)) < 0) {
                log_warn("%s: a restart of the daemon will forget the write cache mode of LUN %u: %s", u->c->name, u->lun,
                         err_text(-EIO));
                err_clear();
        }
        qthread_post(q->rq.ring->thread, &q->marked);
}

/* A cache that the guest switched off stays so over a restart: it is not told of one, and sends no flushes. */
void scsi_request_worked(struct scsi_request *q)
{
        if (!q->cmd.wce_changed || !q->unit->wce_mark) {
                answer_command(q);
                return;
        }
        q->mark.run = keep_mark;
        q->marked.run = on_marked;
        loop_post(q->unit->c->door.loop, &q->mark);
}

/* --- a chain arrives --------------------------------------------------------------------------------------------- */

/* Sets the answer aside; false: there is no room for one. The piece that it ends in is cut: what remains is data's. */
static bool split(struct scsi_request *q)
{
        struct chain *c = &q->rq.chain;
        size_t left = ANSWER_BYTES;
        unsigned n = 0;

        if (c->write_len < left)
                return false;
        q->out = c->iov;
        q->nout = c->nread;
        q->out_len = c->read_len;
        q->in = c->iov + c->nread;
        for (; n < c->nwrite && q->in[n].iov_len <= left; n++)
                left -= q->in[n].iov_len;
        q->answer_pieces = n;
        q->in += n;
        q->nin = c->nwrite - n;
        q->in_len = c->write_len - ANSWER_BYTES;
        q->answer_rest = (struct iovec){ 0 };
        if (left) {
                q->answer_rest = (struct iovec){ q->in->iov_base, left };
                q->in->iov_base = (char *)q->in->iov_base + left;
                q->in->iov_len -= left;
        }
        return true;
}

static void decide(struct scsi_request *q)
{
        struct scsi_cmd *c = &q->cmd;

        if (q->verdict == SCSI_PARAM) {
                gm_copy_in(c->data, c->param_len, &q->out, &q->nout);
                q->verdict = scsi_param(&q->unit->lu, c);
        }
        switch (q->verdict) {
        case SCSI_OVERRUN:
                refuse(q, VIRTIO_SCSI_S_OVERRUN);
                break;
        case SCSI_DONE:
                gm_copy_out(c->data, c->data_len, &q->in, &q->nin);
                scsi_request_worked(q);
                break;
        default:
                scsi_work(q);
        }
}

/* From here on it is a command in hand. */
static void enter_desk(struct scsi_request *q, struct scsi_ring *sr)
{
        struct scsi_desk *d = sr->desk;

        q->number = ++d->taken;
        list_add_tail(&d->commands, &q->link);
        q->unit = q->lun < SCSI_MAX_LUNS ? d->table->unit[q->lun] : NULL;
        q->seat = q->unit ? &q->unit->seat[sr->thread] : NULL;
        if (q->seat)
                q->seat->in_flight++;
}

void scsi_request_take(struct scsi_ring *sr, struct ring_req *rq)
{
        struct scsi_request *q = container_of(rq, struct scsi_request, rq);
        struct virtio_scsi_cmd_req hdr; /* our copy; the guest keeps writing to its own */
        enum scsi_place place;

        if (!split(q)) {
                ring_break(rq, "a command without room for its answer");
                return;
        }
        if (gm_copy_in(&hdr, sizeof(hdr), &q->out, &q->nout) < sizeof(hdr)) {
                ring_break(rq, "a command without its header");
                return;
        }
        q->out_len -= sizeof(hdr);
        place = scsi_place_of(hdr.lun, &q->lun);
        q->tag = le64toh(hdr.tag);
        enter_desk(q, sr);
        if (sr->ring->features >> VIRTIO_SCSI_F_T10_PI & 1) /* what we took for the header is not quite one */
                refuse(q, VIRTIO_SCSI_S_FAILURE);
        else if (place == SCSI_AT_NOTHING)
                refuse(q, VIRTIO_SCSI_S_BAD_TARGET);
        else if (q->out_len && q->in_len) /* INOUT is not offered */
                refuse(q, VIRTIO_SCSI_S_FAILURE);
        else {
                q->verdict = scsi_begin(q->unit ? &q->unit->lu : NULL, &sr->desk->table->luns, hdr.cdb, sizeof(hdr.cdb),
                                        q->out_len, q->in_len, &q->cmd);
                decide(q);
        }
}
