/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket of a real daemon: disks that come and go, also beside a disk under load; clients that stall or talk
 * nonsense; the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/sanitized.h"
#include "config.h"
#include "tests/e2e/control_fixture.h"

#define MIB (1ull << 20)
#define ROUNDS 300 /* disks added and removed */

static void add(const char *file, const char *name)
{
        char args[512];

        snprintf(args, sizeof(args), "{'driver':'qcow2','node-name':'%s','cache':{'direct':true},"
                 "'file':{'driver':'file','filename':'%s'}}", name, file);
        must("blockdev-add", args);
        snprintf(args, sizeof(args), "{'type':'vhost-user-blk','id':'%s','node-name':'%s','writable':true,"
                 "'num-queues':2,'serial':'S-%s','addr':{'type':'unix','path':'%s.sock'}}", name, name, name, name);
        must("block-export-add", args);
}

static void del(const char *name, const char *mode)
{
        char args[256];

        snprintf(args, sizeof(args), "{'id':'%s','mode':'%s'}", name, mode);
        must("block-export-del", args);
        expect_event(client, "BLOCK_EXPORT_DELETED", name);
        snprintf(args, sizeof(args), "{'node-name':'%s'}", name);
        must("blockdev-del", args);
}

/* --- disks ------------------------------------------------------------------------------------------------------- */

static void test_the_first_disk_has_names(void **state)
{
        json_t *v = ask("query-version");

        assert_non_null(strstr(json_string_value(json_object_get(v, "package")), "vdiskd"));
        json_decref(v);
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"drv\":\"qcow2\""));
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "first"), "\"virtual-size\":67108864"));
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"node-name\":\"first\""));
        assert_non_null(strstr(entry("query-block-exports", "id", "first"), "\"type\":\"vhost-user-blk\""));
}

static void test_a_disk_comes_and_goes(void **state)
{
        struct front_end *fe;
        char *buf, *id;

        add("second.qcow2", "second");
        fe = connect_to("second.sock");
        assert_int_equal(fe_disk(fe)->capacity, 32 * MIB);
        assert_int_equal(fe_disk(fe)->num_queues, 2);
        buf = fe_alloc(fe, 4096, 4096);
        id = fe_alloc(fe, 20, 16);
        memset(buf, 0x5a, 4096);
        assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_OK);
        assert_int_equal(do_io(fe, FE_GET_ID, 0, id, 20), FE_OK);
        assert_string_equal(id, "S-second");
        assert_string_equal(try(client, "block-export-del", "{'id':'second'}", NULL),
                            "export 'second' still in use; mode 'hard' disconnects its front end");
        assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
        del("second", "hard");
        assert_int_equal(fe_alive(fe, HANG_MS), -ECONNRESET);
        fe_close(fe);
        assert_false(exists("second.sock"));
        assert_string_equal(entry("query-named-block-nodes", "node-name", "second"), "");
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0);
        assert_int_equal(run("qemu-io -r -c 'read -P 0x5a 0 4k' second.qcow2 | grep -q 'read 4096'"), 0);
}

static void test_readers_and_writers_of_one_node(void **state)
{
        struct front_end *fe, *reader;
        char *buf;

        add("second.qcow2", "second");
        must("block-export-add", "{'type':'vhost-user-blk','id':'reader','node-name':'second','addr':{'type':'unix','path':'r.sock'}}");
        fe = connect_to("second.sock");
        reader = connect_to("r.sock");
        buf = fe_alloc(fe, 4096, 4096);
        memset(buf, 0x33, 4096);
        assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_OK);
        buf = fe_alloc(reader, 4096, 4096);
        assert_int_equal(do_io(reader, FE_READ, 0, buf, 4096), FE_OK);
        assert_int_equal(buf[4095], 0x33);
        assert_int_equal(do_io(reader, FE_WRITE, 0, buf, 4096), FE_IOERR);
        fe_close(reader);
        must("block-export-del", "{'id':'reader','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "reader");
        buf = fe_alloc(fe, 4096, 4096);
        assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK); /* the other export goes on */
        assert_int_equal(buf[0], 0x33);
        fe_close(fe);
        del("second", "hard");
        must("blockdev-add", "{'driver':'raw','node-name':'ro','read-only':true,'file':{'driver':'file','filename':'zeros.img'}}");
        assert_string_equal(try(client, "block-export-add", "{'type':'vhost-user-blk','id':'ro','node-name':'ro',"
                                "'writable':true,'addr':{'type':'unix','path':'x.sock'}}", NULL),
                            "Cannot export read-only node as writable");
        must("blockdev-del", "{'node-name':'ro'}");
        must("blockdev-add", "{'driver':'null-co','node-name':'nil','size':1048576}");
        assert_non_null(strstr(entry("query-named-block-nodes", "node-name", "nil"), "\"virtual-size\":1048576"));
        must("blockdev-del", "{'node-name':'nil'}");
}

