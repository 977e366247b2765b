/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fe_scsi.h - virtio-scsi requests (virtio 1.2, 5.6.6) through the queues of a front end: 0 control, 1 events, 2.. commands.
 *
 *     struct fe_scsi c;
 *     fe_scsi_init(fe, &c, 4096);                 // room for 4096 bytes of data
 *     fe_scsi_read(&c, 3, 0, 8);                  // LUN 3, blocks 0..7
 *     fe_scsi_do(fe_queue(fe, 2), &c, 5000);      // or fe_scsi_submit(), fe_kick(), fe_reap(), fe_scsi_answered()
 *
 * Numbers are written down here a second time, apart from the back end's own. A queue at a time by one thread; errors are
 * negative errno, as in fe_queue.h.
 */
#pragma once

#include "front_end.h"

#define FE_SCSI_BLOCK 512u

enum fe_scsi_response {
        FE_SCSI_OK = 0, FE_SCSI_OVERRUN = 1, FE_SCSI_BAD_TARGET = 3, FE_SCSI_RESET = 4, FE_SCSI_FAILURE = 9,
        FE_SCSI_SUCCEEDED = 10, FE_SCSI_REJECTED = 11, FE_SCSI_INCORRECT_LUN = 12, FE_SCSI_NO_ANSWER = 0xee
};
enum fe_scsi_tmf {
        FE_ABORT_TASK = 0, FE_ABORT_TASK_SET = 1, FE_CLEAR_ACA = 2, FE_CLEAR_TASK_SET = 3, FE_NEXUS_RESET = 4,
        FE_UNIT_RESET = 5, FE_QUERY_TASK = 6, FE_QUERY_TASK_SET = 7
};

/* One command; stays in place from submit to reap. */
struct fe_scsi {
        struct fe_io io;           /* its chain's */
        uint8_t lun[8];
        uint64_t tag;
        uint8_t cdb[32];
        uint8_t *data;             /* guest memory */
        uint32_t out_len, in_len;  /* bytes of data that go with it: to the device, from it */
        unsigned pieces;           /* cut each part into so many descriptors; 0: 1 */

        /* the answer */
        uint8_t response, status, sense[96];
        uint32_t sense_len, residual;

        struct fe_scsi_frame *frame; /* guest memory */
        uint64_t frame_gpa, data_gpa;
};

int fe_scsi_init(struct front_end *fe, struct fe_scsi *c, uint32_t data_len); /* 0, -ENOMEM: guest memory is full */
void fe_scsi_lun(uint8_t bytes[8], unsigned lun);
/* No data: TEST UNIT READY and its like. */
void fe_scsi_plain(struct fe_scsi *c, unsigned lun, const void *cdb, size_t cdb_len);
void fe_scsi_read(struct fe_scsi *c, unsigned lun, uint64_t block, uint32_t nblocks);
void fe_scsi_write(struct fe_scsi *c, unsigned lun, uint64_t block, uint32_t nblocks);

int fe_scsi_submit(struct fe_queue *q, struct fe_scsi *c);
void fe_scsi_answered(struct fe_scsi *c); /* fe_reap() gave its io: fill in the answer */
int fe_scsi_do(struct fe_queue *q, struct fe_scsi *c, int timeout_ms);
/* Sense key, code and qualifier in one number, 0xKKAAQQ; 0: there is none. */
uint32_t fe_scsi_sense(const struct fe_scsi *c);

/* Task management: the response, or -errno. begin and end apart: @c is the request meanwhile. */
void fe_scsi_tmf(struct fe_scsi *c, enum fe_scsi_tmf what, unsigned lun, uint64_t tag);
int fe_scsi_tmf_submit(struct fe_queue *q, struct fe_scsi *c);
uint8_t fe_scsi_tmf_answer(const struct fe_scsi *c); /* FE_SCSI_NO_ANSWER: none yet */
int fe_scsi_tmf_do(struct front_end *fe, struct fe_scsi *c, enum fe_scsi_tmf what, unsigned lun, uint64_t tag, int timeout_ms);

/* Events: @n buffers go to the ring; the next one that comes, or -ETIMEDOUT. */
struct fe_scsi_event {
        uint32_t event, reason;
        uint8_t lun[8];
};
struct fe_scsi_events {
        struct front_end *fe;
        struct fe_io io[16];
        uint8_t *buf;
};
int fe_scsi_events_init(struct front_end *fe, struct fe_scsi_events *e);
int fe_scsi_events_offer(struct fe_scsi_events *e, unsigned n); /* at most 16, none in flight */
int fe_scsi_event_wait(struct fe_scsi_events *e, struct fe_scsi_event *ret, int timeout_ms);
