/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disks behind one socket, as units of a SCSI controller: what a guest and who runs the daemon see of them. The commands themselves
 * have their tests in tests/unit/test_scsi_*.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "control_fixture.h"
#include "tests/lib/fe_scsi.h"

#define QUEUES 4 /* control, events, two for commands */
#define SOCKET "scsi.sock"
#define DATA (64u << 10)

static struct front_end *fe;
static struct fe_scsi cmd;
static struct fe_scsi_events events;

#define ok(r) do { int ok_r_ = (r); if (ok_r_ < 0) fail_msg("%s: %s", #r, err_text(ok_r_)); } while (0)

/* --- a guest ------------------------------------------------------------------------------------------------------ */

static void connect_guest(uint64_t features_on)
{
        fe = connect_with(SOCKET, &(struct fe_opts){ .num_queues = QUEUES, .features_on = features_on, .packed = getenv("E2E_PACKED") });
        ok(fe_scsi_init(fe, &cmd, DATA));
        ok(fe_scsi_events_init(fe, &events));
        ok(fe_scsi_events_offer(&events, 8));
}

static void done(unsigned queue)
{
        ok(fe_scsi_do(fe_queue(fe, 2 + queue), &cmd, HANG_MS));
}

static void good(unsigned queue)
{
        done(queue);
        if (cmd.response != FE_SCSI_OK || cmd.status)
                fail_msg("opcode %02x, LUN %u: response %u, status %02x, sense %06x", cmd.cdb[0], cmd.lun[3], cmd.response, cmd.status,
                         fe_scsi_sense(&cmd));
}

/* What a driver does first: what is to be told of a unit it is told once. */
static uint32_t ready(unsigned lun)
{
        fe_scsi_plain(&cmd, lun, "", 1);
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_OK);
        return cmd.status ? fe_scsi_sense(&cmd) : 0;
}

static void wait_ready(unsigned lun)
{
        while (ready(lun) >> 16 == 6)
                ;
        assert_int_equal(ready(lun), 0);
}

static void write_all(unsigned lun, uint64_t block, uint32_t nblocks, uint8_t what)
{
        memset(cmd.data, what, nblocks * FE_SCSI_BLOCK);
        fe_scsi_write(&cmd, lun, block, nblocks);
        good(lun & 1);
}

static void expect_all(unsigned lun, uint64_t block, uint32_t nblocks, uint8_t what)
{
        memset(cmd.data, 0xee, nblocks * FE_SCSI_BLOCK);
        fe_scsi_read(&cmd, lun, block, nblocks);
        good(!(lun & 1));
        for (uint32_t i = 0; i < nblocks * FE_SCSI_BLOCK; i++)
                if (cmd.data[i] != what)
                        fail_msg("LUN %u, byte %u behind block %llu: %02x, not %02x", lun, i, (unsigned long long)block, cmd.data[i], what);
}

static uint64_t capacity(unsigned lun)
{
        uint64_t last;

        fe_scsi_plain(&cmd, lun, "\x9e\x10\0\0\0\0\0\0\0\0\0\0\0\x20\0", 16);
        cmd.in_len = 32;
        good(0);
        memcpy(&last, cmd.data, sizeof(last));
        return (be64toh(last) + 1) * FE_SCSI_BLOCK;
}

