/* SPDX-License-Identifier: BSD-3-Clause */
/* READ, WRITE, VERIFY, SYNCHRONIZE CACHE, the capacity and the drive; what a failure is in SCSI. */
#include "scsi_fixture.h"

#include <errno.h>

/* A disk of 2048 blocks of 512 bytes */
static const struct scsi_fact small_blocks[] = {
        { "READ(6)", "08 000010 04 00", 2048, 0, NULL, "read 8192+2048" },
        { "READ(6), 0 is 256", "08 000000 00 00", 131072, 0, NULL, "read 0+131072" },
        { "READ(6), the last block", "08 0007ff 01 00", 512, 0, NULL, "read 1048064+512" },
        { "READ(6), one too far", "08 000800 01 00", 512, 0, NULL, "check 05/21/00" },
        { "READ(6), one too many", "08 0007ff 02 00", 1024, 0, NULL, "check 05/21/00" },
        { "READ(6), bits of an old LUN", "08 e00010 04 00", 2048, 0, NULL, "read 8192+2048" },
        { "READ(10)", "28 00 00000001 00 0008 00", 4096, 0, NULL, "read 512+4096" },
        { "READ(10), DPO", "28 10 00000001 00 0008 00", 4096, 0, NULL, "read 512+4096" },
        { "READ(10), FUA", "28 08 00000001 00 0008 00", 4096, 0, NULL, "read 512+4096 fua" },
        { "READ(10), a group", "28 00 00000001 1f 0008 00", 4096, 0, NULL, "read 512+4096" },
        { "READ(10) of nothing", "28 00 00000001 00 0000 00", 0, 0, NULL, "good" },
        { "READ(10) of nothing, with a buffer", "28 00 00000001 00 0000 00", 512, 0, NULL, "good; 512 left" },
        { "READ(10) of nothing at the end", "28 00 00000800 00 0000 00", 0, 0, NULL, "good" },
        { "READ(10) of nothing behind the end", "28 00 00000801 00 0000 00", 0, 0, NULL, "check 05/21/00" },
        { "READ(10), all of it", "28 00 00000000 00 0800 00", 1048576, 0, NULL, "read 0+1048576" },
        { "READ(10), one too many", "28 00 00000001 00 0800 00", 1048576, 0, NULL, "check 05/21/00" },
        { "READ(10), the last address", "28 00 ffffffff 00 0001 00", 512, 0, NULL, "check 05/21/00" },
        { "READ(10), RDPROTECT", "28 20 00000001 00 0008 00", 4096, 0, NULL, "check 05/24/00 cdb 1.5" },
        { "READ(10), RDPROTECT, highest", "28 e0 00000001 00 0008 00", 4096, 0, NULL, "check 05/24/00 cdb 1.7" },
        { "READ(10), NACA", "28 00 00000001 00 0008 04", 4096, 0, NULL, "check 05/24/00 cdb 9.2" },
        { "READ(10), a larger buffer", "28 00 00000001 00 0008 00", 4608, 0, NULL, "read 512+4096; 512 left" },
        { "READ(10), both buffers", "28 00 00000001 00 0008 00", 4096, 99, NULL, "read 512+4096; 99 left" },
        { "READ(10), a byte short", "28 00 00000001 00 0008 00", 4095, 0, NULL, "overrun" },
        { "READ(10), the wrong buffer", "28 00 00000001 00 0008 00", 0, 4096, NULL, "overrun" },
        { "READ(10), CDB too short", "28 00 00000001 00 0008", 4096, 0, NULL, "check 05/24/00 cdb 9" },
        { "READ(12)", "a8 00 00000001 00000008 00 00", 4096, 0, NULL, "read 512+4096" },
        { "READ(12), length wraps", "a8 00 00000001 ffffffff 00 00", 4096, 0, NULL, "check 05/21/00" },
        { "READ(12), NACA", "a8 00 00000001 00000008 00 04", 4096, 0, NULL, "check 05/24/00 cdb 11.2" },
        { "READ(16)", "88 00 0000000000000001 00000008 00 00", 4096, 0, NULL, "read 512+4096" },
        { "READ(16), FUA", "88 08 0000000000000001 00000008 00 00", 4096, 0, NULL, "read 512+4096 fua" },
        { "READ(16), end wraps", "88 00 ffffffffffffffff 00000002 00 00", 4096, 0, NULL, "check 05/21/00" },
        { "READ(16), bytes wrap", "88 00 0080000000000000 00000001 00 00", 512, 0, NULL, "check 05/21/00" },
        { "READ(16), in a longer CDB", "88 00 0000000000000001 00000008 00 00 ffffffffffffffff", 4096, 0, NULL, "read 512+4096" },

        { "WRITE(6)", "0a 000010 04 00", 0, 2048, NULL, "write 8192+2048" },
        { "WRITE(6), 0 is 256", "0a 000000 00 00", 0, 131072, NULL, "write 0+131072" },
        { "WRITE(10)", "2a 00 00000001 00 0008 00", 0, 4096, NULL, "write 512+4096" },
        { "WRITE(10), FUA", "2a 08 00000001 00 0008 00", 0, 4096, NULL, "write 512+4096 fua" },
        { "WRITE(10) of nothing", "2a 00 00000001 00 0000 00", 0, 0, NULL, "good" },
        { "WRITE(10), a larger buffer", "2a 00 00000001 00 0008 00", 0, 8192, NULL, "write 512+4096; 4096 left" },
        { "WRITE(10), a byte short", "2a 00 00000001 00 0008 00", 0, 4095, NULL, "overrun" },
        { "WRITE(10), the wrong buffer", "2a 00 00000001 00 0008 00", 4096, 0, NULL, "overrun" },
        { "WRITE(10), one too many", "2a 00 000007ff 00 0002 00", 0, 1024, NULL, "check 05/21/00" },
        { "WRITE(10), WRPROTECT", "2a 40 00000001 00 0008 00", 0, 4096, NULL, "check 05/24/00 cdb 1.6" },
        { "WRITE(12)", "aa 08 000007ff 00000001 00 00", 0, 512, NULL, "write 1048064+512 fua" },
        { "WRITE(16)", "8a 00 00000000000007ff 00000001 00 00", 0, 512, NULL, "write 1048064+512" },
        { "WRITE(16), one too far", "8a 00 0000000000000800 00000001 00 00", 0, 512, NULL, "check 05/21/00" },

        { "VERIFY(10)", "2f 00 00000001 00 0008 00", 0, 0, NULL, "verify 512+4096" },
        { "VERIFY(10), DPO", "2f 10 00000001 00 0008 00", 0, 0, NULL, "verify 512+4096" },
        { "VERIFY(10), data nobody needs", "2f 00 00000001 00 0008 00", 0, 7, NULL, "verify 512+4096; 7 left" },
        { "VERIFY(10), BYTCHK", "2f 02 00000001 00 0008 00", 0, 4096, NULL, "check 05/24/00 cdb 1.1" },
        { "VERIFY(10), BYTCHK of one block", "2f 06 00000001 00 0008 00", 0, 512, NULL, "check 05/24/00 cdb 1.2" },
        { "VERIFY(10) of nothing", "2f 00 00000800 00 0000 00", 0, 0, NULL, "good" },
        { "VERIFY(10), too far", "2f 00 00000800 00 0001 00", 0, 0, NULL, "check 05/21/00" },
        { "VERIFY(12)", "af 00 00000001 00000008 00 00", 0, 0, NULL, "verify 512+4096" },
        { "VERIFY(16)", "8f 08 0000000000000001 00000008 00 00", 0, 0, NULL, "verify 512+4096" },

        { "SYNCHRONIZE CACHE(10)", "35 00 00000000 00 0000 00", 0, 0, NULL, "flush" },
        { "SYNCHRONIZE CACHE(10), IMMED", "35 02 00000001 00 0008 00", 0, 0, NULL, "flush" },
        { "SYNCHRONIZE CACHE(10), at the end", "35 00 00000800 00 0000 00", 0, 0, NULL, "flush" },
        { "SYNCHRONIZE CACHE(10), too far", "35 00 00000801 00 0000 00", 0, 0, NULL, "check 05/21/00" },
        { "SYNCHRONIZE CACHE(10), too many", "35 00 00000000 00 0801 00", 0, 0, NULL, "check 05/21/00" },
        { "SYNCHRONIZE CACHE(16)", "91 00 0000000000000000 00000800 00 00", 0, 0, NULL, "flush" },
        { "SYNCHRONIZE CACHE(16), wraps", "91 00 ffffffffffffffff ffffffff 00 00", 0, 0, NULL, "check 05/21/00" },

        { "READ CAPACITY(10)", "25 00 00000000 0000 00 00", 8, 0, NULL, "good 000007ff 00000200" },
        { "READ CAPACITY(10), cut", "25 00 00000000 0000 00 00", 5, 0, NULL, "good 000007ff 00" },
        { "READ CAPACITY(16)", "9e 10 0000000000000000 00000020 00 00", 32, 0, NULL,
          "good 00000000000007ff 00000200 00 03 c000 00x16" },
        { "READ CAPACITY(16), not all", "9e 10 0000000000000000 0000000e 00 00", 32, 0, NULL,
          "good 00000000000007ff 00000200 00 03; 18 left" },
        { "READ CAPACITY(16), none", "9e 10 0000000000000000 00000000 00 00", 32, 0, NULL, "good; 32 left" },
        { "SERVICE ACTION IN(16), another", "9e 12 0000000000000000 00000020 00 00", 32, 0, NULL, "check 05/24/00 cdb 1.4" },

        { "TEST UNIT READY", "00 00 00 00 00 00", 0, 0, NULL, "good" },
        { "START STOP UNIT, start", "1b 00 00 00 01 00", 0, 0, NULL, "good" },
        { "START STOP UNIT, stop", "1b 01 00 00 00 00", 0, 0, NULL, "flush" },
        { "START STOP UNIT, stop at once", "1b 00 00 00 04 00", 0, 0, NULL, "good" },
        { "START STOP UNIT, eject", "1b 00 00 00 02 00", 0, 0, NULL, "check 05/24/00 cdb 4.1" },
        { "START STOP UNIT, load", "1b 00 00 00 03 00", 0, 0, NULL, "check 05/24/00 cdb 4.1" },
        { "START STOP UNIT, standby", "1b 00 00 00 30 00", 0, 0, NULL, "check 05/24/00 cdb 4.7" },
        { "PREVENT", "1e 00 00 00 01 00", 0, 0, NULL, "good" },
        { "ALLOW", "1e 00 00 00 00 00", 0, 0, NULL, "good" },
        { "PREVENT, persistently", "1e 00 00 00 03 00", 0, 0, NULL, "check 05/24/00 cdb 4.1" },
};

