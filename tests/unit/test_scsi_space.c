/* SPDX-License-Identifier: BSD-3-Clause */
/* UNMAP and WRITE SAME: ranges inside the disk, within the limits that VPD page B0h tells. */
#include "scsi_fixture.h"

#define UNMAP "42 00 00000000 00 0018 00" /* one descriptor */
#define UNMAP_2 "42 00 00000000 00 0028 00"
#define BLOCK(n) "00000000" #n "00000000"

static const struct scsi_fact unmap[] = {
        { "one range", UNMAP, 0, 24, "0016 0010 00000000 0000000000000008 00000008 00000000", "discard 4096+4096" },
        { "two ranges", UNMAP_2, 0, 40, "0026 0020 00000000 0000000000000000 00000001 00000000 00000000000007ff 00000001 00000000",
          "discard 0+512 1048064+512" },
        { "twice the same", UNMAP_2, 0, 40, "0026 0020 00000000 0000000000000000 00000800 00000000 0000000000000000 00000800 00000000",
          "discard 0+1048576 0+1048576" },
        { "an empty one between", UNMAP_2, 0, 40, "0026 0020 00000000 0000000000000800 00000000 00000000 0000000000000001 00000001 00000000",
          "discard 512+512" },
        { "only empty ones", UNMAP, 0, 24, "0016 0010 00000000 0000000000000000 00000000 00000000", "good" },
        { "no descriptors", "42 00 00000000 00 0008 00", 0, 8, "0006 0000 00000000", "good" },
        { "no list", "42 00 00000000 00 0000 00", 0, 0, NULL, "good" },
        { "part of a header", "42 00 00000000 00 0007 00", 0, 7, NULL, "check 05/1a/00" },
        { "a descriptor cut off", "42 00 00000000 00 0017 00", 0, 23, "0015 0010 00000000 0000000000000008 00000008 000000", "good" },
        { "a second one cut off", "42 00 00000000 00 0020 00", 0, 32,
          "001e 0020 00000000 0000000000000008 00000008 00000000 0000000000000008", "discard 4096+4096" },
        { "more list than descriptors", UNMAP_2, 0, 40, "0026 0010 00000000 0000000000000008 00000008 00000000 ffx16",
          "discard 4096+4096" },
        { "a length between descriptors", UNMAP_2, 0, 40, "0026 001f 00000000 0000000000000008 00000008 00000000 ffx16",
          "discard 4096+4096" },
        { "data that nobody needs", UNMAP, 5, 28, "0016 0010 00000000 0000000000000008 00000008 00000000", "discard 4096+4096; 9 left" },
        { "too little data", UNMAP, 0, 23, NULL, "overrun" },
        { "anchor", "42 01 00000000 00 0018 00", 0, 24, NULL, "check 05/24/00 cdb 1.0" },
        { "too far", UNMAP, 0, 24, "0016 0010 00000000 0000000000000800 00000001 00000000", "check 05/21/00" },
        { "too far with nothing", UNMAP, 0, 24, "0016 0010 00000000 0000000000000801 00000000 00000000", "check 05/21/00" },
        { "wraps", UNMAP, 0, 24, "0016 0010 00000000 ffffffffffffffff 00000002 00000000", "check 05/21/00" },
        { "the second too far", UNMAP_2, 0, 40, "0026 0020 00000000 0000000000000000 00000001 00000000 00000000000007ff 00000002 00000000",
          "check 05/21/00" },
};

