/* SPDX-License-Identifier: BSD-3-Clause */
/* MODE SENSE and MODE SELECT: what is told, the one thing that can be changed, and everything that cannot. */
#include "scsi_fixture.h"

#define CACHING " 88 12 04 00x17"
#define NO_CACHE " 88 12 00 00x17"
#define CONTROL " 8a 0a 02 10 00x8"
#define SHORT "00000800 00 000200"
#define LONG "0000000000000800 00000000 00000200"

static const struct scsi_fact sense[] = {
        { "caching", "1a 08 08 00 18 00", 24, 0, NULL, "good 17 00 10 00" CACHING },
        { "caching, larger buffer", "1a 08 08 00 ff 00", 255, 0, NULL, "good 17 00 10 00" CACHING "; 231 left" },
        { "caching, only its header", "1a 08 08 00 04 00", 4, 0, NULL, "good 17 00 10 00" },
        { "caching, changeable", "1a 08 48 00 18 00", 24, 0, NULL, "good 17 00 10 00" CACHING },
        { "caching, default", "1a 08 88 00 18 00", 24, 0, NULL, "good 17 00 10 00" CACHING },
        { "caching, saved", "1a 08 c8 00 18 00", 24, 0, NULL, "good 17 00 10 00" CACHING },
        { "caching, with all its subpages", "1a 08 08 ff 18 00", 24, 0, NULL, "good 17 00 10 00" CACHING },
        { "control", "1a 08 0a 00 10 00", 16, 0, NULL, "good 0f 00 10 00" CONTROL },
        { "control, changeable", "1a 08 4a 00 10 00", 16, 0, NULL, "good 0f 00 10 00 8a 0a 00x10" },
        { "control, default", "1a 08 8a 00 10 00", 16, 0, NULL, "good 0f 00 10 00" CONTROL },
        { "all", "1a 08 3f 00 24 00", 36, 0, NULL, "good 23 00 10 00" CACHING CONTROL },
        { "all and their subpages", "1a 08 3f ff 24 00", 36, 0, NULL, "good 23 00 10 00" CACHING CONTROL },
        { "all, with descriptor", "1a 00 3f 00 2c 00", 44, 0, NULL, "good 2b 00 10 08" SHORT CACHING CONTROL },
        { "no such page", "1a 00 1c 00 ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.5" },
        { "the vendor's page", "1a 00 00 00 ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.5" },
        { "no such subpage", "1a 00 0a 01 ff 00", 255, 0, NULL, "check 05/24/00 cdb 3.7" },
        { "no such subpage of all", "1a 00 3f 01 ff 00", 255, 0, NULL, "check 05/24/00 cdb 3.7" },
        { "(10) caching", "5a 08 08 00 000000 001c 00", 28, 0, NULL, "good 001a 00 10 00 00 0000" CACHING },
        { "(10) all, with descriptor", "5a 00 3f 00 000000 0030 00", 48, 0, NULL, "good 002e 00 10 00 00 0008" SHORT CACHING CONTROL },
        { "(10) long descriptor", "5a 10 0a 00 000000 0024 00", 36, 0, NULL, "good 0022 00 10 01 00 0010" LONG CONTROL },
        { "(10) LLBAA, no descriptor", "5a 18 0a 00 000000 0014 00", 20, 0, NULL, "good 0012 00 10 00 00 0000" CONTROL },
        { "(10) no such page", "5a 00 1c 00 000000 00ff 00", 255, 0, NULL, "check 05/24/00 cdb 2.5" },
};

static void test_sense(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        EXPECT_ALL(&lu, sense);
}

static const struct scsi_fact off[] = {
        { "caching", "1a 08 08 00 18 00", 24, 0, NULL, "good 17 00 90 00" NO_CACHE },
        { "caching, changeable", "1a 08 48 00 18 00", 24, 0, NULL, "good 17 00 90 00" CACHING },
        { "caching, default", "1a 08 88 00 18 00", 24, 0, NULL, "good 17 00 90 00" CACHING },
        { "caching, saved", "1a 08 c8 00 18 00", 24, 0, NULL, "good 17 00 90 00" NO_CACHE },
        { "(10) more blocks than 32 bits", "5a 00 08 00 000000 0010 00", 16, 0, NULL,
          "good 0022 00 90 00 00 0008 ffffffff 00 000200" },
        { "(10) in a long descriptor", "5a 10 08 00 000000 0018 00", 24, 0, NULL,
          "good 002a 00 90 01 00 0010 0000000100000001 00000000 00000200" },
};

