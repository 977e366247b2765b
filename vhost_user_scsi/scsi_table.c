/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_table.c - every command there is. Dispatch, REPORT SUPPORTED OPERATION CODES and the tests go by this table.
 */
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_impl.h"

/* Bytes of addresses and lengths, for .usage */
#define B2 0xff, 0xff
#define B4 0xff, 0xff, 0xff, 0xff
#define B8 B4, B4
#define PROTECT 0xe0  /* RDPROTECT, WRPROTECT, VRPROTECT: no protection information here */
#define BYTCHK 0x06   /* compare with the guest's data */
#define ANCHOR 0x10   /* keep space for what is unmapped */
#define ANCHOR_UNMAP 0x01
#define LBDATA 0x06   /* LBDATA, PBDATA: put addresses into the blocks. Obsolete, and not to be done halfway */
#define CMDDT 0x02    /* obsolete as well */
#define CONTROL 0x04 /* NACA is looked at, to be refused */

const struct scsi_op scsi_ops[] = {
        { 0x00, .len = 6, .usage = { 0x00, 0, 0, 0, 0, CONTROL }, .name = "TEST UNIT READY", .begin = scsi_test_unit_ready },
        { 0x03, .len = 6, .flags = SCSI_OP_CALM | SCSI_OP_ANYWHERE, .usage = { 0x03, 0x01, 0, 0, 0xff, CONTROL },
          .name = "REQUEST SENSE", .begin = scsi_request_sense },
        { 0x08, .len = 6, .flags = SCSI_OP_READS, .usage = { 0x08, 0x1f, B2, 0xff, CONTROL }, .name = "READ(6)", .begin = scsi_read },
        { 0x0a, .len = 6, .flags = SCSI_OP_WRITES, .usage = { 0x0a, 0x1f, B2, 0xff, CONTROL }, .name = "WRITE(6)",
          .begin = scsi_write },
        { 0x12, .len = 6, .flags = SCSI_OP_CALM | SCSI_OP_ANYWHERE, .refused = CMDDT,
          .usage = { 0x12, 0x01, 0xff, B2, CONTROL }, .name = "INQUIRY", .begin = scsi_inquiry },
        { 0x15, .len = 6, .usage = { 0x15, 0x11, 0, 0, 0xff, CONTROL }, .name = "MODE SELECT(6)",
          .begin = scsi_mode_select6, .param = scsi_mode_param6 },
        { 0x1a, .len = 6, .usage = { 0x1a, 0x08, 0xff, 0xff, 0xff, CONTROL }, .name = "MODE SENSE(6)",
          .begin = scsi_mode_sense6 },
        { 0x1b, .len = 6, .usage = { 0x1b, 0x01, 0, 0, 0x05, CONTROL }, .name = "START STOP UNIT", .begin = scsi_start_stop },
        { 0x1e, .len = 6, .usage = { 0x1e, 0, 0, 0, 0x01, CONTROL }, .name = "PREVENT ALLOW MEDIUM REMOVAL",
          .begin = scsi_prevent_removal },
        { 0x25, .len = 10, .usage = { 0x25, 0, 0, 0, 0, 0, 0, 0, 0, CONTROL }, .name = "READ CAPACITY(10)",
          .begin = scsi_read_capacity10 },
        { 0x28, .len = 10, .flags = SCSI_OP_READS, .refused = PROTECT, .usage = { 0x28, 0x18, B4, 0, B2, CONTROL },
          .name = "READ(10)", .begin = scsi_read },
        { 0x2a, .len = 10, .flags = SCSI_OP_WRITES, .refused = PROTECT, .usage = { 0x2a, 0x18, B4, 0, B2, CONTROL },
          .name = "WRITE(10)", .begin = scsi_write },
        { 0x2f, .len = 10, .flags = SCSI_OP_READS, .refused = PROTECT | BYTCHK, .usage = { 0x2f, 0x10, B4, 0, B2, CONTROL },
          .name = "VERIFY(10)", .begin = scsi_verify },
        { 0x35, .len = 10, .usage = { 0x35, 0x02, B4, 0, B2, CONTROL }, .name = "SYNCHRONIZE CACHE(10)",
          .begin = scsi_sync_cache },
        { 0x41, .len = 10, .flags = SCSI_OP_WRITES, .refused = PROTECT | ANCHOR | LBDATA,
          .usage = { 0x41, 0x08, B4, 0, B2, CONTROL }, .name = "WRITE SAME(10)",
          .begin = scsi_write_same, .param = scsi_write_same_param },
        { 0x42, .len = 10, .flags = SCSI_OP_WRITES, .refused = ANCHOR_UNMAP, .usage = { 0x42, 0, 0, 0, 0, 0, 0, B2, CONTROL },
          .name = "UNMAP", .begin = scsi_unmap, .param = scsi_unmap_param },
        { 0x55, .len = 10, .usage = { 0x55, 0x11, 0, 0, 0, 0, 0, B2, CONTROL }, .name = "MODE SELECT(10)",
          .begin = scsi_mode_select10, .param = scsi_mode_param10 },
        { 0x5a, .len = 10, .usage = { 0x5a, 0x18, 0xff, 0xff, 0, 0, 0, B2, CONTROL }, .name = "MODE SENSE(10)",
          .begin = scsi_mode_sense10 },
        { 0x88, .len = 16, .flags = SCSI_OP_READS, .refused = PROTECT, .usage = { 0x88, 0x18, B8, B4, 0, CONTROL },
          .name = "READ(16)", .begin = scsi_read },
        { 0x8a, .len = 16, .flags = SCSI_OP_WRITES, .refused = PROTECT, .usage = { 0x8a, 0x18, B8, B4, 0, CONTROL },
          .name = "WRITE(16)", .begin = scsi_write },
        { 0x8f, .len = 16, .flags = SCSI_OP_READS, .refused = PROTECT | BYTCHK, .usage = { 0x8f, 0x10, B8, B4, 0, CONTROL },
          .name = "VERIFY(16)", .begin = scsi_verify },
        { 0x91, .len = 16, .usage = { 0x91, 0x02, B8, B4, 0, CONTROL }, .name = "SYNCHRONIZE CACHE(16)",
          .begin = scsi_sync_cache },
        { 0x93, .len = 16, .flags = SCSI_OP_WRITES, .refused = PROTECT | ANCHOR | LBDATA,
          .usage = { 0x93, 0x09, B8, B4, 0, CONTROL }, .name = "WRITE SAME(16)",
          .begin = scsi_write_same, .param = scsi_write_same_param },
        { 0x9e, .action = 0x10, .len = 16, .flags = SCSI_OP_ACTION,
          .usage = { 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, B4, 0, CONTROL }, .name = "READ CAPACITY(16)",
          .begin = scsi_read_capacity16 },
        { 0xa0, .len = 12, .flags = SCSI_OP_CALM | SCSI_OP_ANYWHERE, .usage = { 0xa0, 0, 0xff, 0, 0, 0, B4, 0, CONTROL },
          .name = "REPORT LUNS", .begin = scsi_report_luns },
        { 0xa3, .action = 0x0c, .len = 12, .flags = SCSI_OP_ACTION, .usage = { 0xa3, 0x0c, 0x87, 0xff, B2, B4, 0, CONTROL },
          .name = "REPORT SUPPORTED OPERATION CODES", .begin = scsi_report_opcodes },
        { 0xa8, .len = 12, .flags = SCSI_OP_READS, .refused = PROTECT, .usage = { 0xa8, 0x18, B4, B4, 0, CONTROL },
          .name = "READ(12)", .begin = scsi_read },
        { 0xaa, .len = 12, .flags = SCSI_OP_WRITES, .refused = PROTECT, .usage = { 0xaa, 0x18, B4, B4, 0, CONTROL },
          .name = "WRITE(12)", .begin = scsi_write },
        { 0xaf, .len = 12, .flags = SCSI_OP_READS, .refused = PROTECT | BYTCHK, .usage = { 0xaf, 0x10, B4, B4, 0, CONTROL },
          .name = "VERIFY(12)", .begin = scsi_verify },
};
const unsigned scsi_nops = ARRAY_SIZE(scsi_ops);

