/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_sense.c - how a command ends: sense data (SPC-4, 4.5), what an errno is in SCSI, attentions, REQUEST SENSE.
 */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

#define CURRENT_FIXED 0x70
#define CURRENT_DESCRIPTOR 0x72
#define FIXED_LEN 18u
#define DESCRIPTOR_LEN 8u
#define POINTS_AT 0x80       /* SKSV: bytes 15 to 17 name a field */
#define IN_CDB 0x40          /* of the CDB, not of the parameter data */
#define AT_BIT 0x08          /* and a bit of it */

_Static_assert(FIXED_LEN == SCSI_SENSE_MAX, "all sense data is fixed format, without more bytes");

static void put_fixed(uint8_t *p, enum scsi_sense_code what)
{
        memset(p, 0, FIXED_LEN);
        p[0] = CURRENT_FIXED;
        p[2] = (uint8_t)(what >> 16);
        p[7] = FIXED_LEN - 8;
        p[12] = (uint8_t)(what >> 8);
        p[13] = (uint8_t)what;
}

static void put_descriptor(uint8_t *p, enum scsi_sense_code what)
{
        memset(p, 0, DESCRIPTOR_LEN);
        p[0] = CURRENT_DESCRIPTOR;
        p[1] = (uint8_t)(what >> 16);
        p[2] = (uint8_t)(what >> 8);
        p[3] = (uint8_t)what;
}

static void end(struct scsi_cmd *cmd, enum scsi_status status, uint64_t used)
{
        cmd->status = (uint8_t)status;
        cmd->residual = cmd->in_len + cmd->out_len - used;
}

enum scsi_verdict scsi_check(struct scsi_cmd *cmd, enum scsi_sense_code what)
{
        put_fixed(cmd->sense, what);
        cmd->sense_len = FIXED_LEN;
        cmd->data_len = 0;
        end(cmd, SCSI_CHECK_CONDITION, 0);
        return SCSI_DONE;
}

static enum scsi_verdict bad_field(struct scsi_cmd *cmd, enum scsi_sense_code what, unsigned where, unsigned byte, int bit)
{
        scsi_check(cmd, what);
        cmd->sense[15] = (uint8_t)(POINTS_AT | where | (bit == SCSI_NO_BIT ? 0 : AT_BIT | (unsigned)bit));
        be16_put(&cmd->sense[16], (uint16_t)byte);
        return SCSI_DONE;
}

enum scsi_verdict scsi_bad_cdb(struct scsi_cmd *cmd, unsigned byte, int bit)
{
        return bad_field(cmd, SENSE_BAD_CDB_FIELD, IN_CDB, byte, bit);
}

enum scsi_verdict scsi_bad_list(struct scsi_cmd *cmd, unsigned byte, int bit)
{
        return bad_field(cmd, SENSE_BAD_LIST_FIELD, 0, byte, bit);
}

enum scsi_verdict scsi_answer(struct scsi_cmd *cmd, uint32_t len, uint64_t alloc)
{
        cmd->data_len = (uint32_t)min_u64(min_u64(len, alloc), cmd->in_len);
        cmd->used += cmd->data_len;
        return scsi_good(cmd);
}

enum scsi_verdict scsi_good(struct scsi_cmd *cmd)
{
        end(cmd, SCSI_GOOD, cmd->used);
        return SCSI_DONE;
}

enum scsi_verdict scsi_want(struct scsi_cmd *cmd, uint32_t list_len, uint32_t len)
{
        if (cmd->out_len < list_len)
                return SCSI_OVERRUN;
        cmd->param_len = len;
        cmd->used = list_len;
        return SCSI_PARAM;
}

/* --- a block request ended --------------------------------------------------------------------------------------- */

void scsi_succeeded(struct scsi_cmd *cmd)
{
        scsi_good(cmd);
}

void scsi_failed(struct scsi_cmd *cmd, int err)
{
        switch (err) {
        case -ENOSPC:
        case -EDQUOT:
        case -EFBIG:
                scsi_check(cmd, SENSE_NO_SPACE);
                return;
        case -EROFS:
        case -EACCES:
        case -EPERM:
                scsi_check(cmd, SENSE_WRITE_PROTECTED);
                return;
        case -ENOTSUP: /* a guest does not ask again for what a unit does not know */
                scsi_check(cmd, SENSE_BAD_OPCODE);
                return;
        case -ENOMEM:
        case -EAGAIN:
        case -ECANCELED: /* but this is worth another try */
                scsi_check(cmd, SENSE_TARGET_FAILED);
                return;
        default:
                scsi_check(cmd, cmd->op->flags & SCSI_OP_READS ? SENSE_READ_ERROR : SENSE_WRITE_ERROR);
        }
}

/* --- attentions -------------------------------------------------------------------------------------------------- */

void scsi_lu_attention(struct scsi_lu *lu, enum scsi_attention what)
{
        atomic_fetch_or(&lu->attentions, 1u << what);
}

enum scsi_sense_code scsi_take_attention(struct scsi_lu *lu)
{
        static const enum scsi_sense_code codes[] = {
                [SCSI_UA_RESET] = SENSE_RESET,
                [SCSI_UA_CAPACITY] = SENSE_CAPACITY,
                [SCSI_UA_LUNS] = SENSE_LUNS,
                [SCSI_UA_MODE] = SENSE_MODE,
        };
        unsigned all = atomic_load_explicit(&lu->attentions, memory_order_relaxed);

        while (all) { /* other queues take some, too: each is told once */
                unsigned first = (unsigned)__builtin_ctz(all);

                all = atomic_fetch_and(&lu->attentions, ~(1u << first));
                if (all & 1u << first) /* no test: another queue takes it between two instructions */
                        return codes[first];
        }
        return SENSE_NONE;
}

/* Each command has its sense with its status, so that there is never any left, but for attentions. */
enum scsi_verdict scsi_request_sense(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum scsi_sense_code what = lu ? scsi_take_attention(lu) : SENSE_NO_UNIT;
        bool descriptor = cmd->cdb[1] & 1;

        if (descriptor)
                put_descriptor(cmd->data, what);
        else
                put_fixed(cmd->data, what);
        return scsi_answer(cmd, descriptor ? DESCRIPTOR_LEN : FIXED_LEN, cmd->cdb[4]);
}
