/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Limits of a real daemon, over the control socket. With one byte a second a first request goes through and no second one
 * does in the life of the test: nothing here depends on how long anything takes. (fio/limits measures rates.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/e2e/control_fixture.h"

#define N 4u
#define SLOW "'bps':0,'bps_rd':0,'bps_wr':1,'iops':0,'iops_rd':0,'iops_wr':0"
#define NONE "'bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0"

static struct front_end *fe;
static struct fe_io io[N];
static char *buf;

static void begin(const char *socket)
{
        fe = connect_to(socket);
        buf = fe_alloc(fe, 4096, 4096);
}

static void do_one(uint32_t type)
{
        assert_int_equal(do_io(fe, type, 800 * 512, buf, type == FE_FLUSH ? 0 : 4096), FE_OK);
}

/*
 * Writes; the first one is answered. A flush goes before: when it is back the queue thread has read the message about limits, which
 * it may not have in the round in which a command about them was answered.
 */
static void submit_writes(void)
{
        struct fe_io *done[N];
        int n = 0;

        do_one(FE_FLUSH);
        for (unsigned i = 0; i < N; i++) {
                io[i] = (struct fe_io){ .type = FE_WRITE, .gpa = fe_gpa(fe, buf), .len = 4096, .sector = 8 * i };
                assert_int_equal(fe_submit(fe_queue(fe, 0), &io[i]), 0);
        }
        fe_kick(fe_queue(fe, 0));
        for (int left = HANG_S; !n && left; left--) {
                fe_wait(fe_queue(fe, 0), 1000);
                n = fe_reap(fe_queue(fe, 0), done, N);
        }
        assert_int_equal(n, 1);
        assert_int_equal(done[0]->status, FE_OK);
}

static void reap_rest(unsigned left)
{
        struct fe_io *done[N];

        for (int turns = HANG_S; left && turns; turns--) {
                int n;

                fe_wait(fe_queue(fe, 0), 1000);
                n = fe_reap(fe_queue(fe, 0), done, N);
                for (int i = 0; i < n; i++)
                        assert_int_equal(done[i]->status, FE_OK);
                left -= (unsigned)n;
        }
        assert_int_equal(left, 0);
}

/* --- objects ------------------------------------------------------------------------------------------------------ */

static json_int_t limit_of(const char *path, const char *name)
{
        char args[128];
        json_t *v = NULL;
        json_int_t n;

        snprintf(args, sizeof(args), "{'path':'%s','property':'limits'}", path);
        assert_null(try(client, "qom-get", args, &v));
        n = json_integer_value(json_object_get(v, name));
        json_decref(v);
        return n;
}

static void test_groups(void **state)
{
        json_t *v = NULL;

        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops-total':50,'iops-total-max':70},"
                           "'x-bps-read':1000}");
        assert_int_equal(limit_of("/objects/g", "iops-total"), 50);
        assert_int_equal(limit_of("g", "bps-read"), 1000);
        assert_int_equal(limit_of("g", "bps-read-max-length"), 1);
        must("qom-set", "{'path':'g','property':'limits','value':{'iops-total':60}}"); /* the rest stays */
        assert_int_equal(limit_of("g", "iops-total"), 60);
        assert_int_equal(limit_of("g", "iops-total-max"), 70);
        assert_non_null(try(client, "qom-set", "{'path':'g','property':'limits','value':{'iops-total':80}}", NULL));
        assert_non_null(try(client, "qom-set", "{'path':'g','property':'x-iops-total','value':{}}", NULL));
        assert_int_equal(limit_of("g", "iops-total"), 60);
        assert_null(try(client, "qom-list", "{'path':'/objects'}", &v));
        assert_string_equal(json_string_value(json_object_get(json_array_get(v, 0), "type")), "child<throttle-group>");
        json_decref(v);
        assert_string_equal(try(client, "object-add", "{'qom-type':'throttle-group','id':'g'}", NULL),
                            "attempt to add duplicate property 'g' to object (type 'container')");

        must("blockdev-add", "{'driver':'null-co','node-name':'n','throttle-group':'g'}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"group\":\"g\""));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"iops\":60"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"iops_max\":70"));
        assert_string_equal(try(client, "object-del", "{'id':'g'}", NULL), "object 'g' is in use, can not be deleted");
        must("block_set_io_throttle", "{'id':'n'," NONE "}");
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "group"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"iops\":0"));
        must("object-del", "{'id':'g'}");
        must("blockdev-del", "{'node-name':'n'}");
}

/* --- disks -------------------------------------------------------------------------------------------------------- */

