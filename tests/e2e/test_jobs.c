/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs of a real daemon: copies of a disk that a guest uses, what is refused meanwhile, and the end with jobs under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/e2e/control_fixture.h"
#include "tests/lib/front_end.h"

#define MIB (1ull << 20)
#define AREA (8 * MIB) /* what the tests write */

static struct front_end *fe;
static char *buf;

/* --- steps --------------------------------------------------------------------------------------------------------------- */

static void connect_guest(void)
{
        err_clear();
        if (fe_open(&(struct fe_opts){ .path = at("first.sock"), .timeout_ms = HANG_MS }, &fe) < 0)
                fail_msg("first.sock: %s", err_text(-EIO));
        buf = fe_alloc(fe, 64 << 10, 4096);
}

static void guest(uint32_t type, uint64_t off, uint32_t len)
{
        struct fe_io io = { .type = type, .sector = off / 512, .gpa = fe_gpa(fe, buf), .len = len };

        assert_int_equal(fe_do(fe_queue(fe, 0), &io, HANG_MS), 0);
        assert_int_equal(io.status, FE_OK);
}

static void fill(uint8_t what, uint64_t from, uint64_t to)
{
        memset(buf, what, 64 << 10);
        for (uint64_t off = from; off < to; off += 64 << 10)
                guest(FE_WRITE, off, 64 << 10);
}

static void expect_filled(uint8_t what, uint64_t from, uint64_t to)
{
        for (uint64_t off = from; off < to; off += 64 << 10) {
                guest(FE_READ, off, 64 << 10);
                for (unsigned i = 0; i < 64 << 10; i++)
                        assert_int_equal((uint8_t)buf[i], what);
        }
}

/* An image of the size of the first, as node @name. */
static void add_target(const char *name, const char *format)
{
        char args[512];

        snprintf(args, sizeof(args), "rm -f %s.img && qemu-img create -q -f %s %s.img 64M", name, format, name);
        assert_int_equal(run(args), 0);
        snprintf(args, sizeof(args), "{'driver':'%s','node-name':'%s','file':{'driver':'file','filename':'%s.img'}}", format, name,
                 name);
        must("blockdev-add", args);
}

static void del_target(const char *name)
{
        char args[128];

        snprintf(args, sizeof(args), "{'node-name':'%s'}", name);
        must("blockdev-del", args);
}

static void expect_in_image(const char *name, const char *format, uint8_t what, uint64_t from, uint64_t to)
{
        char command[256];

        snprintf(command, sizeof(command), "qemu-io -f %s -r -c 'read -P %u %llu %llu' %s | grep -q 'ops;'", format, what,
                 (unsigned long long)from, (unsigned long long)(to - from), name);
        if (run(command) != 0)
                fail_msg("%s", command);
        snprintf(command, sizeof(command), "! qemu-io -f %s -r -c 'read -P %u %llu %llu' %s | grep 'verification failed'", format,
                 what, (unsigned long long)from, (unsigned long long)(to - from), name);
        if (run(command) != 0)
                fail_msg("%s", command);
}

static void check_image(const char *name)
{
        char command[128];

        snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s", name);
        assert_int_equal(run(command), 0);
}

static void expect_refused(const char *command, const char *args, const char *error)
{
        const char *said = try(client, command, args, NULL);

        if (!said || !strstr(said, error))
                fail_msg("%s %s: '%s' instead of '%s'", command, args, said ?: "done", error);
}

static void expect_job(const char *id, const char *part)
{
        const char *said = entry("query-block-jobs", "device", id);

        if (!strstr(said, part))
                fail_msg("job %s: %s without %s", id, said, part);
}

/* Others before it do not matter. */
static void await(const char *name, const char *part)
{
        bool found = false;

        alarm(HANG_S);
        while (!found) {
                json_t *event;
                char *text;

                assert_int_equal(qmp_client_event(client, &event), 0);
                text = json_dumps(event, JSON_COMPACT);
                found = !strcmp(json_string_value(json_object_get(event, "event")), name) && strstr(text, part);
                free(text);
                json_decref(event);
        }
        alarm(0);
}