static void test_cache_off_read_only_huge(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        lu.read_only = true;
        atomic_store(&lu.wce, false);
        atomic_store(&lu.nblocks, 0x100000001);
        EXPECT_ALL(&lu, off);
}

#define SIX "15 10 0000 18 00"        /* a list of 24 bytes: header and caching page */
#define TEN "55 10 0000000000 001c 00" /* 28 */

/* Each begins with the cache on. */
static const struct { struct scsi_fact fact; bool off, changed; } selects[] = {
        { { "off", SIX, 0, 24, "00000000" "08 12 00 00x17", "flush" }, true, true },
        { { "on", SIX, 0, 24, "00000000" "08 12 04 00x17", "good" } },
        { { "off, as it was told (PS)", SIX, 0, 24, "00000000" NO_CACHE, "flush" }, true, true },
        { { "off, as MODE SENSE gave it", SIX, 0, 24, "17 00 10 00" NO_CACHE, "flush" }, true, true },
        { { "off, and saved", "15 11 0000 18 00", 0, 24, "00000000" NO_CACHE, "flush" }, true, true },
        { { "off, data that nobody needs", SIX, 3, 30, "00000000" NO_CACHE, "flush; 9 left" }, true, true },
        { { "off (10)", TEN, 0, 28, "0000000000000000" NO_CACHE, "flush" }, true, true },
        { { "off, with descriptor", "15 10 0000 20 00", 0, 32, "00000008" SHORT NO_CACHE, "flush" }, true, true },
        { { "off, all blocks", "15 10 0000 20 00", 0, 32, "00000008 00000000 00 000200" NO_CACHE, "flush" }, true, true },
        { { "off, as many as there are", "15 10 0000 20 00", 0, 32, "00000008 ffffffff 00 000200" NO_CACHE, "flush" }, true, true },
        { { "off (10), long descriptor", "55 10 0000000000 002c 00", 0, 44, "00000000 01 00 0010" LONG NO_CACHE, "flush" }, true, true },
        { { "off (10), all blocks, long", "55 10 0000000000 002c 00", 0, 44,
            "00000000 01 00 0010 ffx8 00000000 00000200" NO_CACHE, "flush" }, true, true },
        { { "off, then control", "15 10 0000 24 00", 0, 36, "00000000" NO_CACHE CONTROL, "flush" }, true, true },
        { { "off, then on again", "15 10 0000 2c 00", 0, 44, "00000000" NO_CACHE CACHING, "good" } },
        { { "control only", "15 10 0000 10 00", 0, 16, "00000000" CONTROL, "good" } },
        { { "header only", "15 10 0000 04 00", 0, 4, "00000000", "good" } },
        { { "nothing", "15 10 0000 00 00", 0, 0, NULL, "good" } },
        { { "nothing (10)", "55 10 0000000000 0000 00", 0, 0, NULL, "good" } },

        { { "not in page format", "15 00 0000 18 00", 0, 24, NULL, "check 05/24/00 cdb 1.4" } },
        { { "not in page format (10)", "55 00 0000000000 001c 00", 0, 28, NULL, "check 05/24/00 cdb 1.4" } },
        { { "longer than any list (10)", "55 10 0000000000 1001 00", 0, 65536, NULL, "check 05/24/00 cdb 7" } },
        { { "too little data", SIX, 0, 23, NULL, "overrun" } },
        { { "half a header", "15 10 0000 03 00", 0, 3, "000000", "check 05/1a/00" } },
        { { "half a header (10)", "55 10 0000000000 0007 00", 0, 7, "00x7", "check 05/1a/00" } },
        { { "a medium type", SIX, 0, 24, "00010000" NO_CACHE, "check 05/26/00 list 1.7" } },
        { { "a medium type (10)", TEN, 0, 28, "0000010000000000" NO_CACHE, "check 05/26/00 list 2.7" } },
        { { "a long descriptor's length", "15 10 0000 28 00", 0, 40, "00000010" LONG NO_CACHE, "check 05/26/00 list 3.7" } },
        { { "a short descriptor's length (10)", "55 10 0000000000 002c 00", 0, 44, "00000000 01 00 0008" LONG NO_CACHE,
            "check 05/26/00 list 6.7" } },
        { { "a descriptor cut off", "15 10 0000 0b 00", 0, 11, "00000008 00000800 00 0002", "check 05/1a/00" } },
        { { "another number of blocks", "15 10 0000 20 00", 0, 32, "00000008 00000700 00 000200" NO_CACHE,
            "check 05/26/00 list 4.7" } },
        { { "another block size", "15 10 0000 20 00", 0, 32, "00000008 00000800 00 001000" NO_CACHE,
            "check 05/26/00 list 9.7" } },
        { { "another number of blocks, long", "55 10 0000000000 002c 00", 0, 44,
            "00000000 01 00 0010 0000000000000801 00000000 00000200" NO_CACHE, "check 05/26/00 list 8.7" } },
        { { "another block size, long", "55 10 0000000000 002c 00", 0, 44,
            "00000000 01 00 0010 0000000000000800 00000000 01000200" NO_CACHE, "check 05/26/00 list 20.7" } },
        { { "no such page", "15 10 0000 10 00", 0, 16, "00000000 1c 0a 00x10", "check 05/26/00 list 4.5" } },
        { { "a subpage", "15 10 0000 18 00", 0, 24, "00000000 48 12 00x18", "check 05/26/00 list 4.6" } },
        { { "all pages is no page", "15 10 0000 18 00", 0, 24, "00000000 3f 12 00x18", "check 05/26/00 list 4.5" } },
        { { "a page too short", "15 10 0000 18 00", 0, 24, "00000000 08 11 00x18", "check 05/26/00 list 5.7" } },
        { { "a page cut off", "15 10 0000 17 00", 0, 23, "00000000 08 12 00x17", "check 05/1a/00" } },
        { { "a page of one byte", "15 10 0000 05 00", 0, 5, "00000000 08", "check 05/1a/00" } },
        { { "read cache disabled", SIX, 0, 24, "00000000 08 12 01 00x17", "check 05/26/00 list 6.0" } },
        { { "a prefetch", SIX, 0, 24, "00000000 08 12 00 00 0000 8000 00x12", "check 05/26/00 list 10.7" } },
        { { "the last byte", SIX, 0, 24, "00000000 08 12 00 00x16 20", "check 05/26/00 list 23.5" } },
        { { "off, but then sense in descriptors", "15 10 0000 24 00", 0, 36, "00000000" NO_CACHE " 0a 0a 06 10 00x8",
            "check 05/26/00 list 26.2" } },
        { { "off, but then half a page", "15 10 0000 19 00", 0, 25, "00000000" NO_CACHE " 0a", "check 05/1a/00" } },
};

