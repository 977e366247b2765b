/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_block.c - commands about blocks (SBC-3): READ, WRITE, VERIFY, SYNCHRONIZE CACHE, the capacity, and those about a
 * drive's motor and door, which a disk of ours has not.
 */
#include <string.h>

#include "common/bytes.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

#define FUA 0x08          /* of byte 1, but in 6-byte commands */
#define READ_6_MOST 256u  /* blocks; what a length of 0 means there */

bool scsi_blocks_fit(const struct scsi_lu *lu, uint64_t lba, uint64_t n, struct scsi_range *ret)
{
        if (!range_fits(lba, n, atomic_load_explicit(&lu->nblocks, memory_order_relaxed)))
                return false;
        ret->off = lba * lu->block_size;
        ret->len = n * lu->block_size;
        return true;
}

/* Where the blocks of a command are, by the length of its CDB. Returns the byte of the CDB that begins their number. */
unsigned scsi_blocks_named(const struct scsi_cmd *cmd, uint64_t *lba, uint64_t *n)
{
        const uint8_t *cdb = cmd->cdb;

        switch (cmd->op->len) {
        case 6:
                *lba = be32_get(cdb) & 0x1fffff;
                *n = cdb[4] ? cdb[4] : READ_6_MOST;
                return 4;
        case 10:
                *lba = be32_get(cdb + 2);
                *n = be16_get(cdb + 7);
                return 7;
        case 12:
                *lba = be32_get(cdb + 2);
                *n = be32_get(cdb + 6);
                return 6;
        default:
                *lba = be64_get(cdb + 2);
                *n = be32_get(cdb + 10);
                return 10;
        }
}

/* --- data -------------------------------------------------------------------------------------------------------- */

/* READ, WRITE and VERIFY of [off, off + len). DONE: nothing is left to do, or it was refused; otherwise @verdict. */
static enum scsi_verdict transfer(struct scsi_lu *lu, struct scsi_cmd *cmd, enum scsi_verdict verdict)
{
        struct scsi_range blocks;
        uint64_t lba, n;
        unsigned length_at = scsi_blocks_named(cmd, &lba, &n);

        if (!scsi_blocks_fit(lu, lba, n, &blocks))
                return scsi_check(cmd, SENSE_LBA_RANGE);
        if (blocks.len > SCSI_MAX_TRANSFER)
                return scsi_bad_cdb(cmd, length_at, SCSI_NO_BIT);
        if (!blocks.len)
                return scsi_good(cmd);
        cmd->off = blocks.off;
        cmd->len = blocks.len;
        cmd->fua = cmd->op->len != 6 && cmd->cdb[1] & FUA;
        return verdict;
}

enum scsi_verdict scsi_read(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum scsi_verdict v = transfer(lu, cmd, SCSI_READ);

        cmd->used = v == SCSI_READ ? cmd->len : 0;
        return cmd->used > cmd->in_len ? SCSI_OVERRUN : v;
}

enum scsi_verdict scsi_write(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum scsi_verdict v = transfer(lu, cmd, SCSI_WRITE);

        cmd->used = v == SCSI_WRITE ? cmd->len : 0;
        cmd->fua |= scsi_write_through(lu);
        return cmd->used > cmd->out_len ? SCSI_OVERRUN : v;
}

/* Can the blocks be read? Comparing them with the guest's (BYTCHK) is not offered: see .refused in scsi_table.c. */
enum scsi_verdict scsi_verify(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum scsi_verdict v = transfer(lu, cmd, SCSI_VERIFY);

        cmd->fua = false;
        return v;
}

/* All of the cache, whatever the range. IMMED only says that the guest would not wait; it may. */
enum scsi_verdict scsi_sync_cache(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        struct scsi_range blocks;
        uint64_t lba, n;

        scsi_blocks_named(cmd, &lba, &n);
        return scsi_blocks_fit(lu, lba, n, &blocks) ? SCSI_FLUSH : scsi_check(cmd, SENSE_LBA_RANGE);
}

/* --- capacity ---------------------------------------------------------------------------------------------------- */

enum scsi_verdict scsi_read_capacity10(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        uint64_t n = atomic_load_explicit(&lu->nblocks, memory_order_relaxed);

        if (!n)
                return scsi_check(cmd, SENSE_NO_MEDIUM);
        be32_put(cmd->data, (uint32_t)min_u64(n - 1, UINT32_MAX)); /* "ask READ CAPACITY(16)" */
        be32_put(cmd->data + 4, lu->block_size);
        return scsi_answer(cmd, 8, 8);
}

enum scsi_verdict scsi_read_capacity16(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { LAST = 0, BLOCK = 8, EXPONENT = 13, FLAGS = 14, LEN = 32, LBPME = 0x80, LBPRZ = 0x40 };
        uint64_t n = atomic_load_explicit(&lu->nblocks, memory_order_relaxed);
        uint8_t *d = cmd->data;

        if (!n)
                return scsi_check(cmd, SENSE_NO_MEDIUM);
        memset(d, 0, LEN);
        be64_put(d + LAST, n - 1);
        be32_put(d + BLOCK, lu->block_size);
        d[EXPONENT] = (uint8_t)__builtin_ctz(SCSI_PHYSICAL_BLOCK / lu->block_size);
        d[FLAGS] = lu->read_only ? 0 : LBPME | LBPRZ;
        return scsi_answer(cmd, LEN, be32_get(cmd->cdb + 10));
}

/* --- the drive --------------------------------------------------------------------------------------------------- */

enum scsi_verdict scsi_test_unit_ready(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        return atomic_load_explicit(&lu->nblocks, memory_order_relaxed) ? scsi_good(cmd) : scsi_check(cmd, SENSE_NO_MEDIUM);
}

/* A disk that is stopped answers all the same: there is no motor that would have to come up again. */
enum scsi_verdict scsi_start_stop(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { POWER_CONDITION = 0xf0, NO_FLUSH = 0x04, LOEJ = 0x02, START = 0x01 };
        uint8_t how = cmd->cdb[4];

        (void)lu;
        if (how & POWER_CONDITION)
                return scsi_bad_cdb(cmd, 4, 7);
        if (how & LOEJ)
                return scsi_bad_cdb(cmd, 4, 1);
        return how & (START | NO_FLUSH) ? scsi_good(cmd) : SCSI_FLUSH;
}

/* No medium can be taken out, whether the guest allows it or not. */
enum scsi_verdict scsi_prevent_removal(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        (void)lu;
        return cmd->cdb[4] & 0x02 ? scsi_bad_cdb(cmd, 4, 1) : scsi_good(cmd);
}