static const struct scsi_fact same[] = {
        { "(10) zeros", "41 00 00000001 00 0008 00", 0, 512, "00x512", "zero 512+4096" },
        { "(10) unmap", "41 08 00000001 00 0008 00", 0, 512, "00x512", "unmap 512+4096" },
        { "(16) zeros", "93 00 0000000000000001 00000008 00 00", 0, 512, "00x512", "zero 512+4096" },
        { "(16) unmap", "93 08 0000000000000001 00000008 00 00", 0, 512, "00x512", "unmap 512+4096" },
        { "(16) no data", "93 01 0000000000000001 00000008 00 00", 0, 0, NULL, "zero 512+4096" },
        { "(16) no data, unmap", "93 09 0000000000000001 00000008 00 00", 0, 0, NULL, "unmap 512+4096" },
        { "(16) no data, but some came", "93 09 0000000000000001 00000008 00 00", 0, 512, NULL, "unmap 512+4096; 512 left" },
        { "(16) data", "93 00 0000000000000001 00000008 00 00", 0, 512, "00x511 01", "same 512+4096" },
        { "(16) data, unmap", "93 08 0000000000000001 00000008 00 00", 0, 512, "01 00x511", "same 512+4096" },
        { "(10) data", "41 00 00000001 00 0008 00", 0, 520, "a5x520", "same 512+4096; 8 left" },
        { "(10) too little data", "41 00 00000001 00 0008 00", 0, 511, NULL, "overrun" },
        { "(10) NDOB is not there", "41 01 00000001 00 0008 00", 0, 512, "00x512", "zero 512+4096" },
        { "(10) to the end", "41 00 00000001 00 0000 00", 0, 512, NULL, "check 05/24/00 cdb 7" },
        { "(16) to the end", "93 01 0000000000000001 00000000 00 00", 0, 0, NULL, "check 05/24/00 cdb 10" },
        { "(16) anchor", "93 18 0000000000000001 00000008 00 00", 0, 512, NULL, "check 05/24/00 cdb 1.4" },
        { "(16) addresses as data", "93 02 0000000000000001 00000008 00 00", 0, 512, NULL, "check 05/24/00 cdb 1.1" },
        { "(10) addresses as data", "41 04 00000001 00 0008 00", 0, 512, NULL, "check 05/24/00 cdb 1.2" },
        { "(10) WRPROTECT", "41 20 00000001 00 0008 00", 0, 512, NULL, "check 05/24/00 cdb 1.5" },
        { "(16) all", "93 01 0000000000000000 00000800 00 00", 0, 0, NULL, "zero 0+1048576" },
        { "(16) one too many", "93 01 0000000000000000 00000801 00 00", 0, 0, NULL, "check 05/21/00" },
        { "(16) wraps", "93 01 ffffffffffffffff ffffffff 00 00", 0, 0, NULL, "check 05/21/00" },
};

static void test_small_blocks(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        EXPECT_ALL(&lu, unmap);
        EXPECT_ALL(&lu, same);
}

static const struct scsi_fact large[] = {
        { "UNMAP", UNMAP, 0, 24, "0016 0010 00000000 0000000000000008 00000008 00000000", "discard 32768+32768" },
        { "WRITE SAME", "93 00 0000000000000001 00000008 00 00", 0, 4096, "00x4096", "zero 4096+32768" },
        { "WRITE SAME, the last byte", "93 00 0000000000000001 00000008 00 00", 0, 4096, "00x4095 80", "same 4096+32768" },
        { "WRITE SAME, half a block", "93 00 0000000000000001 00000008 00 00", 0, 2048, NULL, "overrun" },
};

static void test_large_blocks(void **state)
{
        struct scsi_lu lu = scsi_disk(4096);

        EXPECT_ALL(&lu, large);
}

/* Limits, on a disk that is larger than they are. */
static const struct scsi_fact limits[] = {
        { "WRITE SAME, the most", "93 01 0000000000000000 00400000 00 00", 0, 0, NULL, "zero 0+2147483648" },
        { "WRITE SAME, more", "93 01 0000000000000000 00400001 00 00", 0, 0, NULL, "check 05/24/00 cdb 10" },
        { "UNMAP, the most", UNMAP, 0, 24, "0016 0010 00000000 0000000000000000 00400000 00000000", "discard 0+2147483648" },
        { "UNMAP, more", UNMAP, 0, 24, "0016 0010 00000000 0000000000000000 00400001 00000000", "check 05/26/00 list 16.7" },
        { "UNMAP, more in two", UNMAP_2, 0, 40, "0026 0020 00000000 0000000000000000 00400000 00000000 0000000000000000 00000001 00000000",
          "check 05/26/00 list 32.7" },
};

static void test_limits(void **state)
{
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_fact most = { "32 ranges", "42 00 00000000 00 0208 00", 0, 520 },
                         more = { "33 ranges", "42 00 00000000 00 0218 00", 0, 536 },
                         longest = { "a list of 65535", "42 00 00000000 00 ffff 00", 0, 65535 };
        char list[2 * 65536] = "0000 0210 00000000", want[1024] = "discard", *end = list + strlen(list), *w = want + 7;

        atomic_store(&lu.nblocks, 1ull << 24);
        EXPECT_ALL(&lu, limits);
        for (unsigned i = 0; i < 33; i++) {
                end += sprintf(end, "%016x%08x%08x", 10 * i, 1, 0);
                if (i < 32)
                        w += sprintf(w, " %u+512", 5120 * i);
        }
        more.list = list;
        more.want = "check 05/26/00 list 2.7";
        scsi_expect(&lu, &more);
        longest.list = strcat(list, "00x4000");
        longest.want = more.want;
        scsi_expect(&lu, &longest);
        memcpy(list + 5, "0200", 4);
        most.list = list;
        most.want = want;
        scsi_expect(&lu, &most);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small_blocks), cmocka_unit_test(test_large_blocks), cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
