/* SPDX-License-Identifier: BSD-3-Clause */
/* Snapshots of disks in use: the commands, what they refuse, what is left when they fail, and what a killed daemon leaves. */
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
#include "tests/e2e/control_fixture.h"

#define MIB (1ull << 20)

static void put(struct front_end *fe, uint64_t off, int fill)
{
        char *buf = fe_alloc(fe, 4096, 4096);

        memset(buf, fill, 4096);
        assert_int_equal(do_io(fe, FE_WRITE, off, buf, 4096), FE_OK);
}

static void expect(struct front_end *fe, uint64_t off, int fill)
{
        char *buf = fe_alloc(fe, 4096, 4096);

        assert_int_equal(do_io(fe, FE_READ, off, buf, 4096), FE_OK);
        for (int i = 0; i < 4096; i++)
                if (buf[i] != (char)fill)
                        fail_msg("at %llu: %02x, not %02x", (unsigned long long)off + (unsigned)i, (uint8_t)buf[i], fill);
}

/* What a tool that knows nothing of us reads there. */
static void expect_in_file(const char *image, uint64_t off, int fill)
{
        char cmd[256];

        snprintf(cmd, sizeof(cmd), "qemu-io -r -U -f qcow2 -c 'read -P %d %llu 4096' %s | grep -q ' 4096/4096' && "
                 "! qemu-io -r -U -f qcow2 -c 'read -P %d %llu 4096' %s | grep -q failed", fill, (unsigned long long)off, image,
                 fill, (unsigned long long)off, image);
        if (run(cmd) != 0)
                fail_msg("%s at %llu is not %02x", image, (unsigned long long)off, fill);
}

static void expect_refused(const char *command, const char *args, const char *words)
{
        const char *why = try(client, command, args, NULL);

        if (!why || !strstr(why, words))
                fail_msg("%s %s: \"%s\", not \"%s\"", command, args, why ? why : "done", words);
}

static void check(const char *image)
{
        char cmd[160];

        snprintf(cmd, sizeof(cmd), "qemu-img check -U -f qcow2 %s >/dev/null 2>&1; r=$?; [ $r = 0 -o $r = 3 ]", image); /* leaks are fine */
        if (run(cmd) != 0)
                fail_msg("qemu-img check %s", image);
}

/* Others may come before it. */
static void wait_event(const char *name, const char *part)
{
        for (bool found = false; !found;) {
                json_t *ev;
                char *text;

                if (qmp_client_event(client, &ev) < 0)
                        fail_msg("no %s: %s", name, err_text(-ETIMEDOUT));
                text = json_dumps(ev, JSON_COMPACT);
                found = strstr(text, name) && strstr(text, part);
                if (!found && strstr(text, "JOB_COMPLETED"))
                        fail_msg("%s instead of %s", text, name);
                free(text);
                json_decref(ev);
        }
}

/* --- overlays --------------------------------------------------------------------------------------------------------- */

static void test_overlay(void **state)
{
        struct front_end *fe = connect_to("first.sock");

        (void)state;
        put(fe, 0, 1);
        put(fe, MIB, 1);
        must("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'one.qcow2','snapshot-node-name':'one'}");
        put(fe, MIB, 2);
        expect(fe, 0, 1);
        must("blockdev-snapshot-sync", "{'node-name':'one','snapshot-file':'two.qcow2','snapshot-node-name':'two'}");
        put(fe, 0, 3);
        expect(fe, MIB, 2);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"two\""));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "two"), "\"backing_file_depth\":2"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"ro\":true"));
        expect_in_file("first.qcow2", MIB, 1);
        expect_in_file("one.qcow2", MIB, 2);
        expect_in_file("one.qcow2", 0, 1);
        expect_refused("blockdev-snapshot-sync", "{'node-name':'one','snapshot-file':'x'}",
                       "Node 'one' is busy: node is used as backing hd of 'two'");
        expect_refused("blockdev-del", "{'node-name':'first'}", "node is used as backing hd of 'one'");
        expect_refused("block-export-add", "{'type':'vhost-user-blk','id':'x','node-name':'one','addr':{'type':'unix','path':'x'}}",
                       "used as backing hd");
        expect_refused("blockdev-add", "{'driver':'raw','node-name':'one','file':{'driver':'file','filename':'zeros.img'}}",
                       "Duplicate nodes");
        /* The export's id still means the disk. */
        must("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'three.qcow2'}");
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"#block"));
        expect(fe, 0, 3);
        fe_close(fe);
        check("first.qcow2");
        check("one.qcow2");
        check("two.qcow2");
}

