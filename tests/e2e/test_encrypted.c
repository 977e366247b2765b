/* SPDX-License-Identifier: BSD-3-Clause */
/* Encrypted disks in the daemon: keys by the control socket and the command line, what the file and the answers show. */
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
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "config.h"
#include "tests/e2e/control_fixture.h"
#include "tests/lib/luks_image.h"
#include "tests/lib/tmp_image.h"

#define MIB (1u << 20)
#define MARK "these words must not be found in the file "

static int make_encrypted(void **state)
{
        if (make_images(state) < 0 || luks_image_create(at("secret.qcow2"), 16 * MIB, "cluster_size=64k", NULL) < 0 ||
            luks_image_create(at("base.qcow2"), 16 * MIB, "cluster_size=64k", NULL) < 0 ||
            luks_image_create(at("over.qcow2"), 16 * MIB, "cluster_size=64k", NULL) < 0)
                return -1;
        if (save_file(at("key"), "secret", 6) < 0 || save_file(at("wrong"), "guess", 5) < 0)
                return -1;
        return run("qemu-img rebase -u --object secret,id=s,file=key --image-opts -b base.qcow2 -F qcow2 "
                   "driver=qcow2,encrypt.key-secret=s,file.filename=over.qcow2");
}

static void fill(char *buf, size_t len)
{
        for (size_t i = 0; i < len; i++)
                buf[i] = MARK[i % (sizeof(MARK) - 1)];
}

/* Small and large requests, at places that need new clusters and at places that do not. */
static void write_and_read(const char *socket, uint64_t off)
{
        struct front_end *fe = connect_to(socket);
        char *out = fe_alloc(fe, MIB, 4096), *in = fe_alloc(fe, MIB, 4096);
        static const uint32_t sizes[] = { 512, 4096, 48 << 10, MIB };

        fill(out, MIB);
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (int again = 0; again < 2; again++) {
                        assert_int_equal(do_io(fe, FE_WRITE, off + 1536, out, sizes[i]), FE_OK);
                        memset(in, 0, MIB);
                        assert_int_equal(do_io(fe, FE_READ, off + 1536, in, sizes[i]), FE_OK);
                        assert_memory_equal(in, out, sizes[i]);
                }
        assert_int_equal(do_io(fe, FE_READ, off, in, 1536), FE_OK); /* copied up, encrypted zeros */
        for (int i = 0; i < 1536; i++)
                assert_int_equal(in[i], 0);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        fe_close(fe);
}

static void expect_no_mark(const char *name)
{
        size_t len = 0;
        AUTO(freep) char *bytes = load_file(at(name), &len);

        assert_non_null(bytes);
        assert_null(memmem(bytes, len, MARK, strlen(MARK)));
}

static void export_node(const char *node)
{
        char args[256];

        snprintf(args, sizeof(args), "{'type':'vhost-user-blk','id':'%s','node-name':'%s','writable':true,"
                 "'addr':{'type':'unix','path':'%s.sock'}}", node, node, node);
        must("block-export-add", args);
}

#define ENCRYPT(secret) "'encrypt':{'format':'luks','key-secret':'" secret "'}"
#define FILE_IS(name) "'file':{'driver':'file','filename':'" name "'}"
#define ADD_SECRET "{'driver':'qcow2','node-name':'sec','cache':{'direct':true}," ENCRYPT("k") "," FILE_IS("secret.qcow2") "}"