static void test_a_disk(void **state)
{
        begin("first.sock");
        must("block_set_io_throttle", "{'id':'first'," SLOW "}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"bps_wr\":1,"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"group\":\"first\""));
        submit_writes();
        must("block_resize", "{'node-name':'first','size':83886080}"); /* no hold waits for them */
        assert_int_equal(fe_wait(fe_queue(fe, 0), 20), 0);
        must("block_set_io_throttle", "{'id':'first'," NONE "}");
        reap_rest(N - 1);
        do_one(FE_WRITE);
        fe_close(fe);
}

/* What a snapshot gave it has a made-up name; its limits go by the name that people call it. */
static void test_after_a_snapshot(void **state)
{
        char args[256], file[128], why[128];

        snprintf(file, sizeof(file), "%s", at("limited.qcow2"));
        snprintf(args, sizeof(args), "{'device':'first','snapshot-file':'%s'}", file);
        must("blockdev-snapshot-sync", args);
        must("block_set_io_throttle", "{'id':'first'," SLOW "}");
        assert_non_null(strstr(entry("query-named-block-nodes", "file", file), "\"group\":\"first\""));
        must("block_set_io_throttle", "{'id':'first'," NONE "}");
        snprintf(why, sizeof(why), "%s", try(client, "block_set_io_throttle", "{'id':'first'," SLOW ",'group':'#x'}", NULL));
        assert_string_equal(why, "Invalid group name: '#x'");
}

static void test_reads_and_flushes_go_on(void **state)
{
        begin("first.sock");
        must("block_set_io_throttle", "{'id':'first'," SLOW ",'group':'mine'}");
        do_one(FE_WRITE);
        for (unsigned i = 0; i < 20; i++)
                do_one(i % 2 ? FE_READ : FE_FLUSH);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"group\":\"mine\""));
        fe_close(fe);
}

/* Whoever stops a ring is answered, and so are its requests. */
static void test_a_stop_does_not_wait(void **state)
{
        uint32_t base;

        begin("first.sock");
        must("block_set_io_throttle", "{'id':'first'," SLOW "}");
        submit_writes();
        assert_int_equal(fe_ring_stop(fe, 0, &base), 0);
        reap_rest(N - 1);
        assert_int_equal(fe_ring_start(fe, 0, base), 0);
        io[0] = (struct fe_io){ .type = FE_WRITE, .gpa = fe_gpa(fe, buf), .len = 4096 };
        assert_int_equal(fe_do(fe_queue(fe, 0), &io[0], 50), -ETIMEDOUT); /* they were charged */
        fe_close(fe); /* and the daemon's end does not wait either: stop() */
}

static void test_an_upgrade_keeps_them(void **state)
{
        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'bps-write':1}}");
        must("object-add", "{'qom-type':'throttle-group','id':'unused','limits':{'iops-read':7,'iops-size':512}}");
        must("block_set_io_throttle", "{'id':'first'," SLOW ",'group':'g'}");
        must("blockdev-add", "{'driver':'null-co','node-name':'n'}");
        must("block_set_io_throttle", "{'id':'n','bps':9,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}");
        must("block-set-write-threshold", "{'node-name':'n','write-threshold':4711}");
        begin("first.sock");
        submit_writes();
        upgrade();
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"write_threshold\":4711"));
        reap_rest(N - 1);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"group\":\"g\""));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "n"), "\"bps\":9,"));
        assert_int_equal(limit_of("unused", "iops-read"), 7);
        assert_int_equal(limit_of("unused", "iops-size"), 512);
        submit_writes();
        must("qom-set", "{'path':'g','property':'limits','value':{'bps-write':0}}");
        reap_rest(N - 1);
        fe_close(fe);
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

/* The event @name, whatever comes before it; its data, the caller's. */
static json_t *wait_for_event(const char *name)
{
        for (;;) {
                json_t *event, *data;
                bool found;

                assert_int_equal(qmp_client_event(client, &event), 0);
                found = !strcmp(json_string_value(json_object_get(event, "event")), name);
                data = json_incref(json_object_get(event, "data"));
                json_decref(event);
                if (found)
                        return data;
                json_decref(data);
        }
}

static void write_at(uint64_t off)
{
        struct fe_io one = { .type = FE_WRITE, .gpa = fe_gpa(fe, buf), .len = 4096, .sector = off / 512 };

        assert_int_equal(fe_do(fe_queue(fe, 0), &one, HANG_MS), 0);
}