/* REPORT LUNS, as a text: "0 3 ". */
static const char *luns(void)
{
        static char text[1024];
        size_t n = 0;

        fe_scsi_plain(&cmd, 0, "\xa0\0\0\0\0\0\0\0\x08\x08\0", 12);
        memcpy(cmd.lun, "\xc1\x01\0\0\0\0\0\0", 8);
        cmd.in_len = 2056;
        good(0);
        text[0] = '\0';
        for (uint32_t i = 0; i < (cmd.data[2] << 8 | cmd.data[3]) / 8u; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%u ", cmd.data[8 + 8 * i + 1]);
        return text;
}

static void expect_told(uint32_t event, uint32_t reason, unsigned lun)
{
        struct fe_scsi_event e;

        ok(fe_scsi_event_wait(&events, &e, HANG_MS));
        assert_int_equal(e.event, event);
        assert_int_equal(e.reason, reason);
        assert_int_equal(e.lun[0], 1);
        assert_int_equal(e.lun[1], 0);
        assert_int_equal(e.lun[3], lun);
}
/* Empty events may come first: for buffers that a process had taken when it was killed. */
static void expect_told_in_time(uint32_t event, uint32_t reason, unsigned lun)
{
        struct fe_scsi_event e;

        do
                ok(fe_scsi_event_wait(&events, &e, HANG_MS));
        while (e.event != event);
        assert_int_equal(e.reason, reason);
        assert_int_equal(e.lun[3], lun);
}
#define EVENT_RESET 1u
#define RESCAN 1u
#define REMOVED 2u
#define EVENT_PARAM 3u

/* --- a daemon ----------------------------------------------------------------------------------------------------- */

static void add(const char *id, const char *node, const char *more)
{
        char args[512];

        snprintf(args, sizeof(args), "{'type':'vhost-user-scsi','id':'%s','node-name':'%s','writable':true,"
                 "'addr':{'type':'unix','path':'%s'}%s}", id, node, SOCKET, more);
        must("block-export-add", args);
}

static void blockdev(const char *node, const char *file)
{
        char args[256];

        snprintf(args, sizeof(args), "{'driver':'qcow2','node-name':'%s','file':{'driver':'file','filename':'%s'}}", node, file);
        must("blockdev-add", args);
}

static int setup(void **state)
{
        assert_int_equal(run("qemu-img create -q -f qcow2 a.qcow2 8M && qemu-img create -q -f qcow2 b.qcow2 16M &&"
                             "qemu-img create -q -f qcow2 c.qcow2 4M"), 0);
        start_daemon(NULL);
        blockdev("a", "a.qcow2");
        blockdev("b", "b.qcow2");
        add("da", "a", "");
        add("db", "b", ",'lun':3");
        connect_guest(0);
        return 0;
}

static int teardown(void **state)
{
        int r;

        fe_close(TAKE(fe, NULL));
        r = stop(state);
        return r == 0 ? run("for i in a b c; do qemu-img check -q $i.qcow2 || exit 1; done") : r;
}

static void test_two_disks(void **state)
{
        wait_ready(0);
        wait_ready(3);
        assert_string_equal(luns(), "0 3 ");
        assert_int_equal(capacity(0), 8 << 20);
        assert_int_equal(capacity(3), 16 << 20);
        for (unsigned i = 0; i < 16; i++) {
                cmd.pieces = i % 5;
                write_all(0, 16 * i, 16, (uint8_t)(i + 1));
                write_all(3, 16 * i, 16, (uint8_t)(i + 101));
        }
        for (unsigned i = 0; i < 16; i++) {
                cmd.pieces = i % 7;
                expect_all(0, 16 * i, 16, (uint8_t)(i + 1));
                expect_all(3, 16 * i, 16, (uint8_t)(i + 101));
        }
        fe_scsi_plain(&cmd, 0, "\x35", 1);
        good(0);
        assert_non_null(strstr(entry("query-block-exports", "id", "db"), "\"lun\":3"));
        assert_non_null(strstr(entry("query-block-exports", "id", "db"), "vhost-user-scsi"));
}

static void end_job(const char *id, const char *ready)
{
        char args[64];

        if (ready)
                while (!strstr(entry("query-jobs", "id", id), ready))
                        usleep(1000);
        snprintf(args, sizeof(args), "{'id':'%s'}", id);
        if (ready)
                must("job-complete", args);
        while (*entry("query-jobs", "id", id))
                usleep(1000);
}

static bool shows(const char *export, const char *node)
{
        char text[64];

        snprintf(text, sizeof(text), "\"node-name\":\"%s\"", node);
        return strstr(entry("query-block-exports", "id", export), text);
}

/* What happens to a disk's images happens behind its unit: the guest goes on, and has all that it wrote. */
static void test_images_change(void **state)
{
        wait_ready(0);
        wait_ready(3);
        write_all(0, 0, 8, 1);
        must("blockdev-snapshot-sync", "{'node-name':'a','snapshot-file':'a1.qcow2','snapshot-node-name':'a1'}");
        write_all(0, 8, 8, 2);
        assert_true(shows("da", "a1"));
        must("block-commit", "{'device':'a1','job-id':'c'}");
        write_all(0, 16, 8, 3);
        end_job("c", "\"ready\"");
        assert_true(shows("da", "a"));
        write_all(0, 24, 8, 4);
        for (unsigned i = 0; i < 4; i++)
                expect_all(0, 8 * i, 8, (uint8_t)(i + 1));

        write_all(3, 0, 8, 5);
        assert_int_equal(run("qemu-img create -q -f raw there.raw 16M"), 0);
        must("blockdev-add", "{'driver':'raw','node-name':'there','file':{'driver':'file','filename':'there.raw'}}");
        must("blockdev-mirror", "{'device':'b','target':'there','sync':'full','job-id':'m'}");
        write_all(3, 8, 8, 6);
        end_job("m", "\"ready\"");
        assert_true(shows("db", "there"));
        write_all(3, 16, 8, 7);
        must("blockdev-reopen", "{'options':[{'driver':'raw','node-name':'there','file':{'driver':'file','filename':'there.raw'},"
             "'cache':{'direct':true}}]}");
        for (unsigned i = 0; i < 3; i++)
                expect_all(3, 8 * i, 8, (uint8_t)(i + 5));
        fe_scsi_plain(&cmd, 3, "\x35", 1);
        good(0);
        must("blockdev-del", "{'node-name':'b'}");
        assert_int_equal(run("qemu-img check -q b.qcow2"), 0);
        assert_int_equal(run("for i in 5 6 7; do for j in $(seq 4096); do printf \"\\\\00$i\"; done; done | cmp -n 12288 - there.raw"), 0);
}

/* Where nobody is: other targets, other units, a unit that will never be. */
static void test_nobody_there(void **state)
{
        fe_scsi_plain(&cmd, 0, "", 1);
        cmd.lun[1] = 1;
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_BAD_TARGET);
        cmd.lun[0] = 0;
        cmd.lun[1] = 0;
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_BAD_TARGET);
        assert_int_equal(ready(1), 0x052500);
        fe_scsi_plain(&cmd, 1, "\x12\0\0\0\x24", 6);
        cmd.in_len = 36;
        good(0);
        assert_int_equal(cmd.data[0], 0x7f);
        fe_scsi_plain(&cmd, 3, "", 1);
        cmd.lun[2] = 0x41; /* 0x103 */
        done(0);
        assert_int_equal(fe_scsi_sense(&cmd), 0x052500);
}

