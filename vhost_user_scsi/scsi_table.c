/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_table.c - every command there is. Dispatch, REPORT SUPPORTED OPERATION CODES and the tests go by this table.
 */
#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_impl.h"

/* Bytes of addresses and lengths, for .usage */
#define B2 0xff, 0xff
#define B4 0xff, 0xff, 0xff, 0xff
#define B8 B4, B4
#define PROTECT 0xe0  /* RDPROTECT, WRPROTECT, VRPROTECT: no protection information here */
#define BYTCHK 0x06
#define CONTROL 0x04 /* NACA is looked at, to be refused */

const struct scsi_op scsi_ops[] = {
        { 0x00, .len = 6, .usage = { 0x00, 0, 0, 0, 0, CONTROL }, .name = "TEST UNIT READY", .begin = scsi_test_unit_ready },
        { 0x03, .len = 6, .flags = SCSI_OP_CALM | SCSI_OP_ANYWHERE, .usage = { 0x03, 0x01, 0, 0, 0xff, CONTROL },
          .name = "REQUEST SENSE", .begin = scsi_request_sense },
        { 0x08, .len = 6, .flags = SCSI_OP_READS, .usage = { 0x08, 0x1f, B2, 0xff, CONTROL }, .name = "READ(6)", .begin = scsi_read },
        { 0x0a, .len = 6, .flags = SCSI_OP_WRITES, .usage = { 0x0a, 0x1f, B2, 0xff, CONTROL }, .name = "WRITE(6)",
          .begin = scsi_write },
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
        { 0x88, .len = 16, .flags = SCSI_OP_READS, .refused = PROTECT, .usage = { 0x88, 0x18, B8, B4, 0, CONTROL },
          .name = "READ(16)", .begin = scsi_read },
        { 0x8a, .len = 16, .flags = SCSI_OP_WRITES, .refused = PROTECT, .usage = { 0x8a, 0x18, B8, B4, 0, CONTROL },
          .name = "WRITE(16)", .begin = scsi_write },
        { 0x8f, .len = 16, .flags = SCSI_OP_READS, .refused = PROTECT | BYTCHK, .usage = { 0x8f, 0x10, B8, B4, 0, CONTROL },
          .name = "VERIFY(16)", .begin = scsi_verify },
        { 0x91, .len = 16, .usage = { 0x91, 0x02, B8, B4, 0, CONTROL }, .name = "SYNCHRONIZE CACHE(16)",
          .begin = scsi_sync_cache },
        { 0x9e, .action = 0x10, .len = 16, .flags = SCSI_OP_ACTION,
          .usage = { 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, B4, 0, CONTROL }, .name = "READ CAPACITY(16)",
          .begin = scsi_read_capacity16 },
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
