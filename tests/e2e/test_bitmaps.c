/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty bitmaps on the control socket: what they record, where they stay, and what QEMU finds in the image afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/control_fixture.h"

#define MIB (1ull << 20)

static void write_to(const char *socket, uint64_t off, uint32_t len)
{
        struct front_end *fe = connect_to(socket);
        void *buf = fe_alloc(fe, len, 4096);

        memset(buf, 0x77, len);
        assert_int_equal(do_io(fe, FE_WRITE, off, buf, len), FE_OK);
        fe_close(fe);
}

/* The node's entry of query-named-block-nodes says @part. */
static void expect(const char *part)
{
        const char *text = entry("query-named-block-nodes", "node-name", "first");

        if (!strstr(text, part))
                fail_msg("no %s in %s", part, text);
}

static void refused(const char *command, const char *args, const char *says)
{
        const char *text = try(client, command, args, NULL);

        if (!text || !strstr(text, says))
                fail_msg("%s %s: %s, not \"%s\"", command, args, text ? text : "was done", says);
}

#define ON_FIRST(name) "{'node':'first','name':'" name "'}"

static void test_recording(void **state)
{
        must("block-dirty-bitmap-add", ON_FIRST("a"));
        must("block-dirty-bitmap-add", "{'node':'first','name':'fine','granularity':512,'disabled':true}");
        expect("{\"busy\":false,\"count\":0,\"granularity\":65536,\"name\":\"a\",\"persistent\":false,\"recording\":true}");
        write_to("first.sock", MIB, 4096);
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"a\"");
        expect("\"count\":0,\"granularity\":512,\"name\":\"fine\",\"persistent\":false,\"recording\":false");
        must("block-dirty-bitmap-enable", ON_FIRST("fine"));
        must("block-dirty-bitmap-disable", ON_FIRST("a"));
        write_to("first.sock", 2 * MIB, 4096);
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"a\"");
        expect("\"count\":4096,\"granularity\":512,\"name\":\"fine\"");
        must("block-dirty-bitmap-merge", "{'node':'first','target':'a','bitmaps':['fine',{'node':'first','name':'a'}]}");
        expect("\"count\":131072,\"granularity\":65536,\"name\":\"a\"");
        must("block-dirty-bitmap-clear", ON_FIRST("fine"));
        expect("\"count\":0,\"granularity\":512,\"name\":\"fine\"");
        must("block-dirty-bitmap-remove", ON_FIRST("fine"));
        must("block-dirty-bitmap-remove", ON_FIRST("a"));
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "dirty-bitmaps"));
}

static void test_refused(void **state)
{
        must("block-dirty-bitmap-add", ON_FIRST("a"));
        refused("block-dirty-bitmap-add", ON_FIRST("a"), "Bitmap already exists: a");
        refused("block-dirty-bitmap-add", ON_FIRST(""), "Bitmap name cannot be empty");
        refused("block-dirty-bitmap-add", "{'node':'first','name':'x','granularity':1000}", "Granularity must be power of 2");
        refused("block-dirty-bitmap-add", "{'node':'first','name':'x','granularity':0}", "Granularity must be power of 2");
        refused("block-dirty-bitmap-add", "{'node':'no','name':'x'}", "Cannot find device");
        refused("block-dirty-bitmap-clear", ON_FIRST("x"), "Dirty bitmap 'x' not found");
        refused("block-dirty-bitmap-merge", "{'node':'first','target':'a','bitmaps':['x']}", "Dirty bitmap 'x' not found");
        refused("block-dirty-bitmap-merge", "{'node':'first','target':'a','bitmaps':[7]}", "bitmaps");
        refused("upgrade", "{}", "bitmaps that are not persistent");
        must("blockdev-add", "{'driver':'raw','node-name':'zeros','file':{'driver':'file','filename':'zeros.img'}}");
        refused("block-dirty-bitmap-add", "{'node':'zeros','name':'x','persistent':true}", "Cannot store dirty bitmaps");
        must("block-dirty-bitmap-add", "{'node':'zeros','name':'x'}");
        refused("block-dirty-bitmap-merge", "{'node':'first','target':'a','bitmaps':[{'node':'zeros','name':'x'}]}",
                "different sizes");
        must("blockdev-del", "{'node-name':'zeros'}");
}