/* Data both ways, and a buffer that is too short for its command: a word, and nothing else happens. */
static void test_bad_buffers(void **state)
{
        wait_ready(0);
        write_all(0, 0, 8, 7);
        fe_scsi_read(&cmd, 0, 0, 8);
        cmd.out_len = 512;
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_FAILURE);
        memset(cmd.data, 9, 512);
        fe_scsi_write(&cmd, 0, 0, 8);
        cmd.out_len = 512;
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_OVERRUN);
        expect_all(0, 0, 8, 7);
        fe_scsi_read(&cmd, 0, 0, 1); /* one that is too long is told so */
        cmd.in_len = 4096;
        good(0);
        assert_int_equal(cmd.residual, 4096 - 512);
        assert_int_equal(cmd.io.used_len, 108 + 512);
}

static void test_hot_add_and_remove(void **state)
{
        wait_ready(0);
        wait_ready(3);
        blockdev("c", "c.qcow2");
        add("dc", "c", "");
        expect_told(EVENT_RESET, RESCAN, 1);
        assert_int_equal(ready(0), 0x063f0e);
        assert_string_equal(luns(), "0 1 3 ");
        wait_ready(1);
        write_all(1, 0, 8, 0x55);
        expect_all(1, 0, 8, 0x55);
        assert_string_equal(try(client, "block-export-del", "{'id':'db'}", NULL),
                            "export 'db' still in use; mode 'hard' takes the disk from its guest");
        must("block-export-del", "{'id':'db','mode':'hard'}");
        expect_told(EVENT_RESET, REMOVED, 3);
        expect_event(client, "BLOCK_EXPORT_DELETED", "db");
        assert_int_equal(ready(3), 0x052500);
        assert_string_equal(luns(), "0 1 ");
        must("blockdev-del", "{'node-name':'b'}");
        blockdev("b", "b.qcow2");
        add("db2", "b", ",'lun':200,'serial':'S-1'");
        expect_told(EVENT_RESET, RESCAN, 200);
        wait_ready(200);
        fe_scsi_plain(&cmd, 200, "\x12\x01\x80\0\xff", 6);
        cmd.in_len = 255;
        good(0);
        assert_memory_equal(cmd.data + 4, "S-1", 3);
        must("block-export-del", "{'id':'da','mode':'hard'}");
        must("block-export-del", "{'id':'dc','mode':'hard'}");
        must("block-export-del", "{'id':'db2','mode':'hard'}"); /* the last one: the controller goes */
        ok(fe_alive(fe, HANG_MS) == -ECONNRESET ? 0 : -EIO);
        while (*entry("query-block-exports", "id", "db2"))
                usleep(1000);
        assert_false(exists(SOCKET));
}

