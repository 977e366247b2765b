/* SPDX-License-Identifier: BSD-3-Clause */
/* scsi_request.h - a command in hand, for scsi_request.c (from chain to answer) and scsi_work.c (what the volume does). */
#pragma once

#include "vhost_user_scsi/scsi_device.h"

struct scsi_request {
        struct ring_req rq;
        struct scsi_request *next_free;
        struct list link;           /* desk->commands */
        struct list scratch_link;   /* seat->scratch_waits */
        uint64_t number;            /* of desk->taken */
        uint64_t tag;
        unsigned lun;
        struct scsi_unit *unit;     /* NULL: there is none */
        struct scsi_seat *seat;     /* the unit's here */

        /* Where the answer goes: so many whole pieces of the chain, then the first bytes of one that goes on with data. */
        unsigned answer_pieces;
        struct iovec answer_rest;
        struct iovec *out, *in;     /* what is left of the chain: readable and writable data */
        unsigned nout, nin;
        uint64_t out_len, in_len;   /* bytes */

        enum scsi_verdict verdict;
        struct blk_req req;
        int res;                    /* of the last of them that ended */
        bool in_step, ended;        /* it is being submitted; it has ended */
        bool flushed;               /* READ with FUA */
        unsigned at;                /* RANGES: the one in work */
        uint64_t done;              /* VERIFY, SCSI_SAME: bytes, of the range */
        void *scratch;              /* their memory */
        struct iovec scratch_iov;
        struct qtask turn;          /* it is this one's */
        struct loop_task mark;      /* the cache mode is kept, on control */
        struct qtask marked;
        struct scsi_cmd cmd;
};

static inline struct scsi_ring *scsi_ring_of(const struct scsi_request *q)
{
        return ring_priv(q->rq.ring);
}

/* scsi_work.c: what the verdict wants of the volume. Ends with scsi_request_worked(); q->cmd has status and sense then. */
void scsi_work(struct scsi_request *q);
void scsi_request_worked(struct scsi_request *q);
void scsi_work_done(struct blk_req *req, int res); /* blk_req.done of all requests */