/* zeros.img is raw: a byte of the disk is one of the file. Told once. */
static void test_write_threshold(void **state)
{
        json_t *data;

        must("blockdev-add", "{'driver':'raw','node-name':'z','file':{'driver':'file','filename':'zeros.img'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'z','node-name':'z','writable':true,"
                                 "'addr':{'type':'unix','path':'z.sock'}}");
        must("block-set-write-threshold", "{'node-name':'z','write-threshold':69632}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "z"), "\"write_threshold\":69632"));
        begin("z.sock");
        write_at(65536); /* up to it, not beyond */
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "z"), "\"write_threshold\":69632"));
        write_at(131072);
        data = wait_for_event("BLOCK_WRITE_THRESHOLD");
        assert_string_equal(json_string_value(json_object_get(data, "node-name")), "z");
        assert_int_equal(json_integer_value(json_object_get(data, "amount-exceeded")), 131072 + 4096 - 69632);
        assert_int_equal(json_integer_value(json_object_get(data, "write-threshold")), 69632);
        json_decref(data);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "z"), "\"write_threshold\":0"));
        fe_close(fe);
}

/* Of a qcow2 image it is about the file: tables and clusters. */
static void test_write_threshold_qcow2(void **state)
{
        json_t *data;

        must("block-set-write-threshold", "{'node-name':'first','write-threshold':1048576}");
        begin("first.sock");
        for (uint64_t off = 0; off < 32 * 65536; off += 65536)
                write_at(off);
        data = wait_for_event("BLOCK_WRITE_THRESHOLD");
        assert_int_equal(json_integer_value(json_object_get(data, "write-threshold")), 1048576);
        json_decref(data);
        fe_close(fe);
}

/* The L1 table leads to a place that is no cluster. */
static void test_corrupt(void **state)
{
        json_t *data;

        assert_int_equal(run("qemu-img create -q -f qcow2 bad.qcow2 1M && qemu-io -c 'write -q 0 64k' bad.qcow2 &&"
                             "printf '\\200\\000\\000\\000\\000\\004\\002\\001' | dd of=bad.qcow2 bs=1 seek=$((0x30000)) conv=notrunc "
                             "status=none"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'bad','file':{'driver':'file','filename':'bad.qcow2'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'bad','node-name':'bad','writable':true,"
                                 "'addr':{'type':'unix','path':'bad.sock'}}");
        begin("bad.sock");
        write_at(0);
        data = wait_for_event("BLOCK_IMAGE_CORRUPTED");
        assert_string_equal(json_string_value(json_object_get(data, "node-name")), "bad");
        assert_true(json_is_true(json_object_get(data, "fatal")));
        assert_true(strlen(json_string_value(json_object_get(data, "msg"))) > 5);
        json_decref(data);
        data = wait_for_event("BLOCK_IO_ERROR");
        assert_string_equal(json_string_value(json_object_get(data, "action")), "report");
        assert_string_equal(json_string_value(json_object_get(data, "operation")), "write");
        assert_false(json_is_true(json_object_get(data, "nospace")));
        json_decref(data);
        fe_close(fe);
}

/* driver=throttle: in front of an image, and between an image and its file. */
static void throttled(const char *exported)
{
        char text[256];

        snprintf(text, sizeof(text), "{'type':'vhost-user-blk','id':'x','node-name':'%s','writable':true,"
                 "'addr':{'type':'unix','path':'x.sock'}}", exported);
        must("block-export-add", text);
        begin("x.sock");
        submit_writes();
        upgrade();
        assert_string_equal(try(client, "blockdev-del", "{'node-name':'t'}", NULL), "Node t is in use");
        must("qom-set", "{'path':'g','property':'limits','value':{'bps-write':0}}");
        reap_rest(N - 1);
        fe_close(fe);
        must("block-export-del", "{'id':'x','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "x");
        must("qom-set", "{'path':'g','property':'limits','value':{'bps-write':1}}");
}

static void test_throttle_nodes(void **state)
{
        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'bps-write':1}}");
        must("object-add", "{'qom-type':'throttle-group','id':'h'}");
        must("blockdev-add", "{'driver':'file','node-name':'f','filename':'second.qcow2'}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'q','file':'f'}");
        assert_non_null(try(client, "blockdev-add", "{'driver':'throttle','node-name':'t','file':'q'}", NULL));
        assert_non_null(try(client, "blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'no','file':'q'}", NULL));
        assert_non_null(try(client, "blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','file':'no'}", NULL));
        assert_non_null(try(client, "blockdev-add", "{'driver':'throttle','node-name':'q','throttle-group':'g','file':'q'}", NULL));
        must("blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','file':'q'}");
        assert_non_null(try(client, "blockdev-add", "{'driver':'throttle','node-name':'u','throttle-group':'h','file':'t'}", NULL));
        assert_string_equal(try(client, "blockdev-del", "{'node-name':'q'}", NULL), "Block device q is in use");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "t"), "\"drv\":\"throttle\""));
        throttled("t");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "q"), "\"group\":\"g\""));
        must("blockdev-del", "{'node-name':'t'}");
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "q"), "\"group\""));
        must("blockdev-del", "{'node-name':'q'}");

        must("blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','file':'f'}");
        assert_non_null(try(client, "blockdev-add", "{'driver':'qcow2','node-name':'q','file':'f'}", NULL)); /* only through it */
        assert_non_null(try(client, "blockdev-add", "{'driver':'qcow2','node-name':'q','file':'t','throttle-group':'h'}", NULL));
        must("blockdev-add", "{'driver':'qcow2','node-name':'q','file':'t'}");
        throttled("q");
        must("blockdev-del", "{'node-name':'q'}");
        must("blockdev-del", "{'node-name':'t'}");
        must("blockdev-del", "{'node-name':'f'}");
        must("object-del", "{'id':'g'}");
}