static void test_wrong_words(void **state)
{
        assert_non_null(strstr(try(client, "block-export-add", "{'type':'vhost-user-scsi','id':'x','node-name':'a',"
                                   "'addr':{'type':'unix','path':'" SOCKET "'},'lun':3}", NULL), "LUN 3 of the SCSI controller on"));
        assert_non_null(strstr(try(client, "block-export-add", "{'type':'vhost-user-scsi','id':'x','node-name':'a',"
                                   "'addr':{'type':'unix','path':'" SOCKET "'},'num-queues':7}", NULL), "has 64 already"));
        assert_string_equal(try(client, "block-export-add", "{'type':'vhost-user-scsi','id':'x','node-name':'a',"
                                "'addr':{'type':'unix','path':'" SOCKET "'},'lun':256}", NULL), "Parameter 'lun' expects a number from 0 to 255");
        assert_non_null(strstr(try(client, "block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'a',"
                                   "'addr':{'type':'unix','path':'x.sock'},'lun':1}", NULL), "lun"));
        assert_non_null(strstr(try(client, "block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'a',"
                                   "'addr':{'type':'unix','path':'" SOCKET "'}}", NULL), "in use"));
        assert_string_equal(luns(), "0 3 ");
}

static void test_resize(void **state)
{
        wait_ready(3);
        must("block_resize", "{'node-name':'b','size':33554432}");
        expect_told(EVENT_PARAM, 0x092a, 3);
        assert_int_equal(ready(3), 0x062a09);
        assert_int_equal(capacity(3), 32 << 20);
        write_all(3, (31 << 20) / 512, 8, 0x31);
        expect_all(3, (31 << 20) / 512, 8, 0x31);
}

/* Many events while the guest has no buffers: what is kept comes in order, what is not is told as missed. */
static void test_events_missed(void **state)
{
        struct fe_scsi_event e;

        wait_ready(0);
        for (unsigned i = 0; i < 60; i++) { /* 8 buffers, 32 are kept */
                char args[80];

                snprintf(args, sizeof(args), "{'node-name':'a','size':%u}", (9u + i) << 20);
                must("block_resize", args);
        }
        for (unsigned i = 0; i < 8; i++)
                expect_told(EVENT_PARAM, 0x092a, 0);
        for (unsigned i = 0; i < 32; i++) {
                ok(fe_scsi_events_offer(&events, 1));
                ok(fe_scsi_event_wait(&events, &e, HANG_MS));
                assert_int_equal(e.event & ~0x80000000u, EVENT_PARAM);
                assert_int_equal(!!(e.event & 0x80000000u), i == 0);
        }
}

