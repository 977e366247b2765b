/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of commands and what goes for all of them: fields that nobody may set, attentions, what is asked about the table. */
#include "scsi_fixture.h"

/* A CDB of this command with nothing in it. */
static void bare(const struct scsi_op *op, uint8_t cdb[SCSI_CDB_MAX])
{
        memset(cdb, 0, SCSI_CDB_MAX);
        cdb[0] = op->opcode;
        cdb[1] = op->action;
}

static enum scsi_verdict begin(struct scsi_lu *lu, const uint8_t *cdb, size_t len, struct scsi_cmd *cmd)
{
        return scsi_begin(lu, &two_luns, cdb, len, 4096, 4096, cmd);
}

static void expect(struct scsi_lu *lu, const struct scsi_op *op, const uint8_t *cdb, size_t len, const char *want)
{
        struct scsi_cmd cmd;
        AUTO(freep) char *said = scsi_say(&cmd, begin(lu, cdb, len, &cmd));

        if (strcmp(said, want))
                fail_msg("%s: %s, not %s", op->name, said, want);
}

static void test_table(void **state)
{
        static const uint8_t lens[] = { 6, 10, 10, 0, 16, 12, 0, 0 }; /* by the group of the opcode (SPC-4, 4.2.5.1) */

        for (unsigned i = 0; i < scsi_nops; i++) {
                const struct scsi_op *op = &scsi_ops[i];

                if (i)
                        assert_true((op[-1].opcode << 8 | op[-1].action) < (op->opcode << 8 | op->action));
                assert_int_equal(op->len, lens[op->opcode >> 5]);
                assert_int_equal(op->usage[0], op->opcode);
                assert_true(op->flags & SCSI_OP_ACTION ? op->action && op->usage[1] == op->action : !op->action);
                assert_int_equal(op->usage[1] & op->refused, 0);
                assert_int_equal(op->usage[op->len - 1], 0x04);
                for (unsigned b = op->len; b < SCSI_CDB_MAX; b++)
                        assert_int_equal(op->usage[b], 0);
                assert_true(op->begin && *op->name);
        }
}

/* Every opcode and service action that is not in the table. */
static void test_unknown(void **state)
{
        struct scsi_lu lu = scsi_disk(512);
        unsigned found = 0;

        for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned action = 0; action < 32; action++) {
                        const uint8_t cdb[SCSI_CDB_MAX] = { (uint8_t)opcode, (uint8_t)action };
                        const struct scsi_op none = { .name = "not in the table" };
                        bool known = false;
                        const struct scsi_op *op = scsi_op_find((uint8_t)opcode, (uint8_t)action, &known);

                        if (op)
                                found += op->flags & SCSI_OP_ACTION || !action;
                        else
                                expect(&lu, &none, cdb, sizeof(cdb), known ? "check 05/24/00 cdb 1.4" : "check 05/20/00");
                }
        assert_int_equal(found, scsi_nops);
        expect(&lu, &(struct scsi_op){ .name = "no CDB" }, NULL, 0, "check 05/24/00 cdb 0");
}

static void test_fields_of_all(void **state)
{
        struct scsi_lu lu = scsi_disk(512);
        uint8_t cdb[SCSI_CDB_MAX];
        char want[64];

        for (const struct scsi_op *op = scsi_ops; op < scsi_ops + scsi_nops; op++) {
                bare(op, cdb);
                cdb[op->len - 1] = 0x04;
                snprintf(want, sizeof(want), "check 05/24/00 cdb %u.2", op->len - 1);
                expect(&lu, op, cdb, sizeof(cdb), want);
                for (unsigned n = op->flags & SCSI_OP_ACTION ? 2 : 1; n < op->len; n++) {
                        bare(op, cdb);
                        snprintf(want, sizeof(want), "check 05/24/00 cdb %u", n);
                        expect(&lu, op, cdb, n, want);
                }
                for (unsigned bit = 0; bit < 8; bit++)
                        if (op->refused & 1u << bit) {
                                bare(op, cdb);
                                cdb[1] |= (uint8_t)(1u << bit);
                                snprintf(want, sizeof(want), "check 05/24/00 cdb 1.%u", bit);
                                expect(&lu, op, cdb, op->len, want);
                        }
        }
}