#define SECOND "{'driver':'file','filename':'second.qcow2'}"

static void refused(const char *file, const char *says)
{
        char args[256];
        const char *said;

        snprintf(args, sizeof(args), "{'driver':'throttle','node-name':'t','throttle-group':'g','file':%s}", file);
        said = try(client, "blockdev-add", args, NULL);
        if (!said || !strstr(said, says))
                fail_msg("%s: %s", file, said ?: "it was done");
}

/* An object in place of a name makes a node, which goes with the one in front of it. */
static void test_throttle_nodes_with_objects(void **state)
{
        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'bps-write':1}}");
        refused("{'driver':'throttle','throttle-group':'g','file':'x'}", "'file.driver' does not accept value 'throttle'");
        refused("{'driver':'qcow2','node-name':'t','file':" SECOND "}", "Duplicate nodes with node-name='t'");
        refused("{'driver':'qcow2','node-name':'first','file':" SECOND "}", "Duplicate nodes with node-name='first'");
        refused("{'driver':'qcow2','file':{'driver':'file','filename':'nowhere'}}", "No such file");
        refused("{'driver':'file','filename':'nowhere'}", "No such file");
        refused("{'driver':'qcow2','cache':{'no-flush':true},'file':" SECOND "}", "'cache.no-flush' does not accept true");
        assert_string_equal(entry("query-named-block-nodes", "node-name", "t"), "");

        must("blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','cache':{'direct':true},"
             "'file':{'driver':'qcow2','node-name':'q','file':" SECOND "}}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "q"), "\"direct\":true"));
        assert_string_equal(try(client, "blockdev-del", "{'node-name':'q'}", NULL), "Block device q is in use");
        throttled("t");
        must("blockdev-del", "{'node-name':'t'}");
        assert_string_equal(entry("query-named-block-nodes", "node-name", "q"), "");

        must("blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','file':{'driver':'qcow2','file':" SECOND "}}");
        must("blockdev-del", "{'node-name':'t'}");

        must("blockdev-add", "{'driver':'throttle','node-name':'t','throttle-group':'g','file':" SECOND "}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'q','file':'t'}");
        throttled("q");
        must("blockdev-del", "{'node-name':'q'}");
        must("blockdev-del", "{'node-name':'t'}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'q','file':" SECOND "}");
        must("blockdev-del", "{'node-name':'q'}");
        must("object-del", "{'id':'g'}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_groups, start_default, stop),
                cmocka_unit_test_setup_teardown(test_a_disk, start_default, stop),
                cmocka_unit_test_setup_teardown(test_after_a_snapshot, start_default, stop),
                cmocka_unit_test_setup_teardown(test_reads_and_flushes_go_on, start_default, stop),
                cmocka_unit_test_setup_teardown(test_a_stop_does_not_wait, start_default, stop),
                cmocka_unit_test_setup_teardown(test_write_threshold, start_default, stop),
                cmocka_unit_test_setup_teardown(test_write_threshold_qcow2, start_default, stop),
                cmocka_unit_test_setup_teardown(test_corrupt, start_default, stop),
                cmocka_unit_test_setup_teardown(test_an_upgrade_keeps_them, start_default, stop),
                cmocka_unit_test_setup_teardown(test_throttle_nodes, start_default, stop),
                cmocka_unit_test_setup_teardown(test_throttle_nodes_with_objects, start_default, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