static void after_overlay(const char *file)
{
        assert_false(exists(file));
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"first\""));
}

static void test_overlay_refused(void **state)
{
        (void)state;
        expect_refused("blockdev-snapshot-sync", "{'device':'nobody','snapshot-file':'x.qcow2'}", "Cannot find device='nobody'");
        expect_refused("blockdev-snapshot-sync", "{'snapshot-file':'x.qcow2'}", "Cannot find device");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x.qcow2','format':'raw'}", "no backing file");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x.qcow2','format':'zip'}",
                       "Unknown driver 'zip'");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x.qcow2','snapshot-node-name':'first'}",
                       "already in use");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'nowhere/x.qcow2'}", "No such file");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'second.qcow2'}", "exists, and is not empty");
        expect_refused("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'second.qcow2','mode':'existing'}",
                       "33554432");
        after_overlay("x.qcow2");
        assert_int_equal(run("touch x.qcow2"), 0); /* as somebody with other rights may do for us */
        must("blockdev-snapshot-sync", "{'device':'first','snapshot-file':'x.qcow2'}");
}

/* The overlay was made by somebody else, and added as a node without its backing file. */
static void test_ready_overlay(void **state)
{
        struct front_end *fe = connect_to("first.sock");

        (void)state;
        put(fe, 0, 5);
        assert_int_equal(run("qemu-img create -q -f qcow2 -b first.qcow2 -F qcow2 over.qcow2"), 0);
        expect_refused("blockdev-snapshot", "{'node':'first','overlay':'over'}", "Cannot find device");
        must("blockdev-add", "{'driver':'qcow2','node-name':'over','backing':null,'file':{'driver':'file',"
             "'filename':'over.qcow2'}}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'small','file':{'driver':'file','filename':'second.qcow2'}}");
        expect_refused("blockdev-snapshot", "{'node':'first','overlay':'first'}", "The overlay is already in use");
        expect_refused("blockdev-snapshot", "{'node':'first','overlay':'small'}", "33554432");
        assert_true(entry("query-named-block-nodes", "node-name", "small")[0]); /* as it was */
        must("blockdev-snapshot", "{'node':'first','overlay':'over'}");
        expect_refused("blockdev-snapshot", "{'node':'small','overlay':'over'}", "The overlay is already in use");
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"over\""));
        expect(fe, 0, 5);
        put(fe, 0, 6);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
        expect_in_file("first.qcow2", 0, 5);
        expect_in_file("over.qcow2", 0, 6);
        must("blockdev-del", "{'node-name':'small'}");
}

/* Nodes as backing images: named in the object, and a node that was there. */
static void test_named_chains(void **state)
{
        (void)state;
        assert_int_equal(run("qemu-img create -q -f qcow2 base.qcow2 1M && "
                             "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 && "
                             "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2"), 0);
        must("blockdev-add", "{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'top.qcow2'},"
             "'backing':{'driver':'qcow2','node-name':'m','file':{'driver':'file','filename':'mid.qcow2'}}}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "m"), "mid.qcow2"));
        must("blockdev-del", "{'node-name':'t'}");
        assert_string_equal(entry("query-named-block-nodes", "node-name", "m"), "");
        must("blockdev-add", "{'driver':'qcow2','node-name':'m','file':{'driver':'file','filename':'mid.qcow2'}}");
        expect_refused("blockdev-add", "{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'none.qcow2'},"
                       "'backing':'m'}", "No such file");
        expect_refused("blockdev-add", "{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'top.qcow2'},"
                       "'backing':'x'}", "Cannot find device='' nor node-name='x'");
        must("blockdev-add", "{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'top.qcow2'},'backing':'m'}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "m"), "\"ro\":true"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "t"), "\"backing_file_depth\":2"));
        expect_refused("blockdev-del", "{'node-name':'m'}", "backing hd of 't'");
        must("blockdev-del", "{'node-name':'t'}");
        expect_refused("blockdev-add", "{'driver':'qcow2','node-name':'t','file':{'driver':'file','filename':'top.qcow2'},"
                       "'backing':{'node-name':'t'}}", "Duplicate nodes");
}