/* What the guest writes goes to the file that the operator names, whatever the image says. */
static void test_data_file(void **state)
{
        struct front_end *fe;
        uint8_t *buf;

        (void)state;
        assert_int_equal(run("mkdir elsewhere && qemu-img create -q -f qcow2 -o data_file=far.data,data_file_raw=on far.qcow2 1M "
                             "&& mv far.data elsewhere"), 0);
        assert_non_null(strstr(try(client, "blockdev-add", "{'driver':'qcow2','node-name':'far','file':{'driver':'file',"
                                   "'filename':'far.qcow2'}}", NULL), "No such file"));
        must("blockdev-add", "{'driver':'qcow2','node-name':'far','file':{'driver':'file','filename':'far.qcow2'},"
             "'data-file':{'driver':'file','filename':'elsewhere/far.data'}}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'far','node-name':'far','writable':true,"
             "'addr':{'type':'unix','path':'far.sock'}}");
        fe = connect_to("far.sock");
        buf = fe_alloc(fe, 4096, 4096);
        memset(buf, 0x44, 4096);
        assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 4096), FE_OK);
        fe_close(fe);
        del("far", "hard");
        assert_int_equal(run("test \"$(od -An -tx1 -N2 elsewhere/far.data)\" = ' 44 44'"), 0);
}

static json_int_t stat_of(const char *node, const char *field)
{
        json_t *all = ask("query-blockstats"), *o;
        json_int_t n = -1;
        size_t i;

        json_array_foreach (all, i, o)
                if (!strcmp(json_string_value(json_object_get(o, "node-name")), node))
                        n = json_integer_value(json_object_get(json_object_get(o, "stats"), field));
        json_decref(all);
        return n;
}

static void test_statistics(void **state)
{
        struct front_end *fe;
        char *buf;

        add("second.qcow2", "second");
        fe = connect_to("second.sock");
        buf = fe_alloc(fe, 8192, 4096);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(do_io(fe, FE_WRITE, 0, buf, 8192), FE_OK);
        assert_int_equal(do_io(fe, FE_WRITE_ZEROES, 0, NULL, 65536), FE_OK);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(do_io(fe, FE_READ, 0, buf, 4096), FE_OK);
        assert_int_equal(do_io(fe, FE_DISCARD, 0, NULL, 131072), FE_OK);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_OK);
        assert_int_equal(stat_of("second", "wr_operations"), 4);
        assert_int_equal(stat_of("second", "wr_bytes"), 3 * 8192 + 65536);
        assert_int_equal(stat_of("second", "rd_operations"), 5);
        assert_int_equal(stat_of("second", "rd_bytes"), 5 * 4096);
        assert_int_equal(stat_of("second", "unmap_operations"), 1);
        assert_int_equal(stat_of("second", "unmap_bytes"), 131072);
        assert_int_equal(stat_of("second", "flush_operations"), 1);
        assert_int_equal(stat_of("second", "failed_rd_operations"), 0);
        assert_true(stat_of("second", "rd_total_time_ns") > 0);
        assert_int_equal(stat_of("second", "wr_highest_offset"), 65536);
        assert_int_equal(stat_of("second", "invalid_rd_operations"), 0);
        assert_true(stat_of("second", "idle_time_ns") >= 0);
        fe_close(fe);
        must("block-export-del", "{'id':'second','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "second");
        assert_int_equal(stat_of("second", "rd_operations"), 5); /* the threads have left, their counts stay */
        must("blockdev-del", "{'node-name':'second'}");
}

/* --- many -------------------------------------------------------------------------------------------------------- */