static void test_task_management(void **state)
{
        struct fe_scsi slow;

        wait_ready(0);
        wait_ready(3);
        ok(fe_scsi_init(fe, &slow, DATA));
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_QUERY_TASK_SET, 0, 0, HANG_MS), FE_SCSI_OK);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_CLEAR_ACA, 0, 0, HANG_MS), FE_SCSI_REJECTED);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, 99, 0, 0, HANG_MS), FE_SCSI_REJECTED);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_UNIT_RESET, 9, 0, HANG_MS), FE_SCSI_INCORRECT_LUN);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_UNIT_RESET, 3, 0, HANG_MS), FE_SCSI_OK);
        assert_int_equal(ready(0), 0);
        assert_int_equal(ready(3) >> 8, 0x0629);
        assert_int_equal(ready(3), 0);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_NEXUS_RESET, 0, 0, HANG_MS), FE_SCSI_OK);
        assert_int_equal(ready(0) >> 8, 0x0629);
        assert_int_equal(ready(3) >> 8, 0x0629);
        /* One write a second: the second and the third wait for that, and the abort lets them through. */
        must("block_set_io_throttle", "{'id':'da','bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':1}");
        write_all(0, 0, 8, 1);
        memset(slow.data, 2, 4096);
        fe_scsi_write(&slow, 0, 0, 8);
        slow.tag = 77;
        ok(fe_scsi_submit(fe_queue(fe, 2), &slow));
        fe_kick(fe_queue(fe, 2));
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_QUERY_TASK, 0, 77, HANG_MS), FE_SCSI_SUCCEEDED);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_QUERY_TASK, 0, 78, HANG_MS), FE_SCSI_OK);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_QUERY_TASK, 3, 77, HANG_MS), FE_SCSI_OK);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_ABORT_TASK, 0, 77, HANG_MS), FE_SCSI_OK);
        {
                struct fe_io *io = NULL;

                assert_int_equal(fe_reap(fe_queue(fe, 2), &io, 1), 1); /* it has ended, and we can see that */
                assert_ptr_equal(io, &slow.io);
        }
        fe_scsi_answered(&slow);
        assert_int_equal(slow.response, FE_SCSI_OK);
        must("block_set_io_throttle", "{'id':'da','bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}");
        expect_all(0, 0, 8, 2);
}

/* Another process takes over: the same controller, its units, what they have to tell. */
static void test_upgrade(void **state)
{
        wait_ready(0);
        wait_ready(3);
        write_all(0, 0, 8, 0x11);
        write_all(3, 0, 8, 0x33);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_UNIT_RESET, 3, 0, HANG_MS), FE_SCSI_OK);
        upgrade();
        assert_int_equal(ready(0), 0);
        assert_int_equal(ready(3) >> 8, 0x0629);
        expect_all(0, 0, 8, 0x11);
        expect_all(3, 0, 8, 0x33);
        assert_string_equal(luns(), "0 3 ");
        blockdev("c", "c.qcow2");
        add("dc", "c", "");
        expect_told(EVENT_RESET, RESCAN, 1);
        wait_ready(1);
        write_all(1, 0, 8, 0x22);
        must("block-export-del", "{'id':'db','mode':'hard'}");
        expect_told(EVENT_RESET, REMOVED, 3);
}

/* Who was killed may have its images locked until the kernel has cleared up behind it. */
static void blockdev_again(const char *node)
{
        char args[256];

        snprintf(args, sizeof(args), "{'driver':'qcow2','node-name':'%s','file':{'driver':'file','filename':'%s.qcow2'}}", node, node);
        for (int i = 0; try(client, "blockdev-add", args, NULL); i++, usleep(1000))
                if (i == HANG_MS)
                        fail_msg("%s stays locked", node);
}

