/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qemu-storage-daemon's command line, as its manual shows it. The same tests run against both programs: what a user of the one
 * wrote, the other must take. Only the last ones are ours alone: what we refuse, and how an upgrade keeps the pid file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"
#include "tools/vdiskctl/client.h"

#define PIDFILE "--pidfile", "%/pid"
#define MONITOR "--chardev", "socket,path=%/qmp.sock,server=on,wait=off,id=char1", "--monitor", "chardev=char1"

/* The pid file is written when everything is there. */
static void begin(struct proc *p, const struct setup *su, const char *const *args)
{
        uint64_t deadline = clock_ns() + HANG_NS;

        spawn(p, vdiskd(), args, su);
        while (!exists(at("pid"))) {
                if (clock_ns() > deadline || kill(p->pid, 0) < 0)
                        fail_msg("no pid file; it said:\n%s", log_of(p));
                usleep(2000);
        }
}

static void end(struct proc *p, int sig)
{
        kill(p->pid, sig);
        assert_int_equal(finish(p), 0);
        assert_false(exists(at("pid")));
}

static struct qmp_client *dial(void)
{
        struct qmp_client *c;

        err_clear();
        if (qmp_client_open(at("qmp.sock"), &c) < 0)
                fail_msg("%s", err_text(-EIO));
        return c;
}

/* @args: JSON with ' for ". NULL: it was done, else the daemon's words. */
static const char *try(struct qmp_client *c, const char *command, const char *args)
{
        AUTO(freep) char *text = strdup(args);

        for (char *q = text; *q; q++)
                *q = *q == '\'' ? '"' : *q;
        err_clear();
        return qmp_client_call(c, command, json_loads(text, 0, NULL), NULL) < 0 ? err_text(-EIO) : NULL;
}

static void must(struct qmp_client *c, const char *command, const char *args)
{
        const char *error = try(c, command, args);

        if (error)
                fail_msg("%s %s: %s", command, args, error);
}

/* --- as the manual has it ------------------------------------------------------------------------------------------- */

static void test_monitor(void **state)
{
        struct proc p;
        struct qmp_client *c;

        (void)state;
        begin(&p, NULL, ARGS(MONITOR, PIDFILE));
        c = dial();
        must(c, "query-version", "{}");
        must(c, "quit", "{}");
        qmp_client_close(c);
        assert_int_equal(finish(&p), 0);
        assert_false(exists(at("pid")));
}

static void test_file_and_qcow2_by_name(void **state)
{
        struct proc p;

        (void)state;
        begin(&p, NULL, ARGS("--blockdev", "driver=file,node-name=file,filename=%/d.qcow2", "--blockdev",
                             "driver=qcow2,node-name=qcow2,file=file", "--export",
                             "type=vhost-user-blk,id=export,addr.type=unix,addr.path=%/v.sock,node-name=qcow2", PIDFILE));
        assert_int_equal(capacity(at("v.sock")), 64 * MIB);
        end(&p, SIGTERM);
        assert_int_equal(run("qemu-img", ARGS("check", "-q", "%/d.qcow2")), 0);
}

static void test_implied_keys_and_one_blockdev(void **state)
{
        struct proc p;

        (void)state;
        begin(&p, NULL, ARGS("--blockdev", "qcow2,node-name=disk,file.driver=file,file.filename=%/d.qcow2,cache.direct=off,"
                             "file.locking=auto,file.aio=threads,discard=unmap,read-only=off", "--export",
                             "vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=%/v.sock,writable=on,num-queues=2,"
                             "logical-block-size=4096", PIDFILE));
        assert_int_equal(capacity(at("v.sock")), 64 * MIB);
        end(&p, SIGINT);
}

static void test_json(void **state)
{
        struct proc p;

        (void)state;
        begin(&p, NULL, ARGS("--blockdev", "{\"driver\":\"qcow2\",\"node-name\":\"d\",\"read-only\":true,\"file\":{\"driver\":\"file\","
                             "\"filename\":\"%/d.qcow2\"}}", "--export", "{\"type\":\"vhost-user-blk\",\"id\":\"e\",\"node-name\":\"d\","
                             "\"addr\":{\"type\":\"unix\",\"path\":\"%/v.sock\"},\"num-queues\":1}", PIDFILE));
        assert_int_equal(capacity(at("v.sock")), 64 * MIB);
        end(&p, SIGHUP);
}

/* Without a format node the file is the disk. */
static void test_file_exported_by_itself(void **state)
{
        struct proc p;

        (void)state;
        begin(&p, NULL, ARGS("--blockdev", "driver=file,node-name=disk,filename=%/zeros.img", "--export",
                             "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path=%/v.sock", PIDFILE));
        assert_int_equal(capacity(at("v.sock")), MIB);
        end(&p, SIGTERM);
}