static void test_control(void **state)
{
        const char *said;

        must("object-add", "{'qom-type':'secret','id':'k','file':'key'}");
        must("object-add", "{'qom-type':'secret','id':'w','file':'wrong'}");
        said = try(client, "blockdev-add", "{'driver':'qcow2','node-name':'sec'," FILE_IS("secret.qcow2") "}", NULL);
        assert_non_null(strstr(said, "no key was named"));
        said = try(client, "blockdev-add", "{'driver':'qcow2','node-name':'sec'," ENCRYPT("w") "," FILE_IS("secret.qcow2") "}",
                   NULL);
        assert_non_null(strstr(said, "secret 'w' is not its key"));
        assert_null(strstr(said, "guess"));
        must("blockdev-add", ADD_SECRET);
        said = try(client, "blockdev-add", ADD_SECRET, NULL);
        assert_non_null(strstr(said, "Duplicate nodes"));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "sec"), "\"encrypted\":true"));
        assert_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"encrypted\":true"));
        must("object-del", "{'id':'k'}"); /* what is open stays open, also when its tables are read again */
        export_node("sec");
        write_and_read("sec.sock", 0);
        must("block_resize", "{'node-name':'sec','size':33554432}");
        write_and_read("sec.sock", 20 * MIB);
        must("block-export-del", "{'id':'sec','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "sec");
        must("blockdev-del", "{'node-name':'sec'}");
        expect_no_mark("secret.qcow2");
        assert_int_equal(luks_image_check(at("secret.qcow2")), 0);
}

/* A process that takes over up to its last word, and then fails. */
static void upgrade_in_vain(void)
{
        const char *said;
        char args[4300];

        snprintf(args, sizeof(args), "#!/bin/sh\nVDISKD_FAULT=takeover.ready=1:EIO exec '%s' \"$@\"\n", getenv("E2E_BACK_END"));
        assert_int_equal(save_file(at("new"), args, strlen(args)), 0);
        assert_int_equal(chmod(at("new"), 0755), 0);
        snprintf(args, sizeof(args), "{'binary':'%s'}", at("new"));
        said = try(client, "upgrade", args, NULL);
        assert_non_null(said);
        assert_non_null(strstr(said, "the new process: "));
}

/*
 * Another process gets the keys of what is open, whatever became of the password, and the passwords for what is opened
 * later. No process has to derive a key from a password meanwhile: 'k' and 'b' have gone.
 */
static void test_upgrade(void **state)
{
        struct front_end *fe;
        char *buf;

        must("object-add", "{'qom-type':'secret','id':'k','file':'key'}");
        must("object-add", "{'qom-type':'secret','id':'b','file':'key'}");
        must("object-add", "{'qom-type':'secret','id':'later','file':'key'}");
        must("blockdev-add", "{'driver':'qcow2','node-name':'o','backing':{" ENCRYPT("b") "}," ENCRYPT("k") ","
             FILE_IS("over.qcow2") "}");
        must("object-del", "{'id':'k'}");
        must("object-del", "{'id':'b'}");
        export_node("o");
        fe = connect_to("o.sock");
        buf = fe_alloc(fe, 8192, 4096);
        fill(buf, 4096);
        assert_int_equal(do_io(fe, FE_WRITE, 8 * MIB, buf, 4096), FE_OK);
        upgrade_in_vain();
        for (int i = 0; i < 2; i++) {
                memset(buf + 4096, 0, 4096);
                assert_int_equal(do_io(fe, FE_READ, 8 * MIB, buf + 4096, 4096), FE_OK);
                assert_memory_equal(buf, buf + 4096, 4096);
                if (i == 0)
                        upgrade();
        }
        fe_close(fe);
        write_and_read("o.sock", 3 * MIB);
        must("blockdev-add", "{'driver':'qcow2','node-name':'sec'," ENCRYPT("later") "," FILE_IS("secret.qcow2") "}");
        upgrade(); /* and on */
        write_and_read("o.sock", 5 * MIB);
        expect_no_mark("over.qcow2");
}

/* An encrypted overlay on an encrypted base, each with a key of its own name. */
static void test_backing(void **state)
{
        const char *said;

        must("object-add", "{'qom-type':'secret','id':'k','file':'key'}");
        must("object-add", "{'qom-type':'secret','id':'b','file':'key'}");
        said = try(client, "blockdev-add", "{'driver':'qcow2','node-name':'o'," ENCRYPT("k") "," FILE_IS("over.qcow2") "}", NULL);
        assert_non_null(strstr(said, "base.qcow2': the image is encrypted and no key was named"));
        must("blockdev-add", "{'driver':'qcow2','node-name':'o','backing':{" ENCRYPT("b") "}," ENCRYPT("k") ","
             FILE_IS("over.qcow2") "}");
        export_node("o");
        write_and_read("o.sock", 3 * MIB);
}

