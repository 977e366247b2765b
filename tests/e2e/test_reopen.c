/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockdev-reopen: a disk changes how its image is used while its guest reads and writes; what it refuses, and that nothing has
 * changed then, on none of the disks. An argument: how often the load sees a change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tests/e2e/control_fixture.h"
#include "tests/e2e/worker.h"

#define NUNITS 8192u /* 32 MiB of the first disk */
#define UNSHARED_WRITE 201 /* image_lock.c */

static unsigned rounds = 16;

#define QCOW2(name, file, more) "{'driver':'qcow2','node-name':'" name "','file':{'driver':'file','filename':'" file "'}" more "}"
#define FIRST(more) QCOW2("first", "first.qcow2", more)
#define SECOND(more) QCOW2("second", "second.qcow2", more)
#define REOPEN(a) "{'options':[" a "]}"
#define DIRECT ",'cache':{'direct':true}"

static const char *node(const char *name)
{
        return entry("query-named-block-nodes", "node-name", name);
}

static bool says(const char *name, const char *what)
{
        return strstr(node(name), what);
}

/* What is told of a node, without what is the file's: its size, which a load changes, and its mark, which is seen when it is read again. */
static void settings(const char *name, char *ret, size_t size)
{
        snprintf(ret, size, "%s", node(name));
        for (int i = 0; i < 2; i++) {
                char *at = strstr(ret, i ? "\"corrupt\":" : "\"actual-size\":");

                if (at) {
                        size_t len = strcspn(at, ",}");

                        memmove(at, at + len, strlen(at + len) + 1);
                }
        }
}

/* Refused with @error, and the node is as it was. */
static void refused(const char *name, const char *args, const char *error)
{
        char before[4096], after[4096];
        const char *why;

        settings(name, before, sizeof(before));
        why = try(client, "blockdev-reopen", args, NULL);
        if (!why || !strstr(why, error))
                fail_msg("%s\nexpected: %s\ngot: %s", args, error, why ? why : "success");
        settings(name, after, sizeof(after));
        assert_string_equal(after, before);
}

/* --- a load that verifies what it reads --------------------------------------------------------------------------- */

static struct load {
        struct front_end *fe;
        struct verify *verify;
        struct worker w;
} load;

static void load_begin(bool fresh)
{
        load = (struct load){ .fe = connect_with("first.sock", &(struct fe_opts){ .max_segs = 32 }) };
        assert_int_equal(verify_new(&(struct verify_opts){ .nunits = NUNITS, .unit_len = WORKER_UNIT, .seed = 7, .fresh = fresh },
                                    &load.verify), 0);
        load.w = (struct worker){ .fe = load.fe, .verify = load.verify, .nunits = NUNITS, .seed = 7, .odd = true };
        assert_int_equal(worker_start(&load.w), 0);
}

static void load_moves(void)
{
        if (worker_wait(&load.w, 100) == 0)
                return;
        err_clear();
        worker_stop(&load.w); /* says why */
        fail_msg("%s", err_text(-EIO));
}

