/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_cmd.h - the SCSI commands of a disk (SPC-4, SBC-3, SAM-5): bytes in, a decision out.
 *
 *   scsi_begin() -> DONE                          status, sense and a few bytes for the guest are in the scsi_cmd
 *                -> READ, WRITE, VERIFY, FLUSH    the caller does it, then scsi_succeeded() or scsi_failed()
 *                -> RANGES                        the same, range by range
 *                -> PARAM                         the caller copies parameter data, then scsi_param(): any of the above
 *                -> OVERRUN                       the guest's buffers are too short for its own command: nothing happens
 *
 * Nothing here knows guest memory, volumes or threads. Everything that comes out lies inside the capacity and is made of
 * whole blocks. Any thread; a scsi_lu is shared by all of them (its atomics), a scsi_cmd belongs to one.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCSI_MAX_TRANSFER (32u << 20)  /* bytes of one READ, WRITE or VERIFY */
#define SCSI_MAX_RANGES 32u            /* block descriptors of one UNMAP */
#define SCSI_MAX_SPACE (1ull << 31)    /* bytes of one UNMAP or WRITE SAME: none keeps the tables busy for long */
#define SCSI_MAX_LUNS 256u             /* of one controller */
#define SCSI_CDB_MAX 16u
#define SCSI_SENSE_MAX 18u
#define SCSI_DATA_MAX 4096u            /* parameter data and answers; also a block */
#define SCSI_SERIAL_MAX 36u

enum scsi_status { SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02, SCSI_TASK_ABORTED = 0x40 };

/* What a logical unit has to tell the guest, most urgent first. */
enum scsi_attention {
        SCSI_UA_RESET,          /* power on, reset: of the unit, the target or the guest's driver */
        SCSI_UA_CAPACITY,       /* the disk has another size */
        SCSI_UA_LUNS,           /* the controller has got or lost a unit */
        SCSI_UA_MODE,           /* somebody else than the guest changed a mode parameter */
};

/* One logical unit. The owner fills it and keeps it; scsi_lu_identify() its names. */
struct scsi_lu {
        _Atomic uint64_t nblocks;  /* what the guest may address, in blocks of block_size */
        uint32_t block_size;       /* logical, 512 or 4096 bytes */
        uint32_t cluster_size;     /* bytes in which space is given back; 1: no matter */
        bool read_only;
        atomic_bool wce;           /* off: writes are durable before they complete. MODE SELECT sets it */
        atomic_uint attentions;    /* 1 << enum scsi_attention, for the one initiator */
        char serial[SCSI_SERIAL_MAX + 1];
        uint64_t naa;              /* locally assigned: 3 in the top four bits */
};

/* The units of a controller, ascending, for REPORT LUNS. */
struct scsi_luns {
        unsigned n;
        uint16_t lun[SCSI_MAX_LUNS];
};

enum scsi_verdict { SCSI_DONE, SCSI_READ, SCSI_WRITE, SCSI_VERIFY, SCSI_FLUSH, SCSI_RANGES, SCSI_PARAM, SCSI_OVERRUN };

/* What happens to the ranges of SCSI_RANGES. */
enum scsi_space {
        SCSI_DISCARD,        /* BLK_DISCARD */
        SCSI_ZERO,           /* BLK_WRITE_ZEROES, and keep the space */
        SCSI_ZERO_UNMAP,     /* BLK_WRITE_ZEROES with BLK_UNMAP */
        SCSI_SAME,           /* the block_size bytes in scsi_cmd.data, written over and over */
};

struct scsi_range {
        uint64_t off, len; /* bytes, len > 0 */
};

struct scsi_cmd {
        /* the guest's: set by scsi_begin() */
        uint8_t cdb[SCSI_CDB_MAX];
        uint64_t out_len, in_len;  /* bytes of its buffers */

        /* READ, WRITE, VERIFY: bytes; [off, off + len) of the unit, len > 0. The guest's buffer holds at least len (not
         * for VERIFY, which transfers nothing: the blocks are read and thrown away) */
        uint64_t off, len;
        bool fua;                  /* WRITE, RANGES: durable before it completes. READ: flush first */
        bool wce_changed;          /* MODE SELECT has changed lu->wce, whatever the verdict is */
        enum scsi_space space;     /* RANGES */
        unsigned nranges;          /* >= 1 */
        uint32_t param_len;        /* PARAM: bytes that scsi_param() wants, 1..SCSI_DATA_MAX; the guest has sent them */

        /* DONE, and after scsi_succeeded(), scsi_failed() */
        uint8_t status;            /* enum scsi_status */
        uint8_t sense_len;
        uint8_t sense[SCSI_SENSE_MAX];
        uint32_t data_len;         /* DONE: bytes of data for the guest; never more than in_len */
        uint64_t residual;         /* bytes of the guest's buffers that were not used */

        /* this room's own */
        const struct scsi_op *op;
        const struct scsi_luns *luns; /* during scsi_begin() */
        uint64_t used;             /* bytes of the guest's buffers that a success uses */

        struct scsi_range range[SCSI_MAX_RANGES];
        uint8_t data[SCSI_DATA_MAX];
};

/**
 * scsi_begin - what does this command want?
 * @lu: NULL: there is no unit at the LUN that the guest named. @luns: those of its controller.
 * @cdb, @cdb_len: our copy of the guest's bytes; only the first SCSI_CDB_MAX are looked at.
 * @out_len, @in_len: bytes of the guest's data buffers. Needs nothing of @cmd, and sets all but range and data.
 * A pending attention ends most commands here (CHECK CONDITION), and is told once.
 */
enum scsi_verdict scsi_begin(struct scsi_lu *lu, const struct scsi_luns *luns, const uint8_t *cdb, size_t cdb_len,
                             uint64_t out_len, uint64_t in_len, struct scsi_cmd *cmd);

/* After PARAM: the cmd->param_len bytes are in cmd->data (one copy: they do not change any more). Not PARAM again. */
enum scsi_verdict scsi_param(struct scsi_lu *lu, struct scsi_cmd *cmd);

/* READ, WRITE, VERIFY, FLUSH or RANGES ended: status, sense and residual. @err: -errno of the block request. */
void scsi_succeeded(struct scsi_cmd *cmd);
void scsi_failed(struct scsi_cmd *cmd, int err);

/**
 * scsi_lu_identify - names of the unit, for VPD pages 80h and 83h.
 * @serial: what the operator says; NULL or "": derived from @stable. What is not printable ASCII becomes '_'; cut after
 * SCSI_SERIAL_MAX.
 * @stable: what tells this unit from any other that a guest may see, and stays when daemon and guest start again. Only a
 * hash of it is shown.
 */
void scsi_lu_identify(struct scsi_lu *lu, const char *serial, const char *stable);

/* Tell the guest with its next command. Any thread. */
void scsi_lu_attention(struct scsi_lu *lu, enum scsi_attention what);