static void test_descriptors(void **state)
{
        struct setup su = { .fds = { listening(at("v.sock")), listening(at("qmp.sock")) }, .nfds = 2 };
        struct qmp_client *c;
        struct proc p;

        (void)state;
        begin(&p, &su, ARGS("--blockdev", "driver=null-co,node-name=n,size=4194304", "--export",
                            "type=vhost-user-blk,id=e,node-name=n,addr.type=fd,addr.str=3", "--chardev", "socket,fd=4,server=on,id=c,wait=off",
                            "--monitor", "c", PIDFILE));
        close(su.fds[0]);
        close(su.fds[1]);
        assert_int_equal(capacity(at("v.sock")), 4 * MIB);
        c = dial();
        must(c, "query-block-exports", "{}");
        qmp_client_close(c);
        end(&p, SIGTERM);
}

static void test_stdio(void **state)
{
        struct proc p;

        (void)state;
        spawn(&p, "sh", ARGS("-c", "(printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-block-exports\",\"id\":\"x\"}'"
                             "; sleep 0.1; printf '{\"execute\":\"quit\"}') | "
                             "exec $E2E_BACK_END --chardev stdio,id=c --monitor chardev=c,mode=control,pretty=off"), NULL);
        assert_int_equal(finish(&p), 0);
        assert_non_null(strstr(log_of(&p), "{\"QMP\""));
        assert_non_null(strstr(log_of(&p), "\"id\": \"x\"") ?: strstr(log_of(&p), "\"id\":\"x\""));
}

/* The program that was started ends when all is served; the one that serves says where it is. */
static void test_daemonize(void **state)
{
        char line[32] = "";
        struct proc p;
        FILE *f;
        int pid;

        (void)state;
        /* through a pipe, whose reader ends when nobody holds it any more */
        spawn(&p, "sh", ARGS("-c", "\"$@\" 2>&1 | cat", "sh", vdiskd(), "--blockdev", "driver=file,node-name=disk,filename=%/zeros.img",
                             "--export", "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=%/v.sock", PIDFILE,
                             "--daemonize"), NULL);
        assert_int_equal(finish(&p), 0);
        f = fopen(at("pid"), "re");
        assert_non_null(f);
        assert_non_null(fgets(line, sizeof(line), f));
        fclose(f);
        pid = atoi(line);
        assert_true(pid > 1 && kill(pid, 0) == 0);
        assert_int_equal(capacity(at("v.sock")), MIB);
        assert_int_equal(run(vdiskd(), ARGS(PIDFILE, MONITOR)), 1); /* it is locked */
        kill(pid, SIGTERM);
        for (uint64_t deadline = clock_ns() + HANG_NS; exists(at("pid")); usleep(2000))
                assert_true(clock_ns() < deadline);

        spawn(&p, vdiskd(), ARGS("--blockdev", "driver=file,node-name=disk,filename=%/no.img", PIDFILE, "--daemonize"), NULL);
        assert_int_equal(finish(&p), 1);
        assert_false(exists(at("pid")));
}

#define FILE_NODE "{'driver':'file','node-name':'f','filename':'%s'}"

/* The same words over the socket. */
static void test_nodes_at_run_time(void **state)
{
        char text[512];
        struct qmp_client *c;
        struct proc p;

        (void)state;
        begin(&p, NULL, ARGS(MONITOR, PIDFILE));
        c = dial();
        snprintf(text, sizeof(text), FILE_NODE, at("no.img"));
        assert_non_null(strstr(try(c, "blockdev-add", text), "No such file or directory"));
        snprintf(text, sizeof(text), FILE_NODE, at("d.qcow2"));
        must(c, "blockdev-add", text);
        assert_non_null(strstr(try(c, "blockdev-add", text), "Duplicate nodes with node-name='f'"));
        assert_non_null(strstr(try(c, "blockdev-add", "{'driver':'qcow2','node-name':'d','file':'g'}"),
                               "Cannot find device='g' nor node-name='g'"));
        must(c, "blockdev-add", "{'driver':'qcow2','node-name':'d','file':'f'}");
        assert_non_null(try(c, "blockdev-add", "{'driver':'qcow2','node-name':'e','file':'f'}"));
        assert_non_null(strstr(try(c, "blockdev-del", "{'node-name':'f'}"), "in use"));
        snprintf(text, sizeof(text), "{'type':'vhost-user-blk','id':'x','node-name':'d','addr':{'type':'unix','path':'%s'}}",
                 at("v.sock"));
        must(c, "block-export-add", text);
        assert_int_equal(capacity(at("v.sock")), 64 * MIB);
        must(c, "block-export-del", "{'id':'x','mode':'hard'}");
        for (uint64_t deadline = clock_ns() + HANG_NS; try(c, "blockdev-del", "{'node-name':'d'}"); usleep(2000))
                assert_true(clock_ns() < deadline);
        must(c, "blockdev-del", "{'node-name':'f'}");
        qmp_client_close(c);
        end(&p, SIGTERM);
}

/* --- both say no ----------------------------------------------------------------------------------------------------- */

