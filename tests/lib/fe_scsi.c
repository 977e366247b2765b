/* SPDX-License-Identifier: BSD-3-Clause */
#include "fe_scsi.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/err.h"

#define EVENT_BYTES 16u
#define PIECES 16u

/* In guest memory; little endian. */
struct fe_scsi_frame {
        union {
                struct {
                        uint8_t lun[8];
                        uint64_t tag;
                        uint8_t task_attr, prio, crn, cdb[32];
                } __attribute__((packed)) command;
                struct {
                        uint32_t type, subtype;
                        uint8_t lun[8];
                        uint64_t tag;
                } __attribute__((packed)) tmf;
        };
        union {
                struct {
                        uint32_t sense_len, residual;
                        uint16_t qualifier;
                        uint8_t status, response, sense[96];
                } __attribute__((packed)) answer;
                uint8_t tmf_answer;
        };
};

#define AT(field) (c->frame_gpa + offsetof(struct fe_scsi_frame, field))

int fe_scsi_init(struct front_end *fe, struct fe_scsi *c, uint32_t data_len)
{
        memset(c, 0, sizeof(*c));
        c->frame = fe_alloc(fe, sizeof(*c->frame), 64);
        c->data = data_len ? fe_alloc(fe, data_len, 4096) : NULL;
        if (!c->frame || (data_len && !c->data))
                return -ENOMEM;
        c->frame_gpa = fe_gpa(fe, c->frame);
        c->data_gpa = data_len ? fe_gpa(fe, c->data) : 0;
        return 0;
}

void fe_scsi_lun(uint8_t b[8], unsigned lun)
{
        memcpy(b, (uint8_t[8]){ 1, 0, 0x40, (uint8_t)lun }, 8);
}

void fe_scsi_plain(struct fe_scsi *c, unsigned lun, const void *cdb, size_t cdb_len)
{
        fe_scsi_lun(c->lun, lun);
        memset(c->cdb, 0, sizeof(c->cdb));
        memcpy(c->cdb, cdb, cdb_len);
        c->out_len = c->in_len = 0;
}

static void transfer(struct fe_scsi *c, unsigned lun, uint8_t opcode, uint64_t block, uint32_t nblocks)
{
        uint64_t be_block = htobe64(block);
        uint32_t be_n = htobe32(nblocks);

        fe_scsi_plain(c, lun, &opcode, 1);
        memcpy(c->cdb + 2, &be_block, 8);
        memcpy(c->cdb + 10, &be_n, 4);
}

void fe_scsi_read(struct fe_scsi *c, unsigned lun, uint64_t block, uint32_t nblocks)
{
        transfer(c, lun, 0x88, block, nblocks);
        c->in_len = nblocks * FE_SCSI_BLOCK;
}

void fe_scsi_write(struct fe_scsi *c, unsigned lun, uint64_t block, uint32_t nblocks)
{
        transfer(c, lun, 0x8a, block, nblocks);
        c->out_len = nblocks * FE_SCSI_BLOCK;
}

/* [gpa, gpa + len) in c->pieces pieces. */
static unsigned cut(const struct fe_scsi *c, struct fe_piece *p, uint64_t gpa, uint32_t len, bool write)
{
        unsigned want = c->pieces ? c->pieces : 1, n = 0;
        uint32_t each = len / want ? len / want : 1;

        while (len) {
                uint32_t now = n + 1 < want && each < len ? each : len;

                p[n++] = (struct fe_piece){ gpa, now, write };
                gpa += now;
                len -= now;
        }
        return n;
}

int fe_scsi_submit(struct fe_queue *q, struct fe_scsi *c)
{
        struct fe_piece p[4 * PIECES];
        unsigned n;

        memset(c->frame, 0, sizeof(*c->frame));
        memcpy(c->frame->command.lun, c->lun, sizeof(c->lun));
        memcpy(c->frame->command.cdb, c->cdb, sizeof(c->cdb));
        c->frame->command.tag = htole64(c->tag);
        c->frame->answer.response = c->response = FE_SCSI_NO_ANSWER;
        n = cut(c, p, AT(command), sizeof(c->frame->command), false);
        n += cut(c, p + n, c->data_gpa, c->out_len, false);
        n += cut(c, p + n, AT(answer), sizeof(c->frame->answer), true);
        n += cut(c, p + n, c->data_gpa, c->in_len, true);
        return fe_submit_chain(q, p, n, false, &c->io);
}

void fe_scsi_answered(struct fe_scsi *c)
{
        c->response = c->frame->answer.response;
        c->status = c->frame->answer.status;
        c->sense_len = le32toh(c->frame->answer.sense_len);
        c->residual = le32toh(c->frame->answer.residual);
        memcpy(c->sense, c->frame->answer.sense, sizeof(c->sense));
}

