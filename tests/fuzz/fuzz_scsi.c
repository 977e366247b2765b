/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SCSI commands, as a guest may send them: to units of several sizes, with parameter data and buffers of any length. What
 * comes out lies inside the disk and fits the buffers, is told with sense data that is well formed, and does not depend on
 * what an earlier command left behind.
 */
#include <errno.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/range.h"
#include "fuzz.h"
#include "vhost_user_scsi/scsi_cmd.h"

#define COMMANDS 64

enum { LARGE_BLOCKS = 1, READ_ONLY = 2, CACHED = 4, NOBODY = 8, FAILS = 16 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        return 0;
}

static const struct scsi_luns luns = { 3, { 0, 7, 300 } };

static void take_unit(struct fuzz_input *in, uint8_t how, struct scsi_lu *lu)
{
        static const uint64_t sizes[] = { 0, 1, 2048, 0xffffffff, 0x100000000, 1ull << 50 };

        memset(lu, 0, sizeof(*lu));
        lu->block_size = how & LARGE_BLOCKS ? 4096 : 512;
        lu->nblocks = sizes[fuzz_u8(in) % ARRAY_SIZE(sizes)];
        lu->cluster_size = 1u << (fuzz_u8(in) % 22);
        lu->read_only = how & READ_ONLY;
        atomic_init(&lu->wce, how & CACHED);
        atomic_init(&lu->attentions, fuzz_u8(in) & 0xf);
        scsi_lu_identify(lu, how & CACHED ? "fuzzed" : "", "somewhere");
}

static void check_range(const struct scsi_lu *lu, uint64_t off, uint64_t len)
{
        if (!len || !is_aligned(off | len, lu->block_size) || !range_fits(off, len, lu->nblocks * lu->block_size))
                fuzz_fail("[%llu, +%llu) of %llu blocks of %u", (unsigned long long)off, (unsigned long long)len,
                          (unsigned long long)lu->nblocks, lu->block_size);
}

static void check_end(const struct scsi_cmd *cmd)
{
        if (cmd->residual > cmd->in_len + cmd->out_len)
                fuzz_fail("%llu bytes were not used", (unsigned long long)cmd->residual);
        if (cmd->status == SCSI_GOOD && !cmd->sense_len)
                return;
        if (cmd->status != SCSI_CHECK_CONDITION || cmd->sense_len != 18 || cmd->sense[0] != 0x70 || cmd->sense[7] != 10 ||
            !cmd->sense[2] || cmd->sense[2] > 0xf || cmd->data_len)
                fuzz_fail("status %x with %u bytes of sense, %u of data", cmd->status, cmd->sense_len, cmd->data_len);
}

static void check_ranges(const struct scsi_lu *lu, const struct scsi_cmd *cmd)
{
        uint64_t total = 0;

        if (!cmd->nranges || cmd->nranges > SCSI_MAX_RANGES)
                fuzz_fail("%u ranges", cmd->nranges);
        for (unsigned i = 0; i < cmd->nranges; i++) {
                check_range(lu, cmd->range[i].off, cmd->range[i].len);
                total += cmd->range[i].len;
        }
        if (total > SCSI_MAX_SPACE)
                fuzz_fail("%llu bytes at once", (unsigned long long)total);
}

static void check(const struct scsi_lu *lu, const struct scsi_cmd *cmd, enum scsi_verdict v)
{
        bool changes = v == SCSI_WRITE || v == SCSI_RANGES;

        if (changes && (lu->read_only || (!cmd->fua && !lu->wce)))
                fuzz_fail("a change that may not be, or not so");
        if (v == SCSI_DONE)
                check_end(cmd);
        if (v == SCSI_DONE && (cmd->data_len > cmd->in_len || cmd->data_len > SCSI_DATA_MAX))
                fuzz_fail("%u bytes for a buffer of %llu", cmd->data_len, (unsigned long long)cmd->in_len);
        if (v == SCSI_READ || v == SCSI_WRITE || v == SCSI_VERIFY)
                check_range(lu, cmd->off, cmd->len);
        if ((v == SCSI_READ && cmd->len > cmd->in_len) || (v == SCSI_WRITE && cmd->len > cmd->out_len) ||
            cmd->len > SCSI_MAX_TRANSFER)
                fuzz_fail("%llu bytes are too many", (unsigned long long)cmd->len);
        if (v == SCSI_RANGES)
                check_ranges(lu, cmd);
}

static enum scsi_verdict run(struct scsi_lu *lu, bool nobody, struct fuzz_input *in, struct scsi_cmd *cmd)
{
        uint8_t cdb[32], len = fuzz_u8(in) % (sizeof(cdb) + 1);
        uint64_t out_len = fuzz_u32(in) >> 4, in_len = fuzz_u32(in) >> 4;
        enum scsi_verdict v;

        fuzz_bytes(in, cdb, len);
        v = scsi_begin(nobody ? NULL : lu, &luns, cdb, len, out_len, in_len, cmd);
        if (nobody && v != SCSI_DONE)
                fuzz_fail("verdict %d of a unit that is not there", v);
        if (v == SCSI_PARAM) {
                if (!cmd->param_len || cmd->param_len > SCSI_DATA_MAX || cmd->param_len > out_len)
                        fuzz_fail("%u bytes of parameter data", cmd->param_len);
                fuzz_bytes(in, cmd->data, cmd->param_len);
                v = scsi_param(lu, cmd);
                if (v == SCSI_PARAM)
                        fuzz_fail("parameter data again");
        }
        check(lu, cmd, v);
        return v;
}

static void compare(const struct scsi_cmd *a, enum scsi_verdict va, const struct scsi_cmd *b, enum scsi_verdict vb)
{
        if (va != vb || memcmp(a, b, offsetof(struct scsi_cmd, range)) || memcmp(a->data, b->data, a->data_len) ||
            memcmp(a->range, b->range, a->nranges * sizeof(a->range[0])))
                fuzz_fail("what was there before matters: verdicts %d, %d", va, vb);
}

static void finish(struct scsi_cmd *cmd, enum scsi_verdict v, bool fails)
{
        static const int errs[] = { -EIO, -ENOSPC, -EROFS, -ENOTSUP, -ENOMEM };

        if (v == SCSI_DONE || v == SCSI_OVERRUN)
                return;
        if (fails)
                scsi_failed(cmd, errs[cmd->cdb[0] % ARRAY_SIZE(errs)]);
        else
                scsi_succeeded(cmd);
        check_end(cmd);
        if ((cmd->status == SCSI_GOOD) == fails)
                fuzz_fail("status %x", cmd->status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        AUTO(freep) struct scsi_cmd *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
        struct fuzz_input in = { data, size }, again;
        struct scsi_lu lu, twin;

        if (!a || !b)
                return 0;
        for (unsigned i = 0; i < COMMANDS && in.left; i++) {
                uint8_t how = fuzz_u8(&in);
                enum scsi_verdict va, vb;

                take_unit(&in, how, &lu);
                memcpy(&twin, &lu, sizeof(lu));
                again = in;
                memset(a, 0, sizeof(*a));
                memset(b, 0xff, sizeof(*b));
                va = run(&lu, how & NOBODY, &in, a);
                vb = run(&twin, how & NOBODY, &again, b);
                compare(a, va, b, vb);
                finish(a, va, how & FAILS);
        }
        return 0;
}
