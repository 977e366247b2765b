/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is there: INQUIRY and its pages, names, REPORT LUNS. */
#include "scsi_fixture.h"

#define STANDARD "00 00 06 12 5b 00 00 02 564449534b442020 5649525455414c204449534b20202020 30303031 00x22 00a0 0460 04c0 00x32"
#define ABSENT   "7f 00 06 12 5b 00 00 02 564449534b442020 5649525455414c204449534b20202020 30303031 00x60"

static const struct scsi_fact facts[] = {
        { "standard", "12 00 00 0060 00", 96, 0, NULL, "good " STANDARD },
        { "standard, a larger buffer", "12 00 00 00ff 00", 255, 0, NULL, "good " STANDARD "; 159 left" },
        { "standard, as guests begin", "12 00 00 0024 00", 36, 0, NULL,
          "good 00 00 06 12 5b 00 00 02 564449534b442020 5649525455414c204449534b20202020 30303031" },
        { "standard, less room than asked", "12 00 00 0024 00", 5, 0, NULL, "good 00 00 06 12 5b" },
        { "standard, more room than asked", "12 00 00 0005 00", 9, 0, NULL, "good 00 00 06 12 5b; 4 left" },
        { "standard, nothing asked", "12 00 00 0000 00", 0, 0, NULL, "good" },
        { "standard, no room", "12 00 00 0060 00", 0, 0, NULL, "good" },
        { "a page without EVPD", "12 00 80 00ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.7" },
        { "CMDDT", "12 02 00 00ff 00", 255, 0, NULL, "check 05/24/00 cdb 1.1" },
        { "NACA", "12 00 00 00ff 04", 255, 0, NULL, "check 05/24/00 cdb 5.2" },
        { "no such page", "12 01 81 00ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.7" },
        { "pages", "12 01 00 00ff 00", 255, 0, NULL, "good 00 00 0006 00 80 83 b0 b1 b2; 245 left" },
        { "serial", "12 01 80 000c 00", 12, 0, NULL, "good 00 80 0008 73657269616c2d31" },
        { "limits", "12 01 b0 0040 00", 64, 0, NULL,
          "good 00 b0 003c 01 00 0008 00010000 00000000 00000000 00400000 00000020 00000080 80000000 0000000000400000 00x20" },
        { "characteristics", "12 01 b1 0040 00", 64, 0, NULL, "good 00 b1 003c 0001 00x58" },
        { "provisioning", "12 01 b2 0008 00", 8, 0, NULL, "good 00 b2 0004 00 e4 02 00" },
};

static void test_facts(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        EXPECT_ALL(&lu, facts);
}

static const struct scsi_fact large[] = {
        { "limits", "12 01 b0 0040 00", 64, 0, NULL,
          "good 00 b0 003c 01 00 0001 00002000 00000000 00000000 00080000 00000020 00000001 80000000 0000000000080000 00x20" },
};

static void test_large_blocks(void **state)
{
        struct scsi_lu lu = scsi_disk(4096);

        lu.cluster_size = 1; /* raw: what is smaller than the host's blocks frees nothing */
        EXPECT_ALL(&lu, large);
}

static const struct scsi_fact read_only[] = {
        { "limits", "12 01 b0 0040 00", 64, 0, NULL, "good 00 b0 003c 01 00 0008 00010000 00x52" },
        { "provisioning", "12 01 b2 0008 00", 8, 0, NULL, "good 00 b2 0004 00 00 00 00" },
        { "standard", "12 00 00 0060 00", 96, 0, NULL, "good " STANDARD },
};

static void test_read_only(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        lu.read_only = true;
        EXPECT_ALL(&lu, read_only);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

/* What page 83h says, piece by piece. */
static void test_identification(void **state)
{
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_fact ask = { "identification", "12 01 83 00ff 00", 255, 0 };
        struct scsi_cmd cmd;
        const uint8_t *d = cmd.data;
        char name[32];

        assert_int_equal(scsi_run(&lu, &ask, &cmd), SCSI_DONE);
        assert_int_equal(cmd.data_len, 4 + 12 + 20 + 28);
        assert_memory_equal(d, "\0\x83\0\x3c", 4);
        assert_memory_equal(d + 4, "\x01\x03\0\x08", 4); /* binary, NAA of the unit */
        assert_true(be64_get(d + 8) == lu.naa);
        assert_int_equal(d[8] >> 4, 3); /* locally assigned */
        assert_memory_equal(d + 16, "\x02\x01\0\x10", 4); /* ASCII, T10 vendor identification */
        assert_memory_equal(d + 20, "VDISKD  serial-1", 16);
        assert_memory_equal(d + 36, "\x03\x08\0\x18", 4); /* UTF-8, SCSI name */
        snprintf(name, sizeof(name), "naa.%016llX", (unsigned long long)lu.naa);
        assert_memory_equal(d + 40, name, 20);
        assert_true(bytes_are_zero(d + 60, 4));
}

static void test_names(void **state)
{
        struct scsi_lu a = { 0 }, b = { 0 };
        char hex[17];

        scsi_lu_identify(&a, "x", "here");
        scsi_lu_identify(&b, "x", "there");
        assert_true(a.naa == b.naa); /* a serial goes with the disk, wherever it is */
        scsi_lu_identify(&b, "y", "here");
        assert_true(a.naa != b.naa);
        scsi_lu_identify(&a, NULL, "/run/one\n0");
        scsi_lu_identify(&b, "", "/run/one\n1");
        assert_true(a.naa != b.naa);
        snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)a.naa);
        assert_string_equal(a.serial, hex);
        scsi_lu_identify(&a, "a b\tc\x7f\xc3\xa9", "");
        assert_string_equal(a.serial, "a b_c___");
        scsi_lu_identify(&a, "0123456789012345678901234567890123456789", "");
        assert_string_equal(a.serial, "012345678901234567890123456789012345");
}