/* A header that asks for minutes of work is refused, and nobody else waits for one that asks for seconds. */
static void test_other_disks_go_on(void **state)
{
        struct front_end *fe = connect_to("first.sock");
        char *buf = fe_alloc(fe, 4096, 4096);
        struct qmp_client *other = dial();
        pid_t pid;

        must("object-add", "{'qom-type':'secret','id':'w','file':'wrong'}");
        assert_int_equal(run("cp secret.qcow2 slow.qcow2"), 0);
        /* Three million iterations for the digest, which every try takes: seconds. */
        assert_int_equal(run("at=$(grep -abo LUKS slow.qcow2 | head -1 | cut -d: -f1); "
                             "printf '\\000\\055\\306\\300' | dd of=slow.qcow2 bs=1 seek=$((at + 164)) conv=notrunc status=none"),
                         0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                const char *said = try(other, "blockdev-add", "{'driver':'qcow2','node-name':'slow'," ENCRYPT("w") ","
                                       FILE_IS("slow.qcow2") "}", NULL);

                _exit(said && strstr(said, "is not its key") ? 0 : 1);
        }
        for (int i = 0; i < 20; i++) {
                assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_OK);
                json_decref(ask("query-version")); /* answered meanwhile */
        }
        daemon_pid = TAKE(pid, daemon_pid);
        assert_int_equal(exit_status(), 0); /* of our child */
        daemon_pid = pid;
        qmp_client_close(other);
        fe_close(fe);
}

static void test_command_line(void **state)
{
        static const char serve[] = "{ timeout 60 \"$E2E_BACK_END\" --log-level=info --control=line.sock --object secret,id=k,fd=9 "
                "--disk id=l,path=secret.qcow2,format=qcow2,key-secret=%s,socket=l.sock 9<%s >line.log 2>&1 %s; }";
        char cmd[400];

        snprintf(cmd, sizeof(cmd), serve, "k", "wrong", "");
        assert_int_not_equal(run(cmd), 0);
        assert_int_equal(run("grep -q \"secret.qcow2': secret 'k' is not its key: the password opens none\" line.log"), 0);
        snprintf(cmd, sizeof(cmd), serve, "x", "key", "");
        assert_int_not_equal(run(cmd), 0);
        assert_int_equal(run("grep -q \"there is no secret 'x'\" line.log"), 0);
        assert_int_not_equal(run("\"$E2E_BACK_END\" --object secret,id=k,data=hush 2>line.log"), 0);
        assert_int_equal(run("grep -q 'can be read by everybody' line.log && ! grep -q hush line.log"), 0);
        snprintf(cmd, sizeof(cmd), serve, "k", "key", "& echo $! >line.pid");
        assert_int_equal(run(cmd), 0);
        assert_int_equal(run("for i in $(seq 600); do [ -S l.sock ] && exit; sleep 0.1; done; cat line.log; exit 1"), 0);
        write_and_read("l.sock", 5 * MIB);
        assert_int_equal(run("pid=$(cat line.pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"), 0);
        assert_int_equal(run("! grep -q secret$ line.log"), 0);
        assert_int_equal(luks_image_check(at("secret.qcow2")), 0);
        expect_no_mark("secret.qcow2");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_control, start_default, stop),
                cmocka_unit_test_setup_teardown(test_backing, start_default, stop),
                cmocka_unit_test_setup_teardown(test_other_disks_go_on, start_default, stop),
                cmocka_unit_test_setup_teardown(test_command_line, start_default, stop),
                /* last: upgrade() makes us the parent of what the others' shells leave behind */
                cmocka_unit_test_setup_teardown(test_upgrade, start_default, stop),
        };

        if (!HAVE_CRYPTO) {
                printf("skipped: built without a crypto library\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, make_encrypted, remove_images);
}
