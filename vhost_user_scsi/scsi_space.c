/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_space.c - UNMAP and WRITE SAME (SBC-3, 5.28, 5.45 to 5.47): ranges that are given back, zeroed, or filled with one
 * block.
 */
#include "common/bytes.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

/* --- UNMAP ------------------------------------------------------------------------------------------------------- */

enum { UNMAP_HEADER = 8, UNMAP_EACH = 16 };

_Static_assert(UNMAP_HEADER + (SCSI_MAX_RANGES + 1) * UNMAP_EACH <= SCSI_DATA_MAX, "a list that is too long is seen to be");

enum scsi_verdict scsi_unmap(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        uint32_t list_len = be16_get(cmd->cdb + 7);

        (void)lu;
        if (!list_len)
                return scsi_good(cmd);
        if (list_len < UNMAP_HEADER)
                return scsi_check(cmd, SENSE_LIST_LENGTH);
        return scsi_want(cmd, list_len, (uint32_t)min_u64(list_len, SCSI_DATA_MAX));
}

/* The list's descriptor at byte @at; *total: blocks of all so far. false: @cmd has ended. */
static bool add_range(struct scsi_lu *lu, struct scsi_cmd *cmd, unsigned at, uint64_t *total)
{
        uint64_t lba = be64_get(cmd->data + at);
        uint32_t n = be32_get(cmd->data + at + 8);
        struct scsi_range r;

        if (!scsi_blocks_fit(lu, lba, n, &r)) {
                scsi_check(cmd, SENSE_LBA_RANGE);
                return false;
        }
        *total += n;
        if (*total > SCSI_MAX_SPACE / lu->block_size) {
                scsi_bad_list(cmd, at + 8, 7);
                return false;
        }
        if (n)
                cmd->range[cmd->nranges++] = r;
        return true;
}

/* All are looked at before the first is begun. A descriptor that is cut off at the end does not count. */
enum scsi_verdict scsi_unmap_param(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { DESCRIPTORS = 2 };
        uint64_t bytes = min_u64(be16_get(cmd->data + DESCRIPTORS), cmd->param_len - UNMAP_HEADER);
        uint64_t n = bytes / UNMAP_EACH, total = 0;

        if (n > SCSI_MAX_RANGES)
                return scsi_bad_list(cmd, DESCRIPTORS, 7);
        for (unsigned i = 0; i < n; i++)
                if (!add_range(lu, cmd, UNMAP_HEADER + i * UNMAP_EACH, &total))
                        return SCSI_DONE;
        if (!cmd->nranges)
                return scsi_good(cmd);
        cmd->space = SCSI_DISCARD;
        cmd->fua = scsi_write_through(lu);
        return SCSI_RANGES;
}

/* --- WRITE SAME -------------------------------------------------------------------------------------------------- */

enum { UNMAP = 0x08, NDOB = 0x01 }; /* of byte 1 */

static enum scsi_verdict zeros(struct scsi_cmd *cmd)
{
        cmd->space = cmd->cdb[1] & UNMAP ? SCSI_ZERO_UNMAP : SCSI_ZERO;
        return SCSI_RANGES;
}

enum scsi_verdict scsi_write_same(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        uint64_t lba, n;
        unsigned length_at = scsi_blocks_named(cmd, &lba, &n);
        bool no_data = cmd->op->len == 16 && cmd->cdb[1] & NDOB;

        if (!n) /* WSNZ: "all to the end" is not offered */
                return scsi_bad_cdb(cmd, length_at, SCSI_NO_BIT);
        if (!scsi_blocks_fit(lu, lba, n, &cmd->range[0]))
                return scsi_check(cmd, SENSE_LBA_RANGE);
        if (cmd->range[0].len > SCSI_MAX_SPACE)
                return scsi_bad_cdb(cmd, length_at, SCSI_NO_BIT);
        cmd->nranges = 1;
        cmd->fua = scsi_write_through(lu);
        return no_data ? zeros(cmd) : scsi_want(cmd, lu->block_size, lu->block_size);
}

/* A block of zeros is what guests send; any other is written as they say, over and over. */
enum scsi_verdict scsi_write_same_param(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        if (bytes_are_zero(cmd->data, lu->block_size))
                return zeros(cmd);
        cmd->space = SCSI_SAME;
        return SCSI_RANGES;
}