/* What is in the image is what was recorded, by QEMU's own count; a kill leaves a bitmap that is void, and a clean image. */
static void test_persistent(void **state)
{
        must("block-dirty-bitmap-add", "{'node':'first','name':'kept','persistent':true}");
        write_to("first.sock", 5 * MIB, 65536);
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"kept\",\"persistent\":true,\"recording\":true");
        stop(state);
        assert_int_equal(run("qemu-img check -q first.qcow2"), 0);
        assert_int_equal(run("qemu-img info first.qcow2 | grep -A5 bitmaps: | grep -q 'name: kept'"), 0);
        assert_int_equal(run("! qemu-img info first.qcow2 | grep -q in-use"), 0);
        start_default(state);
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"kept\",\"persistent\":true,\"recording\":true");
        write_to("first.sock", 7 * MIB, 4096);
        kill(daemon_pid, SIGKILL);
        assert_int_equal(exit_status(), -SIGKILL);
        stop(state);
        assert_int_equal(run("qemu-img info -U first.qcow2 | grep -q in-use"), 0);
        start_default(state);
        expect("\"inconsistent\":true,\"name\":\"kept\"");
        refused("block-dirty-bitmap-clear", ON_FIRST("kept"), "is inconsistent and cannot be used");
        must("block-dirty-bitmap-remove", ON_FIRST("kept"));
        stop(state);
        assert_int_equal(run("qemu-img check -q first.qcow2"), 0);
        assert_int_equal(run("! qemu-img info first.qcow2 | grep -q bitmaps"), 0);
        start_default(state);
}

#define ACTION(type, data) "{'type':'block-dirty-bitmap-" type "','data':" data "}"

/* All or nothing; what is added records from the instant on at which the others happen. */
static void test_transaction(void **state)
{
        must("block-dirty-bitmap-add", ON_FIRST("old"));
        write_to("first.sock", MIB, 4096);
        must("transaction", "{'actions':[" ACTION("add", ON_FIRST("new")) "," ACTION("clear", ON_FIRST("old")) ","
             ACTION("disable", ON_FIRST("old")) "]}");
        write_to("first.sock", 2 * MIB, 4096);
        expect("\"count\":0,\"granularity\":65536,\"name\":\"old\",\"persistent\":false,\"recording\":false");
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"new\",\"persistent\":false,\"recording\":true");
        refused("transaction", "{'actions':[" ACTION("clear", ON_FIRST("new")) "," ACTION("add", ON_FIRST("third")) ","
                ACTION("remove", ON_FIRST("old")) ",{'type':'abort','data':{}}]}", "Transaction aborted");
        refused("transaction", "{'actions':[" ACTION("add", ON_FIRST("third")) "," ACTION("add", ON_FIRST("new")) "]}",
                "Bitmap already exists: new");
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"new\"");
        expect("\"name\":\"old\"");
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "third"));
        must("transaction", "{'actions':[" ACTION("add", ON_FIRST("third")) ","
             ACTION("merge", "{'node':'first','target':'third','bitmaps':['new']}") "," ACTION("remove", ON_FIRST("new")) ","
             ACTION("enable", ON_FIRST("old")) "]}");
        expect("\"count\":65536,\"granularity\":65536,\"name\":\"third\"");
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"new\""));
        must("transaction", "{'actions':[" ACTION("remove", ON_FIRST("third")) "," ACTION("remove", ON_FIRST("old")) "]}");
}

/* A live snapshot: bitmaps stay with the image that becomes the backing file, stored; the overlay gets one that misses nothing. */
static void test_snapshot(void **state)
{
        must("blockdev-add", "{'driver':'qcow2','node-name':'disk','file':{'driver':'file','filename':'second.qcow2'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'disk','node-name':'disk','writable':true,"
             "'addr':{'type':'unix','path':'disk.sock'}}");
        must("block-dirty-bitmap-add", "{'node':'disk','name':'b','persistent':true}");
        write_to("disk.sock", MIB, 65536);
        must("transaction", "{'actions':[{'type':'blockdev-snapshot-sync','data':{'node-name':'disk','snapshot-file':'over.qcow2',"
             "'snapshot-node-name':'over'}},"
             ACTION("add", "{'node':'over','name':'b','granularity':65536,'persistent':true}") "]}");
        write_to("disk.sock", 3 * MIB, 65536);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "over"), "\"count\":65536,\"granularity\":65536,"
                               "\"name\":\"b\",\"persistent\":true,\"recording\":true"));
        must("block-export-del", "{'id':'disk','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "disk");
        must("blockdev-del", "{'node-name':'over'}");
        for (int i = 0; i < 2; i++) {
                char command[256];

                snprintf(command, sizeof(command), "qemu-img check -q %s && qemu-img info %s | grep -q 'name: b' && "
                         "! qemu-img info %s | grep -q in-use", i ? "over.qcow2" : "second.qcow2",
                         i ? "over.qcow2" : "second.qcow2", i ? "over.qcow2" : "second.qcow2");
                assert_int_equal(run(command), 0);
        }
        assert_int_equal(run("rm over.qcow2"), 0);
}