/* A kill in the middle: the commands in flight are done by the next process, each is answered once, and buffers for events still serve. */
static void test_kill(void **state)
{
        enum { N = 4 };
        struct fe_queue *q = fe_queue(fe, 2);
        struct fe_scsi c[N];

        wait_ready(0);
        wait_ready(3);
        must("block_set_io_throttle", "{'id':'da','bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':1}");
        write_all(0, 0, 8, 0x99); /* the next one has to wait a second */
        for (unsigned i = 0; i < N; i++) {
                ok(fe_scsi_init(fe, &c[i], 4096));
                memset(c[i].data, (int)i + 1, 4096);
                fe_scsi_write(&c[i], 0, 8 * i, 8);
                ok(fe_scsi_submit(q, &c[i]));
        }
        fe_kick(q);
        assert_int_equal(fe_scsi_tmf_do(fe, &cmd, FE_QUERY_TASK_SET, 0, 0, HANG_MS), FE_SCSI_SUCCEEDED); /* taken, and not ended */
        kill(daemon_pid, SIGKILL);
        assert_int_equal(exit_status(), -SIGKILL);
        qmp_client_close(TAKE(client, NULL));
        start_daemon(NULL);
        blockdev_again("a");
        blockdev_again("b");
        add("da", "a", "");
        add("db", "b", ",'lun':3");
        assert_true(fe_recorded(fe, 2) > 0);
        ok(fe_resume(fe));
        for (unsigned ended = 0; ended < N; ended++) {
                struct fe_io *io;

                while (fe_reap(q, &io, 1) == 0)
                        fe_wait(q, HANG_MS);
        }
        assert_int_equal(fe_in_flight(q), 0);
        for (unsigned i = 0; i < N; i++) {
                fe_scsi_answered(&c[i]);
                assert_int_equal(c[i].response, FE_SCSI_OK);
                if (c[i].status) { /* a power on was to be told first, and a driver asks again then */
                        assert_int_equal(fe_scsi_sense(&c[i]) >> 8, 0x0629);
                        fe_scsi_write(&c[i], 0, 8 * i, 8);
                        ok(fe_scsi_do(q, &c[i], HANG_MS));
                        assert_int_equal(c[i].status, 0);
                }
        }
        wait_ready(0);
        wait_ready(3);
        for (unsigned i = 0; i < N; i++)
                expect_all(0, 8 * i, 8, (uint8_t)(i + 1));
        must("block_resize", "{'node-name':'b','size':33554432}");
        expect_told_in_time(EVENT_PARAM, 0x092a, 3);
}

/* The daemon stops: its guest loses no disk, it is hung up on. */
static void test_stop_is_no_removal(void **state)
{
        struct fe_scsi_event e;

        wait_ready(0);
        kill(daemon_pid, SIGTERM);
        assert_int_equal(exit_status(), 0);
        qmp_client_close(TAKE(client, NULL));
        assert_int_equal(fe_scsi_event_wait(&events, &e, 100), -ETIMEDOUT);
        err_clear();
}

/* A header that we did not offer and cannot read: every command fails, and nothing is written. */
static void test_protection_information(void **state)
{
        write_all(0, 0, 8, 5);
        fe_close(TAKE(fe, NULL));
        connect_guest(1ull << 3);
        memset(cmd.data, 6, 4096);
        fe_scsi_write(&cmd, 0, 0, 8);
        done(0);
        assert_int_equal(cmd.response, FE_SCSI_FAILURE);
        fe_close(TAKE(fe, NULL));
        connect_guest(0);
        expect_all(0, 0, 8, 5);
}

/* --- hostile guests ----------------------------------------------------------------------------------------------- */

static void expect_broken(unsigned queue)
{
        for (int i = 0; i < HANG_MS; i++, usleep(1000))
                if (fe_ring_broken(fe, queue))
                        return;
        fail_msg("queue %u goes on", queue);
}