/* What changes the disk, and nothing else, is refused by a read-only one. */
static void test_read_only(void **state)
{
        static const uint8_t writes[] = { 0x0a, 0x2a, 0x41, 0x42, 0x8a, 0x93, 0xaa };
        struct scsi_lu lu = scsi_disk(512);

        lu.read_only = true;
        for (const struct scsi_op *op = scsi_ops; op < scsi_ops + scsi_nops; op++) {
                bool refused = memchr(writes, op->opcode, sizeof(writes)) != NULL;
                uint8_t cdb[SCSI_CDB_MAX];
                struct scsi_cmd cmd;

                bare(op, cdb);
                if (refused)
                        expect(&lu, op, cdb, op->len, "check 07/27/00");
                else if (begin(&lu, cdb, op->len, &cmd) == SCSI_DONE && cmd.status != SCSI_GOOD)
                        assert_int_not_equal(cmd.sense[2], 7);
        }
}

/* --- attentions -------------------------------------------------------------------------------------------------- */

static const struct scsi_op tur = { .name = "TEST UNIT READY" };
static const uint8_t tur_cdb[6];

static void test_attentions(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        scsi_lu_attention(&lu, SCSI_UA_MODE);
        scsi_lu_attention(&lu, SCSI_UA_LUNS);
        scsi_lu_attention(&lu, SCSI_UA_CAPACITY);
        scsi_lu_attention(&lu, SCSI_UA_RESET);
        scsi_lu_attention(&lu, SCSI_UA_RESET);
        expect(&lu, &tur, tur_cdb, 6, "check 06/29/00");
        expect(&lu, &tur, tur_cdb, 6, "check 06/2a/09");
        expect(&lu, &tur, (const uint8_t[]){ 0xff }, 1, "check 06/3f/0e"); /* before the command is looked at */
        expect(&lu, &tur, tur_cdb, 6, "check 06/2a/01");
        expect(&lu, &tur, tur_cdb, 6, "good ; 8192 left");
}

/* Commands that an attention does not end: INQUIRY leaves it, REQUEST SENSE takes it, REPORT LUNS what it is about. */
static const struct scsi_fact calm[] = {
        { "INQUIRY", "12 00 00 0005 00", 5, 0, NULL, "good 00 00 06 12 5b" },
        { "REPORT LUNS", "a0 00 00 000000 00000008 00 00", 8, 0, NULL, "good 00000010 00000000" },
        { "REQUEST SENSE", "03 00 0000 12 00", 18, 0, NULL, "good 70 00 06 00000000 0a 00000000 29 00 00 000000" },
        { "REQUEST SENSE, descriptors", "03 01 0000 08 00", 8, 0, NULL, "good 72 06 2a 09 00000000" },
        { "REQUEST SENSE, nothing left", "03 00 0000 0e 00", 18, 0, NULL, "good 70 00 00 00000000 0a 00000000 00 00; 4 left" },
        { "TEST UNIT READY", "00 00 00 00 00 00", 0, 0, NULL, "good" },
};

static void test_calm(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        scsi_lu_attention(&lu, SCSI_UA_LUNS);
        scsi_lu_attention(&lu, SCSI_UA_CAPACITY);
        scsi_lu_attention(&lu, SCSI_UA_RESET);
        EXPECT_ALL(&lu, calm);
}

/* --- REPORT SUPPORTED OPERATION CODES ----------------------------------------------------------------------------- */