/* What is submitted already. */
static int wait_for(struct fe_queue *q, struct fe_io **done, int timeout_ms)
{
        uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS, now;
        int r;

        fe_kick(q);
        while ((r = fe_reap(q, done, 1)) == 0) {
                now = clock_ns();
                if (now >= deadline)
                        return err_note(-ETIMEDOUT, "queue %u: no answer within %d ms", fe_queue_index(q), timeout_ms);
                fe_wait(q, (int)((deadline - now) / NS_PER_MS) + 1);
        }
        return r < 0 ? r : 0;
}

int fe_scsi_do(struct fe_queue *q, struct fe_scsi *c, int timeout_ms)
{
        struct fe_io *done;
        int r = fe_in_flight(q) ? -EBUSY : fe_scsi_submit(q, c);

        if (r == 0)
                r = wait_for(q, &done, timeout_ms);
        if (r == 0)
                fe_scsi_answered(c);
        return r;
}

uint32_t fe_scsi_sense(const struct fe_scsi *c)
{
        return c->sense_len < 14 ? 0 : (c->sense[2] & 0xfu) << 16 | (uint32_t)c->sense[12] << 8 | c->sense[13];
}

/* --- control ----------------------------------------------------------------------------------------------------- */

void fe_scsi_tmf(struct fe_scsi *c, enum fe_scsi_tmf what, unsigned lun, uint64_t tag)
{
        memset(c->frame, 0, sizeof(*c->frame));
        c->frame->tmf.subtype = htole32(what);
        fe_scsi_lun(c->frame->tmf.lun, lun);
        c->frame->tmf.tag = htole64(tag);
        c->frame->tmf_answer = FE_SCSI_NO_ANSWER;
}

int fe_scsi_tmf_submit(struct fe_queue *q, struct fe_scsi *c)
{
        struct fe_piece p[] = { { AT(tmf), sizeof(c->frame->tmf), false }, { AT(tmf_answer), 1, true } };

        return fe_submit_chain(q, p, 2, false, &c->io);
}

uint8_t fe_scsi_tmf_answer(const struct fe_scsi *c)
{
        return c->frame->tmf_answer;
}

int fe_scsi_tmf_do(struct front_end *fe, struct fe_scsi *c, enum fe_scsi_tmf what, unsigned lun, uint64_t tag, int timeout_ms)
{
        struct fe_queue *q = fe_queue(fe, 0);
        struct fe_io *done;
        int r;

        fe_scsi_tmf(c, what, lun, tag);
        r = fe_in_flight(q) ? -EBUSY : fe_scsi_tmf_submit(q, c);
        if (r == 0)
                r = wait_for(q, &done, timeout_ms);
        return r < 0 ? r : fe_scsi_tmf_answer(c);
}

/* --- events ------------------------------------------------------------------------------------------------------ */

int fe_scsi_events_init(struct front_end *fe, struct fe_scsi_events *e)
{
        *e = (struct fe_scsi_events){ .fe = fe, .buf = fe_alloc(fe, sizeof(e->io) / sizeof(e->io[0]) * EVENT_BYTES, 64) };
        return e->buf ? 0 : -ENOMEM;
}

int fe_scsi_events_offer(struct fe_scsi_events *e, unsigned n)
{
        struct fe_queue *q = fe_queue(e->fe, 1);
        int r = 0;

        for (unsigned i = 0; r == 0 && i < n; i++) {
                struct fe_piece p = { fe_gpa(e->fe, e->buf) + (uint64_t)i * EVENT_BYTES, EVENT_BYTES, true };

                memset(e->buf + (size_t)i * EVENT_BYTES, 0xee, EVENT_BYTES);
                e->io[i].user = i;
                r = fe_submit_chain(q, &p, 1, false, &e->io[i]);
        }
        fe_kick(q);
        return r;
}

int fe_scsi_event_wait(struct fe_scsi_events *e, struct fe_scsi_event *ret, int timeout_ms)
{
        struct fe_io *done;
        const uint8_t *b;
        uint32_t v;
        int r = wait_for(fe_queue(e->fe, 1), &done, timeout_ms);

        if (r < 0)
                return r;
        b = e->buf + done->user * EVENT_BYTES;
        memcpy(&v, b, 4);
        ret->event = le32toh(v);
        memcpy(ret->lun, b + 4, 8);
        memcpy(&v, b + 12, 4);
        ret->reason = le32toh(v);
        return done->used_len == EVENT_BYTES ? 0 : err_note(-EPROTO, "an event of %u bytes", done->used_len);
}