const struct scsi_op *scsi_op_find(uint8_t opcode, uint8_t action, bool *known_opcode)
{
        unsigned lo = 0, hi = scsi_nops;

        while (lo < hi) { /* the first row of @opcode */
                unsigned mid = (lo + hi) / 2;

                if (scsi_ops[mid].opcode < opcode)
                        lo = mid + 1;
                else
                        hi = mid;
        }
        for (; lo < scsi_nops && scsi_ops[lo].opcode == opcode; lo++) {
                *known_opcode = true;
                if (!(scsi_ops[lo].flags & SCSI_OP_ACTION) || scsi_ops[lo].action == action)
                        return &scsi_ops[lo];
        }
        return NULL;
}

/* --- REPORT SUPPORTED OPERATION CODES (SPC-4, 6.35) --------------------------------------------------------------- */

enum { TIMEOUTS = 0x80, TIMEOUTS_LEN = 12, EACH = 8, HEADER = 4 };

_Static_assert(HEADER + ARRAY_SIZE(scsi_ops) * (EACH + TIMEOUTS_LEN) <= SCSI_DATA_MAX, "a list of all commands fits");

/* How long commands take: nobody knows, so all is zeros. */
static uint32_t put_timeouts(uint8_t *d)
{
        memset(d, 0, TIMEOUTS_LEN);
        be16_put(d, TIMEOUTS_LEN - 2);
        return TIMEOUTS_LEN;
}