static const struct scsi_fact asked[] = {
        { "READ(10)", "a3 0c 01 28 0000 0000000e 00 00", 14, 0, NULL, "good 00 03 000a 28 18 ffffffff 00 ffff 04" },
        { "WRITE SAME(16), as Linux asks", "a3 0c 01 93 0000 00000200 00 00", 512, 0, NULL,
          "good 00 03 0010 93 09 ffx8 ffffffff 00 04; 492 left" },
        { "WRITE SAME(10)", "a3 0c 03 41 0000 000000ff 00 00", 255, 0, NULL, "good 00 03 000a 41 08 ffffffff 00 ffff 04; 241 left" },
        { "with timeouts", "a3 0c 81 00 0000 000000ff 00 00", 255, 0, NULL, "good 00 83 0006 00x5 04 000a 00x10; 233 left" },
        { "no such opcode", "a3 0c 01 ff 0000 000000ff 00 00", 255, 0, NULL, "good 00 01 0000; 251 left" },
        { "no such opcode, timeouts", "a3 0c 81 ff 0000 000000ff 00 00", 255, 0, NULL, "good 00 01 0000; 251 left" },
        { "needs its service action", "a3 0c 01 9e 0000 000000ff 00 00", 255, 0, NULL, "check 05/24/00 cdb 2.2" },
        { "with its service action", "a3 0c 02 9e 0010 000000ff 00 00", 255, 0, NULL,
          "good 00 03 0010 9e 10 00x8 ffffffff 00 04; 235 left" },
        { "with another", "a3 0c 02 9e 0012 000000ff 00 00", 255, 0, NULL, "good 00 01 0000; 251 left" },
        { "with one that no CDB can have", "a3 0c 02 9e 0110 000000ff 00 00", 255, 0, NULL, "good 00 01 0000; 251 left" },
        { "itself", "a3 0c 02 a3 000c 000000ff 00 00", 255, 0, NULL, "good 00 03 000c a3 0c 87 ff ffff ffffffff 00 04; 239 left" },
        { "has none", "a3 0c 02 28 0000 000000ff 00 00", 255, 0, NULL, "check 05/24/00 cdb 2.2" },
        { "no such opcode, with one", "a3 0c 02 ff 0001 000000ff 00 00", 255, 0, NULL, "good 00 01 0000; 251 left" },
        { "either way, has one", "a3 0c 03 9e 0010 00000004 00 00", 4, 0, NULL, "good 00 03 0010" },
        { "either way, has none", "a3 0c 03 28 0000 00000004 00 00", 4, 0, NULL, "good 00 03 000a" },
        { "either way, has none but one is named", "a3 0c 03 28 0001 00000004 00 00", 4, 0, NULL, "good 00 01 0000" },
        { "no such question", "a3 0c 04 28 0000 000000ff 00 00", 255, 0, NULL, "check 05/24/00 cdb 2.2" },
};

static void test_asked(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        EXPECT_ALL(&lu, asked);
}

static void test_asked_for_all(void **state)
{
        static const struct { uint8_t how, each; } lists[] = { { 0x00, 8 }, { 0x80, 20 } };
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_cmd cmd;

        for (size_t l = 0; l < ARRAY_SIZE(lists); l++) {
                const uint8_t cdb[12] = { 0xa3, 0x0c, lists[l].how, 0, 0, 0, 0, 0, 0xff, 0xff };
                const uint8_t *d = cmd.data + 4;
                unsigned each = lists[l].each;

                assert_int_equal(begin(&lu, cdb, sizeof(cdb), &cmd), SCSI_DONE);
                assert_int_equal(cmd.data_len, 4 + scsi_nops * each);
                assert_int_equal(be32_get(cmd.data), scsi_nops * each);
                for (unsigned i = 0; i < scsi_nops; i++, d += each) {
                        const struct scsi_op *op = &scsi_ops[i];

                        assert_true(d[0] == op->opcode && d[1] == 0 && be16_get(d + 2) == op->action && d[4] == 0);
                        assert_int_equal(d[5], (each == 20 ? 2 : 0) + (op->flags & SCSI_OP_ACTION ? 1 : 0));
                        assert_int_equal(be16_get(d + 6), op->len);
                        if (each == 20)
                                assert_memory_equal(d + 8, "\0\x0a\0\0\0\0\0\0\0\0\0\0", 12);
                }
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table), cmocka_unit_test(test_unknown), cmocka_unit_test(test_fields_of_all),
                cmocka_unit_test(test_read_only), cmocka_unit_test(test_attentions), cmocka_unit_test(test_calm),
                cmocka_unit_test(test_asked), cmocka_unit_test(test_asked_for_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
