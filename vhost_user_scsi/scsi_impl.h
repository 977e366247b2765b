/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_impl.h - what the files of the command set share.
 *
 *   scsi_cmd.c      from CDB to handler: attentions, absent units, fields that nobody may set
 *   scsi_table.c    every command there is; REPORT SUPPORTED OPERATION CODES
 *   scsi_sense.c    sense data, attentions, what an errno is in SCSI
 *   scsi_inquiry.c  names of a unit, INQUIRY, vital product data, REPORT LUNS
 *   scsi_mode.c     MODE SENSE, MODE SELECT
 *   scsi_space.c    UNMAP, WRITE SAME
 *   scsi_block.c    READ, WRITE, VERIFY, SYNCHRONIZE CACHE, capacity, START STOP UNIT
 */
#pragma once

#include "vhost_user_scsi/scsi_cmd.h"

#define SCSI_ACTION_MOST 0x1fu      /* the largest service action of byte 1 */
#define SCSI_PHYSICAL_BLOCK 4096u /* what host file systems and disks really write */

typedef enum scsi_verdict scsi_handler(struct scsi_lu *lu, struct scsi_cmd *cmd);

enum {
        SCSI_OP_ACTION = 1 << 0,    /* .action of byte 1 belongs to the name of the command */
        SCSI_OP_WRITES = 1 << 1,    /* not on a read-only unit */
        SCSI_OP_CALM = 1 << 2,      /* a pending attention does not end it (SAM-5, 5.14) */
        SCSI_OP_ANYWHERE = 1 << 3,  /* also where no unit is: lu is NULL then */
        SCSI_OP_READS = 1 << 4,     /* when it fails, reading did */
};

struct scsi_op {
        uint8_t opcode, action;
        uint8_t flags;
        uint8_t len;                /* of the CDB; its last byte is CONTROL */
        uint8_t refused;            /* bits of byte 1 that ask for what we do not have */
        uint8_t usage[SCSI_CDB_MAX]; /* bits that mean something, for REPORT SUPPORTED OPERATION CODES; [0] is the opcode */
        const char *name;
        scsi_handler *begin, *param; /* param: after SCSI_PARAM */
};

/* --- scsi_table.c ------------------------------------------------------------------------------------------------ */
extern const struct scsi_op scsi_ops[]; /* ascending: opcode, action */
extern const unsigned scsi_nops;
/* The command of this CDB. NULL: none; *known_opcode: but others of that opcode. */
const struct scsi_op *scsi_op_find(uint8_t opcode, uint8_t action, bool *known_opcode);
scsi_handler scsi_report_opcodes;

/* --- scsi_sense.c ------------------------------------------------------------------------------------------------ */
/* key, additional sense code and its qualifier in one number: 0xKKAAQQ (SPC-4, tables 49 and D.2) */
enum scsi_sense_code {
        SENSE_NONE = 0x000000,
        SENSE_NO_MEDIUM = 0x023a00,
        SENSE_READ_ERROR = 0x031100,
        SENSE_WRITE_ERROR = 0x030c00,
        SENSE_LIST_LENGTH = 0x051a00,
        SENSE_BAD_OPCODE = 0x052000,
        SENSE_LBA_RANGE = 0x052100,
        SENSE_BAD_CDB_FIELD = 0x052400,
        SENSE_NO_UNIT = 0x052500,
        SENSE_BAD_LIST_FIELD = 0x052600,
        SENSE_RESET = 0x062900,
        SENSE_CAPACITY = 0x062a09,
        SENSE_MODE = 0x062a01,
        SENSE_LUNS = 0x063f0e,
        SENSE_WRITE_PROTECTED = 0x072700,
        SENSE_NO_SPACE = 0x072707,
        SENSE_TARGET_FAILED = 0x0b4400,
};
#define SCSI_NO_BIT (-1)

/* All return SCSI_DONE. @bit: the most significant bit of the field that is wrong, or SCSI_NO_BIT. */
enum scsi_verdict scsi_check(struct scsi_cmd *cmd, enum scsi_sense_code what);
enum scsi_verdict scsi_bad_cdb(struct scsi_cmd *cmd, unsigned byte, int bit);
enum scsi_verdict scsi_bad_list(struct scsi_cmd *cmd, unsigned byte, int bit);
/* The first @len bytes of cmd->data, as far as the guest asked (@alloc) and has room. */
enum scsi_verdict scsi_answer(struct scsi_cmd *cmd, uint32_t len, uint64_t alloc);
enum scsi_verdict scsi_good(struct scsi_cmd *cmd);
/* Ask for @len bytes of parameter data. */
enum scsi_verdict scsi_want(struct scsi_cmd *cmd, uint32_t list_len, uint32_t len);
/* Takes the most urgent attention. SENSE_NONE: nothing pending. */
enum scsi_sense_code scsi_take_attention(struct scsi_lu *lu);
scsi_handler scsi_request_sense;

/* --- scsi_inquiry.c, scsi_mode.c, scsi_space.c -------------------------------------------------------------------- */
scsi_handler scsi_inquiry, scsi_report_luns;
scsi_handler scsi_mode_sense6, scsi_mode_sense10, scsi_mode_select6, scsi_mode_select10;
scsi_handler scsi_mode_param6, scsi_mode_param10;
scsi_handler scsi_unmap, scsi_unmap_param, scsi_write_same, scsi_write_same_param;

/* --- scsi_block.c ------------------------------------------------------------------------------------------------ */
scsi_handler scsi_test_unit_ready, scsi_start_stop, scsi_prevent_removal;
scsi_handler scsi_read, scsi_write, scsi_verify, scsi_sync_cache, scsi_read_capacity10, scsi_read_capacity16;

/* Blocks [lba, lba + n) as bytes; the one place where blocks become bytes. false: not inside the unit. */
bool scsi_blocks_fit(const struct scsi_lu *lu, uint64_t lba, uint64_t n, struct scsi_range *ret);
unsigned scsi_blocks_named(const struct scsi_cmd *cmd, uint64_t *lba, uint64_t *n);
/* Must what is written be durable before the command completes? */
static inline bool scsi_write_through(const struct scsi_lu *lu)
{
        return !atomic_load_explicit(&lu->wce, memory_order_relaxed);
}