/* Back into the base, which goes on as the disk: bitmaps follow the disk, and those that the base had do not lie. */
static void test_commit(void **state)
{
        assert_int_equal(run("qemu-img create -q -f qcow2 third.qcow2 32M"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'disk','file':{'driver':'file','filename':'third.qcow2'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'disk','node-name':'disk','writable':true,"
             "'addr':{'type':'unix','path':'disk.sock'}}");
        must("block-dirty-bitmap-add", "{'node':'disk','name':'base','persistent':true}");
        must("blockdev-snapshot-sync", "{'node-name':'disk','snapshot-file':'over.qcow2','snapshot-node-name':'over'}");
        must("block-dirty-bitmap-add", "{'node':'over','name':'top'}");
        write_to("disk.sock", 3 * MIB, 65536);
        must("block-commit", "{'job-id':'c','device':'over'}");
        while (!strstr(entry("query-jobs", "id", "c"), "\"ready\""))
                usleep(10000);
        must("job-complete", "{'id':'c'}");
        while (*entry("query-jobs", "id", "c"))
                usleep(10000);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "disk"), "\"count\":65536"));
        must("block-export-del", "{'id':'disk','mode':'hard'}");
        while (try(client, "blockdev-del", "{'node-name':'disk'}", NULL)) /* the export is still going */
                usleep(10000);
        assert_int_equal(run("qemu-img check -q third.qcow2 && qemu-img info third.qcow2 | grep -q in-use"), 0);
}

/* The same writes to a disk of ours and of QEMU's, by its own digest of the bits. */
static void test_digest(void **state)
{
        json_t *ret = NULL;
        char command[512];

        must("block-dirty-bitmap-add", "{'node':'first','name':'d','granularity':4096}");
        for (uint64_t off = 0; off < 60 * MIB; off += 7 * MIB)
                write_to("first.sock", off, 8192);
        if (try(client, "x-debug-block-dirty-bitmap-sha256", ON_FIRST("d"), &ret)) {
                print_message("no crypto library\n");
                return;
        }
        if (run("command -v qemu-storage-daemon >out") == 0) {
                assert_int_equal(run("qemu-img create -q -f qcow2 q.qcow2 64M && qemu-img bitmap --add -g 4096 q.qcow2 d && "
                                     "for i in 0 7 14 21 28 35 42 49 56; do echo \"write ${i}M 8k\"; done | "
                                     "qemu-io -f qcow2 q.qcow2 >out"), 0);
                snprintf(command, sizeof(command),
                         "(echo '{\"execute\":\"qmp_capabilities\"}'; echo '{\"execute\":\"x-debug-block-dirty-bitmap-sha256\","
                         "\"arguments\":{\"node\":\"n\",\"name\":\"d\"}}'; echo '{\"execute\":\"quit\"}'; sleep 1) | "
                         "qemu-storage-daemon --blockdev file,filename=q.qcow2,node-name=f --blockdev qcow2,file=f,node-name=n "
                         "--chardev stdio,id=c --monitor c 2>err | grep -q %s",
                         json_string_value(json_object_get(ret, "sha256")));
                assert_int_equal(run(command), 0);
        }
        json_decref(ret);
        must("block-dirty-bitmap-remove", ON_FIRST("d"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start_default, stop)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_recording),
                TEST(test_refused),
                TEST(test_persistent),
                TEST(test_transaction),
                TEST(test_snapshot),
                TEST(test_commit),
                TEST(test_digest),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