static void load_end(void)
{
        if (worker_stop(&load.w) < 0)
                fail_msg("%s", load.w.why);
        assert_int_equal(load.w.wrong, 0);
        assert_int_equal(load.w.failed, 0);
        fe_close(load.fe);
        verify_free(load.verify);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_direct_under_load(void **state)
{
        load_begin(true);
        for (unsigned i = 0; i < rounds; i++) {
                load_moves();
                must("blockdev-reopen", REOPEN(FIRST(DIRECT)));
                assert_true(says("first", "\"direct\":true"));
                load_moves();
                must("blockdev-reopen", REOPEN(FIRST(",'data-first':false")));
                assert_true(says("first", "\"direct\":false"));
        }
        load_moves();
        load_end();
        stop(state);
        assert_int_equal(run("qemu-img check -q first.qcow2"), 0);
        start_default(state);
}

static void add_second(void)
{
        must("blockdev-add", SECOND(",'read-only':true"));
        must("block-export-add", "{'type':'vhost-user-blk','id':'r','node-name':'second','addr':{'type':'unix','path':'r.sock'}}");
}

static int look_at_second(void)
{
        return run("qemu-io -r -c 'read 0 4k' second.qcow2 >/dev/null 2>&1");
}

static void test_read_only_and_back(void **state)
{
        struct front_end *reader, *writer;
        char *buf;

        (void)state;
        add_second();
        reader = connect_to("r.sock");
        for (int i = 1; i <= 4; i++) {
                must("blockdev-reopen", REOPEN(SECOND("")));
                assert_true(says("second", "\"ro\":false"));
                assert_int_not_equal(look_at_second(), 0); /* locked by a writer */
                must("block-export-add", "{'type':'vhost-user-blk','id':'w','node-name':'second','writable':true,"
                     "'addr':{'type':'unix','path':'w.sock'}}");
                refused("second", REOPEN(SECOND(",'read-only':true")),
                        "Read-only block node 'second' cannot support read-write users");
                writer = connect_to("w.sock");
                buf = fe_alloc(writer, 4096, 4096);
                memset(buf, i, 4096);
                assert_int_equal(do_io(writer, FE_WRITE, 0, buf, 4096), FE_OK);
                fe_close(writer);
                must("block-export-del", "{'id':'w','mode':'hard'}");
                expect_event(client, "BLOCK_EXPORT_DELETED", "w");
                if (i == 1)
                        must("block-dirty-bitmap-add", "{'node':'second','name':'b','persistent':true}");
                must("blockdev-reopen", REOPEN(SECOND(",'read-only':true")));
                assert_true(says("second", "\"ro\":true"));
                assert_true(says("second", "\"name\":\"b\""));
                assert_int_equal(look_at_second(), 0);
                assert_int_equal(run("qemu-img info second.qcow2 | grep -q in-use"), 256);
                buf = fe_alloc(reader, 4096, 4096);
                assert_int_equal(do_io(reader, FE_READ, 0, buf, 4096), FE_OK);
                assert_int_equal(buf[4095], i);
                assert_int_equal(do_io(reader, FE_WRITE, 0, buf, 4096), FE_IOERR);
                assert_string_equal(try(client, "block-export-add", "{'type':'vhost-user-blk','id':'w','node-name':'second',"
                                        "'writable':true,'addr':{'type':'unix','path':'w.sock'}}", NULL),
                                    "Cannot export read-only node as writable");
        }
        fe_close(reader);
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0);
}

static void test_all_or_none(void **state)
{
        struct flock lock = { .l_whence = SEEK_SET, .l_start = UNSHARED_WRITE, .l_len = 1, .l_type = F_RDLCK };
        AUTO(closep) int fd = open(at("second.qcow2"), O_RDONLY | O_CLOEXEC);

        (void)state;
        add_second();
        must("blockdev-reopen", REOPEN(FIRST("")));
        load_begin(false);
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0); /* who looks at it while nobody writes to it */
        for (int i = 0; i < 4; i++) {
                load_moves();
                refused("first", REOPEN(FIRST(DIRECT) "," SECOND(DIRECT)), "in use by another program");
                refused("second", REOPEN(SECOND("") "," FIRST(DIRECT)), "in use by another program");
                refused("first", REOPEN(FIRST(DIRECT) "," QCOW2("no-such", "x", "")), "Failed to find node with node-name='no-such'");
        }
        assert_int_equal(look_at_second(), 0);
        lock.l_type = F_UNLCK;
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        must("blockdev-reopen", REOPEN(FIRST(DIRECT) "," SECOND(DIRECT)));
        assert_true(says("first", "\"direct\":true"));
        assert_true(says("second", "\"direct\":true") && says("second", "\"ro\":false"));
        load_moves();
        load_end();
}

/* qcow2's bit for an image that contradicts itself: it may only be read. */
static void mark_corrupt(const char *file, bool on)
{
        AUTO(closep) int fd = open(at(file), O_RDWR | O_CLOEXEC);
        const char bits = on ? 2 : 0;

        assert_int_equal(pwrite(fd, &bits, 1, 79), 1);
}

/* The tables are read afresh, and cannot be: the disk goes on as it was, and so does one that had changed already. */
static void test_an_image_that_cannot_be_opened(void **state)
{
        struct front_end *fe;
        char *buf;

        (void)state;
        assert_int_equal(run("qemu-img create -q -f qcow2 third.qcow2 32M && qemu-io -c 'write -P 0x33 0 64k' third.qcow2 >/dev/null"), 0);
        add_second();
        must("blockdev-add", QCOW2("third", "third.qcow2", ",'read-only':true"));
        must("block-export-add", "{'type':'vhost-user-blk','id':'t','node-name':'third','addr':{'type':'unix','path':'t.sock'}}");
        fe = connect_to("t.sock");
        buf = fe_alloc(fe, 4096, 4096);
        for (int i = 0; i < 3; i++) {
                mark_corrupt("third.qcow2", true);
                refused("third", REOPEN(QCOW2("third", "third.qcow2", DIRECT)), "Could not reopen 'third': ");
                refused("second", REOPEN(SECOND(DIRECT) "," QCOW2("third", "third.qcow2", "")), "Could not reopen 'third': ");
                assert_int_equal(look_at_second(), 0);
                assert_int_equal(run("qemu-io -r -c 'read 0 4k' third.qcow2 >/dev/null 2>&1"), 0);
                assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
                assert_int_equal(buf[4095], 0x33);
                mark_corrupt("third.qcow2", false);
                must("blockdev-reopen", REOPEN(SECOND(DIRECT) "," QCOW2("third", "third.qcow2", DIRECT)));
                assert_true(says("third", "\"direct\":true") && says("third", "\"ro\":false"));
                must("blockdev-reopen", REOPEN(SECOND(",'read-only':true") "," QCOW2("third", "third.qcow2", ",'read-only':true")));
        }
        fe_close(fe);
}