static int begin(void **state)
{
        start_daemon(NULL);
        connect_guest();
        fill(0x11, 0, AREA);
        return 0;
}

static int end(void **state)
{
        if (fe)
                fe_close(TAKE(fe, NULL));
        return stop(state);
}

/* --- backup -------------------------------------------------------------------------------------------------------------- */

static void backup(const char *format, const char *more, bool ahead)
{
        char args[256];

        add_target("copy", format);
        fill(0x22, 0, AREA);
        snprintf(args, sizeof(args), "{'device':'first','target':'copy','sync':'full','job-id':'b'%s%s}",
                 ahead ? ",'speed':65536" : "", more);
        must("blockdev-backup", args);
        fill(0x33, MIB, 3 * MIB); /* what is copied first, so that the copy does not have it */
        if (ahead)
                must("block-job-set-speed", "{'device':'b','speed':0}");
        await( "BLOCK_JOB_COMPLETED", "\"offset\"");
        expect_filled(0x33, MIB, 3 * MIB);
        expect_filled(0x22, 0, MIB);
        fill(0x44, 5 * MIB, 6 * MIB); /* not in the copy either */
        del_target("copy");
        expect_in_image("copy.img", format, 0x22, 0, AREA);
        expect_in_image("copy.img", format, 0, AREA, 64 * MIB);
        if (!strcmp(format, "qcow2"))
                check_image("copy.img");
}

static void test_backup(void **state)
{
        backup("qcow2", "", true);
        backup("raw", "", true);
        backup("qcow2", ",'compress':true", false);
        assert_int_equal(run("size=$(qemu-img info --output=json copy.img | sed -n 's/.*\"actual-size\": //p' | tr -d ,) &&"
                             " test $size -lt 2000000"), 0);
}

/* Nothing is copied but what the guest overwrites, until somebody has enough of it. */
static void test_backup_of_what_is_overwritten(void **state)
{
        add_target("copy", "qcow2");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'none','job-id':'b'}");
        fill(0x22, 0, MIB);
        expect_job("b", "\"status\":\"running\"");
        must("block-job-cancel", "{'device':'b'}");
        await( "BLOCK_JOB_CANCELLED", "\"b\"");
        fill(0x33, MIB, 2 * MIB);
        del_target("copy");
        expect_in_image("copy.img", "qcow2", 0x11, 0, MIB);
        expect_in_image("copy.img", "qcow2", 0, MIB, AREA);
}

/* A chain of backups: each has what was written since the one before, also when one of them came to nothing. */
static void test_incremental(void **state)
{
        add_target("copy", "qcow2");
        must("block-dirty-bitmap-add", "{'node':'first','name':'since'}");
        expect_refused("blockdev-backup", "{'device':'first','target':'copy','sync':'incremental','bitmap':'no'}",
                       "Bitmap 'no' could not be found");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'full','job-id':'b','bitmap':'since','bitmap-mode':"
             "'on-success'}");
        await("BLOCK_JOB_COMPLETED", "\"b\"");
        del_target("copy");
        assert_int_equal(run("mv copy.img full.img"), 0);
        fill(0x22, MIB, 2 * MIB);

        add_target("copy", "qcow2");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'incremental','job-id':'b','bitmap':'since','speed':1}");
        expect_refused("block-dirty-bitmap-clear", "{'node':'first','name':'since'}", "since");
        fill(0x33, 2 * MIB, 3 * MIB);
        must("job-cancel", "{'id':'b'}");
        await("BLOCK_JOB_CANCELLED", "\"b\"");
        del_target("copy");

        assert_int_equal(run("qemu-img create -q -f qcow2 -b full.img -F qcow2 inc.img"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'inc','file':{'driver':'file','filename':'inc.img'}}");
        must("blockdev-backup", "{'device':'first','target':'inc','sync':'incremental','job-id':'b','bitmap':'since'}");
        fill(0x44, 3 * MIB, 4 * MIB);
        await("BLOCK_JOB_COMPLETED", "\"offset\":2097152");
        del_target("inc");
        expect_in_image("inc.img", "qcow2", 0x11, 0, MIB);
        expect_in_image("inc.img", "qcow2", 0x22, MIB, 2 * MIB);
        expect_in_image("inc.img", "qcow2", 0x33, 2 * MIB, 3 * MIB);
        expect_in_image("inc.img", "qcow2", 0x11, 3 * MIB, AREA);
        check_image("inc.img");
}