/* --- transactions ----------------------------------------------------------------------------------------------------- */

#define SYNC(node, file) "{'type':'blockdev-snapshot-sync','data':{'node-name':'" node "','snapshot-file':'" file "'}}"

static void test_all_or_none(void **state)
{
        (void)state;
        must("blockdev-add", "{'driver':'qcow2','node-name':'second','file':{'driver':'file','filename':'second.qcow2'}}");
        expect_refused("transaction", "{'actions':[" SYNC("first", "a1.qcow2") "," SYNC("second", "a2.qcow2")
                       ",{'type':'abort','data':{}}]}", "Transaction aborted using Abort action");
        after_overlay("a1.qcow2");
        assert_false(exists("a2.qcow2"));
        expect_refused("transaction", "{'actions':[" SYNC("first", "a1.qcow2") "," SYNC("second", "nowhere/a2.qcow2") "]}",
                       "No such file");
        after_overlay("a1.qcow2");
        expect_refused("transaction", "{'actions':[" SYNC("first", "a1.qcow2") "," SYNC("first", "a2.qcow2") "]}", "is busy");
        after_overlay("a1.qcow2");
        expect_refused("transaction", "{'actions':[" SYNC("first", "a1.qcow2") "," SYNC("second", "a1.qcow2") "]}", "");
        after_overlay("a1.qcow2");
        /* An internal snapshot that fails when all disks are quiet already. */
        must("blockdev-snapshot-internal-sync", "{'device':'second','name':'s'}");
        expect_refused("transaction", "{'actions':[" SYNC("first", "a1.qcow2")
                       ",{'type':'blockdev-snapshot-internal-sync','data':{'device':'second','name':'s'}}]}", "already exists");
        after_overlay("a1.qcow2");
        must("transaction", "{'actions':[" SYNC("first", "a1.qcow2")
             ",{'type':'blockdev-snapshot-internal-sync','data':{'device':'second','name':'t'}}]}");
        assert_true(exists("a1.qcow2"));
        must("transaction", "{'actions':[]}");
        assert_int_equal(run("qemu-img snapshot -U -l second.qcow2 | grep -q ' t '"), 0);
        must("blockdev-del", "{'node-name':'second'}");
        check("second.qcow2");
}

#define MANY 64u

/* Many disks in one go; a failure of the last one leaves nothing of any. */
static void test_many(void **state)
{
        char args[256], *all = calloc(1, MANY * 200), *end = all;

        (void)state;
        assert_int_equal(run("for i in $(seq 0 63); do qemu-img create -q -f qcow2 m$i.qcow2 1M; done"), 0);
        end += sprintf(end, "{'actions':[");
        for (unsigned i = 0; i < MANY; i++) {
                snprintf(args, sizeof(args), "{'driver':'qcow2','node-name':'m%u','file':{'driver':'file','filename':'m%u.qcow2'}}", i,
                         i);
                must("blockdev-add", args);
                end += sprintf(end, "%s{'type':'blockdev-snapshot-sync','data':{'node-name':'m%u','snapshot-node-name':'n%u',"
                               "'snapshot-file':'n%u.qcow2'}}", i ? "," : "", i, i, i);
        }
        strcpy(end, ",{'type':'abort','data':{}}]}");
        expect_refused("transaction", all, "Abort action");
        assert_int_equal(run("ls n*.qcow2 2>/dev/null"), 512);
        strcpy(end, "]}");
        must("transaction", all);
        for (unsigned i = 0; i < MANY; i++) {
                snprintf(args, sizeof(args), "{'node-name':'n%u'}", i);
                must("blockdev-del", args);
        }
        assert_int_equal(run("for i in $(seq 0 63); do qemu-img check -q n$i.qcow2 || exit 1; done"), 0);
        free(all);
}

/* --- internal ones ---------------------------------------------------------------------------------------------------- */