/* A chain that is none breaks its ring, and nothing else: a command goes by another one, and who connects again has all of them. */
static void test_chains_that_are_none(void **state)
{
        static const struct {
                unsigned queue;
                uint32_t type;    /* the first four bytes */
                uint32_t out, in; /* bytes of the parts */
        } row[] = {
                { 0, 0, 0, 1 },   { 0, 0, 3, 1 },   { 0, 0, 23, 1 },       /* task management: cut short */
                { 0, 0, 24, 0 },                                           /* and without room for the answer */
                { 0, 1, 15, 5 },  { 0, 2, 16, 4 },                         /* notification: cut short, little room */
                { 0, 3, 24, 64 }, { 0, UINT32_MAX, 24, 64 },               /* unknown */
                { 1, 0, 16, 0 },  { 1, 0, 0, 15 },                         /* nowhere to put an event */
                { 2, 1, 51, 0 },  { 2, 1, 51, 107 }, { 2, 1, 0, 108 },     /* commands: no room for the answer, no header */
        };

        wait_ready(3);
        for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
                struct fe_io io = { 0 };
                struct fe_piece p[2];
                unsigned n = 0;

                fe_close(TAKE(fe, NULL));
                fe = connect_with(SOCKET, &(struct fe_opts){ .num_queues = QUEUES, .packed = getenv("E2E_PACKED") });
                ok(fe_scsi_init(fe, &cmd, DATA));
                memset(cmd.data, 0, 128);
                memcpy(cmd.data, &row[i].type, sizeof(row[i].type));
                if (row[i].out)
                        p[n++] = (struct fe_piece){ cmd.data_gpa, row[i].out, false };
                if (row[i].in)
                        p[n++] = (struct fe_piece){ cmd.data_gpa + 128, row[i].in, true };
                ok(fe_submit_chain(fe_queue(fe, row[i].queue), p, n, false, &io));
                fe_kick(fe_queue(fe, row[i].queue));
                if (row[i].queue == 1) { /* looked at when there is something to tell */
                        char args[80];

                        snprintf(args, sizeof(args), "{'node-name':'a','size':%zu}", (9 + i) << 20);
                        must("block_resize", args);
                }
                expect_broken(row[i].queue);
                fe_scsi_plain(&cmd, 3, "", 1);
                good(1);
        }
        fe_close(TAKE(fe, NULL));
        connect_guest(0);
        write_all(3, 0, 8, 0x77);
        expect_all(3, 0, 8, 0x77);
}

/* Resets by the ring, while another queue works: each is answered, and none of the commands is lost. */
static void test_flood_of_resets(void **state)
{
        enum { RESETS = 32, ROUNDS = 20 };
        struct fe_scsi reset[RESETS];
        struct fe_queue *control = fe_queue(fe, 0);

        wait_ready(0);
        for (unsigned i = 0; i < RESETS; i++)
                ok(fe_scsi_init(fe, &reset[i], 512));
        for (unsigned round = 0; round < ROUNDS; round++) {
                for (unsigned i = 0; i < RESETS; i++) {
                        fe_scsi_tmf(&reset[i], i % 2 ? FE_UNIT_RESET : FE_ABORT_TASK_SET, 3, 0);
                        ok(fe_scsi_tmf_submit(control, &reset[i]));
                }
                fe_kick(control);
                write_all(0, 8 * round, 8, (uint8_t)round);
                expect_all(0, 8 * round, 8, (uint8_t)round);
                while (fe_in_flight(control)) {
                        struct fe_io *io;

                        if (fe_reap(control, &io, 1) == 0)
                                fe_wait(control, HANG_MS);
                }
                for (unsigned i = 0; i < RESETS; i++)
                        assert_int_equal(fe_scsi_tmf_answer(&reset[i]), FE_SCSI_OK);
        }
        assert_int_equal(ready(3) >> 8, 0x0629);
        assert_int_equal(ready(3), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_two_disks),      TEST(test_nobody_there),     TEST(test_bad_buffers), TEST(test_hot_add_and_remove),
                TEST(test_wrong_words),    TEST(test_resize),           TEST(test_events_missed), TEST(test_task_management),
                TEST(test_upgrade),        TEST(test_stop_is_no_removal), TEST(test_protection_information),
                TEST(test_kill), TEST(test_images_change), TEST(test_chains_that_are_none), TEST(test_flood_of_resets),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