static int count_fds(void)
{
        char path[64];
        DIR *d;
        int n = 0;

        snprintf(path, sizeof(path), "/proc/%d/fd", daemon_pid);
        d = opendir(path);
        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static long memory_kib(void)
{
        char path[64], line[128];
        long kib = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/status", daemon_pid);
        f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                sscanf(line, "VmRSS: %ld", &kib);
        fclose(f);
        return kib;
}

static void one_round(unsigned i)
{
        add("second.qcow2", "second");
        if (i % 4 == 0) {
                struct front_end *fe = connect_to("second.sock");

                assert_int_equal(do_io(fe, FE_WRITE, 0, fe_alloc(fe, 4096, 4096), 4096), FE_OK);
                if (i % 8 == 0)
                        fe_close(TAKE(fe, NULL));
                del("second", "hard");
                fe_close(fe);
                return;
        }
        del("second", "safe");
}

static void test_hundreds_leak_nothing(void **state)
{
        long kib;
        int fds;

        for (unsigned i = 0; i < ROUNDS / 4; i++)
                one_round(i);
        fds = count_fds();
        kib = memory_kib();
        for (unsigned i = 0; i < ROUNDS; i++)
                one_round(i);
        assert_int_equal(count_fds(), fds);
        print_message("%u disks later: %ld KiB more\n", ROUNDS, memory_kib() - kib);
        if (!SANITIZED) /* a disk left behind would be some 20 KiB at least */
                assert_true(memory_kib() - kib < ROUNDS * 4);
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0);
}

/* Writes and reads back all the time. */
struct load {
        struct front_end *fe;
        atomic_bool stop;
        unsigned long done;
        bool failed;
};
static void *load_main(void *arg)
{
        struct load *l = arg;
        char *buf = fe_alloc(l->fe, 65536, 4096), *back = fe_alloc(l->fe, 65536, 4096);

        while (!atomic_load(&l->stop) && !l->failed) {
                struct fe_io w = { .type = FE_WRITE, .sector = l->done % 512 * 128, .gpa = fe_gpa(l->fe, buf), .len = 65536 };
                struct fe_io r = w;

                r.type = FE_READ;
                r.gpa = fe_gpa(l->fe, back);
                memset(buf, (int)(++l->done), 65536);
                l->failed = fe_do(fe_queue(l->fe, 0), &w, HANG_MS) < 0 || fe_do(fe_queue(l->fe, 0), &r, HANG_MS) < 0 ||
                            w.status != FE_OK || r.status != FE_OK || memcmp(buf, back, 65536) != 0;
        }
        return NULL;
}

static void test_beside_a_disk_under_load(void **state)
{
        struct load l = { .fe = connect_to("first.sock") };
        unsigned long before;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, load_main, &l), 0);
        for (unsigned i = 0; i < 50; i++)
                one_round(i);
        before = (unsigned long)stat_of("first", "wr_operations");
        atomic_store(&l.stop, true);
        pthread_join(thread, NULL);
        assert_false(l.failed);
        assert_true(before > 0 && l.done >= before);
        fe_close(l.fe);
}

/* --- clients ----------------------------------------------------------------------------------------------------- */

static int raw_client(void)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at("control.sock"));
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        return fd;
}