static void test_select(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(selects); i++) {
                struct scsi_lu lu = scsi_disk(512);
                struct scsi_cmd cmd;

                scsi_expect(&lu, &selects[i].fact);
                if (atomic_load(&lu.wce) == selects[i].off)
                        fail_msg("%s: the cache is %s", selects[i].fact.what, selects[i].off ? "on" : "off");
                atomic_store(&lu.wce, true);
                free(scsi_say(&cmd, scsi_run(&lu, &selects[i].fact, &cmd)));
                if (cmd.wce_changed != selects[i].changed)
                        fail_msg("%s: changed: %d", selects[i].fact.what, cmd.wce_changed);
        }
}

/* Switched on there is nothing to flush; the owner hears of it. */
static void test_select_on(void **state)
{
        static const struct scsi_fact on = { "on", SIX, 0, 24, "00000000" CACHING, "good" };
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_cmd cmd;

        atomic_store(&lu.wce, false);
        assert_int_equal(scsi_run(&lu, &on, &cmd), SCSI_DONE);
        assert_true(cmd.status == SCSI_GOOD && cmd.wce_changed && atomic_load(&lu.wce));
        lu.read_only = true;
        scsi_expect(&lu, &on);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sense), cmocka_unit_test(test_cache_off_read_only_huge), cmocka_unit_test(test_select),
                cmocka_unit_test(test_select_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