/* Two disks at one instant; when one copy fails, both are none. */
static void test_together(void **state)
{
        must("blockdev-add", "{'driver':'qcow2','node-name':'second','file':{'driver':'file','filename':'second.qcow2'}}");
        for (int cancel = 0; cancel < 2; cancel++) {
                add_target("copy", "qcow2");
                assert_int_equal(run("rm -f s.img && qemu-img create -q -f qcow2 s.img 32M"), 0);
                must("blockdev-add", "{'driver':'qcow2','node-name':'s','file':{'driver':'file','filename':'s.img'}}");
                must("transaction", "{'properties':{'completion-mode':'grouped'},'actions':["
                     "{'type':'blockdev-backup','data':{'device':'first','target':'copy','sync':'full','job-id':'a','speed':1}},"
                     "{'type':'blockdev-backup','data':{'device':'second','target':'s','sync':'full','job-id':'b'}}]}");
                await("JOB_STATUS_CHANGE", "\"waiting\""); /* the second */
                expect_job("b", "\"status\":\"waiting\"");
                if (cancel)
                        must("block-job-cancel", "{'device':'a'}");
                else
                        must("block-job-set-speed", "{'device':'a','speed':0}");
                await(cancel ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED", cancel ? "\"b\"" : "\"a\"");
                while (*entry("query-jobs", "id", "a") || *entry("query-jobs", "id", "b"))
                        usleep(1000);
                del_target("copy");
                del_target("s");
                if (!cancel)
                        expect_in_image("copy.img", "qcow2", 0x11, 0, AREA);
        }
        add_target("copy", "qcow2");
        expect_refused("transaction", "{'properties':{'completion-mode':'grouped'},'actions':["
                       "{'type':'blockdev-backup','data':{'device':'first','target':'copy','sync':'full','job-id':'a'}},"
                       "{'type':'blockdev-backup','data':{'device':'second','target':'copy','sync':'full','job-id':'b'}}]}", "copy");
        assert_string_equal(entry("query-jobs", "id", "a"), "");
        del_target("copy");
}

/* --- mirror -------------------------------------------------------------------------------------------------------------- */

static void test_mirror(void **state)
{
        add_target("there", "raw");
        must("blockdev-mirror", "{'device':'first','target':'there','sync':'full','job-id':'m','auto-dismiss':false}");
        await( "BLOCK_JOB_READY", "\"m\"");
        fill(0x22, MIB, 2 * MIB);
        must("block-job-complete", "{'device':'m'}");
        await( "BLOCK_JOB_COMPLETED", "\"m\"");
        expect_job("m", "\"status\":\"concluded\"");
        must("job-dismiss", "{'id':'m'}");
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"there\""));
        expect_filled(0x22, MIB, 2 * MIB);
        fill(0x33, 0, MIB);
        must("blockdev-del", "{'node-name':'first'}");
        expect_in_image("first.qcow2", "qcow2", 0x11, 0, MIB); /* as it was when it was left */
        check_image("first.qcow2");
        fill(0x44, 2 * MIB, 3 * MIB);

        must("blockdev-add", "{'driver':'qcow2','node-name':'back','file':{'driver':'file','filename':'first.qcow2'}}");
        must("blockdev-mirror", "{'device':'there','target':'back','sync':'full','job-id':'m'}");
        await( "BLOCK_JOB_READY", "\"m\"");
        must("job-complete", "{'id':'m'}");
        await( "BLOCK_JOB_COMPLETED", "\"m\"");
        expect_filled(0x44, 2 * MIB, 3 * MIB);
        fill(0x55, 3 * MIB, 4 * MIB);
        fe_close(TAKE(fe, NULL));
        assert_int_equal(stop(state), 0);
        expect_in_image("first.qcow2", "qcow2", 0x33, 0, MIB);
        expect_in_image("first.qcow2", "qcow2", 0x55, 3 * MIB, 4 * MIB);
        check_image("first.qcow2");
}