static void test_internal(void **state)
{
        struct front_end *fe = connect_to("first.sock");
        json_t *gone;

        (void)state;
        put(fe, 0, 1);
        must("blockdev-snapshot-internal-sync", "{'device':'first','name':'one'}");
        put(fe, 0, 2);
        must("blockdev-snapshot-internal-sync", "{'device':'first','name':'two'}");
        put(fe, 0, 3);
        expect_refused("blockdev-snapshot-internal-sync", "{'device':'first','name':'two'}",
                       "Snapshot with name 'two' already exists on device 'first'");
        expect_refused("blockdev-snapshot-internal-sync", "{'device':'first','name':''}", "Name is empty");
        must("blockdev-snapshot-revert", "{'device':'first','name':'one'}");
        expect(fe, 0, 1);
        put(fe, 50 * MIB, 9);
        must("blockdev-snapshot-revert", "{'node-name':'first','id':'2'}");
        expect(fe, 0, 2);
        expect(fe, 50 * MIB, 0);
        expect_refused("blockdev-snapshot-revert", "{'device':'first','name':'three'}", "does not exist on device 'first'");
        expect_refused("blockdev-snapshot-revert", "{'device':'first'}", "Name or id must be provided");
        assert_null(try(client, "blockdev-snapshot-delete-internal-sync", "{'device':'first','name':'one'}", &gone));
        assert_string_equal(json_string_value(json_object_get(gone, "name")), "one");
        assert_string_equal(json_string_value(json_object_get(gone, "id")), "1");
        json_decref(gone);
        expect_refused("blockdev-snapshot-delete-internal-sync", "{'device':'first','name':'one'}", "does not exist");
        must("block_resize", "{'device':'first','size':134217728}");
        must("blockdev-snapshot-revert", "{'device':'first','name':'two'}"); /* which was smaller */
        assert_int_equal(fe_get_config(fe), 0);
        assert_int_equal(fe_disk(fe)->capacity, 64 * MIB);
        expect(fe, 0, 2);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
        check("first.qcow2");
}

/* --- shorter chains --------------------------------------------------------------------------------------------------- */

static struct front_end *serve(const char *file);

static void unserve(struct front_end *fe)
{
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
        must("block-export-del", "{'id':'k','mode':'hard'}");
        wait_event("BLOCK_EXPORT_DELETED", "k");
}

/* base: 1 everywhere of the first 8 MiB; each image on it changes the next MiB, the top one also the first. */
static struct front_end *four_deep(void)
{
        struct front_end *fe;

        assert_int_equal(run("rm -f c?.qcow2; qemu-img create -q -f qcow2 c0.qcow2 32M"), 0);
        fe = serve("c0.qcow2");
        for (unsigned i = 0; i < 8; i++)
                put(fe, i * MIB, 1);
        for (int i = 1; i < 4; i++) {
                char args[160];

                snprintf(args, sizeof(args), "{'device':'k','snapshot-file':'c%d.qcow2','snapshot-node-name':'c%d'}", i, i);
                must("blockdev-snapshot-sync", args);
                put(fe, (unsigned)i * MIB, 1 + i);
                put(fe, (unsigned)(8 + i) * MIB, 11 + i);
        }
        put(fe, 0, 9);
        return fe;
}

static void expect_all(struct front_end *fe)
{
        expect(fe, 0, 9);
        for (unsigned i = 1; i < 8; i++)
                expect(fe, i * MIB, i < 4 ? 1 + (int)i : 1);
        for (unsigned i = 1; i < 4; i++)
                expect(fe, (8 + i) * MIB, 11 + (int)i);
        expect(fe, 20 * MIB, 0);
}

static void expect_all_again(const char *file)
{
        struct front_end *fe;

        check(file);
        fe = serve(file);
        expect_all(fe);
        unserve(fe);
        must("blockdev-del", "{'node-name':'k'}");
}