static void test_refused_by_both(void **state)
{
        static const char *const wrong[][5] = {
                { "--blockdev", "driver=file,node-name=f,filename=%/no.img" },
                { "--blockdev", "driver=qcow2,node-name=f" },
                { "--blockdev", "driver=qcow2,node-name=f,file=none" },
                { "--blockdev", "driver=qcow2,node-name=f,file.driver=file,file.filename=%/d.qcow2,colour=red" },
                { "--blockdev", "driver=null-co,node-name=n,size=much" },
                { "--blockdev", "driver=null-co,,node-name=n" },
                { "--blockdev", "node-name=n,.a=b" },
                { "--blockdev", "{\"driver\":" },
                { "--export", "type=vhost-user-blk,id=e,node-name=none,addr.type=unix,addr.path=%/v.sock" },
                { "--export", "type=vhost-user-blk,id=e" },
                { "--export", "type=floppy,id=e,node-name=n" },
                { "--monitor", "chardev=none" },
                { "--chardev", "socket,path=%/q.sock,server=on,wait=off" },
                { "--object", "floppy,id=f" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct proc p;

                spawn(&p, vdiskd(), wrong[i], NULL);
                if (finish(&p) != 1)
                        fail_msg("%s %s was taken", wrong[i][0], wrong[i][1]);
                if (!*log_of(&p))
                        fail_msg("%s %s: not a word", wrong[i][0], wrong[i][1]);
        }
}

/* --- ours alone ------------------------------------------------------------------------------------------------------ */

static bool is_ours(void)
{
        return !strstr(vdiskd(), "qemu-storage-daemon");
}

static void test_what_there_is_not(void **state)
{
        static const struct { const char *args[5], *says; } refused[] = {
                { { "--nbd-server", "addr.type=unix,addr.path=x" }, "vhost-user-blk only, no NBD" },
                { { "--export", "type=nbd,id=e,node-name=n" }, "expected one of the two (qemu-storage-daemon serves nbd)" },
                { { "--export", "fuse,id=e,node-name=n,mountpoint=x" }, "qemu-storage-daemon serves fuse" },
                { { "--trace", "enable=x" }, "no trace events of QEMU's" },
                { { "--object", "iothread,id=t" }, "expected --iothreads=N" },
                { { "--chardev", "socket,id=c,server=on" }, "expected path=PATH or fd=N" },
                { { "--chardev", "socket,id=c,path=x" }, "expected server=on" },
                { { "--chardev", "pty,id=c" }, "'pty' is no backend for commands; expected socket or stdio" },
                { { "--chardev", "socket,host=h,id=c" }, "Parameter 'host' is unexpected" },
                { { "--chardev", "stdio,id=c", "--monitor", "c,mode=readline" }, "mode=readline: expected control" },
                { { "--blockdev", "driver=qcow2,node-name=d,file.driver=file,file.filename=%/d.qcow2,cache.no-flush=on" },
                  "a guest's flush makes its data durable" },
        };

        (void)state;
        for (size_t i = 0; is_ours() && i < ARRAY_SIZE(refused); i++) {
                struct proc p;

                spawn(&p, vdiskd(), refused[i].args, NULL);
                assert_int_equal(finish(&p), 1);
                if (!strstr(log_of(&p), refused[i].says))
                        fail_msg("%s does not say %s", log_of(&p), refused[i].says);
        }
}

/* Who has the file has its lock, and the file his number. */
static void test_upgrade_keeps_the_pid_file(void **state)
{
        char line[32] = "", number[32];
        struct qmp_client *c;
        json_t *ret = NULL;
        struct proc p;
        FILE *f;
        int pid;

        (void)state;
        if (!is_ours())
                return;
        begin(&p, NULL, ARGS("--blockdev", "driver=file,node-name=f,filename=%/d.qcow2", "--blockdev", "qcow2,node-name=d,file=f", "--export",
                             "vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=%/v.sock", PIDFILE, MONITOR));
        c = dial();
        if (qmp_client_call(c, "upgrade", NULL, &ret) < 0)
                fail_msg("%s", err_text(-EIO));
        pid = (int)json_integer_value(json_object_get(ret, "pid"));
        json_decref(ret);
        qmp_client_close(c);
        assert_int_equal(finish(&p), 0);
        assert_true(exists(at("pid")));
        f = fopen(at("pid"), "re");
        assert_non_null(fgets(line, sizeof(line), f));
        fclose(f);
        snprintf(number, sizeof(number), "%d\n", pid);
        assert_string_equal(line, number);
        assert_int_equal(run(vdiskd(), ARGS(PIDFILE, MONITOR)), 1);
        c = dial();
        assert_non_null(strstr(try(c, "blockdev-del", "{'node-name':'f'}"), "in use"));
        must(c, "quit", "{}");
        qmp_client_close(c);
        for (uint64_t deadline = clock_ns() + HANG_NS; exists(at("pid")); usleep(2000))
                assert_true(clock_ns() < deadline);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_monitor),
                cmocka_unit_test(test_file_and_qcow2_by_name),
                cmocka_unit_test(test_implied_keys_and_one_blockdev),
                cmocka_unit_test(test_json),
                cmocka_unit_test(test_file_exported_by_itself),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_stdio),
                cmocka_unit_test(test_daemonize),
                cmocka_unit_test(test_nodes_at_run_time),
                cmocka_unit_test(test_refused_by_both),
                cmocka_unit_test(test_what_there_is_not),
                cmocka_unit_test(test_upgrade_keeps_the_pid_file),
        };

        alarm(600);
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