static void test_clients_that_misbehave(void **state)
{
        static const char hello[] = "{\"execute\":\"qmp_capabilities\"}", query[] = "{\"execute\":\"query-blockstats\"}";
        int stalls = raw_client(), nonsense = raw_client(), half = raw_client();
        unsigned seed = (unsigned)time(NULL);
        char junk[4096];

        print_message("seed %u\n", seed);
        assert_true(write(half, query, 10) == 10);
        assert_true(send(stalls, hello, strlen(hello), MSG_NOSIGNAL) > 0);
        for (unsigned i = 0; i < 20000; i++) /* until the daemon reads no more of it, or hangs up on it */
                if (send(stalls, query, strlen(query), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        break;
        for (unsigned i = 0; i < 200; i++) {
                for (size_t k = 0; k < sizeof(junk); k++)
                        junk[k] = i % 2 ? (char)rand_r(&seed) : "{}[]\",:\\ \n0a"[(unsigned)rand_r(&seed) % 12];
                if (send(nonsense, junk, sizeof(junk), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        break;
        }
        one_round(0); /* others notice nothing */
        close(stalls);
        close(nonsense);
        close(half);
        one_round(1);
}

static void test_several_clients_hear_of_it(void **state)
{
        struct qmp_client *others[20];

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                others[i] = dial();
        one_round(1);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                expect_event(others[i], "BLOCK_EXPORT_DELETED", "second");
                assert_null(try(others[i], "query-block-exports", NULL, NULL));
                qmp_client_close(others[i]);
        }
}

/* --- the end, and failures --------------------------------------------------------------------------------------- */

static void test_quit(void **state)
{
        struct stat st;

        assert_int_equal(stat(at("control.sock"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600); /* who may add disks may read any file that the daemon may */
        add("second.qcow2", "second");
        must("quit", NULL);
        expect_event(client, "BLOCK_EXPORT_DELETED", "");
        expect_event(client, "BLOCK_EXPORT_DELETED", "");
        assert_int_equal(exit_status(), 0);
        assert_false(exists("control.sock"));
        assert_false(exists("first.sock"));
        assert_false(exists("second.sock"));
        assert_int_equal(run("qemu-img check -q first.qcow2 && qemu-img check -q second.qcow2"), 0);
}

static int listening(const char *name)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at(name));
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(listen(fd, 4), 0);
        return fd;
}

/* Descriptors 3 and 4 for a disk and for control, as systemd passes them. */
static void become_activated_daemon(int disk, int control)
{
        char pid[16];

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(pid, sizeof(pid), "%d", getpid());
        dup2(disk, 100);
        dup2(control, 101);
        dup2(100, 3);
        dup2(101, 4);
        if (chdir(at("")) == 0 && setenv("LISTEN_PID", pid, 1) == 0 && setenv("LISTEN_FDS", "2", 1) == 0 &&
            setenv("LISTEN_FDNAMES", "disk:ctl", 1) == 0)
                execl(getenv("E2E_BACK_END"), "vdiskd", "--control-fdname=ctl", "--log-level=warning",
                      "--disk", "path=first.qcow2,format=qcow2", NULL);
        _exit(127);
}

static void test_sockets_from_systemd(void **state)
{
        int disk, control;

        if (!HAVE_SYSTEMD) {
                print_message("built without libsystemd\n");
                skip();
        }
        disk = listening("first.sock");
        control = listening("control.sock");
        daemon_pid = fork();
        assert_true(daemon_pid >= 0);
        if (daemon_pid == 0)
                become_activated_daemon(disk, control);
        close(disk);
        close(control);
        client = dial();
        assert_non_null(strstr(entry("query-block-exports", "id", "disk0"), "\"node-name\":\"disk0\""));
        fe_close(connect_to("first.sock"));
        must("quit", NULL);
        assert_int_equal(exit_status(), 0);
        assert_true(exists("control.sock")); /* whoever made it removes it */
        unlink(at("control.sock"));
        unlink(at("first.sock"));
}

static void test_a_sync_that_fails_is_told(void **state)
{
        struct front_end *fe;

        start_daemon("engine.sync=1:ENOSPC:forever");
        fe = connect_to("first.sock");
        assert_int_equal(do_io(fe, FE_WRITE, 0, fe_alloc(fe, 4096, 4096), 4096), FE_OK);
        assert_int_equal(do_io(fe, FE_FLUSH, 0, NULL, 0), FE_IOERR);
        expect_event(client, "BLOCK_IO_ERROR", "\"node-name\":\"first\"");
        fe_close(fe);
        must("block-export-del", "{'id':'first','mode':'hard'}");
        expect_event(client, "BLOCK_EXPORT_DELETED", "first");
        assert_non_null(strstr(try(client, "blockdev-del", "{'node-name':'first'}", NULL), "could be made durable"));
        assert_string_equal(entry("query-named-block-nodes", "node-name", "first"), "");
        kill(daemon_pid, SIGTERM);
        exit_status();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_the_first_disk_has_names, start_default, stop),
                cmocka_unit_test_setup_teardown(test_a_disk_comes_and_goes, start_default, stop),
                cmocka_unit_test_setup_teardown(test_readers_and_writers_of_one_node, start_default, stop),
                cmocka_unit_test_setup_teardown(test_data_file, start_default, stop),
                cmocka_unit_test_setup_teardown(test_statistics, start_default, stop),
                cmocka_unit_test_setup_teardown(test_hundreds_leak_nothing, start_default, stop),
                cmocka_unit_test_setup_teardown(test_beside_a_disk_under_load, start_default, stop),
                cmocka_unit_test_setup_teardown(test_clients_that_misbehave, start_default, stop),
                cmocka_unit_test_setup_teardown(test_several_clients_hear_of_it, start_default, stop),
                cmocka_unit_test_setup_teardown(test_quit, start_default, stop),
                cmocka_unit_test_teardown(test_sockets_from_systemd, stop),
                cmocka_unit_test_teardown(test_a_sync_that_fails_is_told, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