static void test_an_upgrade_keeps_it(void **state)
{
        struct front_end *fe;
        char *buf;

        (void)state;
        add_second();
        fe = connect_to("r.sock");
        buf = fe_alloc(fe, 4096, 4096);
        for (int i = 0; i < 2; i++) {
                must("blockdev-reopen", REOPEN(FIRST(DIRECT) "," SECOND(DIRECT)));
                upgrade();
                assert_true(says("first", "\"direct\":true") && says("second", "\"direct\":true"));
                assert_true(says("second", "\"ro\":false"));
                assert_int_not_equal(look_at_second(), 0);
                assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_IOERR); /* that export was made for reading */
                must("blockdev-reopen", REOPEN(FIRST("") "," SECOND(",'read-only':true")));
                upgrade();
                assert_true(says("first", "\"direct\":false") && says("second", "\"ro\":true"));
                assert_int_equal(look_at_second(), 0);
                assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
        }
        fe_close(fe);
}

static void test_what_cannot_change(void **state)
{
        (void)state;
        refused("first", REOPEN(FIRST(",'read-only':true")), "Read-only block node 'first' cannot support read-write users");
        refused("first", REOPEN("{'driver':'raw','node-name':'first','file':{'driver':'file','filename':'first.qcow2'}}"),
                "Cannot change the option 'driver' of node 'first', which is 'qcow2'");
        refused("first", REOPEN("{'driver':'null-co','node-name':'first'}"), "Cannot change the option 'driver'");
        refused("first", REOPEN(QCOW2("first", "second.qcow2", "")),
                "Cannot change the option 'filename' of node 'first', which is 'first.qcow2'");
        refused("first", REOPEN("{'driver':'qcow2','node-name':'first','file':'f'}"), "Cannot find device='f' nor node-name='f'");
        refused("first", REOPEN(FIRST(",'migratable':true")), "Cannot change the option 'migratable'");
        refused("first", REOPEN(FIRST(",'encrypt':{'format':'luks','key-secret':'k'}")),
                "Cannot change the option 'encrypt.key-secret'");
        refused("first", REOPEN(FIRST(",'backing':'other'")), "Cannot change the option 'backing'");
        refused("first", REOPEN(FIRST(",'cache':{'no-flush':true}")), "'cache.no-flush' does not accept true");
        refused("first", REOPEN(FIRST(",'throttle-group':'g'")), "Throttle group 'g' does not exist");
        refused("first", REOPEN("{'driver':'qcow2','file':{'driver':'file','filename':'x'}}"), "node-name not specified");
        refused("first", REOPEN(FIRST("") "," FIRST("")), "Node 'first' is busy");
        must("blockdev-reopen", REOPEN(FIRST(",'backing':null")));
        must("blockdev-reopen", REOPEN(""));
}

static json_int_t max_in_flight(void)
{
        json_t *stats = NULL;
        json_int_t n;

        assert_null(try(client, "query-disk-stats", "{'node-name':'first'}", &stats));
        n = json_integer_value(json_object_get(json_array_get(json_object_get(stats, "disks"), 0), "max-in-flight"));
        json_decref(stats);
        return n;
}

static void test_limits_and_space(void **state)
{
        (void)state;
        must("object-add", "{'qom-type':'throttle-group','id':'g','limits':{'iops-total':100000}}");
        must("blockdev-reopen", REOPEN(FIRST(",'throttle-group':'g','on-full':'report'")));
        assert_true(says("first", "\"group\":\"g\""));
        assert_non_null(try(client, "object-del", "{'id':'g'}", NULL));
        must("blockdev-reopen", REOPEN(FIRST("")));
        assert_false(says("first", "\"group\":\"g\""));
        must("object-del", "{'id':'g'}");
        must("blockdev-reopen", REOPEN(FIRST(",'max-in-flight':65536")));
        assert_int_equal(max_in_flight(), 65536);
        must("blockdev-reopen", REOPEN(FIRST("")));
        assert_int_equal(max_in_flight(), 4 << 20);
        must("block_set_io_throttle", "{'id':'first','bps':0,'bps_rd':0,'bps_wr':0,'iops':99999,'iops_rd':0,'iops_wr':0}");
        must("blockdev-reopen", REOPEN(FIRST("")));
        assert_true(says("first", "\"iops\":99999")); /* that command's, not an option */
}