static void test_stream(void **state)
{
        struct front_end *fe = four_deep();

        (void)state;
        expect_refused("block-stream", "{'device':'k','base-node':'nobody'}", "is not a backing image of 'c3'");
        expect_refused("block-stream", "{'device':'k','base':'nobody.qcow2'}", "Can't find 'nobody.qcow2' in the backing chain");
        must("block-stream", "{'device':'k','base-node':'c1','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_all(fe);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "c3"), "\"backing_file_depth\":2"));
        assert_string_equal(entry("query-named-block-nodes", "node-name", "c2"), "");
        assert_int_equal(run("qemu-img info -U c3.qcow2 | grep -q 'backing file: .*c1.qcow2'"), 0);
        must("block-stream", "{'device':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_all(fe);
        put(fe, 20 * MIB, 0);
        assert_int_equal(run("qemu-img info -U c3.qcow2 | grep -q 'backing file'"), 256);
        unserve(fe);
        must("blockdev-del", "{'node-name':'c3'}");
        expect_all_again("c3.qcow2");
}

static void test_commit_in_the_middle(void **state)
{
        struct front_end *fe = four_deep();

        (void)state;
        expect_refused("block-commit", "{'device':'k','top-node':'c1','base-node':'c1'}", "cannot commit an image into itself");
        expect_refused("block-commit", "{'device':'k','top-node':'k','base-node':'c1'}", "not behind");
        must("block-commit", "{'device':'k','top-node':'c1','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_all(fe);
        must("block-commit", "{'device':'k','top-node':'c2','base-node':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_all(fe);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "c3"), "\"backing_file_depth\":1"));
        assert_int_equal(run("qemu-img info -U c3.qcow2 | grep -q 'backing file: .*c0.qcow2'"), 0);
        unserve(fe);
        must("blockdev-del", "{'node-name':'c3'}");
        check("c0.qcow2");
        expect_all_again("c3.qcow2");
}

static void test_active_commit(void **state)
{
        struct front_end *fe = four_deep();

        (void)state;
        must("block-commit", "{'device':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_READY", "\"device\":\"s\"");
        expect_refused("blockdev-snapshot-sync", "{'device':'k','snapshot-file':'x1.qcow2'}", "in use by block job: commit");
        put(fe, 0, 77);
        put(fe, 30 * MIB, 78);
        put(fe, 0, 9);
        must("block-job-cancel", "{'device':'s','force':true}");
        wait_event("BLOCK_JOB_CANCELLED", "\"device\":\"s\"");
        expect_all(fe);
        must("block-commit", "{'device':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_READY", "\"device\":\"s\"");
        put(fe, 31 * MIB, 79);
        must("job-complete", "{'id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_all(fe);
        expect(fe, 30 * MIB, 78);
        expect(fe, 31 * MIB, 79);
        assert_non_null(strstr(entry("query-block-exports", "id", "k"), "\"node-name\":\"k\""));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "k"), "\"backing_file_depth\":0"));
        put(fe, 0, 9);
        unserve(fe);
        must("blockdev-del", "{'node-name':'k'}");
        expect_all_again("c0.qcow2");
}

/* A chain of three sizes, 16, 32 and 64 MiB from below: a base is made as large as what is merged into it. */
static struct front_end *three_sizes(void)
{
        struct front_end *fe;

        assert_int_equal(run("rm -f c?.qcow2; qemu-img create -q -f qcow2 c0.qcow2 16M && "
                             "qemu-io -f qcow2 -c 'write -q -P 1 0 16M' c0.qcow2 && "
                             "qemu-img create -q -f qcow2 -b c0.qcow2 -F qcow2 c1.qcow2 32M && "
                             "qemu-io -f qcow2 -c 'write -q -P 2 15M 2M' c1.qcow2 && "
                             "qemu-img create -q -f qcow2 -b c1.qcow2 -F qcow2 c2.qcow2 64M"), 0);
        fe = serve("c2.qcow2");
        put(fe, 31 * MIB, 3);
        put(fe, 63 * MIB, 4);
        return fe;
}