/* A disk keeps its names in every version of the daemon: guests know it by them. */
static void test_names_stay(void **state)
{
        struct scsi_lu lu = { 0 };

        scsi_lu_identify(&lu, NULL, "/run/vdiskd/a.sock\n3");
        assert_string_equal(lu.serial, "3bba09e2d917ec30");
        scsi_lu_identify(&lu, "disk-42", NULL);
        assert_true(lu.naa == 0x33faff67f0faad59);
}

/* --- nobody there ------------------------------------------------------------------------------------------------- */

static const struct scsi_fact nobody[] = {
        { "INQUIRY", "12 00 00 0060 00", 96, 0, NULL, "good " ABSENT },
        { "INQUIRY, pages", "12 01 00 00ff 00", 255, 0, NULL, "good 7f 00 0001 00; 250 left" },
        { "INQUIRY, serial", "12 01 80 00ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.7" },
        { "REPORT LUNS", "a0 00 00 000000 00000018 00 00", 24, 0, NULL, "good 00000010 00000000 00x8 0005 00x6" },
        { "REQUEST SENSE", "03 00 0000 12 00", 18, 0, NULL, "good 70 00 05 00000000 0a 00000000 25 00 00 000000" },
        { "REQUEST SENSE, descriptors", "03 01 0000 ff 00", 255, 0, NULL, "good 72 05 25 00 00000000; 247 left" },
        { "TEST UNIT READY", "00 00 00 00 00 00", 0, 0, NULL, "check 05/25/00" },
        { "READ(10)", "28 00 00000001 00 0008 00", 4096, 0, NULL, "check 05/25/00" },
        { "MODE SENSE(6)", "1a 00 3f 00 ff 00", 255, 0, NULL, "check 05/25/00" },
        { "no such command", "ff 00 00 00 00 00", 0, 0, NULL, "check 05/25/00" },
        { "no command", "", 0, 0, NULL, "check 05/25/00" },
};

static void test_nobody(void **state)
{
        EXPECT_ALL(NULL, nobody);
}

/* --- REPORT LUNS -------------------------------------------------------------------------------------------------- */

static const struct scsi_fact luns[] = {
        { "units", "a0 00 00 000000 00000018 00 00", 24, 0, NULL, "good 00000010 00000000 00x8 0005 00x6" },
        { "all", "a0 00 02 000000 00000018 00 00", 24, 0, NULL, "good 00000010 00000000 00x8 0005 00x6" },
        { "well known ones", "a0 00 01 000000 00000018 00 00", 24, 0, NULL, "good 00000000 00000000; 16 left" },
        { "of an administrative kind", "a0 00 10 000000 00000018 00 00", 24, 0, NULL, "check 05/24/00 cdb 2.7" },
        { "how many", "a0 00 00 000000 00000008 00 00", 8, 0, NULL, "good 00000010 00000000" },
};

static void test_luns(void **state)
{
        static const uint8_t cdb[] = { 0xa0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0 };
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_luns all = { .n = 0 };
        struct scsi_cmd cmd;

        EXPECT_ALL(&lu, luns);
        assert_int_equal(scsi_begin(&lu, &all, cdb, sizeof(cdb), 0, 65535, &cmd), SCSI_DONE);
        assert_int_equal(cmd.data_len, 8);
        for (all.n = 0; all.n < SCSI_MAX_LUNS; all.n++)
                all.lun[all.n] = (uint16_t)(all.n * 64);
        assert_int_equal(scsi_begin(&lu, &all, cdb, sizeof(cdb), 0, 65535, &cmd), SCSI_DONE);
        assert_int_equal(cmd.data_len, 8 + 8 * SCSI_MAX_LUNS);
        assert_int_equal(be16_get(cmd.data + 8 + 8 * 3), 192);          /* peripheral device addressing */
        assert_int_equal(be16_get(cmd.data + 8 + 8 * 4), 0x4000 | 256); /* flat space addressing */
        assert_int_equal(be16_get(cmd.data + 8 + 8 * 255), 0x4000 | 16320);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_facts), cmocka_unit_test(test_large_blocks), cmocka_unit_test(test_read_only),
                cmocka_unit_test(test_identification), cmocka_unit_test(test_names), cmocka_unit_test(test_names_stay),
                cmocka_unit_test(test_nobody), cmocka_unit_test(test_luns),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
