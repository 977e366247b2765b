/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_cmd.c - from a CDB to the handler of its command.
 *
 * In this order (SAM-5, 5.3.3): a unit that is not there, an attention that the guest has to hear of first, a command
 * that is not there, fields that ask for what is not there, a unit that may not be written.
 */
#include <string.h>

#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

#define NACA 0x04 /* of CONTROL: keep all other commands back after a failure (SAM-5, 5.2). NORMACA in INQUIRY is 0 */
#define NACA_BIT 2

static void start(struct scsi_cmd *cmd, const uint8_t *cdb, size_t cdb_len, uint64_t out_len, uint64_t in_len)
{
        size_t n = min_u64(cdb_len, SCSI_CDB_MAX);

        memset(cmd, 0, offsetof(struct scsi_cmd, range));
        if (n)
                memcpy(cmd->cdb, cdb, n);
        cmd->out_len = out_len;
        cmd->in_len = in_len;
}

static int highest_bit(unsigned byte)
{
        return 31 - __builtin_clz(byte);
}

enum scsi_verdict scsi_begin(struct scsi_lu *lu, const struct scsi_luns *luns, const uint8_t *cdb, size_t cdb_len,
                             uint64_t out_len, uint64_t in_len, struct scsi_cmd *cmd)
{
        bool known_opcode = false;
        enum scsi_sense_code attention;
        const struct scsi_op *op;

        start(cmd, cdb, cdb_len, out_len, in_len);
        cmd->luns = luns;
        op = cmd->op = scsi_op_find(cmd->cdb[0], cmd->cdb[1] & SCSI_ACTION_MOST, &known_opcode);
        if (!lu && !(op && op->flags & SCSI_OP_ANYWHERE))
                return scsi_check(cmd, SENSE_NO_UNIT);
        if (lu && !(op && op->flags & SCSI_OP_CALM)) {
                attention = scsi_take_attention(lu);
                if (attention != SENSE_NONE)
                        return scsi_check(cmd, attention);
        }
        if (!op)
                return known_opcode ? scsi_bad_cdb(cmd, 1, 4) : scsi_check(cmd, SENSE_BAD_OPCODE);
        if (cdb_len < op->len)
                return scsi_bad_cdb(cmd, (unsigned)cdb_len, SCSI_NO_BIT);
        if (cmd->cdb[1] & op->refused)
                return scsi_bad_cdb(cmd, 1, highest_bit(cmd->cdb[1] & op->refused));
        if (cmd->cdb[op->len - 1] & NACA)
                return scsi_bad_cdb(cmd, op->len - 1, NACA_BIT);
        if (op->flags & SCSI_OP_WRITES && lu->read_only)
                return scsi_check(cmd, SENSE_WRITE_PROTECTED);
        return op->begin(lu, cmd);
}

enum scsi_verdict scsi_param(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        return cmd->op->param(lu, cmd);
}