static void test_a_chain(void **state)
{
        (void)state;
        assert_int_equal(run("qemu-img create -q -f qcow2 -b first.qcow2 -F qcow2 over.qcow2 2>/dev/null || "
                             "qemu-img create -q -u -f qcow2 -b second.qcow2 -F qcow2 over.qcow2 32M"), 0);
        assert_int_equal(run("qemu-img rebase -u -b second.qcow2 -F qcow2 over.qcow2"), 0);
        must("blockdev-add", QCOW2("over", "over.qcow2", ",'backing':{'driver':'qcow2','node-name':'base','file':{'driver':'file',"
                                   "'filename':'second.qcow2'}}"));
        refused("over", REOPEN(QCOW2("over", "over.qcow2", DIRECT)), "backing is missing for 'over'");
        refused("over", REOPEN(QCOW2("over", "over.qcow2", ",'backing':null")), "Cannot change the option 'backing'");
        refused("over", REOPEN(QCOW2("over", "over.qcow2", ",'backing':{'file':{'driver':'file','filename':'zeros.img'}}")),
                "Cannot change the option 'backing.file.filename'");
        refused("over", REOPEN(QCOW2("base", "second.qcow2", "")), "node is used as backing hd of 'over'");
        must("blockdev-reopen", REOPEN(QCOW2("over", "over.qcow2", DIRECT ",'backing':'base'")));
        assert_true(says("over", "\"direct\":true") && says("base", "\"direct\":true"));
        must("blockdev-reopen", REOPEN(QCOW2("over", "over.qcow2", ",'read-only':true,'backing':{'driver':'qcow2','file':"
                                             "{'driver':'file','filename':'second.qcow2'}}")));
        assert_true(says("over", "\"direct\":false") && says("over", "\"ro\":true") && says("base", "\"ro\":true"));
        must("blockdev-reopen", REOPEN(QCOW2("over", "over.qcow2", ",'backing':'base'")));
        must("blockdev-del", "{'node-name':'over'}");
}

/* The header says so, and the chain that is served stays as it is, also for the next process. */
static void test_another_name_behind_it(void **state)
{
        struct front_end *fe;
        char *buf;

        (void)state;
        assert_int_equal(run("qemu-img create -q -f qcow2 base.qcow2 32M && qemu-io -c 'write -P 0x44 0 64k' base.qcow2 >/dev/null && "
                             "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 named.qcow2 && "
                             "qemu-img create -q -f qcow2 other.qcow2 32M"), 0);
        must("blockdev-add", QCOW2("named", "named.qcow2", ",'backing':{'node-name':'base'}"));
        must("block-export-add", "{'type':'vhost-user-blk','id':'nx','node-name':'named','writable':true,"
             "'addr':{'type':'unix','path':'n.sock'}}");
        fe = connect_to("n.sock");
        buf = fe_alloc(fe, 4096, 4096);
        assert_non_null(strstr(try(client, "change-backing-file", "{'device':'nx','image-node-name':'base','backing-file':'x'}", NULL),
                               "is a backing image"));
        assert_non_null(strstr(try(client, "change-backing-file", "{'device':'nx','image-node-name':'first','backing-file':'x'}", NULL),
                               "not in the same chain"));
        assert_non_null(strstr(try(client, "change-backing-file", "{'device':'nx','image-node-name':'named','backing-file':'nbd:x'}",
                                   NULL), "protocols are not followed"));
        assert_int_equal(run("qemu-img info -U named.qcow2 | grep -q 'backing file: base.qcow2'"), 0);
        must("change-backing-file", "{'device':'nx','image-node-name':'named','backing-file':'other.qcow2'}");
        assert_true(says("named", "\"backing-filename\":\"other.qcow2\""));
        for (int i = 0; i < 3; i++) {
                assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
                assert_int_equal(buf[4095], 0x44);
                if (i == 0)
                        must("blockdev-reopen", REOPEN(QCOW2("named", "named.qcow2", DIRECT ",'backing':'base'")));
                else
                        upgrade();
        }
        assert_int_equal(run("qemu-img info -U named.qcow2 | grep -q 'backing file: other.qcow2'"), 0);
        fe_close(fe);
}