static void expect_three(struct front_end *fe)
{
        static const struct { unsigned mib; int fill; } is[] = {
                { 0, 1 }, { 14, 1 }, { 15, 2 }, { 16, 2 }, { 17, 0 }, { 31, 3 }, { 32, 0 }, { 62, 0 }, { 63, 4 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(is); i++)
                expect(fe, is[i].mib * MIB, is[i].fill);
}

static void test_commit_to_a_smaller_base(void **state)
{
        struct front_end *fe = three_sizes();
        char del[64], node[32];

        (void)state;
        expect_three(fe);
        must("block-commit", "{'device':'k','top':'c1.qcow2','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect_three(fe);
        assert_int_equal(run("qemu-img info -U --output=json c0.qcow2 | grep -q '\"virtual-size\": 33554432,'"), 0);
        must("block-commit", "{'device':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_READY", "\"device\":\"s\"");
        put(fe, 62 * MIB, 5);
        must("job-complete", "{'id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        put(fe, 62 * MIB, 0);
        expect_three(fe);
        assert_int_equal(sscanf(strstr(entry("query-block-exports", "id", "k"), "\"node-name\""), "\"node-name\":\"%31[^\"]", node), 1);
        unserve(fe);
        snprintf(del, sizeof(del), "{'node-name':'%s'}", node); /* the base's, which nobody named */
        must("blockdev-del", del);
        check("c0.qcow2");
        fe = serve("c0.qcow2");
        expect_three(fe);
        unserve(fe);
        must("blockdev-del", "{'node-name':'k'}");
}

/* A disk does not grow by itself: a guest would see the end of its disk move. What the job had begun is undone. */
static void test_commit_to_a_larger_base(void **state)
{
        struct front_end *fe;

        (void)state;
        assert_int_equal(run("rm -f c?.qcow2; qemu-img create -q -f qcow2 c0.qcow2 64M && "
                             "qemu-img create -q -f qcow2 -b c0.qcow2 -F qcow2 c1.qcow2 32M"), 0);
        fe = serve("c1.qcow2");
        put(fe, 31 * MIB, 3);
        must("block-commit", "{'device':'k','job-id':'s'}");
        wait_event("BLOCK_JOB_COMPLETED", "more than the one of 33554432");
        put(fe, 30 * MIB, 4);
        expect(fe, 31 * MIB, 3);
        must("block-stream", "{'device':'k','job-id':'s'}"); /* and others may begin */
        wait_event("BLOCK_JOB_COMPLETED", "\"device\":\"s\"");
        expect(fe, 30 * MIB, 4);
        unserve(fe);
        must("blockdev-del", "{'node-name':'k'}");
        check("c1.qcow2");
}

/* --- a daemon that is killed ------------------------------------------------------------------------------------------ */

/* Right after the snapshot, before anything was flushed: the old top's tables are in the log only. */
static struct front_end *serve(const char *file)
{
        char args[256];
        const char *why;

        snprintf(args, sizeof(args), "{'driver':'qcow2','node-name':'k','file':{'driver':'file','filename':'%s'}}", file);
        while ((why = try(client, "blockdev-add", args, NULL)) != NULL && strstr(why, "in use"))
                usleep(10000); /* the kernel closes the files of a killed process in its own time */
        assert_null(why);
        must("block-export-add", "{'type':'vhost-user-blk','id':'k','node-name':'k','writable':true,"
             "'addr':{'type':'unix','path':'k.sock'}}");
        return connect_to("k.sock");
}

static void test_killed(void **state)
{
        struct front_end *fe = serve("second.qcow2");

        (void)state;
        for (unsigned i = 0; i < 32; i++)
                put(fe, i * MIB, 1 + (int)i);
        must("blockdev-snapshot-sync", "{'device':'k','snapshot-file':'k.qcow2'}");
        for (unsigned i = 0; i < 32; i += 2)
                put(fe, i * MIB, 101 + (int)i);
        kill(daemon_pid, SIGKILL);
        assert_int_equal(exit_status(), -SIGKILL);
        fe_close(fe);
        qmp_client_close(client);
        start_daemon(NULL);
        fe = serve("k.qcow2");
        for (unsigned i = 0; i < 32; i++)
                expect(fe, i * MIB, (i % 2 ? 1 : 101) + (int)i);
        fe_close(fe);
        check("second.qcow2");
        check("k.qcow2");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, start_default, stop)
int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_overlay), TEST(test_overlay_refused), TEST(test_ready_overlay), TEST(test_named_chains),
                TEST(test_all_or_none), TEST(test_many), TEST(test_internal), TEST(test_stream),
                TEST(test_commit_in_the_middle), TEST(test_active_commit),
                TEST(test_commit_to_a_smaller_base), TEST(test_commit_to_a_larger_base), TEST(test_killed),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