static int byte_in_file(const char *name, uint64_t off)
{
        AUTO(closep) int fd = open(at(name), O_RDONLY | O_CLOEXEC);
        unsigned char c = 0;

        assert_int_equal(pread(fd, &c, 1, (off_t)off), 1);
        return c;
}

/* What the guest knows to be written is in both images. */
static void test_mirror_write_blocking(void **state)
{
        add_target("there", "raw");
        must("blockdev-mirror", "{'device':'first','target':'there','sync':'full','job-id':'m','copy-mode':'write-blocking'}");
        await("BLOCK_JOB_READY", "\"m\"");
        for (int i = 1; i < 32; i++) {
                fill(i, MIB, MIB + 65536);
                assert_int_equal(byte_in_file("there.img", MIB + 65535), i);
        }
        must("job-complete", "{'id':'m'}");
        await("BLOCK_JOB_COMPLETED", "\"m\"");
        expect_filled(31, MIB, MIB + 65536);
        fill(0x33, 0, MIB);
        must("blockdev-del", "{'node-name':'first'}");
        expect_in_image("first.qcow2", "qcow2", 31, MIB, MIB + 65536);
        check_image("first.qcow2");
        fe_close(TAKE(fe, NULL));
        assert_int_equal(stop(state), 0);
        expect_in_image("there.img", "raw", 0x33, 0, MIB);
        expect_in_image("there.img", "raw", 31, MIB, MIB + 65536);
}

/* A cancel when it is ready makes a copy: the guest stays where he is. */
static void test_mirror_that_is_left(void **state)
{
        add_target("there", "qcow2");
        must("blockdev-mirror", "{'device':'first','target':'there','sync':'full','job-id':'m'}");
        await( "BLOCK_JOB_READY", "\"m\"");
        fill(0x22, 0, MIB);
        must("block-job-cancel", "{'device':'m'}");
        await( "BLOCK_JOB_COMPLETED", "\"m\"");
        fill(0x33, 0, MIB);
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"first\""));
        del_target("there");
        expect_in_image("there.img", "qcow2", 0x22, 0, MIB);
        expect_in_image("there.img", "qcow2", 0x11, MIB, AREA);
        check_image("there.img");
}

/* --- new images ---------------------------------------------------------------------------------------------------------- */

static void create(const char *options)
{
        char args[512];

        snprintf(args, sizeof(args), "{'job-id':'c','options':{%s}}", options);
        must("blockdev-create", args);
        await("JOB_STATUS_CHANGE", "\"concluded\"");
        if (strstr(entry("query-jobs", "id", "c"), "error"))
                fail_msg("%s: %s", options, entry("query-jobs", "id", "c"));
        must("job-dismiss", "{'id':'c'}");
}

/* As libvirt does it. */
static void test_create(void **state)
{
        assert_int_equal(run("rm -f new.img"), 0);
        create("'driver':'file','filename':'new.img','size':0");
        must("blockdev-add", "{'driver':'file','node-name':'f','filename':'new.img'}");
        create("'driver':'qcow2','file':'f','size':67108864,'cluster-size':2097152,'extended-l2':true,"
               "'backing-file':'second.qcow2','backing-fmt':'qcow2'");
        must("blockdev-add", "{'driver':'qcow2','node-name':'new','file':'f'}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "new"), "\"cluster-size\":2097152"));
        must("blockdev-backup", "{'device':'first','target':'new','sync':'full','job-id':'b'}");
        await("BLOCK_JOB_COMPLETED", "\"b\"");
        del_target("new");
        check_image("new.img");
        expect_in_image("new.img", "qcow2", 0x11, 0, AREA);
        must("blockdev-create", "{'job-id':'c','options':{'driver':'qcow2','size':512,'file':{'driver':'file','filename':'no/x'}}}");
        await("JOB_STATUS_CHANGE", "\"aborting\"");
        await("JOB_STATUS_CHANGE", "\"concluded\"");
        if (!strstr(entry("query-jobs", "id", "c"), "cannot open"))
                fail_msg("%s", entry("query-jobs", "id", "c"));
}