static uint32_t put_all(uint8_t *data, bool timeouts)
{
        enum { CTDP = 0x02, SERVACTV = 0x01 };
        uint8_t *d = data + HEADER;

        for (unsigned i = 0; i < scsi_nops; i++) {
                const struct scsi_op *op = &scsi_ops[i];

                memset(d, 0, EACH);
                d[0] = op->opcode;
                be16_put(d + 2, op->action);
                d[5] = (timeouts ? CTDP : 0) | (op->flags & SCSI_OP_ACTION ? SERVACTV : 0);
                be16_put(d + 6, op->len);
                d += EACH;
                if (timeouts)
                        d += put_timeouts(d);
        }
        be32_put(data, (uint32_t)(d - data - HEADER));
        return (uint32_t)(d - data);
}

static uint32_t put_one(uint8_t *d, const struct scsi_op *op, bool timeouts)
{
        enum { CTDP = 0x80, ABSENT = 1, AS_THE_STANDARD_SAYS = 3 };

        memset(d, 0, HEADER);
        d[1] = op ? AS_THE_STANDARD_SAYS : ABSENT;
        if (!op)
                return HEADER;
        be16_put(d + 2, op->len);
        memcpy(d + HEADER, op->usage, op->len);
        if (!timeouts)
                return HEADER + op->len;
        d[1] |= CTDP;
        return HEADER + op->len + put_timeouts(d + HEADER + op->len);
}

/* The command that is asked about. *@actions: those of its opcode have service actions. */
static const struct scsi_op *asked_about(uint8_t opcode, uint16_t action, bool *actions)
{
        bool known = false;
        const struct scsi_op *op = scsi_op_find(opcode, 0, &known);

        *actions = known && !op; /* no command has 0 for its action: tests/unit/test_scsi_cmd.c */
        if (*actions)
                op = action <= SCSI_ACTION_MOST ? scsi_op_find(opcode, (uint8_t)action, &known) : NULL;
        return op;
}

enum scsi_verdict scsi_report_opcodes(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { ALL = 0, OPCODE = 1, ACTION = 2, EITHER = 3 };
        uint8_t how = cmd->cdb[2] & 0x07;
        uint16_t action = be16_get(cmd->cdb + 4);
        bool timeouts = cmd->cdb[2] & TIMEOUTS, actions;
        const struct scsi_op *op = asked_about(cmd->cdb[3], action, &actions);
        uint32_t alloc = be32_get(cmd->cdb + 6);

        (void)lu;
        if (how == ALL)
                return scsi_answer(cmd, put_all(cmd->data, timeouts), alloc);
        if (how > EITHER || (how == OPCODE && actions) || (how == ACTION && op && !actions))
                return scsi_bad_cdb(cmd, 2, 2);
        if (how == EITHER && !actions && action)
                op = NULL;
        return scsi_answer(cmd, put_one(cmd->data, op, timeouts), alloc);
}