static void test_small_blocks(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        EXPECT_ALL(&lu, small_blocks);
}

/* A disk of 256 blocks of 4096 bytes */
static const struct scsi_fact large_blocks[] = {
        { "READ(6)", "08 0000ff 01 00", 4096, 0, NULL, "read 1044480+4096" },
        { "READ(6), 0 is 256", "08 000000 00 00", 1048576, 0, NULL, "read 0+1048576" },
        { "READ(10), too far", "28 00 00000100 00 0001 00", 4096, 0, NULL, "check 05/21/00" },
        { "READ(10), half a block", "28 00 00000000 00 0001 00", 2048, 0, NULL, "overrun" },
        { "WRITE(16)", "8a 08 0000000000000001 00000002 00 00", 0, 8192, NULL, "write 4096+8192 fua" },
        { "READ CAPACITY(10)", "25 00 00000000 0000 00 00", 8, 0, NULL, "good 000000ff 00001000" },
        { "READ CAPACITY(16)", "9e 10 0000000000000000 000000ff 00 00", 255, 0, NULL,
          "good 00000000000000ff 00001000 00 00 c000 00x16; 223 left" },
};

static void test_large_blocks(void **state)
{
        struct scsi_lu lu = scsi_disk(4096);

        EXPECT_ALL(&lu, large_blocks);
}