/* A snapshot gave the disk a node whose name nobody chose: sentences say the disk's. */
static void test_sentences_name_the_disk(void **state)
{
        assert_int_equal(run("rm -f over.qcow2 over2.qcow2"), 0);
        must("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'over.qcow2'}");
        must("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'over2.qcow2'}");
        expect_refused("blockdev-del", "{'node-name':'first'}", "Node 'first' is busy: node is used as backing hd of '#block");
        add_target("copy", "qcow2");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'full','speed':1}");
        assert_string_not_equal(entry("query-jobs", "id", "first"), "");
        expect_refused("block_resize", "{'device':'first','size':134217728}", "Node 'first' is busy: block device is in use");
        expect_refused("blockdev-mirror", "{'device':'first','target':'copy','sync':'full','job-id':'m'}", "Node 'first' is busy");
        must("job-cancel", "{'id':'first'}");
        await("BLOCK_JOB_CANCELLED", "\"first\"");
        must("block-commit", "{'device':'first','base-node':'first','job-id':'c'}");
        await("BLOCK_JOB_READY", "\"c\"");
        must("job-complete", "{'id':'c'}");
        await("BLOCK_JOB_COMPLETED", "\"c\"");
        del_target("copy");
}

/* --- states -------------------------------------------------------------------------------------------------------------- */

static void test_what_is_refused(void **state)
{
        add_target("copy", "qcow2");
        add_target("other", "qcow2");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'full','job-id':'b','speed':1}");
        expect_refused("blockdev-del", "{'node-name':'copy'}", "Node 'copy' is busy: block device is in use by block job: backup");
        expect_refused("block_resize", "{'node-name':'first','size':134217728}", "Node 'first' is busy");
        expect_refused("blockdev-mirror", "{'device':'first','target':'other','sync':'full'}", "Node 'first' is busy");
        expect_refused("blockdev-backup", "{'device':'other','target':'copy','sync':'full'}", "Node 'copy' is busy");
        expect_refused("blockdev-backup", "{'device':'other','target':'first','sync':'full'}", "Node 'first' is busy");
        expect_refused("block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'copy','addr':{'type':'unix',"
                       "'path':'x.sock'}}", "Node 'copy' is busy");
        expect_refused("upgrade", "{}", "job 'b' is running, and jobs are not handed over");
        expect_refused("block-job-complete", "{'device':'b'}", "Job 'b' in state 'running' cannot accept command verb 'complete'");
        expect_refused("job-dismiss", "{'id':'b'}", "Job 'b' in state 'running' cannot accept command verb 'dismiss'");
        expect_refused("block-job-finalize", "{'id':'b'}", "Job 'b' in state 'running' cannot accept command verb 'finalize'");
        expect_refused("block-job-set-speed", "{'device':'b','speed':-1}", "Parameter 'speed' expects a non-negative value");
        expect_refused("block-job-resume", "{'device':'b'}", "Can't resume a job that was not paused");
        must("block-job-pause", "{'device':'b'}");
        await( "JOB_STATUS_CHANGE", "\"paused\"");
        expect_job("b", "\"busy\":false");
        expect_refused("block-job-pause", "{'device':'b'}", "Job is already paused");
        expect_refused("block-job-cancel", "{'device':'b'}", "The block job for device 'b' is currently paused");
        fill(0x22, 0, MIB); /* a guest never waits for a job */
        must("block-job-cancel", "{'device':'b','force':true}");
        await( "BLOCK_JOB_CANCELLED", "\"b\"");
        must("block_resize", "{'node-name':'other','size':134217728}");
        expect_refused("blockdev-backup", "{'device':'first','target':'other','sync':'full'}",
                       "Source and target image have different sizes");
        expect_refused("blockdev-backup", "{'device':'other','target':'first','sync':'full'}", "Source and target image have");
        del_target("other");
        del_target("copy");
        add_target("copy", "raw");
        expect_refused("blockdev-backup", "{'device':'first','target':'copy','sync':'full','compress':true}",
                       "Compression is not supported for this drive copy");
        expect_refused("blockdev-backup", "{'device':'copy','target':'first','sync':'full'}", "is in use by export 'first'");
        check_image("first.qcow2 -U");
}