static void test_a_data_file(void **state)
{
        struct front_end *fe;
        char *buf;

        (void)state;
        assert_int_equal(run("qemu-img create -q -f qcow2 -o data_file=data.raw split.qcow2 8M"), 0);
        must("blockdev-add", QCOW2("split", "split.qcow2", ",'read-only':true"));
        refused("split", REOPEN(QCOW2("split", "split.qcow2", ",'data-file':{'driver':'file','filename':'zeros.img'}")),
                "Cannot change the option 'data-file.filename'");
        for (int i = 1; i <= 2; i++) {
                must("blockdev-reopen", REOPEN(QCOW2("split", "split.qcow2", DIRECT)));
                must("block-export-add", "{'type':'vhost-user-blk','id':'s','node-name':'split','writable':true,"
                     "'addr':{'type':'unix','path':'s.sock'}}");
                fe = connect_to("s.sock");
                buf = fe_alloc(fe, 4096, 4096);
                memset(buf, i, 4096);
                assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_OK);
                must("blockdev-reopen", REOPEN(QCOW2("split", "split.qcow2", "")));
                assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
                assert_int_equal(buf[4095], i);
                fe_close(fe);
                must("block-export-del", "{'id':'s','mode':'hard'}");
                expect_event(client, "BLOCK_EXPORT_DELETED", "s");
                must("blockdev-reopen", REOPEN(QCOW2("split", "split.qcow2", ",'read-only':true")));
                assert_int_equal(run("qemu-io -r -c 'read 0 4k' split.qcow2 >/dev/null 2>&1"), 0);
        }
        must("blockdev-del", "{'node-name':'split'}");
        assert_int_equal(run("qemu-img check -q split.qcow2"), 0);
}

/* An opener that lets through what the command line names, also when that is to be written to now. */
static void test_in_a_strict_sandbox(void **state)
{
        char control[160];

        stop(state);
        snprintf(control, sizeof(control), "--control=%s", at("control.sock"));
        start_with((const char *const[]){ control, "--sandbox=strict", "--log-level=warning", "--disk",
                                          "id=second,path=second.qcow2,format=qcow2,read-only=on,socket=s.sock", NULL });
        client = dial();
        for (int i = 0; i < 2; i++) {
                must("blockdev-reopen", REOPEN(SECOND(DIRECT)));
                assert_true(says("second", "\"direct\":true") && says("second", "\"ro\":false"));
                must("blockdev-reopen", REOPEN(SECOND(",'read-only':true")));
                assert_true(says("second", "\"direct\":false") && says("second", "\"ro\":true"));
        }
}

static void test_raw_and_null(void **state)
{
        (void)state;
        must("blockdev-add", "{'driver':'file','node-name':'f','filename':'zeros.img'}");
        must("blockdev-add", "{'driver':'raw','node-name':'z','file':'f'}");
        must("blockdev-reopen", REOPEN("{'driver':'raw','node-name':'z','file':'f','read-only':true" DIRECT "}"));
        assert_true(says("z", "\"direct\":true") && says("z", "\"ro\":true"));
        refused("z", REOPEN("{'driver':'file','node-name':'f','filename':'zeros.img'}"), "Node 'f' is a file");
        must("blockdev-reopen", REOPEN("{'driver':'raw','node-name':'z','file':'f'}"));
        assert_true(says("z", "\"direct\":false") && says("z", "\"ro\":false"));
        must("blockdev-add", "{'driver':'null-co','node-name':'n','size':1048576}");
        must("blockdev-reopen", REOPEN("{'driver':'null-co','node-name':'n','size':1048576,'read-only':true}"));
        assert_true(says("n", "\"ro\":true"));
        must("blockdev-reopen", REOPEN("{'driver':'null-co','node-name':'n','size':1048576}"));
        refused("n", REOPEN("{'driver':'null-co','node-name':'n'}"), "Cannot change the option 'size'");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start_default, stop)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TEST(test_direct_under_load), TEST(test_read_only_and_back), TEST(test_all_or_none),
                TEST(test_an_image_that_cannot_be_opened), TEST(test_an_upgrade_keeps_it),
                TEST(test_what_cannot_change), TEST(test_limits_and_space), TEST(test_a_chain), TEST(test_another_name_behind_it),
                TEST(test_a_data_file), TEST(test_in_a_strict_sandbox), TEST(test_raw_and_null),
        };

        if (argc > 1)
                rounds = (unsigned)atoi(argv[1]);
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