static const struct scsi_fact read_only[] = {
        { "READ(10)", "28 00 00000001 00 0008 00", 4096, 0, NULL, "read 512+4096" },
        { "WRITE(10)", "2a 00 00000001 00 0008 00", 0, 4096, NULL, "check 07/27/00" },
        { "WRITE(10) of nothing", "2a 00 00000001 00 0000 00", 0, 0, NULL, "check 07/27/00" },
        { "WRITE(6)", "0a 000010 04 00", 0, 2048, NULL, "check 07/27/00" },
        { "WRITE SAME(16)", "93 01 0000000000000000 00000008 00 00", 0, 0, NULL, "check 07/27/00" },
        { "UNMAP", "42 00 00000000 00 0018 00", 0, 24, NULL, "check 07/27/00" },
        { "SYNCHRONIZE CACHE(10)", "35 00 00000000 00 0000 00", 0, 0, NULL, "flush" },
        { "READ CAPACITY(16)", "9e 10 0000000000000000 00000020 00 00", 32, 0, NULL,
          "good 00000000000007ff 00000200 00 03 0000 00x16" },
};

static void test_read_only(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        lu.read_only = true;
        EXPECT_ALL(&lu, read_only);
}

/* 2^33 blocks: more than ten bytes can name, and than one command may move */
static const struct scsi_fact huge[] = {
        { "READ CAPACITY(10)", "25 00 00000000 0000 00 00", 8, 0, NULL, "good ffffffff 00000200" },
        { "READ CAPACITY(16)", "9e 10 0000000000000000 0000000c 00 00", 12, 0, NULL, "good 00000001ffffffff 00000200" },
        { "READ(16), beyond 4 GiB blocks", "88 00 00000001ffffffff 00000001 00 00", 512, 0, NULL, "read 4398046510592+512" },
        { "READ(16), as much as may be", "88 00 0000000000000000 00010000 00 00", 33554432, 0, NULL, "read 0+33554432" },
        { "READ(16), more", "88 00 0000000000000000 00010001 00 00", 33554944, 0, NULL, "check 05/24/00 cdb 10" },
        { "WRITE(12), more", "aa 00 00000000 00010001 00 00", 0, 33554944, NULL, "check 05/24/00 cdb 6" },
        { "VERIFY(16), more", "8f 00 0000000000000000 ffffffff 00 00", 0, 0, NULL, "check 05/24/00 cdb 10" },
        { "READ(10) can not be too long", "28 00 00000000 00 ffff 00", 33553920, 0, NULL, "read 0+33553920" },
};