static void test_by_hand(void **state)
{
        add_target("copy", "qcow2");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'full','auto-finalize':false,'auto-dismiss':false}");
        await( "BLOCK_JOB_PENDING", "\"first\"");
        expect_job("first", "\"status\":\"pending\"");
        must("block-job-finalize", "{'id':'first'}");
        await( "BLOCK_JOB_COMPLETED", "\"first\"");
        expect_refused("blockdev-backup", "{'device':'first','target':'copy','sync':'full'}", "Job ID 'first' already in use");
        must("block-job-dismiss", "{'id':'first'}");
        assert_string_equal(entry("query-jobs", "id", "first"), "");
}

/* --- errors -------------------------------------------------------------------------------------------------------------- */

static void test_a_full_target(void **state)
{
        end(state);
        start_daemon("engine.write=3:ENOSPC");
        add_target("copy", "raw");
        must("blockdev-backup", "{'device':'first','target':'copy','sync':'full','job-id':'b','on-target-error':'enospc'}");
        await( "BLOCK_JOB_ERROR", "\"action\":\"stop\"");
        await( "JOB_STATUS_CHANGE", "\"paused\"");
        expect_job("b", "\"io-status\":\"nospace\"");
        must("block-job-resume", "{'device':'b'}");
        await( "BLOCK_JOB_COMPLETED", "\"b\"");
        del_target("copy");
        assert_int_equal(run("qemu-img compare -q -U -f qcow2 -F raw first.qcow2 copy.img"), 0);
}

static void test_a_broken_target(void **state)
{
        end(state);
        start_daemon("engine.write=3:EIO");
        add_target("there", "raw");
        must("blockdev-mirror", "{'device':'first','target':'there','sync':'full','job-id':'m','auto-dismiss':false}");
        await( "BLOCK_JOB_ERROR", "\"action\":\"report\"");
        await( "BLOCK_JOB_COMPLETED", "\"error\":\"Input/output error\"");
        assert_non_null(strstr(entry("query-jobs", "id", "m"), "\"error\":\"Input/output error\""));
        connect_guest();
        fill(0x77, 0, MIB);
        del_target("there");
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static void test_quit_while_jobs_run(void **state)
{
        add_target("there", "qcow2");
        must("blockdev-mirror", "{'device':'first','target':'there','sync':'full','job-id':'m','speed':100000}");
        assert_int_equal(run("rm -f s.img && qemu-img create -q -f qcow2 s.img 32M"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'second','file':{'driver':'file','filename':'second.qcow2'}}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'s','file':{'driver':'file','filename':'s.img'}}");
        must("blockdev-backup", "{'device':'second','target':'s','sync':'none','job-id':'b'}");
        fill(0x66, 0, MIB);
        must("quit", NULL);
        await( "BLOCK_JOB_CANCELLED", "\"m\"");
        assert_int_equal(exit_status(), 0);
        check_image("first.qcow2");
        check_image("there.img");
        check_image("s.img");
        expect_in_image("first.qcow2", "qcow2", 0x66, 0, MIB);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_backup),
                TEST(test_backup_of_what_is_overwritten),
                TEST(test_incremental),
                TEST(test_together),
                TEST(test_mirror),
                TEST(test_mirror_write_blocking),
                TEST(test_sentences_name_the_disk),
                TEST(test_mirror_that_is_left),
                TEST(test_create),
                TEST(test_what_is_refused),
                TEST(test_by_hand),
                TEST(test_a_full_target),
                TEST(test_a_broken_target),
                TEST(test_quit_while_jobs_run),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