static void test_huge(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        atomic_store(&lu.nblocks, 1ull << 33);
        EXPECT_ALL(&lu, huge);
        atomic_store(&lu.nblocks, 1ull << 32); /* the last address is what 32 bits can say, and 0xffffffff says more */
        scsi_expect(&lu, &huge[0]);
        atomic_store(&lu.nblocks, 0xffffffff);
        scsi_expect(&lu, &(struct scsi_fact){ "one less", "25 00 00000000 0000 00 00", 8, 0, NULL, "good fffffffe 00000200" });
}

static const struct scsi_fact no_blocks[] = {
        { "TEST UNIT READY", "00 00 00 00 00 00", 0, 0, NULL, "check 02/3a/00" },
        { "READ CAPACITY(10)", "25 00 00000000 0000 00 00", 8, 0, NULL, "check 02/3a/00" },
        { "READ CAPACITY(16)", "9e 10 0000000000000000 0000000c 00 00", 12, 0, NULL, "check 02/3a/00" },
        { "READ(10)", "28 00 00000000 00 0001 00", 512, 0, NULL, "check 05/21/00" },
};

static void test_smaller_than_a_block(void **state)
{
        struct scsi_lu lu = scsi_disk(4096);

        atomic_store(&lu.nblocks, 0);
        EXPECT_ALL(&lu, no_blocks);
}

/* Without a cache everything that changes the disk is durable when it completes. */
static const struct scsi_fact no_cache[] = {
        { "WRITE(6)", "0a 000010 04 00", 0, 2048, NULL, "write 8192+2048 fua" },
        { "WRITE(10)", "2a 00 00000001 00 0008 00", 0, 4096, NULL, "write 512+4096 fua" },
        { "READ(10)", "28 00 00000001 00 0008 00", 4096, 0, NULL, "read 512+4096" },
        { "WRITE SAME(16)", "93 01 0000000000000000 00000008 00 00", 0, 0, NULL, "zero 0+4096 fua" },
        { "UNMAP", "42 00 00000000 00 0018 00", 0, 24, "0016 0010 00000000 0000000000000008 00000008 00000000",
          "discard 4096+4096 fua" },
};

static void test_no_cache(void **state)
{
        struct scsi_lu lu = scsi_disk(512);

        atomic_store(&lu.wce, false);
        EXPECT_ALL(&lu, no_cache);
}

static const struct { int err; const char *cdb, *want; } failures[] = {
        { -EIO, "28 00 00000001 00 0008 00", "check 03/11/00" },
        { -EIO, "8f 00 0000000000000001 00000008 00 00", "check 03/11/00" },
        { -EIO, "2a 00 00000001 00 0008 00", "check 03/0c/00" },
        { -EIO, "35 00 00000000 00 0000 00", "check 03/0c/00" },
        { -EIO, "93 01 0000000000000000 00000008 00 00", "check 03/0c/00" },
        { -ENOSPC, "2a 00 00000001 00 0008 00", "check 07/27/07" },
        { -EDQUOT, "2a 00 00000001 00 0008 00", "check 07/27/07" },
        { -EFBIG, "2a 00 00000001 00 0008 00", "check 07/27/07" },
        { -EROFS, "2a 00 00000001 00 0008 00", "check 07/27/00" },
        { -EACCES, "2a 00 00000001 00 0008 00", "check 07/27/00" },
        { -EPERM, "2a 00 00000001 00 0008 00", "check 07/27/00" },
        { -ENOTSUP, "93 01 0000000000000000 00000008 00 00", "check 05/20/00" },
        { -ENOMEM, "28 00 00000001 00 0008 00", "check 0b/44/00" },
        { -EAGAIN, "28 00 00000001 00 0008 00", "check 0b/44/00" },
        { -ECANCELED, "28 00 00000001 00 0008 00", "check 0b/44/00" },
        { -EINVAL, "28 00 00000001 00 0008 00", "check 03/11/00" },
};

static void test_failures(void **state)
{
        struct scsi_lu lu = scsi_disk(512);
        struct scsi_cmd cmd;

        for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
                struct scsi_fact f = { "fails", failures[i].cdb, 4096, 4096 };
                AUTO(freep) char *said = NULL;

                assert_int_not_equal(scsi_run(&lu, &f, &cmd), SCSI_DONE);
                scsi_failed(&cmd, failures[i].err);
                said = scsi_say(&cmd, SCSI_DONE);
                if (strcmp(said, failures[i].want))
                        fail_msg("%s with %d: %s", failures[i].cdb, failures[i].err, said);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_small_blocks), cmocka_unit_test(test_large_blocks), cmocka_unit_test(test_read_only),
                cmocka_unit_test(test_huge), cmocka_unit_test(test_smaller_than_a_block), cmocka_unit_test(test_no_cache),
                cmocka_unit_test(test_failures),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
